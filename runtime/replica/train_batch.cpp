// One training batch through the program of hook_order::train_batch.
#include "troupe/runtime/distributed/epoch_exchange.hpp"
#include "troupe/runtime/distributed/sync_batch_norm.hpp"
#include "troupe/runtime/precision/autocast.hpp"
#include "troupe/runtime/precision/convert.hpp"
#include "troupe/runtime/replica/replica.hpp"

#include <torch/torch.h>

#include <sstream>

namespace troupe {

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

// One output of a batch with several optimizers: "loss/optimizer_idx_1".
StepOutput joined(const std::vector<StepOutput>& outputs) {
  if (outputs.size() == 1) return outputs.front();
  StepOutput::Items items;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    for (const auto& [name, tensor] : outputs[i].items()) {
      items.emplace_back(name + "/optimizer_idx_" + std::to_string(i), tensor);
    }
  }
  return StepOutput(std::move(items));
}

}  // namespace

AfterBatch Replica::train_batch(Batch batch, int64_t batch_idx, bool is_last, std::optional<int64_t> samples_of_all) {
  current_batch_ = batch_idx;
  saw_batches_ = true;
  train_log_.begin_step();
  const int64_t batch_size = size_of(batch);
  if (!begin_train_batch(batch, batch_idx, batch_size)) {
    if (samples_of_all) train_without_batch(batch_idx, is_last, *samples_of_all);
    return AfterBatch::skip_rest_of_epoch;
  }
  TrainStep step = begin_step(batch_idx, is_last);
  step.batch_size = batch_size;
  step.own = step.all = static_cast<double>(batch_size);
  if (samples_of_all) {
    step.own *= static_cast<double>(world_size());
    step.all = static_cast<double>(*samples_of_all);
  }
  if (train_program_.has_end) batch_outputs_.assign(sequences_.size(), {});
  if (module_->truncated_bptt_steps <= 0) {
    step.batch = &batch;
    run_optimizers(step);
  } else {
    if (const auto window = setup_.options.accumulate_grad_batches; window > 1) {
      throw UsageError("every part that truncated_bptt_steps makes is a step, so accumulate_grad_batches = " +
                       std::to_string(window) + " has nothing to add up; use 1");
    }
    step.in_parts = true;
    for (auto& sequence : sequences_) sequence.hiddens = {};
    current_name_ = "tbptt_split_batch";
    const auto parts = module_->tbptt_split_batch(batch, module_->truncated_bptt_steps);
    current_name_ = "";
    step.part_count = parts.size();
    for (step.part = 0; step.part < parts.size(); ++step.part) {
      step.batch = &parts[step.part];
      run_optimizers(step);
    }
  }
  end_train_batch(batch, batch_idx, batch_size);
  if (is_last) step_epoch_schedulers(/*with_metric=*/false);
  end_of_batch();
  return AfterBatch::go_on;
}

void Replica::train_without_batch(int64_t batch_idx, bool is_last, int64_t samples_of_all) {
  current_batch_ = batch_idx;
  train_log_.begin_step();
  TrainStep step = begin_step(batch_idx, is_last);
  step.own = 0;
  step.all = static_cast<double>(samples_of_all);
  if (module_->automatic_optimization) run_optimizers(step);
  if (is_last) step_epoch_schedulers(/*with_metric=*/false);
  end_of_batch();
}

Replica::TrainStep Replica::begin_step(int64_t batch_idx, bool is_last) {
  const int64_t window = setup_.options.accumulate_grad_batches;
  batch_stepped_ = false;
  TrainStep step;
  step.batch_idx = batch_idx;
  step.is_first_of_window = batch_idx % window == 0;
  step.closes_window = is_last || (batch_idx + 1) % window == 0;
  if (setup_.peers && step.is_first_of_window) broadcast_buffers();
  return step;
}

// The hooks before training_step. False: on_train_batch_start wants no more of this epoch.
bool Replica::begin_train_batch(Batch& batch, int64_t batch_idx, int64_t batch_size) {
  Module& module = *module_;
  for (const Hook hook : train_program_.before) {
    set_origin(hook, /*step_allowed=*/true, /*on_step=*/true, batch_size);
    if (hook != Hook::on_train_batch_start) {
      batch = move_batch(std::move(batch), hook, 0);
      continue;
    }
    for (Callback* callback : batch_callbacks_) callback->on_train_batch_start(*this, module, batch, batch_idx);
    if (is_used(hook) && module.on_train_batch_start(batch, batch_idx) != EpochControl::proceed) return false;
  }
  if (converts_batches_) batch = with_floating_type(std::move(batch), parameter_type(precision_));
  return true;
}

void Replica::end_train_batch(const Batch& batch, int64_t batch_idx, int64_t batch_size) {
  if (!train_program_.has_end) return;
  Module& module = *module_;
  is_at_batch_end_ = true;
  set_origin(Hook::on_train_batch_end, /*step_allowed=*/true, /*on_step=*/true, batch_size);
  const StepOutput output = joined(batch_outputs_).detach();
  for (Callback* callback : batch_callbacks_) callback->on_train_batch_end(*this, module, output, batch, batch_idx);
  if (is_used(Hook::on_train_batch_end)) module.on_train_batch_end(output, batch, batch_idx);
  is_at_batch_end_ = false;
}

