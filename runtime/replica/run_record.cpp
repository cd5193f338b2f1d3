#include "troupe/runtime/replica/run_record.hpp"

#include "troupe/base/state_reader.hpp"
#include "troupe/base/text.hpp"
#include "troupe/modules/monitor.hpp"
#include "troupe/modules/optim/evaluation_weights.hpp"
#include "troupe/runtime/checkpoint/callback_states.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"
#include "troupe/runtime/checkpoint/model_state.hpp"
#include "troupe/runtime/checkpoint/optimizer_state.hpp"
#include "troupe/runtime/checkpoint/progress_json.hpp"
#include "troupe/runtime/replica/data_position.hpp"
#include "troupe/runtime/replica/evaluation_weights.hpp"
#include "troupe/runtime/weights/any_weights.hpp"

#include <torch/types.h>
#include <torch/utils.h>
#include <torch/version.h>

#include <algorithm>
#include <iterator>

namespace troupe {

namespace {

bool decides(const std::shared_ptr<Callback>& callback) {
  return dynamic_cast<const Monitor*>(callback.get()) != nullptr;
}

std::string callback_prefix(const std::string& state_key) {
  return "callback." + state_key + ".";
}

std::vector<std::pair<std::string, torch::Tensor>> tensors_below(const Checkpoint& checkpoint,
                                                                 const std::string& prefix) {
  std::vector<std::pair<std::string, torch::Tensor>> found;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    if (name.starts_with(prefix)) found.emplace_back(name.substr(prefix.size()), tensor);
  }
  return found;
}

}  // namespace

void refuse_unstorable(const ReplicaCore& core) {
  if (core.setup.stage != Stage::fit || !core.options().enable_checkpointing || core.setup.run_dir.empty()) return;
  try {
    check_model_storable(*core.module);
  } catch (const UsageError& error) {
    throw UsageError(error.what() + std::string("; trainer.enable_checkpointing = false trains without checkpoints"));
  }
}

std::vector<std::pair<std::string, torch::Tensor>> RunRecord::named_parameters() const {
  std::vector<std::pair<std::string, torch::Tensor>> named;
  for (const auto& item : core_.module->named_parameters()) named.emplace_back(item.key(), item.value());
  return named;
}

// --- Writing ---

// The others may be anywhere, so they are not asked for their states, nor for their parts of a divided optimizer.
void RunRecord::save(const std::filesystem::path& path) {
  if (core_.divides_parameters()) {
    throw UsageError("save_checkpoint(" + shown(path.string()) +
                     "): with strategy = fsdp no rank has the model by itself, and one rank alone cannot ask the others"
                     " for it; let a ModelCheckpoint save it");
  }
  if (core_.divides_optimizers() && has_evaluation_weights(core_)) {
    throw UsageError("save_checkpoint(" + shown(path.string()) +
                     "): with strategy = " + name_of(core_.options().strategy) +
                     " no rank has all weights to evaluate of a schedule-free optimizer, and one rank alone cannot ask "
                     "the others for them; let a ModelCheckpoint save it");
  }
  if (core_.place().global_rank != 0) return;
  const PhaseScope phase(Phase::checkpoint);
  SnapshotRequest request;
  request.weights_only = core_.divides_optimizers() || core_.trains_locally();
  write_checkpoint(own_state(request), path);
  if (request.weights_only) {
    core_.outputs.note("warning: " + path.string() + " holds weights only: with strategy = " +
                       name_of(core_.options().strategy) + " other ranks hold " +
                       (core_.trains_locally() ? "weights and optimizers of their own" : "parts of the optimizers"));
  }
}

// Between two exchanges of local_sgd and diloco the model is the mean of all ranks'; what each of them goes on with is
// in its state.
Checkpoint RunRecord::snapshot(const SnapshotRequest& request) {
  LocalTraining* local = parts_.sync.local();
  const bool shows_mean = local && !local->shows_mean();  // not in a validation, which has it already
  if (shows_mean) local->show_mean();
  Checkpoint checkpoint = own_state(request);
  if (shows_mean) local->show_own();
  if (!request.weights_only && core_.setup.peers) append_rank_states(checkpoint, request.validation_was_cut);
  if (request.on_all_ranks && core_.setup.peers) return given_to_all(std::move(checkpoint));
  return checkpoint;
}

