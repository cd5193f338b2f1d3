// The steps of optimizers, automatic and manual.
#include "troupe/modules/optim/drop_gradients.hpp"
#include "troupe/runtime/precision/autocast.hpp"
#include "troupe/runtime/replica/bad_numbers.hpp"
#include "troupe/runtime/replica/train_stepper.hpp"
#include "troupe/runtime/replica/training_problems.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <string>
#include <utility>

namespace troupe {

void TrainStepper::set_accumulate_grad_batches(int64_t batches) {
  if (batches < 1) {
    throw UsageError("accumulate_grad_batches = " + std::to_string(batches) + " is not valid; use at least 1");
  }
  core_.accumulate_grad_batches = batches;
}

// Gradients as the hooks before the step, clipping and the step are to see them.
void TrainStepper::finish_gradients(std::size_t index) {
  OptimizerTrack& track = tracks_[index];
  if (track.samples > 0 && track.samples != track.nominal) {
    const auto gradients = gradients_of(core_.optimizers[index]);
    const torch::NoGradGuard no_gradients;
    if (!gradients.empty()) at::_foreach_mul_(gradients, track.nominal / track.samples);
  }
  track.samples = track.nominal = 0;
  track.is_carried = false;
  refuse_foreign_parameters(core_, sync_, index, track.checked_parameters);
  note_unused_parameters(core_, index, tracks_);
  track.skips = leaves_out(index);
}

// The one decision on a step that cannot be made: it has no hooks, does not count and moves no scheduler.
bool TrainStepper::leaves_out(std::size_t index) {
  return has_bad_numbers(core_, tracks_[index], index, /*looks_at_gradients=*/!scaling_.is_on()) ||
         scaling_.overflows(index);
}

void TrainStepper::call_before_step(std::size_t index) {
  auto& optimizer = core_.optimizers[index];
  const auto number = static_cast<int64_t>(index);
  constexpr Hook hook = Hook::on_before_optimizer_step;
  core_.call_batch_callbacks(hook, [&](Callback& callback) {
    callback.on_before_optimizer_step(core_.run, *core_.module, optimizer, number);
  });
  if (core_.is_used(hook)) {
    enter_phase(id_of(module_owner, hook));
    core_.module->on_before_optimizer_step(optimizer, number);
  }
  resume_phase(Phase::optimizer);
}

// The end of a divided step: the other ranks' parameters come.
void TrainStepper::gather_parameters(std::size_t index) {
  if (!core_.divides_optimizers()) return;
  const PhaseScope phase(Phase::reduction);
  sync_.gather_parameters(index);
}

void TrainStepper::count_step(std::size_t index) {
  batch_stepped_ = true;
  core_.progress.global_step += 1;
  if (core_.module->automatic_optimization) schedules_.after_step(index);
}

// --- Automatic optimization ---

void TrainStepper::step_if_due(TrainStep& step, OptimizerTrack& track) {
  for (const Hook hook : step_) {
    board_.set_origin(hook, /*step_allowed=*/true, /*on_step=*/true, step.batch_size);
    if (!step.closes_window || !track.has_gradients) continue;
    if (hook == Hook::on_before_optimizer_step || !has_before_step_) enter_phase(Phase::optimizer);
    if (hook == Hook::on_before_optimizer_step) {
      finish_gradients(step.optimizer);
      if (!track.skips) call_before_step(step.optimizer);
      continue;
    }
    if (!has_before_step_) finish_gradients(step.optimizer);
    if (std::exchange(track.skips, false)) {
      track.has_gradients = false;
    } else {
      step_automatically(step, track);
    }
  }
}

void TrainStepper::step_automatically(TrainStep& step, OptimizerTrack& track) {
  Module& module = *core_.module;
  const auto& options = core_.options();
  clip(step.optimizer);
  int64_t calls = 0;
  const OptimizerClosure closure = [&]() -> torch::Tensor {
    if (calls++ == 0) return step.loss.defined() ? step.loss.detach() : torch::Tensor();
    if (core_.accumulate_grad_batches > 1) {
      throw UsageError(
          "an optimizer that evaluates the loss several times a step cannot have accumulate_grad_batches = " +
          std::to_string(core_.accumulate_grad_batches) +
          ": the window's earlier batches are gone; use 1 and larger batches");
    }
    torch::AutoGradMode with_gradients(true);
    pass_.repeat(step, track);
    clip(step.optimizer);
    return step.loss.defined() ? step.loss.detach() : torch::zeros({});
  };
  module.optimizer_step(core_.progress.epoch, step.batch_idx, core_.optimizers[step.optimizer],
                        static_cast<int64_t>(step.optimizer), closure);
  gather_parameters(step.optimizer);
  track.has_gradients = false;
  if (!core_.is_used(Hook::optimizer_step) || calls > 0) count_step(step.optimizer);
}

void TrainStepper::clip(std::size_t index) {
  const auto& options = core_.options();
  const During during(core_.pulse, "configure_gradient_clipping");
  core_.module->configure_gradient_clipping(core_.optimizers[index], static_cast<int64_t>(index),
                                            options.gradient_clip_val, options.gradient_clip_algorithm);
}

// --- Manual optimization ---

void TrainStepper::refuse_unless_manual(const char* what) const {
  if (!core_.module->automatic_optimization) return;
  throw UsageError(std::string(what) +
                   " belongs to manual optimization: set automatic_optimization = false in the constructor");
}

void TrainStepper::toggle(std::size_t index) {
  pass_.capture().call("toggle_optimizer " + std::to_string(index), {},
                       [=, this](const auto&) { toggle_.toggle(index); });
}

void TrainStepper::untoggle() {
  pass_.capture().call("untoggle_optimizer", {}, [this](const auto&) { toggle_.untoggle(); });
}

// What is more than operators are calls, which are done again if the step is recorded.
void TrainStepper::manual_backward(const torch::Tensor& loss) {
  refuse_unless_manual("manual_backward");
  refuse_untrainable(*core_.module, "the loss that manual_backward got", loss);
  auto& capture = pass_.capture();
  const auto is_replayed = [this] { return pass_.capture().way() == StepCapture::Way::replay; };
  capture.call("manual_backward", {loss}, [=, this](const auto& inputs) {
    for (auto& track : tracks_) track.is_unstepped = true;
    pass_.before_backward(is_replayed() ? inputs[0].clone() : inputs[0]);  // the next replay writes over its loss
    if (is_replayed()) enter_phase(Phase::backward);
    scaling_.begin_manual_pass();
  });
  {
    const PhaseScope phase(Phase::backward);
    const AutocastOff full_precision(core_.setup.device);
    try {
      const auto scaled = scaling_.scaled(loss);
      sync_.begin(scaled);
      if (core_.is_used(Hook::backward) && !core_.optimizers.empty()) {
        core_.module->backward(scaled, core_.optimizers[0], 0);
      } else {
        scaled.backward();
      }
      const PhaseScope waiting(Phase::reduction);
      sync_.finish();
    } catch (...) {
      scaling_.end_manual_pass();  // training_step may catch it, where memory was too small, and go on
      throw;
    }
  }
  capture.call("end of manual_backward", {}, [=, this](const auto&) {
    scaling_.end_manual_pass();
    if (is_replayed()) resume_phase(Phase::forward);
    pass_.after_backward();
  });
}

void TrainStepper::step_optimizer(std::size_t index, const OptimizerClosure& closure) {
  refuse_unless_manual("OptimizerHandle::step");
  if (closure) refuse_capture("it steps an optimizer with a closure, which computes the loss again");
  pass_.capture().call_step(index, [=, this] { make_step(index, closure); });
}

void TrainStepper::make_step(std::size_t index, const OptimizerClosure& closure) {
  const PhaseScope phase(Phase::optimizer);
  auto& optimizer = core_.optimizers[index];
  if (scaling_.is_on() && closure) throw UsageError("precision 16-mixed cannot step an optimizer with a closure");
  const AutocastOff full_precision(core_.setup.device);
  refuse_foreign_parameters(core_, sync_, index, tracks_[index].checked_parameters);
  note_unused_parameters(core_, index, tracks_);
  tracks_[index].is_unstepped = false;
  if (leaves_out(index)) return;
  call_before_step(index);
  if (closure) {
    optimizer.step([&] {
      const torch::AutoGradMode with_gradients(true);
      return closure();
    });
  } else {
    optimizer.step();
  }
  gather_parameters(index);
  count_step(index);
}

}  // namespace troupe
