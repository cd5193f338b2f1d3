// The state of a divided optimizer as that of a whole one, and back.
#include "troupe/runtime/checkpoint/keys.hpp"
#include "troupe/runtime/checkpoint/optimizer_state.hpp"
#include "troupe/runtime/distributed/sharded_optimizer.hpp"

#include <torch/types.h>
#include <torch/utils.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <set>

namespace troupe {

namespace {

using Json = nlohmann::json;

// A number of its own for each parameter, such as the count of steps.
bool is_counter(const torch::Tensor& state) {
  return state.dim() == 0;
}

// "net.weight.exp_avg" as "net.weight" and "exp_avg", by the longest name of a parameter that fits. If none does: ""
// and all of it.
std::pair<std::string, std::string> split(std::string_view key, const ShardedOptimizer::Named& named) {
  std::string_view best;
  for (const auto& [name, parameter] : named) {
    const bool fits = key.size() > name.size() + 1 && key.starts_with(name) && key[name.size()] == '.';
    if (fits && name.size() >= best.size()) best = name;
  }
  if (best.empty()) return {"", std::string(key)};
  return {std::string(best), std::string(key.substr(best.size() + 1))};
}

std::string name_of(const ShardedOptimizer::Named& named, const torch::Tensor& parameter) {
  const auto found = std::ranges::find_if(named, [&](const auto& each) { return each.second.is_same(parameter); });
  return found == named.end() ? "" : found->first;
}

}  // namespace

// The parts under the names of their parameters.
ShardedOptimizer::Named ShardedOptimizer::names_of_shards(const Named& named_parameters) const {
  Named named;
  for (const auto& parameter : parameters_) {
    if (parameter.shard.defined()) named.emplace_back(name_of(named_parameters, parameter.whole), parameter.shard);
  }
  return named;
}

// Which states there are, and those of one number: known to whoever has a part of the parameter.
Json ShardedOptimizer::states_of_all(const PartStates& mine) {
  Json told = Json::object();
  for (const auto& [parameter, states] : mine) {
    for (const auto& [name, tensor] : states) {
      told[parameter][name] = {{"type", static_cast<int>(tensor.scalar_type())}};
      if (is_counter(tensor)) told[parameter][name]["value"] = tensor.item<double>();
    }
  }
  Json all = Json::object();
  for (const auto& said : peers_.all_gather_bytes(told.dump())) all.update(Json::parse(said), /*merge_objects=*/true);
  return all;
}

// One state of all parameters of a bucket, put together out of the ranks' parts.
torch::Tensor ShardedOptimizer::whole_state(const Bucket& bucket, const PartStates& mine,
                                            const std::vector<std::string>& names, const std::string& state,
                                            torch::ScalarType type) {
  const auto options = bucket.weights.options().dtype(type);
  auto part = torch::zeros({bucket.shard_gradients.numel()}, options);
  auto whole = torch::empty({bucket.weights.numel()}, options);
  const int64_t first = part.numel() * peers_.place().global_rank;
  for (const std::size_t i : bucket.parameters) {
    const auto& parameter = parameters_[i];
    const auto found = mine.find(names[i]);
    if (found == mine.end() || !found->second.contains(state)) continue;
    part.narrow(0, parameter.offset + parameter.begin - first, parameter.end - parameter.begin)
        .copy_(found->second.at(state));
  }
  peers_.begin_all_gather(whole, part)->wait();
  return whole;
}

void ShardedOptimizer::append_state(Checkpoint& checkpoint, const Named& named_parameters) {
  const torch::NoGradGuard no_gradients;
  const std::string prefix = "optimizer." + std::to_string(index_) + ".";
  std::vector<std::string> names;  // of the parameters
  for (const auto& parameter : parameters_) names.push_back(name_of(named_parameters, parameter.whole));
  Checkpoint own;
  append_optimizer_state(own, index_, optimizer_, names_of_shards(named_parameters));
  PartStates mine;
  for (const auto& [key, tensor] : own.tensors) {
    const auto [parameter, state] = split(std::string_view(key).substr(prefix.size()), named_parameters);
    mine[parameter].emplace(state, tensor);
  }
  const Json all = states_of_all(mine);

  const bool is_first = peers_.place().global_rank == 0;
  const auto add = [&](const std::string& parameter, const std::string& name, torch::Tensor tensor) {
    if (is_first) checkpoint.tensors.emplace_back(prefix + parameter + "." + name, std::move(tensor));
  };
  for (const auto& bucket : buckets_) {
    std::set<std::pair<std::string, torch::ScalarType>> kinds;  // states of this bucket's parameters, with their types
    for (const std::size_t i : bucket.parameters) {
      const Json states = all.value(names[i], Json::object());
      for (const auto& [state, about] : states.items()) {
        const auto type = static_cast<torch::ScalarType>(about.at("type").get<int>());
        if (about.contains("value")) {
          add(names[i], state, torch::scalar_tensor(about["value"].get<double>(), type));
        } else {
          kinds.emplace(state, type);
        }
      }
    }
    for (const auto& [state, type] : kinds) {
      const auto whole = whole_state(bucket, mine, names, state, type);
      for (const std::size_t i : bucket.parameters) {
        const auto& parameter = parameters_[i];
        if (!all.contains(names[i]) || !all[names[i]].contains(state)) continue;
        add(names[i], state,
            whole.narrow(0, parameter.offset, parameter.whole.numel()).view(parameter.whole.sizes()).clone());
      }
    }
  }
  if (is_first) append_groups(checkpoint, own, names);
}

// The groups as configure_optimizers made them.
void ShardedOptimizer::append_groups(Checkpoint& checkpoint, const Checkpoint& own,
                                     const std::vector<std::string>& names) const {
  auto entry = own.metadata.at(metadata_key::optimizers).at(index_);
  for (std::size_t group = 0; group < groups_.size(); ++group) {
    auto own_names = Json::array();
    for (const std::size_t i : groups_[group]) own_names.push_back(names[i]);
    entry["groups"][group]["params"] = std::move(own_names);
  }
  auto& list = checkpoint.metadata[metadata_key::optimizers];
  if (!list.is_array()) list = Json::array();
  while (list.size() <= index_) list.push_back(nullptr);
  list[index_] = std::move(entry);
}

// Cuts the worker's parts out of what the checkpoint has; whatever does not fit stays as it is, and is refused where
// all are.
void ShardedOptimizer::load_state(const Checkpoint& checkpoint, const Named& named_parameters) {
  const torch::NoGradGuard no_gradients;
  const std::string prefix = "optimizer." + std::to_string(index_) + ".";
  std::map<std::string, const Parameter*> by_name;
  for (const auto& parameter : parameters_) by_name[name_of(named_parameters, parameter.whole)] = &parameter;
  Checkpoint own;
  own.metadata = checkpoint.metadata;
  for (const auto& [key, tensor] : checkpoint.tensors) {
    if (!key.starts_with(prefix)) continue;
    const auto found = by_name.find(split(std::string_view(key).substr(prefix.size()), named_parameters).first);
    auto part = tensor;
    if (found != by_name.end()) {
      const Parameter& parameter = *found->second;
      if (!parameter.shard.defined()) continue;
      if (!is_counter(tensor) && tensor.sizes() == parameter.whole.sizes()) {
        part = tensor.reshape({-1}).narrow(0, parameter.begin, parameter.end - parameter.begin);
      }
    }
    own.tensors.emplace_back(key, std::move(part));
  }
  auto& list = own.metadata[metadata_key::optimizers];
  if (list.is_array() && index_ < list.size() && list[index_].is_object() && list[index_].contains("groups")) {
    for (auto& group : list[index_]["groups"]) {
      if (!group.is_object() || !group.contains("params") || !group["params"].is_array()) continue;
      auto names = Json::array();
      for (const auto& name : group["params"]) {
        const auto found = name.is_string() ? by_name.find(name.get<std::string>()) : by_name.end();
        if (found == by_name.end() || found->second->shard.defined()) names.push_back(name);
      }
      group["params"] = std::move(names);
    }
  }
  load_optimizer_state(own, index_, optimizer_, names_of_shards(named_parameters));
}

}  // namespace troupe
