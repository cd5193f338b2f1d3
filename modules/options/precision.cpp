#include "troupe/modules/options/precision.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"

#include <array>
#include <utility>

namespace troupe {

namespace {

constexpr std::array<std::pair<std::string_view, Precision>, 10> names = {{{"32-true", Precision::float32},
                                                                           {"64-true", Precision::float64},
                                                                           {"16-mixed", Precision::float16_mixed},
                                                                           {"bf16-mixed", Precision::bfloat16_mixed},
                                                                           {"16-true", Precision::float16_true},
                                                                           {"bf16-true", Precision::bfloat16_true},
                                                                           {"32", Precision::float32},
                                                                           {"64", Precision::float64},
                                                                           {"16", Precision::float16_mixed},
                                                                           {"bf16", Precision::bfloat16_mixed}}};

}  // namespace

Precision precision_from_text(std::string_view text) {
  std::vector<std::string> known;
  for (const auto& [name, precision] : names) {
    if (text == name) return precision;
    known.emplace_back(name);
  }
  throw UsageError("trainer.precision = '" + shown(text) + "' is none of the known ones; did you mean " + nearest(text, known) +
                   "?");
}

std::string_view to_string(Precision precision) {
  for (const auto& [name, value] : names) {
    if (value == precision) return name;
  }
  return "";
}

torch::ScalarType parameter_type(Precision precision) {
  switch (precision) {
    case Precision::float64: return torch::kFloat64;
    case Precision::float16_true: return torch::kFloat16;
    case Precision::bfloat16_true: return torch::kBFloat16;
    default: return torch::kFloat32;
  }
}

int bits_of(Precision precision) {
  if (precision == Precision::float64) return 64;
  return precision == Precision::float32 ? 32 : 16;
}

}  // namespace troupe
