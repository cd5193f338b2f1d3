// A replica's state as a checkpoint, and back.
#include "troupe/base/number_text.hpp"
#include "troupe/base/state_reader.hpp"
#include "troupe/base/text.hpp"
#include "troupe/modules/monitor.hpp"
#include "troupe/runtime/checkpoint/callback_states.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/checkpoint/model_state.hpp"
#include "troupe/runtime/checkpoint/optimizer_state.hpp"
#include "troupe/runtime/checkpoint/progress_json.hpp"
#include "troupe/runtime/replica/replica.hpp"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <iterator>

namespace troupe {

namespace {

std::vector<std::pair<std::string, torch::Tensor>> named_parameters_of(const Module& module) {
  std::vector<std::pair<std::string, torch::Tensor>> named;
  for (const auto& item : module.named_parameters()) named.emplace_back(item.key(), item.value());
  return named;
}

// The latest values, for monitors that decide before they are logged again. JSON has no nan.
nlohmann::json latest_to_json(const MetricMap& metrics) {
  auto json = nlohmann::json::object();
  for (const auto& [name, value] : metrics) {
    if (std::isfinite(value)) {
      json[name] = value;
    } else {
      json[name] = double_to_text(value);
    }
  }
  return json;
}

MetricMap latest_from_json(const nlohmann::json& json) {
  MetricMap metrics;
  if (!json.is_object()) throw UsageError("the checkpoint's metrics are not an object");
  for (const auto& [name, value] : json.items()) {
    const auto text = value.is_string() ? value.get<std::string>() : "";
    const bool is_odd = text == "nan" || text == "inf" || text == "-inf";
    if (!value.is_number() && !is_odd) {
      throw UsageError("the checkpoint's metric " + shown(name) + " is not a number");
    }
    metrics[name] = value.is_number() ? value.get<double>() : *number_from_text<double>(text);
  }
  return metrics;
}

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

// The others may be anywhere, so they are not asked for their states, nor for their parts of a divided optimizer.
void Replica::save_checkpoint(const std::filesystem::path& path) {
  if (global_rank() != 0) return;
  SnapshotRequest request;
  request.weights_only = shards();
  write_checkpoint(own_state(request), path);
  if (shards()) {
    note("warning: " + path.string() +
         " holds weights only: with strategy = zero other ranks hold parts of the"
         " optimizers");
  }
}

Checkpoint Replica::snapshot(const SnapshotRequest& request) {
  Checkpoint checkpoint = own_state(request);
  if (!request.weights_only && setup_.peers) append_rank_states(checkpoint, request.validation_was_cut);
  return checkpoint;
}

// A checkpoint that a hook at a batch's end asks for has that batch behind it.
Progress Replica::saved_progress() const {
  Progress at = progress_;
  if (!is_at_batch_end_) return at;
  at.batch_idx += 1;
  at.total_batches += 1;
  if (batch_stepped_) at.log_step += 1;
  return at;
}

// Before the training, and not after an epoch of it.
void Replica::refuse_unstorable() const {
  if (setup_.stage != Stage::fit || !setup_.options.enable_checkpointing || setup_.run_dir.empty()) return;
  try {
    check_model_storable(*module_);
  } catch (const UsageError& error) {
    throw UsageError(error.what() + std::string("; trainer.enable_checkpointing = false trains without checkpoints"));
  }
}

Checkpoint Replica::own_state(const SnapshotRequest& request) {
  Checkpoint checkpoint;
  current_name_ = "on_snapshot_start";
  for (const auto& callback : callbacks_) callback->on_snapshot_start(*module_);
  current_name_ = "state_dict";
  append_model_state(checkpoint, *module_);
  auto& metadata = checkpoint.metadata;
  metadata["hparams"] = module_->hparams();
  metadata["progress"] = to_json(saved_progress());
  metadata["saved_at"] = saved_at_ = saved_at_after(saved_at_);
  if (!setup_.run_identity.is_null()) metadata["run"] = setup_.run_identity;
  metadata["versions"] = {{"libtorch", TORCH_VERSION}};
  nlohmann::json callbacks = request.monitor_states.is_object() ? request.monitor_states : nlohmann::json::object();
  for (const auto& callback : callbacks_) {
    const auto key = callback->state_key();
    if (decides(callback) || key.empty()) continue;
    callbacks[key] = callback->state_dict();
    for (auto& [name, tensor] : callback->state_tensors()) {
      checkpoint.tensors.emplace_back(callback_prefix(key) + name, std::move(tensor));
    }
  }
  metadata["callbacks"] = std::move(callbacks);
  if (!request.weights_only) append_training_state(checkpoint, request);
  if (setup_.datamodule && !setup_.datamodule->hparams().is_null()) {
    metadata["datamodule_hparams"] = setup_.datamodule->hparams();
  }
  current_name_ = "on_save_checkpoint";
  for (const auto& callback : callbacks_) callback->on_save_checkpoint(*this, *module_, metadata);
  module_->on_save_checkpoint(metadata);
  current_name_ = "state_dict";
  // The training goes on while the file is written, so the tensors must not be the ones in use.
  if (global_rank() == 0) {
    snapshot_memory_.begin();
    for (auto& [name, tensor] : checkpoint.tensors) {
      check_storable(name, tensor);
      tensor = snapshot_memory_.copy(name, tensor);
    }
  }
  current_name_ = "on_snapshot_end";
  for (const auto& callback : callbacks_) callback->on_snapshot_end(*module_);
  current_name_ = "";
  return checkpoint;
}

// What only a resumed run needs.
void Replica::append_training_state(Checkpoint& checkpoint, const SnapshotRequest& request) {
  auto& metadata = checkpoint.metadata;
  const auto named = named_parameters_of(*module_);
  for (std::size_t i = 0; i < optimizers_.size(); ++i) {
    if (i < sharded_.size()) {
      sharded_[i]->append_state(checkpoint, named);
    } else {
      append_optimizer_state(checkpoint, i, optimizers_[i], named);
    }
  }
  if (!schedules_.empty()) metadata["lr_schedulers"] = schedulers_state();
  if (scaler_) metadata["grad_scaler"] = scaler_->state_dict();
  metadata["latest_metrics"] = {{"callback", latest_to_json(callback_metrics_)},
                                {"logged", latest_to_json(logged_metrics_)},
                                {"progress_bar", latest_to_json(progress_bar_metrics_)}};
  metadata["seed"] = *setup_.options.seed;
  metadata["loop"] = request.loop.is_object() ? request.loop : nlohmann::json{{"validated_batches", -1}};
  // A validation that was not finished begins anew.
  const bool begins_anew = evaluating_ || request.validation_was_cut;
  metadata["validation_batches"] = begins_anew ? eval_batches_before_ : curves_.batches(Stage::validate);
  metadata["world_size"] = world_size();
  metadata["data_position"] = data_position();
  if (setup_.datamodule) {
    const auto lock = lock_data();
    metadata["datamodule"] = setup_.datamodule->state_dict();
  }
  Checkpoint own = rank_state(request.validation_was_cut);
  std::ranges::move(own.tensors, std::back_inserter(checkpoint.tensors));
  metadata.update(own.metadata);
}

void Replica::restore_progress() {
  if (setup_.weights_only) return;
  const auto& metadata = setup_.checkpoint->metadata;
  if (!metadata.contains("progress")) {
    throw UsageError(
        "the checkpoint holds weights only, a run cannot go on from it; load_from_checkpoint makes a module of it that"
        " a new run can start with");
  }
  progress_ = progress_from_json(metadata.at("progress"));
  const auto saved_at = metadata.find("saved_at");
  if (saved_at != metadata.end() && saved_at->is_number()) saved_at_ = saved_at->get<double>();
}

void Replica::restore_model() {
  if (!setup_.checkpoint) return;
  const auto& checkpoint = *setup_.checkpoint;
  current_name_ = "on_load_checkpoint";
  module_->on_load_checkpoint(checkpoint.metadata);
  current_name_ = "load_model_state";
  const auto keys = load_model_state(checkpoint, *module_, module_->strict_loading);
  const auto differences = describe(keys);
  if (!differences.empty()) outputs_.note("warning: the checkpoint and the module differ: " + differences);
  current_name_ = "on_load_checkpoint";
  for (const auto& callback : callbacks_) callback->on_load_checkpoint(*this, *module_, checkpoint.metadata);
  current_name_ = "";
}

void Replica::restore_callbacks() {
  current_name_ = "load_state_dict";
  const auto& checkpoint = *setup_.checkpoint;
  const auto states = checkpoint.metadata.value("callbacks", nlohmann::json::object());
  auto left = states.is_object() ? states : nlohmann::json::object();
  const auto running = state_keys(callbacks_);
  for (const auto& callback : callbacks_) {
    const auto key = callback->state_key();
    const auto saved = saved_key(states, key, running);
    if (saved.empty()) continue;
    left.erase(saved);
    if (decides(callback)) continue;  // the coordinator sees to these
    callback->load_state_dict(states[saved]);
    const auto tensors = tensors_below(checkpoint, callback_prefix(saved));
    if (!tensors.empty()) callback->load_state_tensors(tensors);
  }
  if (left.empty() || !is_first_of_process()) return;
  note("warning: the checkpoint has states of callbacks that this run has not, and goes on without: " +
       joined_as(left.items(), [](const auto& item) { return shown(item.key()); }));
}

void Replica::restore_rest() {
  if (!setup_.checkpoint || setup_.weights_only) return;
  const auto& checkpoint = *setup_.checkpoint;
  const auto& metadata = checkpoint.metadata;
  if (shards()) refresh_averagers();  // as a run that begins divides them: norms of parts depend on it, to the bit
  restore_callbacks();                // one may have given an optimizer further groups
  current_name_ = "load_optimizer_state";
  const auto saved = metadata.value("optimizers", nlohmann::json::array());
  if (saved.size() > optimizers_.size()) {
    throw UsageError("the checkpoint has the state of " + std::to_string(saved.size()) +
                     " optimizers, configure_optimizers returned " + std::to_string(optimizers_.size()));
  }
  const auto named = named_parameters_of(*module_);
  if (shards()) refresh_averagers();  // before there is a state to divide
  for (std::size_t i = 0; i < optimizers_.size(); ++i) {
    if (i < sharded_.size()) {
      sharded_[i]->load_state(checkpoint, named);
    } else {
      load_optimizer_state(checkpoint, i, optimizers_[i], named);
    }
  }
  current_name_ = "load_schedulers_state";
  load_schedulers_state(metadata.value("lr_schedulers", nlohmann::json::array()));
  restore_data_position();
  current_name_ = "load_state_dict";
  const StateReader reader(metadata, "the checkpoint");
  curves_.skip_batches(Stage::validate, reader.count("validation_batches"));
  if (scaler_ && metadata.contains("grad_scaler")) scaler_->load_state_dict(metadata["grad_scaler"]);
  restore_rank_state();
  inspect_gradients();
  const auto latest = metadata.value("latest_metrics", nlohmann::json());
  if (!latest.is_object()) reader.refuse("latest_metrics is not an object");
  for (const auto& [name, map] : {std::pair("callback", &callback_metrics_), std::pair("logged", &logged_metrics_),
                                  std::pair("progress_bar", &progress_bar_metrics_)}) {
    *map = latest_from_json(latest.value(name, nlohmann::json()));
  }
  current_name_ = "load_state_dict";
  if (setup_.datamodule && metadata.contains("datamodule") && is_first_of_process()) {
    setup_.datamodule->load_state_dict(metadata["datamodule"]);
  }
  current_name_ = "";
}

}  // namespace troupe
