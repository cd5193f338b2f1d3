// What a step returns.
#pragma once

#include <torch/types.h>

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe {

/// A loss, a dictionary of tensors, both, or nothing.
///
///     return loss;                                  // a scalar to minimise
///     return {{"loss", loss}, {"pred", y_hat}};     // more for *_epoch_end
///     return {};                                    // training_step: skip this batch; evaluation: nothing to keep
///
/// A returned tensor is stored under the key "loss". An undefined tensor is not "nothing": it is reported as an error.
class StepOutput {
 public:
  using Items = std::vector<std::pair<std::string, torch::Tensor>>;

  StepOutput() = default;
  StepOutput(torch::Tensor loss) { items_.emplace_back("loss", std::move(loss)); }
  StepOutput(std::initializer_list<std::pair<std::string, torch::Tensor>> items);
  explicit StepOutput(Items items) : items_(std::move(items)) {}

  bool empty() const { return items_.empty(); }
  /// The tensor under `key`; throws std::out_of_range listing the keys.
  const torch::Tensor& operator[](std::string_view key) const;
  /// The tensor under `key`, or nullptr.
  const torch::Tensor* find(std::string_view key) const;
  /// The tensor under "loss"; throws std::out_of_range when there is none.
  const torch::Tensor& loss() const { return (*this)["loss"]; }
  const Items& items() const { return items_; }

  /// The same keys with every tensor detached from the graph.
  StepOutput detach() const;
  /// Bytes that keeping this output keeps alive.
  std::size_t bytes() const;

 private:
  Items items_;
};

/// The outputs of an evaluation or training epoch, in batch order; `by_loader` has one list for each data loader.
class EpochOutputs {
 public:
  void add(std::size_t loader, StepOutput output);
  void clear() { loaders_.clear(); }
  const std::vector<std::vector<StepOutput>>& by_loader() const { return loaders_; }
  /// Number of outputs over all loaders.
  std::size_t size() const;
  bool empty() const { return size() == 0; }
  std::size_t bytes() const { return bytes_; }

  /// Outputs of the only loader, for `for (const auto& out : outputs)`. Throws std::logic_error when there are several.
  std::vector<StepOutput>::const_iterator begin() const { return single().begin(); }
  std::vector<StepOutput>::const_iterator end() const { return single().end(); }
  const StepOutput& operator[](std::size_t i) const { return single().at(i); }

 private:
  const std::vector<StepOutput>& single() const;

  std::vector<std::vector<StepOutput>> loaders_;
  std::size_t bytes_ = 0;
};

}  // namespace troupe
