#include "troupe/runtime/replica/batch_pass.hpp"

#include "troupe/base/text.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/distributed/gradient_announcement.hpp"
#include "troupe/runtime/distributed/sync_batch_norm.hpp"
#include "troupe/runtime/precision/autocast.hpp"
#include "troupe/runtime/replica/bad_numbers.hpp"
#include "troupe/runtime/replica/device_shards.hpp"
#include "troupe/runtime/replica/training_problems.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
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

std::string shapes_of(const StepOutput& output) {
  const auto text = joined_as(output.items(), [](const auto& item) {
    return shown(item.first) + " " + (item.second.defined() ? c10::str(item.second.sizes()) : "undefined");
  });
  return text.empty() ? "none" : text;
}

std::string shapes_of(const Batch& batch) {
  return joined_as(batch.tensors(), [](const torch::Tensor& tensor) { return c10::str(tensor.sizes()); });
}

bool begins_window(const TrainStep& step, const OptimizerTrack& track) {
  return step.is_first_of_window && !track.is_carried;
}

// Nothing is there that its gradients are added to.
bool begins_gradients(const TrainStep& step, const OptimizerTrack& track) {
  return begins_window(step, track) || !track.has_gradients;
}

}  // namespace

void BatchPass::run(TrainStep& step, OptimizerTrack& track) {
  Module& module = *core_.module;
  const auto index = static_cast<int64_t>(step.optimizer);
  for (const Hook hook : hooks_) {
    board_.set_origin(hook, /*step_allowed=*/true, /*on_step=*/true, step.batch_size);
    switch (hook) {
      case Hook::training_step: forward(step, track); break;
      case Hook::on_before_zero_grad:
        if (opens_window(step, track)) before_zero_grad(step);
        break;
      case Hook::optimizer_zero_grad:
        if (!opens_window(step, track)) break;
        resume_phase(Phase::optimizer);
        module.optimizer_zero_grad(core_.progress.epoch, step.batch_idx, optimizer_of(step), index);
        track.has_gradients = false;
        break;
      case Hook::on_before_backward:
        if (step.loss.defined()) before_backward(step.loss);
        break;
      case Hook::backward:
        if (contributes_nothing(step)) contribute_nothing(step, track);
        if (step.loss.defined()) backward(step, track);
        track.has_gradients |= step.loss.defined() || contributes_nothing(step);
        if (track.nominal > 0 && (step.loss.defined() || core_.peers())) track.samples += step.all;
        break;
      case Hook::on_after_backward:
        if (step.loss.defined()) after_backward();
        break;
      default: break;
    }
  }
}

void BatchPass::before_zero_grad(const TrainStep& step) {
  Module& module = *core_.module;
  core_.call_batch_callbacks(Hook::on_before_zero_grad, [&](Callback& callback) {
    callback.on_before_zero_grad(core_.run, module, optimizer_of(step));
  });
  if (!core_.is_used(Hook::on_before_zero_grad)) return;
  enter_phase(id_of(module_owner, Hook::on_before_zero_grad));
  module.on_before_zero_grad(optimizer_of(step));
}

void BatchPass::before_backward(const torch::Tensor& loss) {
  Module& module = *core_.module;
  core_.call_batch_callbacks(Hook::on_before_backward,
                             [&](Callback& callback) { callback.on_before_backward(core_.run, module, loss); });
  if (!core_.is_used(Hook::on_before_backward)) return;
  enter_phase(id_of(module_owner, Hook::on_before_backward));
  module.on_before_backward(loss);
}

void BatchPass::after_backward() {
  Module& module = *core_.module;
  core_.call_batch_callbacks(Hook::on_after_backward,
                             [&](Callback& callback) { callback.on_after_backward(core_.run, module); });
  if (!core_.is_used(Hook::on_after_backward)) return;
  enter_phase(id_of(module_owner, Hook::on_after_backward));
  module.on_after_backward();
}

void BatchPass::repeat(TrainStep& step, OptimizerTrack& track) {
  const PhaseScope phase(Phase::forward);  // within the optimizer's step
  core_.module->optimizer_zero_grad(core_.progress.epoch, step.batch_idx, optimizer_of(step),
                                    static_cast<int64_t>(step.optimizer));
  forward(step, track);
  if (step.loss.defined()) {
    backward(step, track);
  } else if (contributes_nothing(step)) {
    contribute_nothing(step, track);
  } else {
    throw UsageError("training_step returned nothing when the optimizer asked for the loss again");
  }
}

// --- Forward ---

void BatchPass::configure(HookProgram hooks, bool keeps_outputs) {
  hooks_ = std::move(hooks);
  capture_.configure("training_step", keeps_outputs,
                     /*keeps_loss=*/std::ranges::count(hooks_, Hook::on_before_backward) > 0);
}

