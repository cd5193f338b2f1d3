#include "troupe/runtime/checkpoint/optimizer_state.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/base/type_name.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"
#include "troupe/runtime/checkpoint/optimizer_access.hpp"
#include "troupe/runtime/checkpoint/optimizer_visitors.hpp"

#include <torch/utils.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <typeinfo>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace troupe {

namespace {

using NamedTensors = std::vector<std::pair<std::string, torch::Tensor>>;

constexpr const char* known_classes =
    "all of troupe::optim's and LibTorch's SGD, Adam, AdamW, RMSprop, Adagrad and LBFGS";
constexpr const char* not_saved = "not saved";

std::string prefix_of(std::size_t index) {
  return "optimizer." + std::to_string(index) + ".";
}

std::vector<Slot> slots_of(torch::optim::Optimizer& optimizer, const NamedTensors& named) {
  std::unordered_map<void*, std::string> names;
  std::unordered_set<std::string> taken;
  for (const auto& [name, tensor] : named) {
    names.emplace(tensor.unsafeGetTensorImpl(), name);
    taken.insert(name);
  }
  std::vector<Slot> slots;
  for (std::size_t group = 0; group < optimizer.param_groups().size(); ++group) {
    const auto& parameters = optimizer.param_groups()[group].params();
    for (std::size_t position = 0; position < parameters.size(); ++position) {
      const auto known = names.find(parameters[position].unsafeGetTensorImpl());
      // A tensor that comes a second time is named by its place too: names in a file are unique.
      std::string name = known != names.end() ? std::exchange(known->second, "") : "";
      if (name.empty()) {
        name = "unregistered." + std::to_string(group) + "." + std::to_string(position);
        while (taken.contains(name)) name += "_";
      }
      slots.push_back({group, position, name, parameters[position]});
    }
  }
  return slots;
}

/// Groups with the names of their parameters, and nothing else yet.
nlohmann::json groups_json(const torch::optim::Optimizer& optimizer, const std::vector<Slot>& slots) {
  auto groups = nlohmann::json::array();
  for (std::size_t i = 0; i < optimizer.param_groups().size(); ++i) {
    groups.push_back({{"params", nlohmann::json::array()}});
  }
  for (const auto& slot : slots) groups[slot.group]["params"].push_back(slot.name);
  return groups;
}

template <class Access>
void append_known(Checkpoint& checkpoint, std::size_t index, nlohmann::json& groups, const std::vector<Slot>& slots,
                  const Access& access) {
  std::vector<typename Access::Options> options;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    OptionsWriter writer(groups[i]);
    optimizer_fields::visit(writer, options.emplace_back(access.options(i)));
  }
  for (const auto& slot : slots) {
    auto state = access.state(slot);
    if (!state) continue;
    SlotWriter writer(checkpoint, prefix_of(index) + slot.name + ".");
    optimizer_fields::visit(writer, *state, options[slot.group]);
  }
}

/// The learning rates of an optimizer of the user's own, where its options tell them.
void append_learning_rates(nlohmann::json& groups, const torch::optim::Optimizer& optimizer) {
  for (std::size_t i = 0; i < groups.size(); ++i) {
    try {
      groups[i]["lr"] = optimizer.param_groups()[i].options().get_lr();
    } catch (const c10::Error&) {
      // LibTorch's default for options without a learning rate.
    }
  }
}

std::string text_at(const nlohmann::json& entry, const char* name) {
  const auto found = entry.find(name);
  return found != entry.end() && found->is_string() ? found->get<std::string>() : "";
}

const nlohmann::json& saved_entry(const Checkpoint& checkpoint, std::size_t index) {
  const auto list = checkpoint.metadata.find(metadata_key::optimizers);
  if (list != checkpoint.metadata.end() && list->is_array() && index < list->size() && (*list)[index].is_object()) {
    return (*list)[index];
  }
  const auto held = list != checkpoint.metadata.end() && list->is_array() ? list->size() : 0;
  throw UsageError("the checkpoint does not hold the state of optimizer " + std::to_string(index) + " (it holds " +
                   std::to_string(held) + "): a run cannot go on from it with this configure_optimizers");
}

void check_class(const nlohmann::json& entry, std::size_t index, const std::string& running) {
  const auto saved = text_at(entry, "class");
  const auto which = "optimizer " + std::to_string(index);
  if (text_at(entry, "state") == not_saved) {
    throw UsageError("the checkpoint does not hold the state of " + which + " (" + shown(saved) +
                     "), so a run cannot go on from it: only its weights can be loaded; states are saved for " +
                     known_classes);
  }
  if (saved != running) {
    throw UsageError(which + " is " + (saved.empty() ? "of no class" : shown(saved)) + " in the checkpoint and " +
                     running + " in this run: resume with the optimizer that the checkpoint was written with");
  }
}

