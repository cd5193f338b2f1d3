// Scales the loss of float16 training, so that small gradients do not vanish.
#pragma once

#include <torch/optim/optimizer.h>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <functional>
#include <map>

namespace troupe {

/// Names and defaults are those of torch.amp.GradScaler
/// (https://pytorch.org/docs/stable/amp.html#torch.amp.GradScaler).
struct GradScalerOptions {
  double init_scale = 65536;       ///< > 0
  double growth_factor = 2;        ///< > 1; the scale grows by it after `growth_interval` steps without an overflow
  double backoff_factor = 0.5;     ///< in (0, 1); the scale shrinks by it where a gradient is not finite
  int64_t growth_interval = 2000;  ///< >= 1
};

/// Multiplies the loss by a scale, divides the gradients by it before they are used, leaves out a step whose gradients
/// are not finite, and adapts the scale (Micikevicius et al. 2018, "Mixed Precision Training"). The order of a step:
///
///     scaler.scale(loss).backward();
///     scaler.unscale(optimizer);              // optional: for who looks at gradients, or clips them
///     scaler.step(optimizer, [&] { optimizer.step(); });
///     scaler.update();
///
/// Used from the worker's thread. step() reads one number back from the device: whether to step is a decision of the
/// host's.
class GradScaler {
 public:
  /// Throws UsageError for an option out of its range.
  explicit GradScaler(torch::Device device, GradScalerOptions options = {});

  /// `loss`, a scalar of any floating type, times the scale; in float32.
  torch::Tensor scale(const torch::Tensor& loss) const;
  /// Divides the gradients of the optimizer's parameters by the scale, once a step however often it is called. Throws
  /// UsageError for float16 gradients: parameters must stay in float32.
  void unscale(torch::optim::Optimizer& optimizer, const std::function<void(torch::Tensor&)>& agree = nullptr);
  /// Unscales where that was not done, and calls `apply` if all gradients are finite. Returns whether it did.
  bool step(torch::optim::Optimizer& optimizer, const std::function<void()>& apply);
  /// After the last optimizer of the step: adapts the scale.
  void update();

  double current_scale() const { return scale_.item<double>(); }
  /// Steps that were left out so far.
  int64_t skipped_steps() const { return skipped_steps_; }

  /// scale, growth_factor, backoff_factor, growth_interval, _growth_tracker: as PyTorch's state_dict has them; and
  /// skipped_steps.
  nlohmann::json state_dict() const;
  /// Gets back what state_dict returned; it comes from a file. Throws UsageError where it is wrong; nothing has changed
  /// then.
  void load_state_dict(const nlohmann::json& state);

 private:
  GradScalerOptions options_;
  torch::Tensor scale_;           // [] float32
  torch::Tensor growth_tracker_;  // [] int32, steps without an overflow since the scale last changed
  std::map<const torch::optim::Optimizer*, torch::Tensor> found_inf_;  // of optimizers unscaled since the last update
  int64_t skipped_steps_ = 0;
};

}  // namespace troupe