void BatchPass::forward(TrainStep& step, OptimizerTrack& track) {
  enter_phase(Phase::forward);
  step.loss.reset();
  if (GradientAverager* averager = averager_of(step)) averager->begin();
  step.output = {};
  const auto way = begin_capture(step, track);
  if (way == StepCapture::Way::replay) return replay_forward(step, track);
  const bool is_recorded = way == StepCapture::Way::record;
  if (step.batch) {
    step.output = compute_output(step, is_recorded ? capture_.batch() : *step.batch,
                                 is_recorded ? capture_.hiddens() : track.hiddens);
  }
  if (!core_.module->automatic_optimization) return capture_.end_manual(step.output);
  if (step.output.empty()) {
    capture_.end_forward(step.output, step.loss);
    if (core_.peers()) (void)weight_in_window(step, track);  // the others count this batch
    return;
  }
  step.loss = checked_loss(step.output);
  refuse_untrainable(*core_.module, "the loss that training_step returned", step.loss);
  if (watches_losses(core_.options())) judge_loss(core_, track, step.loss, step.batch_idx);
  if (const double weight = weight_in_window(step, track); weight != 1)
    step.loss = capture_.weighted(step.loss, weight);
  capture_.end_forward(step.output, step.loss);
}

// The checks of a loss's shape and graph were made of the recorded ones.
void BatchPass::replay_forward(TrainStep& step, OptimizerTrack& track) {
  if (!core_.module->automatic_optimization) return capture_.replay_manual(step);
  capture_.replay_forward(step, weight_in_window(step, track));
  if (watches_losses(core_.options())) judge_loss(core_, track, capture_.unweighted_loss(), step.batch_idx);
}

StepCapture::Way BatchPass::begin_capture(const TrainStep& step, const OptimizerTrack& track) {
  const bool by_samples = core_.options().accumulate_grad_weighting == GradWeighting::samples;
  if (!capture_.is_on() || !step.batch || (by_samples && step.own == 0)) return StepCapture::Way::plain;
  if (!core_.module->automatic_optimization) return capture_.begin({step, track.hiddens});
  return capture_.begin({step, track.hiddens, begins_gradients(step, track), weight_of(step, track)});
}

StepOutput BatchPass::compute_output(const TrainStep& step, const Batch& batch, const StepOutput& hiddens) {
  const Autocast autocast(core_.precision, core_.setup.device);
  if (core_.shards) return training_step_on_shards(step);
  const SyncBatchNorm synced(core_.options().sync_batchnorm ? core_.peers() : nullptr);
  const capture::Recorded recorded(capture_.recorder());
  StepOutput output = call_training_step(step, batch, hiddens);
  if (!core_.is_used(Hook::training_step_end)) return output;
  const During during(core_.pulse, "training_step_end");
  const PhaseScope phase(id_of(module_owner, Hook::training_step_end));
  return core_.module->training_step_end({std::move(output)});
}

// In a chunk of a sequence the hiddens are the likeliest mistake, and what LibTorch says does not name them.
StepOutput BatchPass::call_training_step(const TrainStep& step, const Batch& batch, const StepOutput& hiddens) {
  const auto index = static_cast<int64_t>(step.optimizer);
  if (!step.in_chunks) return core_.module->training_step(batch, step.batch_idx, index);
  const auto where = [&] {
    return "; this is part " + std::to_string(step.chunk + 1) + " of " + std::to_string(step.chunk_count) +
           " of the batch, with tensors " + shapes_of(batch) + " and hiddens " + shapes_of(hiddens);
  };
  StepOutput output;
  try {
    output = core_.module->training_step(batch, step.batch_idx, index, hiddens);
  } catch (const c10::Error& error) {
    throw UsageError(error.what_without_backtrace() + where());
  } catch (const std::out_of_range& error) {  // a hidden that is not there
    throw UsageError(error.what() + where());
  }
  const auto is_hidden = [](const auto& item) { return item.first.starts_with("hidden"); };
  if (output.empty() || std::ranges::any_of(output.items(), is_hidden)) return output;
  throw UsageError(
      "truncated_bptt_steps = " + std::to_string(core_.module->truncated_bptt_steps) +
      ", but training_step returned nothing for the next part of the batch: return {{\"loss\", loss}, {\"hidden\", "
      "hidden}}; it returned " +
      shapes_of(output));
}

StepOutput BatchPass::training_step_on_shards(const TrainStep& step) {
  const auto index = static_cast<int64_t>(step.optimizer);
  const auto training_step = [&](Module& module, const Batch& shard) {
    return module.training_step(shard, step.batch_idx, index);
  };
  auto [outputs, sizes] =
      core_.shards->run(*step.batch, training_step, mix(static_cast<uint64_t>(core_.progress.total_batches), 0));
  if (!core_.is_used(Hook::training_step_end)) return joined_outputs(outputs, sizes);
  const During during(core_.pulse, "training_step_end");
  const PhaseScope phase(id_of(module_owner, Hook::training_step_end));
  return core_.module->training_step_end(outputs);
}

