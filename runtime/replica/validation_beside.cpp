#include "troupe/runtime/replica/validation_beside.hpp"

#include "troupe/base/state_reader.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"
#include "troupe/runtime/checkpoint/model_state.hpp"
#include "troupe/runtime/checkpoint/progress_json.hpp"
#include "troupe/runtime/replica/random_states.hpp"
#include "troupe/runtime/replica/replica.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace troupe {

namespace {

constexpr std::string_view of_state = "state.", of_saved = "saved.", of_left_out = "left_out.";
constexpr std::string_view of_random_states = "random.";

std::string validation_prefix(std::size_t index) {
  return "validation." + std::to_string(index) + ".";
}

}  // namespace

void append_validation(Checkpoint& checkpoint, const ModelAtStep& model) {
  auto& list = checkpoint.metadata[metadata_key::validations];
  if (!list.is_array()) list = nlohmann::json::array();
  const std::string prefix = validation_prefix(list.size());
  const auto append = [&](std::string_view kind, const auto& tensors) {
    for (const auto& [name, tensor] : tensors) {
      checkpoint.tensors.emplace_back(prefix + std::string(kind) + name, tensor);
    }
  };
  append(of_state, model.state->tensors);
  if (model.saved) append(of_saved, model.saved->tensors);
  append(of_left_out, model.left_out);
  append(of_random_states, model.random_states);
  list.push_back({{"metadata", model.state->metadata},
                  {metadata_key::progress, to_json(model.progress)},
                  {metadata_key::latest_metrics, model.latest},
                  {metadata_key::validation_batches, model.batches}});
  if (model.saved) list.back()["saved"] = model.saved->metadata;
}

ModelAtStep validation_in(const Checkpoint& checkpoint, int64_t index) {
  const auto at = static_cast<std::size_t>(index);
  const StateReader metadata(checkpoint.metadata, "the checkpoint");
  const StateReader reader = metadata.objects(metadata_key::validations).at(at);
  const std::string prefix = validation_prefix(at);
  ModelAtStep model;
  Checkpoint state, saved;
  state.metadata = reader.object("metadata").json();
  for (const auto& [full_name, tensor] : checkpoint.tensors) {
    if (!full_name.starts_with(prefix)) continue;
    const auto name = std::string_view(full_name).substr(prefix.size());
    for (const auto& [kind, list] :
         {std::pair(of_state, &state.tensors), std::pair(of_saved, &saved.tensors),
          std::pair(of_left_out, &model.left_out), std::pair(of_random_states, &model.random_states)}) {
      if (name.starts_with(kind)) list->emplace_back(name.substr(kind.size()), tensor);
    }
  }
  model.progress = progress_in(reader.object(metadata_key::progress));
  model.latest = reader.object(metadata_key::latest_metrics).json();
  model.batches = reader.count(metadata_key::validation_batches);
  model.state = std::make_shared<const Checkpoint>(std::move(state));
  if (reader.has("saved")) {
    saved.metadata = reader.object("saved").json();
    model.saved = std::make_shared<const Checkpoint>(std::move(saved));
  }
  return model;
}

// --- The replica that trains, and the copy that validates ---

void Replica::prepare_to_validate() {
  set_up_process();
  make_module();
  if (!core_.module) throw UsageError("the Trainer was given a null module");
  core_.module->attach(this);
  reset_metrics(*core_.module);
  core_.callbacks = core_.setup.callbacks;
  if (core_.setup.checkpoint) record_.restore_progress();
  board_.curves().begin_fit(core_.progress);
  board_.on_kept([this](const LoggedValue& value) { step_values_.insert_or_assign(value.name, value); });
  run(Hook::configure_callbacks);
  teardown_.expect();
  run(Hook::setup);
  core_.module->attach(this);  // what setup made is there
  move_to_device();
}

ModelAtStep Replica::model_at_step(const SnapshotRequest& request) {
  board_.settle_step_metrics();
  ModelAtStep model;
  model.progress = core_.progress;
  model.random_states = random_states(core_.setup.device);
  model.latest = board_.latest();
  model.batches = board_.curves().batches(Stage::validate);
  auto state = record_.snapshot(request);
  std::unordered_set<std::string> saved;
  for (const auto& [name, tensor] : state.tensors) saved.insert(name);
  const torch::NoGradGuard no_gradients;
  for (const auto& [name, tensor] : named_model_tensors(*core_.module)) {
    if (!saved.contains(name_in_checkpoint(name))) model.left_out.emplace_back(name, tensor.detach().clone());
  }
  model.state = std::make_shared<const Checkpoint>(std::move(state));
  return model;
}

ModelAtStep Replica::model_of_checkpoint(int64_t index) const {
  return validation_in(*core_.setup.checkpoint, index);
}

void Replica::adopt(const ModelAtStep& model) {
  core_.progress = model.progress;
  core_.pulse.epoch = model.progress.epoch;
  Checkpoint state = *model.state;  // the same tensors
  for (const auto& [name, tensor] : model.left_out) state.tensors.emplace_back(name_in_checkpoint(name), tensor);
  core_.setup.checkpoint = std::make_shared<const Checkpoint>(std::move(state));
  record_.restore_model();
  core_.setup.checkpoint = nullptr;
  board_.load_latest(model.latest);
  board_.curves().skip_batches(Stage::validate, model.batches);
  restore_random_states({.tensors = model.random_states}, core_.setup.device);
}

ValidationResult Replica::take_validation_result() {
  ValidationResult result;
  result.progress = core_.progress;
  for (const auto& [name, value] : step_values_) result.steps.push_back(value);
  result.epoch = std::exchange(epoch_values_, {});
  result.batches = board_.curves().batches(Stage::validate);
  result.had_batches = had_batches_;
  return result;
}

void Replica::take_validation(const ValidationResult& result, bool is_sanity_check) {
  schedules_.refuse_late(result.steps);
  schedules_.refuse_late(result.epoch);
  if (is_sanity_check) return;
  board_.take_validation(result);
  schedules_.note_validation(result.had_batches);
}

// It has no optimizers, and nothing that a resumed run goes on with.
void Replica::refuse_save_beside() const {
  if (!core_.setup.validates_beside) return;
  throw UsageError(
      "save_checkpoint in a validation needs trainer.async_validation = false: the copy of the module that validates"
      " beside the training has no optimizers; let a ModelCheckpoint save it");
}

}  // namespace troupe