Checkpoint RunRecord::own_state(const SnapshotRequest& request) {
  Checkpoint checkpoint;
  const bool trained = show_evaluation_weights(core_, parts_.sync);
  {
    const During during(core_.pulse, "on_snapshot_start");
    for (const auto& callback : core_.callbacks) callback->on_snapshot_start(*core_.module);
  }
  auto& metadata = checkpoint.metadata;
  {
    const During during(core_.pulse, "state_dict");
    append_model_state(checkpoint, *core_.module);
    metadata[metadata_key::hparams] = core_.module->hparams();
    metadata[metadata_key::progress] = to_json(parts_.stepper.saved_progress());
    metadata[metadata_key::saved_at] = saved_at_ = saved_at_after(saved_at_);
    if (!core_.setup.run_identity.is_null()) metadata[metadata_key::run] = core_.setup.run_identity;
    metadata["versions"] = {{"libtorch", TORCH_VERSION}};
    append_callbacks(checkpoint, request.monitor_states);
    if (!request.weights_only) append_training_state(checkpoint, request);
    if (core_.setup.datamodule && !core_.setup.datamodule->hparams().is_null()) {
      metadata[metadata_key::datamodule_hparams] = core_.setup.datamodule->hparams();
    }
  }
  {
    const During during(core_.pulse, "on_save_checkpoint");
    const MetricBoard::Closed closed(parts_.board);
    core_.call_callbacks(CallbackHook::on_save_checkpoint,
                         [&](Callback& callback) { callback.on_save_checkpoint(core_.run, *core_.module, metadata); });
    core_.module->on_save_checkpoint(metadata);
  }
  // The training goes on while the file is written, so the tensors must not be the ones in use.
  {
    const During during(core_.pulse, "state_dict");
    const bool copies = core_.place().global_rank == 0 || request.on_all_ranks;
    if (copies) snapshot_memory_.begin();
    for (auto& [name, tensor] : checkpoint.tensors) {
      parts_.sync.enter_block_of(tensor);  // of all ranks: divided parameters become whole, one block at a time
      if (!copies) continue;
      check_storable(name, tensor);
      tensor = snapshot_memory_.copy(name, tensor);
    }
    parts_.sync.leave_blocks();
  }
  const During during(core_.pulse, "on_snapshot_end");
  for (const auto& callback : core_.callbacks) callback->on_snapshot_end(*core_.module);
  if (trained) show_training_weights(core_, parts_.sync);
  return checkpoint;
}

void RunRecord::append_callbacks(Checkpoint& checkpoint, const nlohmann::json& monitor_states) const {
  nlohmann::json callbacks = monitor_states.is_object() ? monitor_states : nlohmann::json::object();
  for (const auto& callback : core_.callbacks) {
    const auto key = callback->state_key();
    if (decides(callback) || key.empty()) continue;
    callbacks[key] = callback->state_dict();
    for (auto& [name, tensor] : callback->state_tensors()) {
      checkpoint.tensors.emplace_back(callback_prefix(key) + name, std::move(tensor));
    }
  }
  checkpoint.metadata[metadata_key::callbacks] = std::move(callbacks);
}

// What only a resumed run needs.
void RunRecord::append_training_state(Checkpoint& checkpoint, const SnapshotRequest& request) {
  auto& metadata = checkpoint.metadata;
  const auto named = named_parameters();
  for (std::size_t i = 0; i < core_.optimizers.size(); ++i) {
    if (ShardedOptimizer* sharded = parts_.sync.sharded(i)) {
      sharded->append_state(checkpoint, named);
    } else {
      append_optimizer_state(checkpoint, i, core_.optimizers[i], named);
    }
  }
  parts_.sync.append_shared(checkpoint);
  if (!parts_.schedules.empty()) metadata["lr_schedulers"] = parts_.schedules.state_dict();
  if (auto& scaling = parts_.stepper.scaling(); scaling.is_on()) metadata["grad_scaler"] = scaling.state_dict();
  metadata[metadata_key::latest_metrics] = parts_.board.latest();
  metadata["seed"] = *core_.options().seed;
  metadata[metadata_key::loop] =
      request.loop.is_object() ? request.loop : nlohmann::json{{metadata_key::validated_batches, -1}};
  // A validation that was not finished begins anew.
  const bool begins_anew = parts_.evaluation.is_running() || request.validation_was_cut;
  metadata[metadata_key::validation_batches] =
      begins_anew ? parts_.evaluation.batches_before() : parts_.board.curves().batches(Stage::validate);
  metadata["world_size"] = core_.place().world_size;
  metadata["data_position"] = data_position(core_, parts_.epoch_origin);
  if (core_.setup.datamodule) {
    const auto lock = core_.lock_data();
    metadata[metadata_key::datamodule] = core_.setup.datamodule->state_dict();
  }
  Checkpoint own = rank_state(request.validation_was_cut);
  std::ranges::move(own.tensors, std::back_inserter(checkpoint.tensors));
  metadata.update(own.metadata);
}

// --- Reading ---

void RunRecord::restore_progress() {
  if (core_.setup.weights_only) return;
  check_has_run(*core_.setup.checkpoint, "the checkpoint");
  const auto& metadata = core_.setup.checkpoint->metadata;
  core_.progress = progress_from_json(metadata.at(metadata_key::progress));
  const auto saved_at = metadata.find(metadata_key::saved_at);
  if (saved_at != metadata.end() && saved_at->is_number()) saved_at_ = saved_at->get<double>();
}

