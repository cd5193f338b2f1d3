// The part of a run's state that each rank has for itself: random numbers, what it has logged in this epoch, gradients
// of a window that is not over.
#include "troupe/base/state_reader.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"
#include "troupe/runtime/checkpoint/optimizer_state.hpp"
#include "troupe/runtime/checkpoint/packed_tensor.hpp"
#include "troupe/runtime/replica/random_states.hpp"
#include "troupe/runtime/replica/run_record.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

namespace {

constexpr const char* buffer_prefix = "buffer.";

std::string prefix_of_rank(std::size_t rank) {
  return "rank_" + std::to_string(rank) + ".";
}

// What the checkpoint has of a rank, under the names that rank zero's has.
Checkpoint part_of(const Checkpoint& checkpoint, std::size_t rank) {
  if (rank == 0) return checkpoint;
  Checkpoint part;
  const auto prefix = prefix_of_rank(rank);
  for (const auto& [name, tensor] : checkpoint.tensors) {
    if (name.starts_with(prefix)) part.tensors.emplace_back(name.substr(prefix.size()), tensor);
  }
  const auto ranks = checkpoint.metadata.value("ranks", nlohmann::json::object());
  if (!ranks.is_object()) throw CheckpointError("the checkpoint's ranks are damaged: they are no object");
  const auto found = ranks.find(std::to_string(rank));
  if (found == ranks.end()) return part;
  if (!found->is_object()) throw CheckpointError("the checkpoint's ranks are damaged: one is no object");
  part.metadata = *found;
  return part;
}

}  // namespace

Checkpoint RunRecord::rank_state(bool validation_was_cut) {
  Checkpoint state;
  const auto& before = parts_.evaluation.random_states_before();
  const bool begins_anew = (parts_.evaluation.is_running() || validation_was_cut) && !before.empty();
  state.tensors = begins_anew ? before : random_states(core_.setup.device);
  core_.collect_shard_metrics();
  parts_.board.append_metrics(state);
  parts_.stepper.append_windows(state);
  parts_.sync.append_own(state);
  if (core_.trains_locally() && core_.place().global_rank > 0) append_own_optimizers(state);
  if (core_.options().loss_spike_zscore > 0) state.metadata["recent_losses"] = parts_.stepper.recent_losses();
  return state;
}

// With local_sgd and diloco each rank steps its own.
void RunRecord::append_own_optimizers(Checkpoint& state) {
  const auto named = named_parameters();
  for (std::size_t i = 0; i < core_.optimizers.size(); ++i) {
    append_optimizer_state(state, i, core_.optimizers[i], named);
  }
}

// What the checkpoint has of this rank, if its optimizers are there and are to take the place of rank zero's.
std::optional<Checkpoint> RunRecord::own_optimizers(const Checkpoint& checkpoint) const {
  const auto rank = static_cast<std::size_t>(core_.place().global_rank);
  if (!core_.trains_locally() || rank == 0) return std::nullopt;
  Checkpoint own = part_of(checkpoint, rank);
  if (!own.metadata.contains(metadata_key::optimizers)) return std::nullopt;
  return own;
}

// Those of the others; rank zero's is there.
void RunRecord::append_rank_states(Checkpoint& checkpoint, bool validation_was_cut) {
  Checkpoint own;
  if (core_.place().global_rank > 0) {
    own = rank_state(validation_was_cut);
    // Rank zero's replace them at the next window, but a validation may come before.
    const LocalTraining* local = parts_.sync.local();
    for (const auto& item : core_.module->named_buffers()) {
      own.tensors.emplace_back(buffer_prefix + item.key(), local ? local->own(item.value()) : item.value());
    }
  }
  const auto all = core_.peers()->all_gather_bytes(packed_checkpoint(own));
  if (core_.place().global_rank > 0) return;
  for (std::size_t rank = 1; rank < all.size(); ++rank) {
    Checkpoint state = unpacked_checkpoint(all[rank]);
    for (auto& [name, tensor] : state.tensors)
      checkpoint.tensors.emplace_back(prefix_of_rank(rank) + name, std::move(tensor));
    checkpoint.metadata["ranks"][std::to_string(rank)] = std::move(state.metadata);
  }
}

