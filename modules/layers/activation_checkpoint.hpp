// Activation checkpointing: memory for time.
#pragma once

#include <torch/types.h>

#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

namespace troupe {

struct ActivationCheckpointOptions {
  /// Let the second call draw the random numbers of the first, which dropout needs. It costs a copy of the generators'
  /// states, 5 KB on the CPU.
  bool preserve_random_state = true;
};

namespace detail {

/// While it lives, nothing that this thread's operations save for the backward pass is kept; `again` computes it anew
/// when the backward pass first asks for a part of it.
class ActivationCheckpoint {
 public:
  using Again = std::function<void(const std::vector<torch::Tensor>& inputs)>;

  ActivationCheckpoint(const std::vector<torch::Tensor>& inputs, Again again,
                       const ActivationCheckpointOptions& options);
  ~ActivationCheckpoint();
  ActivationCheckpoint(const ActivationCheckpoint&) = delete;
  ActivationCheckpoint& operator=(const ActivationCheckpoint&) = delete;

 private:
  struct Frame;
  class Saved;
  class Hooks;

  std::shared_ptr<Frame> frame_;
  std::unique_ptr<Hooks> hooks_;
};

}  // namespace detail

/// `function(inputs...)`, whatever it returns. What its operations would save for the backward pass is not kept: when
/// the backward pass first needs it, `function` is called once more with the same inputs. Values and gradients are
/// those of a plain call, bit for bit (Chen et al. 2016, https://arxiv.org/abs/1604.06174; torch.utils.checkpoint with
/// use_reentrant=False, https://pytorch.org/docs/stable/checkpoint.html).
///
///     torch::Tensor forward(torch::Tensor x) override {
///       for (auto& block : blocks_) x = activation_checkpoint([block](const auto& x) mutable { return block(x); }, x);
///       return head_(x);
///     }
///
/// The tensors that are passed are kept, those that `function` captures too: it is copied and called after this
/// returns, so it captures by value (`this` of the module is fine, `&` is not). It has to do the same in both calls:
/// modules must not change between training and evaluation in between, and what counts calls, such as the running means
/// of batch norm, counts two. Autocast and, unless an option says otherwise, random numbers are as they were. Calls may
/// be nested. Without gradients (validation, prediction, export) it is a plain call.
///
/// The backward pass throws UsageError if the second call saves other tensors than the first.
template <class Function, std::same_as<torch::Tensor>... Inputs>
auto activation_checkpoint(const ActivationCheckpointOptions& options, Function function, const Inputs&... inputs) {
  if (!torch::GradMode::is_enabled()) return function(inputs...);
  const detail::ActivationCheckpoint checkpoint(
      {inputs...},
      [function](const std::vector<torch::Tensor>& again) mutable {
        [&]<std::size_t... I>(std::index_sequence<I...>) {
          (void)function(again[I]...);
        }
        (std::index_sequence_for<Inputs...>());
      },
      options);
  return function(inputs...);
}

template <class Function, std::same_as<torch::Tensor>... Inputs>
auto activation_checkpoint(Function function, const Inputs&... inputs) {
  return activation_checkpoint(ActivationCheckpointOptions(), std::move(function), inputs...);
}

}  // namespace troupe