// Every optimizer in turn, or the one whose turn it is.
void Replica::run_optimizers(TrainStep& step) {
  const auto& frequencies = optimizers_.frequencies();
  const bool takes_turns = !frequencies.empty() && frequencies.front() > 0;
  if (takes_turns) {
    step.optimizer = optimizer_of_turn(step.batch_idx / setup_.options.accumulate_grad_batches);
  }
  for (std::size_t i = takes_turns ? step.optimizer : 0; i < sequences_.size(); ++i) {
    step.optimizer = i;
    const bool toggles = optimizers_.size() > 1 && module_->automatic_optimization;
    if (toggles) toggle_optimizer(i);
    run_train_program(step);
    if (toggles) untoggle_optimizer(i);
    if (step.in_parts) sequences_[i].hiddens = hiddens_of(step.output);
    if (step.batch && is_used(Hook::training_epoch_end)) train_outputs_.add(i, step.output.detach());
    if (step.batch && train_program_.has_end) batch_outputs_[i] = std::move(step.output);
    if (takes_turns || !module_->automatic_optimization) break;
  }
}

void Replica::run_train_program(TrainStep& step) {
  Module& module = *module_;
  const auto index = static_cast<int64_t>(step.optimizer);
  Sequence& sequence = sequences_[step.optimizer];
  const auto steps_now = [&] { return step.closes_window && sequence.has_gradients; };
  for (const Hook hook : train_program_.step) {
    set_origin(hook, /*step_allowed=*/true, /*on_step=*/true, step.batch_size);
    switch (hook) {
      case Hook::training_step: compute_loss(step); break;
      case Hook::on_before_zero_grad:
        if (!opens_window(step)) break;
        for (Callback* callback : batch_callbacks_) callback->on_before_zero_grad(*this, module, optimizer_of(step));
        if (is_used(hook)) module.on_before_zero_grad(optimizer_of(step));
        break;
      case Hook::optimizer_zero_grad:
        if (!opens_window(step)) break;
        module.optimizer_zero_grad(progress_.epoch, step.batch_idx, optimizer_of(step), index);
        sequence.has_gradients = false;
        break;
      case Hook::on_before_backward:
        if (!step.loss.defined()) break;
        for (Callback* callback : batch_callbacks_) callback->on_before_backward(*this, module, step.loss);
        if (is_used(hook)) module.on_before_backward(step.loss);
        break;
      case Hook::backward:
        if (contributes_nothing(step)) contribute_nothing(step);
        if (step.loss.defined()) backward(step);
        sequence.has_gradients |= step.loss.defined() || contributes_nothing(step);
        if (sequence.nominal > 0 && (step.loss.defined() || setup_.peers)) sequence.samples += step.all;
        break;
      case Hook::on_after_backward:
        if (!step.loss.defined()) break;
        for (Callback* callback : batch_callbacks_) callback->on_after_backward(*this, module);
        if (is_used(hook)) module.on_after_backward();
        break;
      case Hook::on_before_optimizer_step:
        if (!steps_now()) break;
        finish_gradients(step.optimizer);
        if (sequence.skips) break;
        for (Callback* callback : batch_callbacks_) {
          callback->on_before_optimizer_step(*this, module, optimizer_of(step), index);
        }
        if (is_used(hook)) module.on_before_optimizer_step(optimizer_of(step), index);
        break;
      case Hook::optimizer_step:
        if (!steps_now()) break;
        if (!train_program_.has_before_step) finish_gradients(step.optimizer);
        if (std::exchange(sequence.skips, false)) {
          sequence.has_gradients = false;
        } else {
          step_automatically(step);
        }
        break;
      default: break;
    }
  }
}

void Replica::compute_loss(TrainStep& step) {
  step.loss.reset();
  if (GradientAverager* averager = averager_of(step)) averager->begin();
  step.output = {};
  if (step.batch && parts_) {
    const Autocast autocast(precision_, setup_.device);
    step.output = training_step_in_parts(step);
  } else if (step.batch) {
    const Autocast autocast(precision_, setup_.device);
    const SyncBatchNorm synced(setup_.options.sync_batchnorm ? setup_.peers.get() : nullptr);
    step.output = call_training_step(step);
    if (is_used(Hook::training_step_end)) {
      current_name_ = "training_step_end";
      step.output = module_->training_step_end({std::move(step.output)});
      current_name_ = "";
    }
  }
  if (!module_->automatic_optimization) return;
  if (step.output.empty()) {
    if (setup_.peers) (void)weight_in_window(step);  // the others count this batch
    return;
  }
  step.loss = checked_loss(step.output);
  refuse_untrainable("the loss that training_step returned", step.loss);
  if (watches_losses()) judge_loss(step);
  if (const double weight = weight_in_window(step); weight != 1) step.loss = step.loss * weight;
}

// Values of steps that no sink is due for stay where they are until they are replaced.
void Replica::end_of_batch() {
  progress_.batch_idx += 1;
  progress_.total_batches += 1;
  if (batch_stepped_) progress_.log_step += 1;
  const int64_t every = setup_.options.log_every_n_steps;
  const bool is_due = batch_stepped_ && every > 0 && progress_.log_step % every == 0;
  if (!is_due && !wants_step_metrics_) return;
  wants_step_metrics_ = false;
  ScalarsRecord record{record_step(), progress_.epoch, {}};
  auto values = train_log_.take_step();
  if (is_due && setup_.peers) average_steps(*setup_.peers, values);
  keep(values, is_due ? &record : nullptr);
  if (record.values.empty()) return;
  curves_.place(record);
  outputs_.record(std::move(record));
}

}  // namespace troupe
