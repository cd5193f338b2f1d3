#include "troupe/runtime/checkpoint/differences.hpp"

#include "troupe/base/text.hpp"

#include <c10/util/StringUtil.h>

namespace troupe {

namespace {

std::string cut_list(const std::vector<std::string>& items) {
  return brief_list(items, ", and ");
}

std::vector<std::string> fit_to_show(std::vector<std::string> names) {
  for (auto& name : names) name = shown(name);
  return names;
}

std::string kind(const torch::Tensor& tensor) {
  return c10::str(tensor.sizes(), " ", tensor.scalar_type());
}

}  // namespace

std::string Differences::describe() const {
  std::vector<std::string> parts;
  if (!missing.empty()) parts.push_back("missing in the checkpoint: " + cut_list(fit_to_show(missing)));
  if (!left_over.empty()) parts.push_back("left over in the checkpoint: " + cut_list(fit_to_show(left_over)));
  if (!unlike.empty()) parts.push_back(cut_list(unlike));
  return joined(parts, "; ");
}

bool Differences::fits(std::string_view name, const torch::Tensor& saved, const torch::Tensor& live) {
  const auto can_be_converted = [](const torch::Tensor& tensor) {  // LibTorch converts F4 to nothing
    return tensor.is_floating_point() && tensor.scalar_type() != torch::kFloat4_e2m1fn_x2;
  };
  const bool same_kind =
      saved.scalar_type() == live.scalar_type() || (can_be_converted(saved) && can_be_converted(live));
  if (same_kind && saved.sizes() == live.sizes()) return true;
  unlike.push_back(shown(name) + " is " + kind(saved) + " in the checkpoint and " + kind(live) + " here");
  return false;
}

}  // namespace troupe
