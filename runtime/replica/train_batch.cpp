// One training batch through the program of hook_order::train_batch.
#include "troupe/runtime/hook_order.hpp"
#include "troupe/runtime/replica/replica.hpp"

#include <torch/torch.h>

#include <sstream>

namespace troupe {

struct Replica::TrainStep {
  Batch batch;
  int64_t batch_idx = 0;
  int64_t batch_size = 1;
  bool opens_window = true;   ///< first batch of an accumulation window
  bool closes_window = true;  ///< last one
  StepOutput output;
  StepOutput hiddens;  ///< of the part before, in truncated back-propagation through time
  bool in_parts = false;
  torch::Tensor loss;  ///< of this batch, divided by the window's length
  bool stepped = false;
};

namespace {

[[noreturn]] void refuse_loss(const torch::Tensor* loss) {
  std::ostringstream text;
  text << "training_step returned ";
  if (!loss) {
    text << "a dictionary without the key \"loss\"";
  } else if (!loss->defined()) {
    text << "an undefined tensor as its loss";
  } else {
    text << "a loss of shape " << loss->sizes();
  }
  text << "; return a scalar, for example by .mean(), or {} to skip the batch";
  throw UsageError(text.str());
}

torch::Tensor checked_loss(const StepOutput& output) {
  const torch::Tensor* loss = output.find("loss");
  if (!loss || !loss->defined() || loss->numel() != 1) refuse_loss(loss);
  return *loss;
}

StepOutput hiddens_of(const StepOutput& output) {
  StepOutput::Items items;
  for (const auto& [name, tensor] : output.items()) {
    if (name.starts_with("hidden")) items.emplace_back(name, tensor.detach());
  }
  return StepOutput(std::move(items));
}

}  // namespace

AfterBatch Replica::train_batch(Batch batch, int64_t batch_idx, bool is_last) {
  current_batch_ = batch_idx;
  train_log_.begin_step();
  const int64_t window = setup_.options.accumulate_grad_batches;
  TrainStep step;
  step.batch_idx = batch_idx;
  step.batch_size = batch.size();
  step.opens_window = batch_idx % window == 0 || !window_has_gradients_;
  step.closes_window = is_last || (batch_idx + 1) % window == 0;
  AfterBatch after = AfterBatch::go_on;
  bool stepped = false;
  if (module_->truncated_bptt_steps <= 0) {
    step.batch = std::move(batch);
    after = run_train_program(step);
    stepped = step.stepped;
  } else {
    step.in_parts = true;
    for (auto& part : module_->tbptt_split_batch(batch, module_->truncated_bptt_steps)) {
      step.batch = std::move(part);
      step.output = {};
      after = run_train_program(step);
      stepped = stepped || step.stepped;
      step.hiddens = hiddens_of(step.output);
      if (after != AfterBatch::go_on) break;
    }
  }
  if (after == AfterBatch::go_on) end_of_batch(stepped);
  return after;
}

AfterBatch Replica::run_train_program(TrainStep& step) {
  Module& module = *module_;
  for (const Hook hook : train_program_) {
    set_origin(hook, /*step_allowed=*/true, /*on_step=*/true, step.batch_size);
    switch (hook) {
      case Hook::on_train_batch_start:
        for (Callback* callback : batch_callbacks_)
          callback->on_train_batch_start(*this, module, step.batch, step.batch_idx);
        if (is_used(hook) && module.on_train_batch_start(step.batch, step.batch_idx) != EpochControl::proceed) {
          return AfterBatch::skip_rest_of_epoch;
        }
        break;
      case Hook::on_before_batch_transfer:
      case Hook::transfer_batch_to_device:
      case Hook::on_after_batch_transfer: step.batch = move_batch(std::move(step.batch), hook, 0); break;
      case Hook::training_step: compute_loss(step); break;
      case Hook::on_before_zero_grad:
        if (!step.loss.defined() || !step.opens_window) break;
        for (Callback* callback : batch_callbacks_) callback->on_before_zero_grad(*this, module, optimizers_[0]);
        if (is_used(hook)) module.on_before_zero_grad(optimizers_[0]);
        break;
      case Hook::optimizer_zero_grad:
        if (step.loss.defined() && step.opens_window) {
          module.optimizer_zero_grad(progress_.epoch, step.batch_idx, optimizers_[0], 0);
        }
        break;
      case Hook::on_before_backward:
        if (!step.loss.defined()) break;
        for (Callback* callback : batch_callbacks_) callback->on_before_backward(*this, module, step.loss);
        if (is_used(hook)) module.on_before_backward(step.loss);
        break;
      case Hook::backward:
        if (!step.loss.defined()) break;
        module.backward(step.loss, optimizers_[0], 0);
        window_has_gradients_ = true;
        break;
      case Hook::on_after_backward:
        if (!step.loss.defined()) break;
        for (Callback* callback : batch_callbacks_) callback->on_after_backward(*this, module);
        if (is_used(hook)) module.on_after_backward();
        break;
      case Hook::on_before_optimizer_step:
        if (!step.closes_window || !window_has_gradients_) break;
        for (Callback* callback : batch_callbacks_)
          callback->on_before_optimizer_step(*this, module, optimizers_[0], 0);
        if (is_used(hook)) module.on_before_optimizer_step(optimizers_[0], 0);
        break;
      case Hook::optimizer_step:
        if (step.closes_window && window_has_gradients_) step_optimizer(step);
        break;
      case Hook::on_train_batch_end: {
        const StepOutput output = step.output.detach();
        for (Callback* callback : batch_callbacks_) {
          callback->on_train_batch_end(*this, module, output, step.batch, step.batch_idx);
        }
        if (is_used(hook)) module.on_train_batch_end(output, step.batch, step.batch_idx);
        break;
      }
      default: break;
    }
  }
  if (is_used(Hook::training_epoch_end)) train_outputs_.add(0, step.output.detach());
  return AfterBatch::go_on;
}

void Replica::compute_loss(TrainStep& step) {
  step.loss.reset();
  step.output = step.in_parts ? module_->training_step(step.batch, step.batch_idx, step.hiddens)
                              : module_->training_step(step.batch, step.batch_idx);
  if (step.output.empty()) return;
  step.loss = checked_loss(step.output);
  if (!step.loss.requires_grad()) {
    throw UsageError(
        "the loss that training_step returned depends on no parameter that is trained: is the module frozen,"
        " or was the loss detached?");
  }
  if (setup_.options.accumulate_grad_batches > 1) {
    step.loss = step.loss / static_cast<double>(setup_.options.accumulate_grad_batches);
  }
}

void Replica::step_optimizer(TrainStep& step) {
  Module& module = *module_;
  auto& optimizer = optimizers_[0];
  const auto& options = setup_.options;
  current_name_ = "configure_gradient_clipping";
  module.configure_gradient_clipping(optimizer, 0, options.gradient_clip_val, options.gradient_clip_algorithm);
  current_name_ = "";
  bool is_first_call = true;
  const OptimizerClosure closure = [&]() -> torch::Tensor {
    if (is_first_call) {
      is_first_call = false;
      return step.loss.defined() ? step.loss.detach() : torch::Tensor();
    }
    torch::AutoGradMode with_gradients(true);
    module.optimizer_zero_grad(progress_.epoch, step.batch_idx, optimizer, 0);
    compute_loss(step);
    if (!step.loss.defined())
      throw UsageError("training_step returned nothing when the optimizer asked for the loss again");
    module.backward(step.loss, optimizer, 0);
    return step.loss.detach();
  };
  module.optimizer_step(progress_.epoch, step.batch_idx, optimizer, 0, closure);
  window_has_gradients_ = false;
  step.stepped = true;
  progress_.global_step += 1;
}

// Values of steps that no sink is due for stay where they are until they are replaced.
void Replica::end_of_batch(bool stepped) {
  progress_.batch_idx += 1;
  progress_.total_batches += 1;
  const int64_t every = setup_.options.log_every_n_steps;
  const bool is_due = stepped && every > 0 && progress_.global_step % every == 0;
  if (!is_due && !wants_step_metrics_) return;
  wants_step_metrics_ = false;
  ScalarsRecord record{record_step(), progress_.epoch, {}};
  keep(train_log_.take_step(), is_due ? &record : nullptr);
  if (!record.values.empty()) outputs_.record(std::move(record));
}

}  // namespace troupe