// The first batch of a window, and whatever comes first where no gradient is there to be added to.
bool BatchPass::opens_window(const TrainStep& step, const OptimizerTrack& track) const {
  return (step.loss.defined() || contributes_nothing(step)) && begins_gradients(step, track);
}

// With "samples" a batch counts by its size, against that of the batches of all ranks and the size of the window's
// first ones; what is wrong with that where the window turns out short is put right by finish_gradients, equally on all
// ranks.
double BatchPass::weight_in_window(const TrainStep& step, OptimizerTrack& track) const {
  const auto& options = core_.options();
  if (options.accumulate_grad_weighting == GradWeighting::samples) {
    if (step.own == 0 && step.loss.defined()) {
      throw UsageError(
          "the batch counts as 0 samples (Batch::size), so that its loss would weigh nothing: return {} from"
          " training_step to skip it, say another number with Batch::set_size in the collate function, or use"
          " accumulate_grad_weighting = batches");
    }
    if (core_.accumulate_grad_batches > 1 && begins_count(step, track)) {
      track.nominal = nominal_of(step, track);
      track.samples = 0;
    }
  }
  return weight_of(step, track);
}

bool BatchPass::begins_count(const TrainStep& step, const OptimizerTrack& track) const {
  return begins_window(step, track) || track.nominal == 0 || (!core_.setup.peers && !track.has_gradients);
}

double BatchPass::nominal_of(const TrainStep& step, const OptimizerTrack& track) const {
  return begins_count(step, track) ? step.all * static_cast<double>(core_.accumulate_grad_batches) : track.nominal;
}

double BatchPass::weight_of(const TrainStep& step, const OptimizerTrack& track) const {
  const auto window = static_cast<double>(core_.accumulate_grad_batches);
  if (core_.options().accumulate_grad_weighting == GradWeighting::batches) return 1 / window;
  return window == 1 ? step.own / step.all : step.own / nominal_of(step, track);
}

// --- Backward ---

void BatchPass::backward(TrainStep& step, const OptimizerTrack& track) {
  enter_phase(Phase::backward);
  scaling_.begin_pass(step.optimizer, track.has_gradients);
  GradientAverager* averager = averager_of(step);
  if (capture_.way() != StepCapture::Way::plain) {
    capture_.way() == StepCapture::Way::replay ? replay_backward(averager) : record_backward(step, averager);
  } else {
    const auto scaled = scaling_.scaled(step.loss);
    if (averager && !core_.shards) averager->prepare(scaled);
    core_.module->backward(scaled, optimizer_of(step), static_cast<int64_t>(step.optimizer));
  }
  if (core_.shards) {
    enter_phase(Phase::reduction);
    // What is averaged is the gradient of all shards.
    core_.shards->collect_gradients();
    if (averager) averager->contribute_nothing();
  } else if (averager) {
    enter_phase(Phase::reduction);
    averager->finish();
  }
  scaling_.end_pass(step.optimizer, /*stays=*/averager == nullptr);
}

void BatchPass::replay_backward(GradientAverager* averager) {
  if (!averager) return capture_.replay_backward(/*announces=*/false);
  averager->prepare({});
  run_as_backward([&] { capture_.replay_backward(/*announces=*/true); });
}

// Recorded without those who average, who then hear of the gradients in the order in which they came.
void BatchPass::record_backward(const TrainStep& step, GradientAverager* averager) {
  capture_.begin_backward();
  {
    const capture::Recorded recorded(capture_.recorder());
    core_.module->backward(scaling_.scaled(step.loss), optimizer_of(step), static_cast<int64_t>(step.optimizer));
  }
  capture_.end_backward();
  if (!averager) return;
  averager->prepare({});
  run_as_backward([&] { capture_.announce_recorded(); });
}

bool BatchPass::contributes_nothing(const TrainStep& step) const {
  return !step.loss.defined() && averager_of(step) != nullptr;
}

void BatchPass::contribute_nothing(TrainStep& step, const OptimizerTrack& track) {
  enter_phase(Phase::reduction);
  scaling_.begin_pass(step.optimizer, track.has_gradients);
  averager_of(step)->contribute_nothing();
  scaling_.end_pass(step.optimizer, /*stays=*/false);
}

// The one that averages the gradients of this pass. Those of a window are averaged with its last batch and stay where
// they are before, unless ranks keep only parts of them; manual_backward sees to its own.
GradientAverager* BatchPass::averager_of(const TrainStep& step) const {
  const bool averages = step.closes_window || core_.divides_gradients();
  return averages && core_.module->automatic_optimization ? sync_.averager(step.optimizer) : nullptr;
}

}  // namespace troupe
