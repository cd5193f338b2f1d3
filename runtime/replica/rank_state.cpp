// The part of a run's state that each rank has for itself: random numbers, what it has logged in this epoch, gradients
// of a window that is not over.
#include "troupe/base/state_reader.hpp"
#include "troupe/runtime/checkpoint/metric_state.hpp"
#include "troupe/runtime/checkpoint/packed_tensor.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/replica/replica.hpp"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <unordered_map>
#include <unordered_set>

namespace troupe {

namespace {

constexpr const char* random_state = "random.cpu";
constexpr const char* device_random_state = "random.cuda";
constexpr const char* gradient_prefix = "gradient.";
constexpr const char* parts_key = "gradients_are_parts";
constexpr const char* buffer_prefix = "buffer.";

std::string prefix_of(std::size_t rank) {
  return "rank_" + std::to_string(rank) + ".";
}

// What the checkpoint has of a rank, under the names that rank zero's has.
Checkpoint part_of(const Checkpoint& checkpoint, std::size_t rank) {
  if (rank == 0) return checkpoint;
  Checkpoint part;
  const auto prefix = prefix_of(rank);
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

bool holds_parts(const Checkpoint& state) {
  const auto found = state.metadata.find(parts_key);
  if (found == state.metadata.end()) return false;
  if (!found->is_boolean())
    throw UsageError("the checkpoint's gradients_are_parts is " + found->dump() + ", not a boolean");
  return found->get<bool>();
}

}  // namespace

std::vector<std::pair<std::string, torch::Tensor>> Replica::random_states() const {
  std::vector<std::pair<std::string, torch::Tensor>> states = {{random_state, generator_state()}};
  if (!setup_.device.is_cpu()) states.emplace_back(device_random_state, generator_state(setup_.device));
  return states;
}

Checkpoint Replica::rank_state(bool validation_was_cut) {
  Checkpoint state;
  const bool begins_anew = (evaluating_ || validation_was_cut) && !random_states_before_.empty();
  state.tensors = begins_anew ? random_states_before_ : random_states();
  append_metrics(state);
  append_window(state);
  if (setup_.options.loss_spike_zscore > 0) state.metadata["recent_losses"] = recent_losses();
  return state;
}

// Those of the others; rank zero's is there.
void Replica::append_rank_states(Checkpoint& checkpoint, bool validation_was_cut) {
  Checkpoint own;
  if (global_rank() > 0) {
    own = rank_state(validation_was_cut);
    // Rank zero's replace them at the next window, but a validation may come before.
    for (const auto& item : module_->named_buffers()) {
      own.tensors.emplace_back(buffer_prefix + item.key(), item.value());
    }
  }
  const auto all = setup_.peers->all_gather_bytes(packed_checkpoint(own));
  if (global_rank() > 0) return;
  for (std::size_t rank = 1; rank < all.size(); ++rank) {
    Checkpoint state = unpacked_checkpoint(all[rank]);
    for (auto& [name, tensor] : state.tensors)
      checkpoint.tensors.emplace_back(prefix_of(rank) + name, std::move(tensor));
    checkpoint.metadata["ranks"][std::to_string(rank)] = std::move(state.metadata);
  }
}

// Gradients that wait for further batches before a step is made of them. With manual optimization nobody says when that
// is, so what a backward pass left for an optimizer that has not stepped since is kept.
void Replica::append_window(Checkpoint& checkpoint) const {
  auto windows = nlohmann::json::array();
  std::unordered_set<const void*> wanted;
  for (std::size_t i = 0; i < optimizers_.size(); ++i) {
    const Sequence& sequence = sequences_[i];
    const bool is_open = sequence.has_gradients || (i < is_unstepped_.size() && is_unstepped_[i]);
    windows.push_back({{"is_open", is_open},
                       {"samples", sequence.samples},
                       {"nominal", sequence.nominal},
                       {"bad", sequence.bad},
                       {"skipped_in_row", sequence.skipped_in_row}});
    if (!is_open) continue;
    for (const auto& parameter : parameters_of(i)) wanted.insert(parameter.unsafeGetTensorImpl());
  }
  if (wanted.empty() &&
      std::ranges::all_of(sequences_, [](const Sequence& each) { return each.skipped_in_row == 0; })) {
    return;
  }
  checkpoint.metadata["windows"] = std::move(windows);
  // With strategy = zero and manual optimization each pass is averaged, and the average lies in the ranks' parts.
  std::unordered_map<const void*, torch::Tensor> parts;
  if (shards() && !module_->automatic_optimization) {
    checkpoint.metadata[parts_key] = true;
    for (const auto& sharded : sharded_) {
      for (auto& [whole, part] : sharded->waiting_parts()) parts.emplace(whole.unsafeGetTensorImpl(), std::move(part));
    }
  }
  for (const auto& item : module_->named_parameters()) {
    const void* impl = item.value().unsafeGetTensorImpl();
    if (!wanted.contains(impl)) continue;
    const auto part = parts.find(impl);
    const torch::Tensor& gradient = part == parts.end() ? item.value().grad() : part->second;
    if (gradient.defined()) checkpoint.tensors.emplace_back(gradient_prefix + item.key(), gradient);
  }
}

void Replica::restore_window(const Checkpoint& state) {
  const auto windows = state.metadata.value("windows", nlohmann::json::array());
  if (!windows.is_array() || windows.size() > optimizers_.size()) {
    throw CheckpointError("the checkpoint's windows are damaged: they are not one for each optimizer");
  }
  is_unstepped_.assign(optimizers_.size(), false);
  for (std::size_t i = 0; i < windows.size(); ++i) {
    const StateReader window(windows[i], "the checkpoint's window " + std::to_string(i));
    Sequence& sequence = sequences_[i];
    const bool is_open = window.flag("is_open");
    sequence.has_gradients = is_open && module_->automatic_optimization;
    is_unstepped_[i] = is_open;
    sequence.samples = window.number("samples");
    sequence.nominal = window.number("nominal");
    sequence.bad = window.text("bad");
    sequence.skipped_in_row = window.count("skipped_in_row");
  }
  for (auto& item : module_->named_parameters()) {
    const auto* saved = state.find(gradient_prefix + item.key());
    if (!saved) continue;
    torch::Tensor& parameter = item.value();
    if (saved->sizes() != parameter.sizes() || saved->scalar_type() != parameter.scalar_type()) {
      throw UsageError("the checkpoint's gradient of " + item.key() + " does not fit the parameter");
    }
    const auto holder = std::ranges::find_if(sharded_, [&](const auto& each) { return each->holds(parameter); });
    if (holds_parts(state) && holder != sharded_.end()) {
      (*holder)->put_back(parameter, *saved);
    } else {
      parameter.mutable_grad() = saved->to(parameter.device(), /*non_blocking=*/false, /*copy=*/true);
    }
  }
}

void Replica::restore_rank_state() {
  const auto& checkpoint = *setup_.checkpoint;
  const auto saved_size = StateReader(checkpoint.metadata, "the checkpoint").count("world_size", /*least=*/1);
  const auto own_rank = static_cast<std::size_t>(global_rank());
  const Checkpoint own = part_of(checkpoint, own_rank);
  if (const auto* state = own.find(random_state)) set_generator_state(*state);
  const auto* state_of_device = setup_.device.is_cpu() ? nullptr : own.find(device_random_state);
  if (state_of_device) set_generator_state(*state_of_device, setup_.device);
  const bool has_same_ranks = saved_size == world_size();
  if (has_same_ranks && (shards() || !holds_parts(own))) {
    restore_recent_losses(own.metadata.value("recent_losses", nlohmann::json::array()));
    restore_metrics(own);
    restore_window(own);
    if (own_rank == 0) return;
    for (auto& item : module_->named_buffers()) {
      const torch::NoGradGuard no_gradients;
      const auto* saved = own.find(buffer_prefix + item.key());
      if (saved && saved->sizes() == item.value().sizes()) item.value().copy_(*saved);
    }
    return;
  }
  std::vector<Checkpoint> states;
  const auto ranks = checkpoint.metadata.value("ranks", nlohmann::json::object()).size();
  for (std::size_t rank = 0; rank <= ranks; ++rank) states.push_back(part_of(checkpoint, rank));
  restore_window_of_all(states);
  if (own_rank > 0) return;
  restore_metrics_of_all(states);
  if (has_same_ranks) return;
  note("the checkpoint is of " + std::to_string(saved_size) + " ranks, and the run has " +
       std::to_string(world_size()) + ": it goes on with the same samples, and other rounding and random numbers");
}

// Where there were other ranks, rank zero takes what all of them had gathered.
void Replica::restore_metrics_of_all(const std::vector<Checkpoint>& states) {
  const auto& registered = module_->metrics();
  std::vector<std::vector<MetricStates>> gathered(registered.size());
  std::vector<std::vector<EpochReduction>> reductions;
  for (const auto& state : states) {
    restore_metrics(state);
    reductions.push_back(load_epoch_reductions(state));
    for (std::size_t i = 0; i < registered.size(); ++i) {
      auto& metric = *registered[i].second;
      if (metric.update_count() > 0) gathered[i].push_back(merged(std::vector{metric.states()}));  // a copy
      metric.reset();
    }
  }
  for (std::size_t i = 0; i < registered.size(); ++i) {
    if (!gathered[i].empty()) registered[i].second->load_states(merged(gathered[i]));
  }
  train_log_.set_epoch_reductions(merged(reductions), registered);
}

// The gradients of a window: those of a rank are sums over its samples, and are divided by the number of ranks when
// they are averaged.
void Replica::restore_window_of_all(const std::vector<Checkpoint>& states) {
  Checkpoint window = states.front();
  if (global_rank() > 0) window.tensors.clear();
  // Parts of an average add up to it.
  const double summed = holds_parts(states.front()) ? 1 : static_cast<double>(states.size());
  const double scale = static_cast<double>(world_size()) / summed;
  window.metadata.erase(parts_key);
  for (auto& [name, tensor] : window.tensors) {
    if (!name.starts_with(gradient_prefix)) continue;
    tensor = tensor.clone();
    for (std::size_t rank = 1; rank < states.size(); ++rank) {
      const auto* other = states[rank].find(name);
      if (!other) continue;
      if (other->sizes() != tensor.sizes() || other->scalar_type() != tensor.scalar_type()) {
        throw UsageError("the checkpoint's " + name + " of rank " + std::to_string(rank) +
                         " does not fit that of rank 0");
      }
      tensor += *other;
    }
    tensor *= scale;
  }
  restore_window(window);
  for (auto& sequence : sequences_) sequence.is_carried = sequence.has_gradients;
}

}  // namespace troupe
