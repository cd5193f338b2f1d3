#include "troupe/modules/step_output.hpp"

#include "troupe/base/text.hpp"
#include "troupe/modules/support/tensor_bytes.hpp"

#include <stdexcept>

namespace troupe {

StepOutput::StepOutput(std::initializer_list<std::pair<std::string, torch::Tensor>> items) : items_(items) {}

const torch::Tensor* StepOutput::find(std::string_view key) const {
  for (const auto& [name, tensor] : items_) {
    if (name == key) return &tensor;
  }
  return nullptr;
}

const torch::Tensor& StepOutput::operator[](std::string_view key) const {
  if (const auto* found = find(key)) return *found;
  const auto keys = joined_as(items_, [](const auto& item) { return item.first; });
  throw std::out_of_range("no '" + std::string(key) +
                          "' in the step's output; it holds: " + (keys.empty() ? "nothing" : keys));
}

StepOutput StepOutput::detach() const {
  Items out;
  out.reserve(items_.size());
  for (const auto& [name, tensor] : items_) out.emplace_back(name, tensor.defined() ? tensor.detach() : tensor);
  return StepOutput(std::move(out));
}

std::size_t StepOutput::bytes() const {
  std::size_t total = 0;
  for (const auto& item : items_) total += static_cast<std::size_t>(tensor_bytes(item.second));
  return total;
}

void EpochOutputs::add(std::size_t loader, StepOutput output) {
  if (loaders_.size() <= loader) loaders_.resize(loader + 1);
  bytes_ += output.bytes();
  loaders_[loader].push_back(std::move(output));
}

std::size_t EpochOutputs::size() const {
  std::size_t total = 0;
  for (const auto& outputs : loaders_) total += outputs.size();
  return total;
}

const std::vector<StepOutput>& EpochOutputs::single() const {
  static const std::vector<StepOutput> none;
  if (loaders_.empty()) return none;
  if (loaders_.size() > 1) {
    throw std::logic_error("outputs of " + std::to_string(loaders_.size()) +
                           " data loaders: take them apart with by_loader()");
  }
  return loaders_.front();
}

}  // namespace troupe
