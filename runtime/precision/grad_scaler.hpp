// Scales the loss of float16 training, so that small gradients do not vanish.
#pragma once

#include <torch/types.h>
#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

namespace troupe {

/// Names and defaults are those of torch.amp.GradScaler
/// (https://pytorch.org/docs/stable/amp.html#torch.amp.GradScaler).
struct GradScalerOptions {
  double init_scale = 65536;       ///< > 0
  double growth_factor = 2;        ///< > 1; the scale grows by it after `growth_interval` steps without an overflow
  double backoff_factor = 0.5;     ///< in (0, 1); the scale shrinks by it where a gradient is not finite
  int64_t growth_interval = 2000;  ///< >= 1
};

/// Multiplies the loss by a scale, divides the gradients by it, leaves out a step whose gradients are not finite, and
/// adapts the scale (Micikevicius et al. 2018, "Mixed Precision Training").
///
/// Gradients carry the scale within a backward pass and nowhere else, so that nobody who looks at them, clips them or
/// steps has to know of it, and the scale can change between any two passes:
///
///     scaler.begin_pass(kept);                // gradients that the pass adds to, or none
///     scaler.scale(loss).backward();
///     scaler.unscale(0, gradients);           // for each optimizer, with those of its parameters
///     if (scaler.allows_step(0)) optimizer.step();
///
/// PyTorch's torch.amp.GradScaler unscales in step() or on request, and counts on its caller not to step twice, nor
/// to add to gradients that are unscaled. Used from the worker's thread. allows_step() reads one number back from the
/// device: whether to step is a decision of the host's.
class GradScaler {
 public:
  /// Throws UsageError for an option out of its range.
  explicit GradScaler(torch::Device device, GradScalerOptions options = {});

  /// Before a backward pass: adapts the scale to what the steps since the last pass found, once however many they were,
  /// and multiplies `kept` by it, each tensor once.
  void begin_pass(at::TensorList kept);
  /// `loss`, a scalar of any floating type, times the scale; in float32.
  torch::Tensor scale(const torch::Tensor& loss) const;
  /// After the pass: divides the gradients of an optimizer by the scale, those that several optimizers have with the
  /// first that comes. Throws UsageError for float16 gradients: parameters must stay in float32.
  void unscale(std::size_t optimizer, std::vector<torch::Tensor> gradients);
  /// Looks at gradients as if they came from a pass: those of a checkpoint.
  void inspect(std::size_t optimizer, const std::vector<torch::Tensor>& gradients);
  /// Whether the optimizer's gradients were finite after the latest pass; counts the step that is left out where they
  /// were not. `agree` makes the answer that of all ranks, where each holds a part of the gradients.
  bool allows_step(std::size_t optimizer, const std::function<void(torch::Tensor&)>& agree = nullptr);

  /// That of the next pass.
  double current_scale();
  /// Steps that were left out so far.
  int64_t skipped_steps() const { return skipped_steps_; }

  /// scale, growth_factor, backoff_factor, growth_interval, _growth_tracker: as PyTorch's state_dict has them; and
  /// skipped_steps.
  nlohmann::json state_dict();
  /// Gets back what state_dict returned; it comes from a file. Throws UsageError if it is wrong; nothing has changed
  /// then.
  void load_state_dict(const nlohmann::json& state);

 private:
  void divide(std::size_t optimizer, const std::vector<torch::Tensor>& gradients, const torch::Tensor& factor);
  void adapt();

  GradScalerOptions options_;
  torch::Tensor scale_;                             // [] float32
  torch::Tensor growth_tracker_;                    // [] int32, steps without an overflow since the scale last changed
  std::map<std::size_t, torch::Tensor> found_inf_;  // of each optimizer, in the latest pass
  torch::Tensor pending_;             // the sum of those that stepped, or were to, since the scale was adapted
  std::vector<const void*> divided_;  // gradients that this pass is done with; not to be kept alive
  int64_t skipped_steps_ = 0;
};

}  // namespace troupe