/// Throws where the groups are not those of the run. Order within a group counts: LBFGS flattens by it.
const nlohmann::json& check_groups(const nlohmann::json& entry, std::size_t index, const nlohmann::json& running) {
  const auto found = entry.find("groups");
  const std::string which = "the checkpoint's optimizer " + std::to_string(index);
  if (found == entry.end() || !found->is_array() || found->size() != running.size()) {
    const auto count = found != entry.end() && found->is_array() ? found->size() : 0;
    throw UsageError(which + " has " + std::to_string(count) + " parameter groups, the one of this run has " +
                     std::to_string(running.size()));
  }
  for (std::size_t i = 0; i < running.size(); ++i) {
    const auto& group = (*found)[i];
    const auto& names = running[i]["params"];
    const auto where = which + ", group " + std::to_string(i);
    const auto saved = group.is_object() && group.contains("params") ? group["params"] : nlohmann::json();
    if (!saved.is_array() || !std::ranges::all_of(saved, [](const auto& name) { return name.is_string(); })) {
      throw UsageError(where + " has no list of parameter names");
    }
    if (saved == names) continue;
    const auto ours = names.get<std::vector<std::string>>();
    const auto theirs = saved.get<std::vector<std::string>>();
    const std::unordered_set<std::string> our_set(ours.begin(), ours.end()), their_set(theirs.begin(), theirs.end());
    Differences differences;
    std::ranges::copy_if(ours, std::back_inserter(differences.missing),
                         [&](auto& n) { return !their_set.contains(n); });
    std::ranges::copy_if(theirs, std::back_inserter(differences.left_over),
                         [&](auto& n) { return !our_set.contains(n); });
    if (!differences.any()) throw UsageError(where + " has its parameters in another order");
    throw UsageError(where + " has other parameters: " + differences.describe());
  }
  return *found;
}

template <class Access>
void load_known(const Checkpoint& checkpoint, std::size_t index, const nlohmann::json& groups,
                const std::vector<Slot>& slots, Access access) {
  using State = typename Access::State;
  std::vector<typename Access::Options> options;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    OptionsReader reader(groups[i], "optimizers[" + std::to_string(index) + "].groups[" + std::to_string(i) + "]");
    optimizer_fields::visit(reader, options.emplace_back(access.options(i)));
  }
  const auto prefix = prefix_of(index);
  SavedTensors saved;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    if (name.starts_with(prefix)) saved.emplace(name, &tensor);
  }
  int64_t flat_size = 0;
  for (const auto& slot : slots) flat_size += slot.parameter.numel();
  Differences differences;
  std::vector<std::optional<State>> states(slots.size());
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const auto own = prefix + slots[i].name + ".";
    const bool there = saved.contains(own + optimizer_fields::first_of(static_cast<State*>(nullptr)));
    if (!there && !optimizer_fields::always_there<State>) continue;
    SlotReader reader(saved, own, slots[i].parameter, flat_size, differences);
    optimizer_fields::visit(reader, states[i].emplace(), options[slots[i].group]);
  }
  for (const auto& [name, tensor] : checkpoint.tensors) {
    if (saved.contains(name)) differences.left_over.push_back(name);
  }
  if (differences.any()) {
    throw UsageError("the checkpoint's optimizer " + std::to_string(index) +
                     " does not fit this run's: " + differences.describe());
  }
  access.replace(options, slots, std::move(states));
}

}  // namespace

void append_optimizer_state(Checkpoint& checkpoint, std::size_t index, torch::optim::Optimizer& optimizer,
                            const NamedTensors& named_parameters) {
  const auto slots = slots_of(optimizer, named_parameters);
  nlohmann::json entry = {{"groups", groups_json(optimizer, slots)}};
  const bool known = with_access(optimizer, [&](const char* name, const auto& access) {
    entry["class"] = name;
    append_known(checkpoint, index, entry["groups"], slots, access);
  });
  if (!known) {
    entry["class"] = full_type_name(typeid(optimizer));
    entry["state"] = not_saved;
    append_learning_rates(entry["groups"], optimizer);
  }
  auto& list = checkpoint.metadata[metadata_key::optimizers];
  if (!list.is_array()) list = nlohmann::json::array();
  while (list.size() <= index) list.push_back(nullptr);
  list[index] = std::move(entry);
}

void load_optimizer_state(const Checkpoint& checkpoint, std::size_t index, torch::optim::Optimizer& optimizer,
                          const NamedTensors& named_parameters) {
  const auto& entry = saved_entry(checkpoint, index);
  const torch::NoGradGuard no_gradients;
  const bool known = with_access(optimizer, [&](const char* name, const auto& access) {
    check_class(entry, index, name);
    const auto slots = slots_of(optimizer, named_parameters);
    const auto& groups = check_groups(entry, index, groups_json(optimizer, slots));
    load_known(checkpoint, index, groups, slots, access);
  });
  if (known) return;
  const auto name = full_type_name(typeid(optimizer));
  check_class(entry, index, name);
  throw UsageError("optimizer " + std::to_string(index) + " (" + name +
                   ") cannot take a checkpoint's state: states are loaded for " + known_classes);
}

}  // namespace troupe
