// What a replica does with its optimizers: windows of accumulation, turns, toggling, steps; automatic and manual.
#include "troupe/modules/optim/drop_gradients.hpp"
#include "troupe/runtime/precision/autocast.hpp"
#include "troupe/runtime/replica/replica.hpp"

#include <torch/torch.h>

#include <algorithm>
#include <numeric>
#include <unordered_set>

namespace troupe {

// --- Turns and toggling ---

std::size_t Replica::optimizer_of_turn(int64_t window) const {
  const auto& frequencies = optimizers_.frequencies();
  int64_t place = window % std::accumulate(frequencies.begin(), frequencies.end(), int64_t{0});
  std::size_t index = 0;
  while (place >= frequencies[index]) place -= frequencies[index++];
  return index;
}

void Replica::toggle_optimizer(std::size_t index) {
  if (index >= optimizers_.size()) {
    throw UsageError("toggle_optimizer(" + std::to_string(index) + "): configure_optimizers returned " +
                     std::to_string(optimizers_.size()));
  }
  if (!toggled_.empty()) untoggle_optimizer(index);
  std::unordered_set<const void*> own;
  for (const auto& parameter : parameters_of(index)) own.insert(parameter.unsafeGetTensorImpl());
  for (std::size_t other = 0; other < optimizers_.size(); ++other) {
    if (other == index) continue;
    for (const auto& parameter : parameters_of(other)) {
      if (!parameter.requires_grad() || own.contains(parameter.unsafeGetTensorImpl())) continue;
      parameter.set_requires_grad(false);
      toggled_.push_back(parameter);
    }
  }
}

void Replica::untoggle_optimizer(std::size_t) {
  for (const auto& parameter : toggled_) parameter.set_requires_grad(true);
  toggled_.clear();
}

// --- Windows of accumulation ---

void Replica::set_accumulate_grad_batches(int64_t batches) {
  if (batches < 1) {
    throw UsageError("accumulate_grad_batches = " + std::to_string(batches) + " is not valid; use at least 1");
  }
  setup_.options.accumulate_grad_batches = batches;
}

bool Replica::begins_window(const TrainStep& step) const {
  return step.is_first_of_window && !sequences_[step.optimizer].is_carried;
}

// The first batch of a window, and whatever comes first where no gradient is there to be added to.
bool Replica::opens_window(const TrainStep& step) const {
  return (step.loss.defined() || contributes_nothing(step)) &&
         (begins_window(step) || !sequences_[step.optimizer].has_gradients);
}

// With "samples" a batch counts by its size, against that of the batches of all ranks and the size of the window's
// first ones; what is wrong with that where the window turns out short is put right by finish_gradients, equally on all
// ranks.
double Replica::weight_in_window(const TrainStep& step) {
  const auto window = static_cast<double>(setup_.options.accumulate_grad_batches);
  if (setup_.options.accumulate_grad_weighting == GradWeighting::batches) return 1 / window;
  if (step.own == 0 && step.loss.defined()) {
    throw UsageError(
        "the batch counts as 0 samples (Batch::size), so that its loss would weigh nothing: return {} from"
        " training_step to skip it, say another number with Batch::set_size in the collate function, or use"
        " accumulate_grad_weighting = batches");
  }
  if (window == 1) return step.own / step.all;
  Sequence& sequence = sequences_[step.optimizer];
  if (begins_window(step) || sequence.nominal == 0 || (!setup_.peers && !sequence.has_gradients)) {
    sequence.nominal = step.all * window;
    sequence.samples = 0;
  }
  return step.own / sequence.nominal;
}

// Gradients as the hooks before the step, clipping and the step are to see them.
void Replica::finish_gradients(std::size_t index) {
  Sequence& sequence = sequences_[index];
  if (sequence.samples > 0 && sequence.samples != sequence.nominal) {
    const auto gradients = gradients_of(optimizers_[index]);
    const torch::NoGradGuard no_gradients;
    if (!gradients.empty()) at::_foreach_mul_(gradients, sequence.nominal / sequence.samples);
  }
  sequence.samples = sequence.nominal = 0;
  sequence.is_carried = false;
  refuse_foreign_parameters(index);
  name_unused_parameters(index);
  sequence.skips = leaves_out(index);
}

// The one decision on a step that cannot be made: it has no hooks, does not count and moves no scheduler.
bool Replica::leaves_out(std::size_t index) {
  return has_bad_numbers(index) || overflows(index);
}

// --- Automatic optimization ---

void Replica::backward(TrainStep& step) {
  begin_pass(step);
  const auto scaled = scaler_ ? scaler_->scale(step.loss) : step.loss;
  GradientAverager* averager = averager_of(step);
  if (averager && !parts_) averager->prepare(scaled);
  module_->backward(scaled, optimizer_of(step), static_cast<int64_t>(step.optimizer));
  if (parts_) {
    // What is averaged is the gradient of all parts.
    parts_->collect_gradients();
    if (averager) averager->contribute_nothing();
  } else if (averager) {
    averager->finish();
  }
  end_pass(step);
}

void Replica::step_automatically(TrainStep& step) {
  Module& module = *module_;
  auto& optimizer = optimizer_of(step);
  const auto index = static_cast<int64_t>(step.optimizer);
  const auto& options = setup_.options;
  const auto clip = [&] {
    current_name_ = "configure_gradient_clipping";
    module.configure_gradient_clipping(optimizer, index, options.gradient_clip_val, options.gradient_clip_algorithm);
    current_name_ = "";
  };
  clip();
  int64_t calls = 0;
  const OptimizerClosure closure = [&]() -> torch::Tensor {
    if (calls++ == 0) return step.loss.defined() ? step.loss.detach() : torch::Tensor();
    if (options.accumulate_grad_batches > 1) {
      throw UsageError(
          "an optimizer that evaluates the loss several times a step cannot have accumulate_grad_batches = " +
          std::to_string(options.accumulate_grad_batches) +
          ": the window's earlier batches are gone; use 1 and larger batches");
    }
    torch::AutoGradMode with_gradients(true);
    module.optimizer_zero_grad(progress_.epoch, step.batch_idx, optimizer, index);
    compute_loss(step);
    if (step.loss.defined()) {
      backward(step);
    } else if (contributes_nothing(step)) {
      contribute_nothing(step);
    } else {
      throw UsageError("training_step returned nothing when the optimizer asked for the loss again");
    }
    clip();
    return step.loss.defined() ? step.loss.detach() : torch::zeros({});
  };
  module.optimizer_step(progress_.epoch, step.batch_idx, optimizer, index, closure);
  gather_parameters(step.optimizer);
  sequences_[step.optimizer].has_gradients = false;
  if (!is_used(Hook::optimizer_step) || calls > 0) count_step(step.optimizer);
}

void Replica::count_step(std::size_t index) {
  batch_stepped_ = true;
  progress_.global_step += 1;
  if (module_->automatic_optimization) step_step_schedulers(index);
}

// --- Manual optimization ---

void Replica::refuse_unless_manual(const char* what) const {
  if (!module_->automatic_optimization) return;
  throw UsageError(std::string(what) +
                   " belongs to manual optimization: set automatic_optimization = false in the constructor");
}

void Replica::manual_backward(const torch::Tensor& loss) {
  refuse_unless_manual("manual_backward");
  refuse_untrainable("the loss that manual_backward got", loss);
  Module& module = *module_;
  is_unstepped_.assign(optimizers_.size(), true);
  for (Callback* callback : batch_callbacks_) callback->on_before_backward(*this, module, loss);
  if (is_used(Hook::on_before_backward)) module.on_before_backward(loss);
  {
    const AutocastOff full_precision(setup_.device);
    begin_manual_pass();
    try {
      const auto scaled = scaler_ ? scaler_->scale(loss) : loss;
      for (GradientAverager* averager : averagers()) {
        averager->begin();
        averager->prepare(scaled);
      }
      if (is_used(Hook::backward) && !optimizers_.empty()) {
        module.backward(scaled, optimizers_[0], 0);
      } else {
        scaled.backward();
      }
      for (GradientAverager* averager : averagers()) averager->finish();
    } catch (...) {
      end_manual_pass();  // training_step may catch it, where memory was too small, and go on
      throw;
    }
    end_manual_pass();
  }
  for (Callback* callback : batch_callbacks_) callback->on_after_backward(*this, module);
  if (is_used(Hook::on_after_backward)) module.on_after_backward();
}

void Replica::step_optimizer(std::size_t index, const OptimizerClosure& closure) {
  refuse_unless_manual("OptimizerHandle::step");
  Module& module = *module_;
  auto& optimizer = optimizers_[index];
  if (scaler_ && closure) throw UsageError("precision 16-mixed cannot step an optimizer with a closure");
  const AutocastOff full_precision(setup_.device);
  refuse_foreign_parameters(index);
  name_unused_parameters(index);
  if (index < is_unstepped_.size()) is_unstepped_[index] = false;
  if (leaves_out(index)) return;
  for (Callback* callback : batch_callbacks_) {
    callback->on_before_optimizer_step(*this, module, optimizer, static_cast<int64_t>(index));
  }
  if (is_used(Hook::on_before_optimizer_step)) {
    module.on_before_optimizer_step(optimizer, static_cast<int64_t>(index));
  }
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
