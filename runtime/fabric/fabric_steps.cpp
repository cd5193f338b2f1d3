// What a FabricRank does in a step of the user's loop: backward passes and steps of optimizers, plain and captured.
#include "troupe/modules/optim/clip_gradients.hpp"
#include "troupe/modules/optim/drop_gradients.hpp"
#include "troupe/modules/support/step_recorder.hpp"
#include "troupe/runtime/distributed/gradient_announcement.hpp"
#include "troupe/runtime/fabric/fabric_recording.hpp"
#include "troupe/runtime/precision/autocast.hpp"
#include "troupe/runtime/replica/model_agreement.hpp"
#include "troupe/runtime/replica/training_problems.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <string_view>
#include <utility>

namespace troupe {

namespace {

std::string optimizer_text(std::size_t index) {
  return "optimizer " + std::to_string(index);
}

// c10d's own words are about a forward pass that this loop need not have.
[[noreturn]] void refuse_unused_parameters() {
  throw UsageError(
      "backward: the loss before depended on only some parameters of its optimizers, and the others wait for gradients;"
      " say whose gradients a loss is for, as in backward(loss, {generator}), or set fabric.find_unused_parameters ="
      " true");
}

}  // namespace

// --- Backward ---

void FabricRank::check_optimizer(const char* what, std::size_t optimizer) const {
  if (optimizer < core_.optimizers.size()) return;
  throw UsageError(std::string(what) + ": " + optimizer_text(optimizer) + " is not one of the " +
                   std::to_string(core_.optimizers.size()) + " that were set up");
}

std::vector<GradientAverager*> FabricRank::averagers_of(const std::vector<std::size_t>& optimizers) const {
  std::vector<GradientAverager*> averagers;
  if (!core_.peers() || holds_) return averagers;
  const auto add = [&](std::size_t optimizer) {
    if (auto* averager = sync_.averager(optimizer)) averagers.push_back(averager);
  };
  for (const auto optimizer : optimizers) add(optimizer);
  for (std::size_t i = 0; optimizers.empty() && i < core_.optimizers.size(); ++i) add(i);
  return averagers;
}

void FabricRank::begin_averaging(const std::vector<GradientAverager*>& averagers) {
  if (core_.divides_optimizers()) return;  // divided parameters have been used already
  try {
    for (auto* averager : averagers) averager->begin();
  } catch (const c10::Error& error) {
    if (std::string_view(error.what()).find("finished reduction") != std::string_view::npos) refuse_unused_parameters();
    throw;
  }
}

// With one optimizer the gradients that wait in whole parameters (zero, no_backward_sync) are known to be its own.
void FabricRank::begin_scaled_pass() {
  if (!scaling_.is_on()) return;
  core_.optimizers.size() == 1 ? scaling_.begin_pass(0, has_held_) : scaling_.begin_manual_pass();
}

void FabricRank::end_scaled_pass() {
  if (!scaling_.is_on()) return;
  core_.optimizers.size() == 1 ? scaling_.end_pass(0, /*stays=*/holds_) : scaling_.end_manual_pass();
}

// `compute(averagers)` does the pass itself, and calls prepare() of those who average.
template <class Compute>
void FabricRank::run_backward(const std::vector<std::size_t>& optimizers, Compute compute) {
  const AutocastOff full_precision(device());
  const auto averagers = averagers_of(optimizers);
  begin_averaging(averagers);
  begin_scaled_pass();
  try {
    compute(averagers);
    for (auto* averager : averagers) averager->finish();
  } catch (...) {
    end_scaled_pass();
    throw;
  }
  end_scaled_pass();
  if (core_.peers()) has_held_ = holds_;
}

void FabricRank::backward(const torch::Tensor& loss, const std::vector<std::size_t>& optimizers) {
  if (core_.optimizers.empty()) {
    throw UsageError("backward: no optimizer was set up; call setup(module, optimizer) before the loop");
  }
  for (const auto optimizer : optimizers) check_optimizer("backward", optimizer);
  if (!loss.defined() || loss.numel() != 1) {
    throw UsageError("backward: the loss is " + (loss.defined() ? c10::str("of shape ", loss.sizes()) : "undefined") +
                     "; give a scalar, for example by .mean()");
  }
  refuse_untrainable(*core_.module, "the loss that backward got", loss);
  if (recording_) return record_backward(loss, optimizers);
  run_backward(optimizers, [&](const auto& averagers) {
    const auto scaled = scaling_.scaled(loss);
    for (auto* averager : averagers) averager->prepare(scaled);
    scaled.backward();
  });
}

// Recorded without those who average, who then hear of the gradients in the order in which they came.
void FabricRank::record_backward(const torch::Tensor& loss, const std::vector<std::size_t>& optimizers) {
  auto& capture = recording_->capture;
  auto& recorder = *capture.recorder();
  const NotRecorded not_recorded(recorder);
  if (std::exchange(recording_->has_backward, true)) {
    recorder.refuse("it calls backward twice: capture a function for each");
    return run_backward(optimizers, [&](const auto& averagers) {
      for (auto* averager : averagers) averager->prepare(loss);
      loss.backward();
    });
  }
  recording_->optimizers = optimizers;
  capture.end_forward(loss);
  run_backward(optimizers, [&](const auto& averagers) {
    capture.begin_backward();
    {
      const capture::Recorded recorded(&recorder);
      scaling_.scaled(loss).backward();
    }
    capture.end_function_backward();
    if (averagers.empty()) return;
    for (auto* averager : averagers) averager->prepare({});
    run_as_backward([&] { capture.announce_recorded(); });
  });
}

void FabricRank::replay_backward(StepCapture& capture, const std::vector<std::size_t>& optimizers) {
  run_backward(optimizers, [&](const auto& averagers) {
    if (averagers.empty()) return capture.replay_backward(/*announces=*/false);
    for (auto* averager : averagers) averager->prepare({});
    run_as_backward([&] { capture.replay_backward(/*announces=*/true); });
  });
}

bool FabricRank::hold_gradients(bool holds) {
  refuse_capture("it begins or ends no_backward_sync: put that around the call of the captured function");
  if (holds && scaling_.is_on() && core_.divides_optimizers() && core_.optimizers.size() > 1) {
    throw UsageError(
        "no_backward_sync: with strategy = zero and precision = '16-mixed' gradients of several optimizers cannot wait;"
        " use bf16-mixed, or strategy = ddp");
  }
  return std::exchange(holds_, holds);
}

// --- Optimizers ---

void FabricRank::zero_grad(std::size_t optimizer) {
  check_optimizer("zero_grad", optimizer);
  if (!recording_) return drop(optimizer);
  recording_->capture.recorder()->call_without_result("zero_grad of " + optimizer_text(optimizer), {},
                                                      [this, optimizer](const auto&) { drop(optimizer); });
}

void FabricRank::drop(std::size_t optimizer) {
  drop_gradients(core_.optimizers[optimizer]);
  if (const auto* sharded = sync_.sharded(optimizer)) {
    for (const auto& parameter : sharded->parameters()) parameter.mutable_grad().reset();
  }
  if (core_.optimizers.size() == 1) has_held_ = false;
}

void FabricRank::step(std::size_t optimizer, const OptimizerClosure& closure) {
  check_optimizer("step", optimizer);
  if (!recording_) return make_step(optimizer, closure);
  auto& recorder = *recording_->capture.recorder();
  if (closure) recorder.refuse("it steps an optimizer with a closure");
  if (!recording_->has_backward) recorder.refuse("it steps an optimizer before it calls backward");
  recorder.call_without_result("step of " + optimizer_text(optimizer), {},
                               [=, this](const auto&) { make_step(optimizer, closure); });
}

void FabricRank::make_step(std::size_t optimizer, const OptimizerClosure& closure) {
  if (has_held_) {
    throw UsageError(
        "step: the gradients of the last backward pass are this rank's own (no_backward_sync), so that ranks would have"
        " different weights from now on; leave it out for the last batch before a step");
  }
  if (scaling_.is_on() && closure) throw UsageError("precision 16-mixed cannot step an optimizer with a closure");
  if (scaling_.overflows(optimizer)) return;
  {
    const AutocastOff full_precision(device());
    if (closure) {
      core_.optimizers[optimizer].step([&] {
        const torch::AutoGradMode with_gradients(true);
        return closure();
      });
    } else {
      core_.optimizers[optimizer].step();
    }
  }
  core_.progress.global_step += 1;
  core_.progress.log_step += 1;
  if (!core_.peers()) return;
  sync_.gather_parameters(optimizer);
  broadcast_buffers(core_);
}

torch::Tensor FabricRank::clip_gradients(std::size_t optimizer, double bound, GradientClipAlgorithm algorithm) {
  check_optimizer("clip_gradients", optimizer);
  if (!recording_) return clip(optimizer, bound, algorithm);
  auto& recorder = *recording_->capture.recorder();
  if (!recording_->has_backward) recorder.refuse("it clips gradients before it calls backward");
  const auto name =
      c10::str("clip_gradients of ", optimizer_text(optimizer), " (", name_of(algorithm), " ", bound, ")");
  const auto again = [=, this](const std::vector<torch::Tensor>&) -> std::vector<torch::Tensor> {
    return {clip(optimizer, bound, algorithm)};
  };
  const auto results = recorder.call(name, {}, again, /*is_inner=*/false);
  return results.front();
}

torch::Tensor FabricRank::clip(std::size_t optimizer, double bound, GradientClipAlgorithm algorithm) {
  auto& own = core_.optimizers[optimizer];
  return troupe::clip_gradients(own, bound, algorithm, device(),
                                [&](torch::Tensor norm) { return sync_.whole_norm(own, std::move(norm)); });
}

}  // namespace troupe
