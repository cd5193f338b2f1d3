// The state of windows of accumulation, and of what losses are compared with, in checkpoints.
#include "troupe/base/state_reader.hpp"
#include "troupe/runtime/replica/bad_numbers.hpp"
#include "troupe/runtime/replica/train_stepper.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace troupe {

namespace {

constexpr const char* gradient_prefix = "gradient.";
constexpr const char* parts_key = "gradients_are_parts";

// Those of rank zero, with what the other ranks have of the same parameters.
std::vector<std::pair<std::string, torch::Tensor>> summed_gradients(const std::vector<Checkpoint>& states) {
  std::vector<std::pair<std::string, torch::Tensor>> sums;
  for (const auto& [name, tensor] : states.front().tensors) {
    if (!name.starts_with(gradient_prefix)) continue;
    auto sum = tensor.clone();
    for (std::size_t rank = 1; rank < states.size(); ++rank) {
      const auto* other = states[rank].find(name);
      if (!other) continue;
      if (other->sizes() != sum.sizes() || other->scalar_type() != sum.scalar_type()) {
        throw UsageError("the checkpoint's " + name + " of rank " + std::to_string(rank) +
                         " does not fit that of rank 0");
      }
      sum += *other;
    }
    sums.emplace_back(name, std::move(sum));
  }
  return sums;
}

}  // namespace

nlohmann::json TrainStepper::recent_losses() const {
  return troupe::recent_losses(tracks_);
}

void TrainStepper::restore_recent_losses(const nlohmann::json& saved) {
  troupe::restore_recent_losses(tracks_, saved);
}

bool TrainStepper::hold_parts(const Checkpoint& state) {
  const auto found = state.metadata.find(parts_key);
  if (found == state.metadata.end()) return false;
  if (!found->is_boolean())
    throw UsageError("the checkpoint's gradients_are_parts is " + found->dump() + ", not a boolean");
  return found->get<bool>();
}

// With manual optimization nobody says when a window ends, so what a backward pass left for an optimizer that has not
// stepped since is kept.
void TrainStepper::append_windows(Checkpoint& checkpoint) const {
  auto windows = nlohmann::json::array();
  std::unordered_set<const void*> wanted;
  for (std::size_t i = 0; i < core_.optimizers.size(); ++i) {
    const OptimizerTrack& track = tracks_[i];
    const bool is_open = track.has_gradients || track.is_unstepped;
    windows.push_back({{"is_open", is_open},
                       {"samples", track.samples},
                       {"nominal", track.nominal},
                       {"bad", track.bad},
                       {"skipped_in_row", track.skipped_in_row}});
    if (!is_open) continue;
    for (const auto& parameter : sync_.parameters_of(i)) wanted.insert(parameter.unsafeGetTensorImpl());
  }
  if (wanted.empty() &&
      std::ranges::all_of(tracks_, [](const OptimizerTrack& each) { return each.skipped_in_row == 0; })) {
    return;
  }
  checkpoint.metadata["windows"] = std::move(windows);
  // With manual optimization, or where ranks divide the gradients, each pass is averaged, and the average lies in the
  // ranks' parts.
  std::unordered_map<const void*, torch::Tensor> parts;
  if (core_.divides_gradients() || (core_.divides_optimizers() && !core_.module->automatic_optimization)) {
    checkpoint.metadata[parts_key] = true;
    for (auto& [whole, part] : sync_.waiting_parts()) parts.emplace(whole.unsafeGetTensorImpl(), std::move(part));
  }
  for (const auto& item : core_.module->named_parameters()) {
    const void* impl = item.value().unsafeGetTensorImpl();
    if (!wanted.contains(impl)) continue;
    const auto part = parts.find(impl);
    const torch::Tensor& gradient = part == parts.end() ? item.value().grad() : part->second;
    if (gradient.defined()) checkpoint.tensors.emplace_back(gradient_prefix + item.key(), gradient);
  }
}

void TrainStepper::restore_windows(const Checkpoint& state) {
  const auto windows = state.metadata.value("windows", nlohmann::json::array());
  if (!windows.is_array() || windows.size() > core_.optimizers.size()) {
    throw CheckpointError("the checkpoint's windows are damaged: they are not one for each optimizer");
  }
  for (auto& track : tracks_) track.is_unstepped = false;
  for (std::size_t i = 0; i < windows.size(); ++i) {
    const StateReader window(windows[i], "the checkpoint's window " + std::to_string(i));
    OptimizerTrack& track = tracks_[i];
    const bool is_open = window.flag("is_open");
    track.has_gradients = is_open && core_.module->automatic_optimization;
    track.is_unstepped = is_open && !core_.module->automatic_optimization;
    track.samples = window.number("samples");
    track.nominal = window.number("nominal");
    track.bad = window.text("bad");
    track.skipped_in_row = window.count("skipped_in_row");
  }
  for (auto& item : core_.module->named_parameters()) {
    const auto* saved = state.find(gradient_prefix + item.key());
    if (!saved) continue;
    torch::Tensor& parameter = item.value();
    if (saved->sizes() != parameter.sizes() || saved->scalar_type() != parameter.scalar_type()) {
      throw UsageError("the checkpoint's gradient of " + item.key() + " does not fit the parameter");
    }
    ShardedOptimizer* holder = sync_.holder_of(parameter);
    if (hold_parts(state) && holder) {
      holder->put_back(parameter, *saved);
    } else {
      parameter.mutable_grad() = saved->to(parameter.device(), /*non_blocking=*/false, /*copy=*/true);
    }
  }
}

// Parts of an average add up to it, and each rank takes its own part of that, however it was divided before.
void TrainStepper::restore_windows_of_parts(const Checkpoint& own, const std::vector<Checkpoint>& states) {
  Checkpoint whole = own;
  std::erase_if(whole.tensors, [](const auto& each) { return each.first.starts_with(gradient_prefix); });
  std::ranges::move(summed_gradients(states), std::back_inserter(whole.tensors));
  restore_windows(whole);
}

// The gradients of a window: those of a rank are sums over its samples, and are divided by the number of ranks when
// they are averaged.
void TrainStepper::restore_windows_of_all(const std::vector<Checkpoint>& states) {
  if (hold_parts(states.front()) && core_.divides_optimizers()) {
    restore_windows_of_parts(states.front(), states);
  } else {
    Checkpoint window;
    window.metadata = states.front().metadata;
    window.metadata.erase(parts_key);
    // Parts of an average add up to it.
    const double summed = hold_parts(states.front()) ? 1 : static_cast<double>(states.size());
    const double scale = static_cast<double>(core_.place().world_size) / summed;
    if (core_.place().global_rank == 0) window.tensors = summed_gradients(states);
    for (auto& [name, tensor] : window.tensors) tensor *= scale;
    restore_windows(window);
  }
  for (auto& track : tracks_) track.is_carried = track.has_gradients;
}

}  // namespace troupe
