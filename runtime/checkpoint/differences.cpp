#include "troupe/runtime/checkpoint/differences.hpp"

#include "troupe/base/text.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <span>

namespace troupe {

namespace {

/// "12 missing in it: a, b, ... and 2 more"; empty for none.
std::string counted(const char* what, const std::vector<std::string>& items,
                    std::string (*text_of)(const std::string&)) {
  constexpr std::size_t most = 10;
  if (items.empty()) return "";
  const auto named = std::span(items).first(std::min(most, items.size()));
  auto text = std::to_string(items.size()) + " " + what + ": " + joined_as(named, text_of);
  if (named.size() < items.size()) text += " and " + std::to_string(items.size() - named.size()) + " more";
  return text;
}

std::string kind(const torch::Tensor& tensor) {
  return c10::str(tensor.sizes(), " ", tensor.scalar_type());
}

}  // namespace

std::string Differences::describe() const {
  const auto as_it_is = [](const std::string& text) { return text; };
  const auto fit_to_show = [](const std::string& name) { return shown(name); };
  std::vector<std::string> parts = {counted("missing in it", missing, fit_to_show),
                                    counted("left over in it", left_over, fit_to_show),
                                    counted(unlike.size() == 1 ? "that differs" : "that differ", unlike, as_it_is)};
  std::erase(parts, "");
  return joined(parts, "; ");
}

std::string Differences::unlike_text(std::string_view name, const torch::Tensor& saved, const torch::Tensor& live) {
  return shown(name) + " is " + kind(saved) + " in it and " + kind(live) + " here";
}

bool Differences::fits(std::string_view name, const torch::Tensor& saved, const torch::Tensor& live) {
  const auto can_be_converted = [](const torch::Tensor& tensor) {  // LibTorch converts F4 to nothing
    return tensor.is_floating_point() && tensor.scalar_type() != torch::kFloat4_e2m1fn_x2;
  };
  const bool same_kind =
      saved.scalar_type() == live.scalar_type() || (can_be_converted(saved) && can_be_converted(live));
  if (same_kind && saved.sizes() == live.sizes()) return true;
  unlike.push_back(unlike_text(name, saved, live));
  return false;
}

}  // namespace troupe
