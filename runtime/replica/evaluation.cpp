#include "troupe/runtime/replica/evaluation.hpp"

#include "troupe/modules/hook_order.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/precision/autocast.hpp"
#include "troupe/runtime/replica/batch_transfer.hpp"
#include "troupe/runtime/replica/device_shards.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>

namespace troupe {

namespace {

constexpr std::size_t outputs_to_warn_at = std::size_t{1} << 30;

Hook step_hook(Stage stage) {
  if (stage == Stage::test) return Hook::test_step;
  return stage == Stage::predict ? Hook::predict_step : Hook::validation_step;
}

std::span<const Hook> batch_table(Stage stage) {
  if (stage == Stage::test) return hook_order::test_batch;
  return stage == Stage::predict ? std::span<const Hook>(hook_order::predict_batch) : hook_order::validation_batch;
}

}  // namespace

void Evaluation::begin(Stage stage, bool is_sanity_check) {
  board_.begin_evaluation(is_sanity_check);
  if (core_.setup.stage == Stage::fit) random_states_before_ = random_states(core_.setup.device);
  is_running_ = true;
  sizes_.begin_loader();
  core_.pulse.stage = stage;
  torch::GradMode::set_enabled(false);
  stage_ = stage;
  is_sanity_check_ = is_sanity_check;
  core_.pulse.batch = -1;
  batches_before_ = board_.curves().batches(stage);
  had_batches_ = false;
  loader_ = 0;
  outputs_.clear();
  program_ = compile_program(core_, batch_table(stage));
  results_.assign(core_.setup.eval_loaders.size(), {});
  configure_capture();
}

void Evaluation::configure_capture() {
  if (core_.options().capture_step == CaptureStep::off) return;
  const bool has_batch_end = std::ranges::any_of(program_, [](Hook hook) {
    return hook == Hook::on_validation_batch_end || hook == Hook::on_test_batch_end ||
           hook == Hook::on_predict_batch_end;
  });
  const bool has_epoch_end = core_.is_used(stage_ == Stage::test ? Hook::test_epoch_end : Hook::validation_epoch_end);
  const Hook hook = step_hook(stage_);
  capture_.configure(to_string(hook), has_batch_end || has_epoch_end || stage_ == Stage::predict, /*keeps_loss=*/false);
  capture_.refresh();
}

void Evaluation::cut() {
  is_cut_ = true;
  board_.discard();
}

void Evaluation::add_results(const std::vector<LoggedValue>& values) {
  for (const auto& value : values) {
    for (std::size_t i = 0; i < results_.size(); ++i) {
      if (value.dataloader_idx.value_or(static_cast<int64_t>(i)) == static_cast<int64_t>(i)) {
        results_[i][value.name] = value.value;
      }
    }
  }
}

std::vector<MetricMap> Evaluation::end() {
  if (is_sanity_check_) reset_metrics(*core_.module);  // those that user code computes itself too
  outputs_.clear();
  {
    const During during(core_.pulse, "write_prediction");
    prediction_files_.write();
  }
  core_.module->put_back_modes();  // after a prediction, which has no hook for it
  board_.end_evaluation();
  is_running_ = is_cut_ = is_sanity_check_ = false;
  sizes_.begin_loader();
  core_.pulse.stage = core_.setup.stage;
  torch::GradMode::set_enabled(true);
  core_.pulse.batch = -1;
  return std::move(results_);
}

void Evaluation::write_prediction(std::string_view name, const torch::Tensor& value, const std::string& filename) {
  if (!is_running_) throw UsageError("write_prediction belongs to an evaluation: call it in a step of one");
  if (is_sanity_check_ || core_.setup.run_dir.empty()) return;
  prediction_files_.add(core_.setup.run_dir, rank_prefix(core_.place().global_rank) + filename, name, value);
}

void Evaluation::batch(Batch batch, int64_t batch_idx, int64_t dataloader_idx) {
  Module& module = *core_.module;
  core_.pulse.batch = batch_idx;
  const int64_t batch_size = sizes_.of(batch);
  const auto suffix = core_.setup.eval_loaders.size() > 1 ? std::optional<int64_t>(dataloader_idx) : std::nullopt;
  StepOutput output;
  if (dataloader_idx != loader_) {
    core_.collect_shard_metrics();
    board_.close_loader();
    sizes_.begin_loader();
  }
  loader_ = dataloader_idx;
  board_.begin_batch();
  had_batches_ = true;
  for (const Hook hook : program_) {
    board_.set_origin(hook, /*step_allowed=*/true, /*on_step=*/false, batch_size, suffix);
    switch (hook) {
#define TROUPE_EVAL_BATCH_START(name)                                                                           \
  case Hook::name:                                                                                              \
    core_.call_batch_callbacks(                                                                                 \
        hook, [&](Callback& callback) { callback.name(core_.run, module, batch, batch_idx, dataloader_idx); }); \
    if (!core_.is_used(hook)) break;                                                                            \
    enter_phase(id_of(module_owner, hook));                                                                     \
    module.name(batch, batch_idx, dataloader_idx);                                                              \
    break;
#define TROUPE_EVAL_BATCH_END(name)                                               \
  case Hook::name:                                                                \
    core_.call_batch_callbacks(hook, [&](Callback& callback) {                    \
      callback.name(core_.run, module, output, batch, batch_idx, dataloader_idx); \
    });                                                                           \
    if (!core_.is_used(hook)) break;                                              \
    enter_phase(id_of(module_owner, hook));                                       \
    module.name(output, batch, batch_idx, dataloader_idx);                        \
    break;
#define TROUPE_EVAL_BATCH_HOOKS(name, arguments, owners) \
  TROUPE_TAKES(batch, arguments)                         \
  (TROUPE_EVAL_BATCH_START(name)) TROUPE_TAKES(batch_end, arguments)(TROUPE_EVAL_BATCH_END(name))
      TROUPE_HOOKS(TROUPE_EVAL_BATCH_HOOKS)
#undef TROUPE_EVAL_BATCH_HOOKS
#undef TROUPE_EVAL_BATCH_END
#undef TROUPE_EVAL_BATCH_START
      case Hook::on_before_batch_transfer:
      case Hook::transfer_batch_to_device:
      case Hook::on_after_batch_transfer: batch = move_batch(core_, std::move(batch), hook, dataloader_idx); break;
      default:
        if (core_.converts_batches) batch = in_parameter_type(core_, std::move(batch));
        enter_phase(Phase::forward);
        output = compute_output(batch, batch_idx, dataloader_idx);
        break;
    }
  }
  enter_phase(Phase::rest);
  keep_output(std::move(output), dataloader_idx);
  if (is_sanity_check_) {
    board_.drop_step();
  } else {
    board_.end_of_eval_batch(stage_);
  }
}

// The step itself, of a batch or of a shard of one.
StepOutput Evaluation::call_step(Module& module, const Batch& batch, int64_t batch_idx, int64_t dataloader_idx) {
  switch (stage_) {
    case Stage::test: return module.test_step(batch, batch_idx, dataloader_idx);
    case Stage::predict: return module.predict_step(batch, batch_idx, dataloader_idx);
    default: return module.validation_step(batch, batch_idx, dataloader_idx);
  }
}

StepOutput Evaluation::compute_output(const Batch& batch, int64_t batch_idx, int64_t dataloader_idx) {
  const Autocast autocast(core_.precision, core_.setup.device);
  if (core_.shards) return compute_on_shards(batch, batch_idx, dataloader_idx);
  if (!capture_.is_on()) return compute_whole(batch, batch_idx, dataloader_idx);
  const auto way = capture_.begin_evaluation(batch, dataloader_idx);
  if (way == StepCapture::Way::replay) return capture_.replay_evaluation();
  StepOutput output;
  {
    const capture::Recorded recorded(capture_.recorder());
    output = compute_whole(way == StepCapture::Way::record ? capture_.batch() : batch, batch_idx, dataloader_idx);
  }
  capture_.end_evaluation(output);
  return output;
}

Hook Evaluation::end_hook() const {
  return stage_ == Stage::test ? Hook::test_step_end : Hook::validation_step_end;
}

bool Evaluation::has_end_hook() const {
  return stage_ != Stage::predict && core_.is_used(end_hook());
}

StepOutput Evaluation::compute_whole(const Batch& batch, int64_t batch_idx, int64_t dataloader_idx) {
  auto output = call_step(*core_.module, batch, batch_idx, dataloader_idx);
  if (!has_end_hook()) return output;
  return call_end({std::move(output)});
}

StepOutput Evaluation::compute_on_shards(const Batch& batch, int64_t batch_idx, int64_t dataloader_idx) {
  const auto step = [&](Module& module, const Batch& shard) {
    return call_step(module, shard, batch_idx, dataloader_idx);
  };
  auto shards = core_.shards->run(
      batch, step, mix(static_cast<uint64_t>(core_.progress.total_batches), static_cast<uint64_t>(batch_idx + 1)));
  return has_end_hook() ? call_end(shards.outputs) : joined_outputs(shards.outputs, shards.sizes);
}

StepOutput Evaluation::call_end(const std::vector<StepOutput>& outputs) {
  const Hook hook = end_hook();
  const During during(core_.pulse, to_string(hook).data());  // a literal
  const PhaseScope phase(id_of(module_owner, hook));
  return hook == Hook::test_step_end ? core_.module->test_step_end(outputs)
                                     : core_.module->validation_step_end(outputs);
}

void Evaluation::keep_output(StepOutput output, int64_t dataloader_idx) {
  const auto loader = static_cast<std::size_t>(dataloader_idx);
  if (stage_ == Stage::predict) {
    if (core_.setup.keeps_predictions) predictions_.add(loader, std::move(output));
    return;
  }
  if (!core_.is_used(stage_ == Stage::test ? Hook::test_epoch_end : Hook::validation_epoch_end)) return;
  outputs_.add(loader, std::move(output));
  if (outputs_.bytes() < outputs_to_warn_at || warned_of_outputs_) return;
  warned_of_outputs_ = true;
  core_.outputs.note("warning: the outputs kept for " + std::string(to_string(step_hook(stage_))) +
                     "'s epoch end take more than 1 GiB; return less from the step");
}

}  // namespace troupe
