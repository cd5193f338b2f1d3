// The scale of 16-mixed around the backward passes of a replica: gradients carry it in there and nowhere else, so that
// hooks, clipping and steps, of one optimizer or several, have nothing to do with it.
#pragma once

#include "troupe/runtime/precision/grad_scaler.hpp"
#include "troupe/runtime/replica/gradient_sync.hpp"
#include "troupe/runtime/replica/replica_core.hpp"

#include <torch/types.h>
#include <nlohmann/json.hpp>

#include <cstddef>
#include <optional>
#include <vector>

namespace troupe {

/// Does nothing until it is switched on, which other precisions never do. Used by the worker's thread.
class LossScaling {
 public:
  LossScaling(ReplicaCore& core, const GradientSync& sync) : core_(core), sync_(sync) {}
  LossScaling(const LossScaling&) = delete;
  LossScaling& operator=(const LossScaling&) = delete;

  void switch_on() { scaler_.emplace(core_.setup.device); }
  bool is_on() const { return scaler_.has_value(); }
  /// After GradientSync::refresh(): which parameters are no optimizer's.
  void refresh();

  /// What the backward pass begins at.
  torch::Tensor scaled(const torch::Tensor& loss) const { return scaler_ ? scaler_->scale(loss) : loss; }
  /// A pass for one optimizer, which has gradients of earlier ones already (`is_window_open`).
  void begin_pass(std::size_t optimizer, bool is_window_open);
  /// `stays`: what the pass added waits in the whole parameters, for a window's last batch.
  void end_pass(std::size_t optimizer, bool stays);
  /// A pass of which nobody knows which optimizer it is for. Each is averaged by itself.
  void begin_manual_pass();
  void end_manual_pass();
  /// Looks at gradients that no pass has left: those of a checkpoint, which may be stepped with before another one.
  void inspect();
  /// Whether the scale was too large for a step, which is left out then; the same on all ranks. Throws
  /// std::runtime_error if no scale is small enough.
  bool overflows(std::size_t optimizer);

  /// Null if it is off.
  nlohmann::json state_dict() { return scaler_ ? scaler_->state_dict() : nlohmann::json(); }
  void load_state_dict(const nlohmann::json& state) {
    if (scaler_) scaler_->load_state_dict(state);
  }

 private:
  std::vector<torch::Tensor> gradients_in_use(std::size_t optimizer, bool is_window_open) const;

  ReplicaCore& core_;
  const GradientSync& sync_;
  std::optional<GradScaler> scaler_;
  std::vector<torch::Tensor> unowned_;  // parameters that no optimizer has, if there is a scaler
};

}  // namespace troupe
