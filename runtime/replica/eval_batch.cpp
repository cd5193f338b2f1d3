// One batch of validation, test or prediction through the program of its stage's table.
#include "troupe/runtime/precision/autocast.hpp"
#include "troupe/runtime/precision/convert.hpp"
#include "troupe/runtime/replica/replica.hpp"

#include <torch/torch.h>

namespace troupe {

namespace {

constexpr std::size_t outputs_to_warn_at = std::size_t{1} << 30;

Hook step_hook(Stage stage) {
  if (stage == Stage::test) return Hook::test_step;
  return stage == Stage::predict ? Hook::predict_step : Hook::validation_step;
}

}  // namespace

Batch Replica::move_batch(Batch batch, Hook hook, int64_t dataloader_idx) {
  const auto move = [&](auto& owner) {
    switch (hook) {
      case Hook::on_before_batch_transfer: return owner.on_before_batch_transfer(std::move(batch), dataloader_idx);
      case Hook::transfer_batch_to_device:
        return owner.transfer_batch_to_device(std::move(batch), setup_.device, dataloader_idx);
      default: return owner.on_after_batch_transfer(std::move(batch), dataloader_idx);
    }
  };
  return setup_.datamodule.overrides(hook) ? move(*setup_.datamodule.get()) : move(*module_);
}

// The step itself, of a batch or of a part of one.
StepOutput Replica::eval_part(Module& module, const Batch& batch, int64_t batch_idx, int64_t dataloader_idx) {
  switch (evaluation_stage_) {
    case Stage::test: return module.test_step(batch, batch_idx, dataloader_idx);
    case Stage::predict: return module.predict_step(batch, batch_idx, dataloader_idx);
    default: return module.validation_step(batch, batch_idx, dataloader_idx);
  }
}

StepOutput Replica::eval_step(const Batch& batch, int64_t batch_idx, int64_t dataloader_idx) {
  const Autocast autocast(precision_, setup_.device);
  const Hook hook = evaluation_stage_ == Stage::test ? Hook::test_step_end : Hook::validation_step_end;
  const bool has_end = evaluation_stage_ != Stage::predict && is_used(hook);
  PartOutputs parts;
  if (parts_) {
    parts = run_parts(
        batch, [&](Module& module, const Batch& part) { return eval_part(module, part, batch_idx, dataloader_idx); });
    if (!has_end) return joined_outputs(parts.outputs, parts.sizes);
  } else {
    auto output = eval_part(*module_, batch, batch_idx, dataloader_idx);
    if (!has_end) return output;
    parts.outputs.push_back(std::move(output));
  }
  current_name_ = to_string(hook).data();  // a literal
  auto output =
      hook == Hook::test_step_end ? module_->test_step_end(parts.outputs) : module_->validation_step_end(parts.outputs);
  current_name_ = "";
  return output;
}

void Replica::eval_batch(Batch batch, int64_t batch_idx, int64_t dataloader_idx) {
  Module& module = *module_;
  current_batch_ = batch_idx;
  const int64_t batch_size = size_of(batch);
  const auto suffix = setup_.eval_loaders.size() > 1 ? std::optional<int64_t>(dataloader_idx) : std::nullopt;
  StepOutput output;
  if (dataloader_idx != eval_loader_) {
    collect_part_metrics();
    eval_log_.close_loader();
    rows_per_sample_ = -1;
  }
  eval_loader_ = dataloader_idx;
  eval_log_.begin_step();
  saw_batches_ = evaluation_had_batches_ = true;
  for (const Hook hook : eval_program_) {
    set_origin(hook, /*step_allowed=*/true, /*on_step=*/false, batch_size, suffix);
    switch (hook) {
#define TROUPE_EVAL_BATCH_START(name)                                                                             \
  case Hook::name:                                                                                                \
    for (Callback * callback : batch_callbacks_) callback->name(*this, module, batch, batch_idx, dataloader_idx); \
    if (is_used(hook)) module.name(batch, batch_idx, dataloader_idx);                                             \
    break;
#define TROUPE_EVAL_BATCH_END(name)                                            \
  case Hook::name:                                                             \
    for (Callback * callback : batch_callbacks_)                               \
      callback->name(*this, module, output, batch, batch_idx, dataloader_idx); \
    if (is_used(hook)) module.name(output, batch, batch_idx, dataloader_idx);  \
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
      case Hook::on_after_batch_transfer: batch = move_batch(std::move(batch), hook, dataloader_idx); break;
      default:
        if (converts_batches_) batch = with_floating_type(std::move(batch), parameter_type(precision_));
        output = eval_step(batch, batch_idx, dataloader_idx);
        break;
    }
  }
  keep_eval_output(std::move(output), dataloader_idx);
  record_eval_step();
}

void Replica::keep_eval_output(StepOutput output, int64_t dataloader_idx) {
  const auto loader = static_cast<std::size_t>(dataloader_idx);
  if (evaluation_stage_ == Stage::predict) {
    if (setup_.keeps_predictions) predictions_.add(loader, std::move(output));
    return;
  }
  if (!is_used(evaluation_stage_ == Stage::test ? Hook::test_epoch_end : Hook::validation_epoch_end)) return;
  eval_outputs_.add(loader, std::move(output));
  if (eval_outputs_.bytes() < outputs_to_warn_at || warned_of_outputs_) return;
  warned_of_outputs_ = true;
  outputs_.note("warning: the outputs kept for " + std::string(to_string(step_hook(evaluation_stage_))) +
                "'s epoch end take more than 1 GiB; return less from the step");
}

// Values logged with on_step in an evaluation have an axis of their own: the batches of this stage so far. The epoch's
// curve has the other one, so the epoch is not said.
void Replica::record_eval_step() {
  if (sanity_checking_) {
    (void)eval_log_.take_step();
    return;
  }
  const int64_t at = curves_.next_batch(evaluation_stage_);
  if (!eval_log_.has_step_values()) return;
  ScalarsRecord record{at, /*epoch=*/-1, {}};
  keep(eval_log_.take_step(), &record);
  if (!record.values.empty()) outputs_.record(std::move(record));
}

}  // namespace troupe
