#include "troupe/runtime/replica/train_stepper.hpp"

#include "troupe/modules/hook_order.hpp"
#include "troupe/runtime/replica/batch_transfer.hpp"
#include "troupe/runtime/replica/model_agreement.hpp"
#include "troupe/runtime/replica/training_problems.hpp"

#include <torch/optim/lbfgs.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <numeric>
#include <string>

namespace troupe {

namespace {

StepOutput hiddens_of(const StepOutput& output) {
  StepOutput::Items items;
  for (const auto& [name, tensor] : output.items()) {
    if (name.starts_with("hidden")) items.emplace_back(name, tensor.detach());
  }
  return StepOutput(std::move(items));
}

// One output of a batch with several optimizers: "loss/optimizer_idx_1".
StepOutput joined_by_optimizer(const std::vector<StepOutput>& outputs) {
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

// --- Before the first batch ---

void TrainStepper::configure() {
  for (const auto& optimizer : core_.optimizers) {
    if (!optimizer) throw UsageError("configure_optimizers returned a null optimizer");
  }
  refuse_repeated_parameters(core_);
  const auto& frequencies = core_.optimizers.frequencies();
  const auto takes_turns = [](int64_t frequency) { return frequency > 0; };
  const bool some_take_turns = std::ranges::any_of(frequencies, takes_turns);
  for (std::size_t i = 0; some_take_turns && i < frequencies.size(); ++i) {
    if (frequencies[i] > 0) continue;
    throw UsageError("optimizer " + std::to_string(i) + " has frequency = " + std::to_string(frequencies[i]) +
                     ", others have one: give each at least 1, or none");
  }
  if (std::ranges::any_of(frequencies, [](int64_t frequency) { return frequency < 0; })) {
    throw UsageError("an optimizer has a negative frequency; use at least 1, or 0 for none");
  }
  tracks_.assign(std::max<std::size_t>(1, core_.optimizers.size()), {});
  schedules_.configure();
  if (!core_.module->automatic_optimization) refuse_options_of_automatic_optimization(core_.options());
  for (std::size_t i = 0; i < core_.optimizers.size(); ++i) {
    refuse_foreign_parameters(core_, sync_, i, tracks_[i].checked_parameters);
  }
  if (core_.precision != Precision::float16_mixed) return;
  for (const auto& optimizer : core_.optimizers) {
    if (dynamic_cast<const torch::optim::LBFGS*>(optimizer.get())) {
      throw UsageError(
          "LBFGS evaluates the loss several times a step, which precision = '16-mixed' cannot; use bf16-mixed");
    }
  }
  scaling_.switch_on();
}

void TrainStepper::compile() {
  const auto all = compile_program(core_, hook_order::train_batch);
  const auto is_of_step = [](Hook hook) {
    return hook == Hook::on_before_optimizer_step || hook == Hook::optimizer_step;
  };
  const auto pass = std::ranges::find(all, Hook::training_step);
  const auto step = std::find_if(pass, all.end(), is_of_step);
  const auto end = std::ranges::find(all, Hook::on_train_batch_end);
  const bool is_manual = !core_.module->automatic_optimization;  // training_step does the rest itself
  before_.assign(all.begin(), pass);
  step_.assign(is_manual ? end : step, end);
  has_before_step_ = std::ranges::count(all, Hook::on_before_optimizer_step) > 0;
  has_end_ = end != all.end();
  pass_.configure(HookProgram(pass, is_manual ? pass + 1 : step),
                  /*keeps_outputs=*/has_end_ || core_.is_used(Hook::training_epoch_end));
}

void TrainStepper::refresh() {
  sync_.refresh();
  pass_.refresh();
  scaling_.refresh();  // which are those that a shard has taken is known only now
}

void TrainStepper::begin_epoch(bool is_in_its_middle) {
  outputs_.clear();
  if (is_in_its_middle) return;  // perhaps in the middle of a window
  for (auto& track : tracks_) track.begin_epoch();
}

// --- A batch ---

AfterBatch TrainStepper::train_batch(Batch batch, int64_t batch_idx, bool is_last,
                                     std::optional<int64_t> samples_of_all) {
  core_.pulse.batch = batch_idx;
  board_.begin_batch();
  sync_.begin_batch();
  const int64_t batch_size = sizes_.of(batch);
  if (!begin_batch(batch, batch_idx, batch_size)) {
    if (samples_of_all) train_without_batch(batch_idx, is_last, *samples_of_all);
    return AfterBatch::skip_rest_of_epoch;
  }
  TrainStep step = begin_step(batch_idx, is_last);
  step.batch_size = batch_size;
  step.own = step.all = static_cast<double>(batch_size);
  if (samples_of_all) {
    step.own *= static_cast<double>(core_.place().world_size);
    step.all = static_cast<double>(*samples_of_all);
  }
  if (has_end_) batch_outputs_.assign(tracks_.size(), {});
  if (core_.module->truncated_bptt_steps > 0) {
    run_chunks(step, batch);
  } else {
    step.batch = &batch;
    run_optimizers(step);
  }
  enter_phase(Phase::rest);
  if (step.closes_window) sync_.end_window();
  sync_.end_batch();
  end_batch(batch, batch_idx, batch_size);
  if (is_last) schedules_.after_epoch(/*with_metric=*/false);
  count_batch();
  return AfterBatch::go_on;
}

void TrainStepper::train_without_batch(int64_t batch_idx, bool is_last, int64_t samples_of_all) {
  core_.pulse.batch = batch_idx;
  board_.begin_step();
  sync_.begin_batch();
  TrainStep step = begin_step(batch_idx, is_last);
  step.own = 0;
  step.all = static_cast<double>(samples_of_all);
  if (core_.module->automatic_optimization) run_optimizers(step);
  enter_phase(Phase::rest);
  if (step.closes_window) sync_.end_window();
  sync_.end_batch();
  if (is_last) schedules_.after_epoch(/*with_metric=*/false);
  count_batch();
}

TrainStep TrainStepper::begin_step(int64_t batch_idx, bool is_last) {
  const int64_t window = core_.accumulate_grad_batches;
  batch_stepped_ = false;
  TrainStep step;
  step.batch_idx = batch_idx;
  step.is_first_of_window = batch_idx % window == 0;
  step.closes_window = is_last || (batch_idx + 1) % window == 0;
  // With local_sgd and diloco they go along with the weights.
  if (core_.setup.peers && !core_.trains_locally() && step.is_first_of_window) broadcast_buffers(core_);
  return step;
}

// The hooks before training_step. False: on_train_batch_start wants no more of this epoch.
bool TrainStepper::begin_batch(Batch& batch, int64_t batch_idx, int64_t batch_size) {
  Module& module = *core_.module;
  for (const Hook hook : before_) {
    board_.set_origin(hook, /*step_allowed=*/true, /*on_step=*/true, batch_size);
    if (hook != Hook::on_train_batch_start) {
      batch = move_batch(core_, std::move(batch), hook, 0);
      continue;
    }
    core_.call_batch_callbacks(
        hook, [&](Callback& callback) { callback.on_train_batch_start(core_.run, module, batch, batch_idx); });
    if (!core_.is_used(hook)) continue;
    enter_phase(id_of(module_owner, hook));
    if (module.on_train_batch_start(batch, batch_idx) != EpochControl::proceed) return false;
  }
  if (core_.converts_batches) batch = in_parameter_type(core_, std::move(batch));
  return true;
}

void TrainStepper::end_batch(const Batch& batch, int64_t batch_idx, int64_t batch_size) {
  if (!has_end_) return;
  Module& module = *core_.module;
  is_at_batch_end_ = true;
  board_.set_origin(Hook::on_train_batch_end, /*step_allowed=*/true, /*on_step=*/true, batch_size);
  const StepOutput output = joined_by_optimizer(batch_outputs_).detach();
  core_.call_batch_callbacks(Hook::on_train_batch_end, [&](Callback& callback) {
    callback.on_train_batch_end(core_.run, module, output, batch, batch_idx);
  });
  if (core_.is_used(Hook::on_train_batch_end)) {
    enter_phase(id_of(module_owner, Hook::on_train_batch_end));
    module.on_train_batch_end(output, batch, batch_idx);
  }
  resume_phase(Phase::rest);
  is_at_batch_end_ = false;
}

void TrainStepper::count_batch() {
  core_.progress.batch_idx += 1;
  core_.progress.total_batches += 1;
  if (batch_stepped_) core_.progress.log_step += 1;
  board_.end_of_batch(batch_stepped_);
}

Progress TrainStepper::saved_progress() const {
  Progress at = core_.progress;
  if (!is_at_batch_end_) return at;
  at.batch_idx += 1;
  at.total_batches += 1;
  if (batch_stepped_) at.log_step += 1;
  return at;
}

void TrainStepper::run_chunks(TrainStep& step, const Batch& batch) {
  if (const auto window = core_.accumulate_grad_batches; window > 1) {
    throw UsageError("every part that truncated_bptt_steps makes is a step, so accumulate_grad_batches = " +
                     std::to_string(window) + " has nothing to add up; use 1");
  }
  step.in_chunks = true;
  for (auto& track : tracks_) track.hiddens = {};
  std::vector<Batch> chunks;
  {
    const During during(core_.pulse, "tbptt_split_batch");
    chunks = core_.module->tbptt_split_batch(batch, core_.module->truncated_bptt_steps);
  }
  step.chunk_count = chunks.size();
  for (step.chunk = 0; step.chunk < chunks.size(); ++step.chunk) {
    step.batch = &chunks[step.chunk];
    run_optimizers(step);
  }
}

// Every optimizer in turn, or the one whose turn it is.
void TrainStepper::run_optimizers(TrainStep& step) {
  const auto& frequencies = core_.optimizers.frequencies();
  const bool takes_turns = !frequencies.empty() && frequencies.front() > 0;
  if (takes_turns) {
    step.optimizer = optimizer_of_turn(step.batch_idx / core_.accumulate_grad_batches);
  }
  for (std::size_t i = takes_turns ? step.optimizer : 0; i < tracks_.size(); ++i) {
    step.optimizer = i;
    const bool toggles = core_.optimizers.size() > 1 && core_.module->automatic_optimization;
    if (toggles) toggle_.toggle(i);
    pass_.run(step, tracks_[i]);
    step_if_due(step, tracks_[i]);
    if (toggles) toggle_.untoggle();
    if (step.in_chunks) tracks_[i].hiddens = hiddens_of(step.output);
    if (step.batch && core_.is_used(Hook::training_epoch_end)) outputs_.add(i, step.output.detach());
    if (step.batch && has_end_) batch_outputs_[i] = std::move(step.output);
    if (takes_turns || !core_.module->automatic_optimization) break;
  }
}

std::size_t TrainStepper::optimizer_of_turn(int64_t window) const {
  const auto& frequencies = core_.optimizers.frequencies();
  int64_t place = window % std::accumulate(frequencies.begin(), frequencies.end(), int64_t{0});
  std::size_t index = 0;
  while (place >= frequencies[index]) place -= frequencies[index++];
  return index;
}

}  // namespace troupe