// Rank zero's whole checkpoint on every rank. What all have alike, parameters and optimizers (ddp), does not travel.
Checkpoint RunRecord::given_to_all(Checkpoint own) {
  std::set<std::string> parameters;
  for (const auto& item : core_.module->named_parameters()) parameters.insert(name_in_checkpoint(item.key()));
  const auto is_alike = [&](const std::string& name) {
    return parameters.contains(name) || name.starts_with("optimizer.");
  };
  const bool has_all = core_.place().global_rank == 0;
  Checkpoint different;
  if (has_all) {
    different.metadata = {{"names", nlohmann::json::array()}, {"metadata", own.metadata}};
    for (const auto& [name, tensor] : own.tensors) {
      different.metadata["names"].push_back(name);
      if (!is_alike(name)) different.tensors.emplace_back(name, tensor);
    }
  }
  const auto heard = core_.peers()->all_gather_bytes(has_all ? packed_checkpoint(different) : std::string());
  if (has_all) return own;
  different = unpacked_checkpoint(heard.front());
  Checkpoint whole;
  whole.metadata = different.metadata.at("metadata");
  for (const auto& item : different.metadata.at("names")) {
    const auto& name = item.get_ref<const std::string&>();
    const auto* tensor = is_alike(name) ? own.find(name) : different.find(name);
    if (!tensor) throw CheckpointError("rank zero has the tensor " + name + ", and this rank does not");
    whole.tensors.emplace_back(name, *tensor);
  }
  return whole;
}

void RunRecord::restore_rank_state() {
  const auto& checkpoint = *core_.setup.checkpoint;
  const auto saved_ranks = StateReader(checkpoint.metadata, "the checkpoint").count("world_size", /*least=*/1);
  const auto own_rank = static_cast<std::size_t>(core_.place().global_rank);
  const Checkpoint own = part_of(checkpoint, own_rank);
  restore_random_states(own, core_.setup.device);
  const int64_t ranks = core_.place().world_size;
  const bool has_same_ranks = saved_ranks == ranks;
  parts_.sync.load(checkpoint, has_same_ranks ? &own : nullptr,
                   has_same_ranks ? std::vector<Checkpoint>() : states_of_all());
  if (has_same_ranks && (core_.divides_optimizers() || !TrainStepper::hold_parts(own))) return restore_own_rank(own);
  restore_of_all_ranks();
  if (own_rank > 0 || has_same_ranks) return;
  core_.outputs.note("the checkpoint is of " + std::to_string(saved_ranks) + " ranks, and the run has " +
                     std::to_string(ranks) +
                     ": it goes on with the same samples, and other rounding and random numbers");
}

void RunRecord::restore_own_rank(const Checkpoint& own) {
  parts_.stepper.restore_recent_losses(own.metadata.value("recent_losses", nlohmann::json::array()));
  parts_.board.restore_metrics(own);
  if (TrainStepper::hold_parts(own)) {
    parts_.stepper.restore_windows_of_parts(own, states_of_all());
  } else {
    parts_.stepper.restore_windows(own);
  }
  if (core_.place().global_rank == 0) return;
  for (auto& item : core_.module->named_buffers()) {
    const torch::NoGradGuard no_gradients;
    const auto* saved = own.find(buffer_prefix + item.key());
    if (saved && saved->sizes() == item.value().sizes()) item.value().copy_(*saved);
  }
}

std::vector<Checkpoint> RunRecord::states_of_all() const {
  const auto& checkpoint = *core_.setup.checkpoint;
  std::vector<Checkpoint> states;
  const auto ranks = checkpoint.metadata.value("ranks", nlohmann::json::object()).size();
  for (std::size_t rank = 0; rank <= ranks; ++rank) states.push_back(part_of(checkpoint, rank));
  return states;
}

// If there were other ranks, rank zero takes the metrics of all of them.
void RunRecord::restore_of_all_ranks() {
  const auto states = states_of_all();
  parts_.stepper.restore_windows_of_all(states);
  if (core_.place().global_rank == 0) parts_.board.restore_metrics_of_all(states);
}

}  // namespace troupe