void RunRecord::restore_model() {
  if (!core_.setup.checkpoint) return;
  const auto& checkpoint = *core_.setup.checkpoint;
  {
    const During during(core_.pulse, "on_load_checkpoint");
    core_.module->on_load_checkpoint(checkpoint.metadata);
  }
  {
    const During during(core_.pulse, "load_model_state");
    const auto keys = load_model_state(checkpoint, *core_.module, core_.module->strict_loading);
    const auto differences = describe(keys);
    if (!differences.empty()) {
      core_.outputs.note("warning: the checkpoint differs from the module: " + differences);
    }
  }
  const During during(core_.pulse, "on_load_checkpoint");
  for (const auto& callback : core_.callbacks) {
    callback->on_load_checkpoint(core_.run, *core_.module, checkpoint.metadata);
  }
}

void RunRecord::restore_rest() {
  if (!core_.setup.checkpoint || core_.setup.weights_only) return;
  // As a run that begins divides them: norms of parts depend on it, to the bit.
  if (core_.divides_optimizers() || core_.trains_locally()) parts_.stepper.refresh();
  restore_callbacks();  // one may have given an optimizer further groups
  restore_optimizers();
  {
    const During during(core_.pulse, "load_schedulers_state");
    const auto& metadata = core_.setup.checkpoint->metadata;
    parts_.schedules.load_state_dict(metadata.value("lr_schedulers", nlohmann::json::array()));
    restore_data_position(core_, parts_.epoch_origin);
  }
  restore_counters();
}

void RunRecord::restore_optimizers() {
  const During during(core_.pulse, "load_optimizer_state");
  const auto own = own_optimizers(*core_.setup.checkpoint);
  const Checkpoint& checkpoint = own ? *own : *core_.setup.checkpoint;
  const auto& optimizers = core_.optimizers;
  const auto saved = checkpoint.metadata.value(metadata_key::optimizers, nlohmann::json::array());
  if (saved.size() > optimizers.size()) {
    throw UsageError("the checkpoint has the state of " + std::to_string(saved.size()) +
                     " optimizers, configure_optimizers returned " + std::to_string(optimizers.size()));
  }
  const auto named = named_parameters();
  if (core_.divides_optimizers()) parts_.stepper.refresh();  // before there is a state to divide
  for (std::size_t i = 0; i < optimizers.size(); ++i) {
    if (ShardedOptimizer* sharded = parts_.sync.sharded(i)) {
      sharded->load_state(checkpoint, named);
      // It has put back the weights that train, and this rank's alone.
      if (dynamic_cast<optim::EvaluationWeights*>(&optimizers[i])) parts_.sync.gather_parameters(i);
    } else {
      load_optimizer_state(checkpoint, i, optimizers[i], named);
    }
  }
}

// What has gathered in the run, and where it stands.
void RunRecord::restore_counters() {
  const During during(core_.pulse, "load_state_dict");
  const auto& metadata = core_.setup.checkpoint->metadata;
  const StateReader reader(metadata, "the checkpoint");
  parts_.board.curves().skip_batches(Stage::validate, reader.count(metadata_key::validation_batches));
  LossScaling& scaling = parts_.stepper.scaling();
  if (metadata.contains("grad_scaler")) scaling.load_state_dict(metadata["grad_scaler"]);
  restore_rank_state();
  scaling.inspect();
  const auto latest = metadata.value(metadata_key::latest_metrics, nlohmann::json());
  if (!latest.is_object()) reader.refuse("latest_metrics is not an object");
  parts_.board.load_latest(latest);
  if (core_.setup.datamodule && metadata.contains(metadata_key::datamodule) && core_.is_first_of_process()) {
    core_.setup.datamodule->load_state_dict(metadata[metadata_key::datamodule]);
  }
}

void RunRecord::restore_callbacks() {
  const During during(core_.pulse, "load_state_dict");
  const auto& checkpoint = *core_.setup.checkpoint;
  const auto states = checkpoint.metadata.value(metadata_key::callbacks, nlohmann::json::object());
  auto left = states.is_object() ? states : nlohmann::json::object();
  const auto running = state_keys(core_.callbacks);
  for (const auto& callback : core_.callbacks) {
    const auto key = callback->state_key();
    const auto saved = saved_key(states, key, running);
    if (saved.empty()) continue;
    left.erase(saved);
    if (decides(callback)) continue;  // the coordinator sees to these
    callback->load_state_dict(states[saved]);
    const auto tensors = tensors_below(checkpoint, callback_prefix(saved));
    if (!tensors.empty()) callback->load_state_tensors(tensors);
  }
  if (left.empty() || !core_.is_first_of_process()) return;
  core_.outputs.note("warning: the checkpoint has states of callbacks that this run has not, and goes on without: " +
                     joined_as(left.items(), [](const auto& item) { return shown(item.key()); }));
}

}  // namespace troupe
