#include "troupe/runtime/distributed/epoch_exchange.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/packed_tensor.hpp"

#include <torch/types.h>
#include <torch/utils.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace troupe {

namespace {

using Json = nlohmann::json;

Json packed(const MetricState& state) {
  return {{"name", state.name}, {"combine", static_cast<int>(state.combine)}, {"value", packed_tensor(state.value)}};
}

MetricState unpacked_state(const Json& json) {
  return {json.at("name").get<std::string>(), static_cast<Combine>(json.at("combine").get<int>()),
          unpacked_tensor(json.at("value"))};
}

Json packed(const EpochReduction& reduction) {
  Json states = Json::array();
  for (const auto& state : reduction.states.states) states.push_back(packed(state));
  return {{"name", reduction.name},
          {"reduce_fx", static_cast<int>(reduction.options.reduce_fx)},
          {"prog_bar", reduction.options.prog_bar},
          {"logger", reduction.options.logger},
          {"loader", reduction.dataloader_idx.value_or(-1)},
          {"on_step", reduction.on_step},
          {"total", reduction.total},
          {"weight", reduction.weight},
          {"metric", reduction.metric},
          {"updates", reduction.states.updates},
          {"states", std::move(states)}};
}

EpochReduction unpacked(const Json& json) {
  EpochReduction reduction;
  reduction.name = json.at("name").get<std::string>();
  reduction.options.reduce_fx = static_cast<Reduce>(json.at("reduce_fx").get<int>());
  reduction.options.prog_bar = json.at("prog_bar").get<bool>();
  reduction.options.logger = json.at("logger").get<bool>();
  if (const auto loader = json.at("loader").get<int64_t>(); loader >= 0) reduction.dataloader_idx = loader;
  reduction.on_step = json.at("on_step").get<bool>();
  reduction.total = json.at("total").get<double>();
  reduction.weight = json.at("weight").get<double>();
  reduction.metric = json.at("metric").get<std::string>();
  reduction.states.updates = json.at("updates").get<int64_t>();
  for (const auto& state : json.at("states")) reduction.states.states.push_back(unpacked_state(state));
  return reduction;
}

// `saw[rank]` has the names that the rank logged, where it saw batches.
void check_names(const std::map<std::size_t, std::set<std::string>>& saw) {
  std::set<std::string> all;
  for (const auto& [rank, names] : saw) all.insert(names.begin(), names.end());
  std::string problems;
  for (const auto& name : all) {
    std::vector<int64_t> with, without;
    for (const auto& [rank, names] : saw) (names.contains(name) ? with : without).push_back(static_cast<int64_t>(rank));
    if (without.empty()) continue;
    problems += "; \"" + name + "\" by rank " + joined(with) + " and not by rank " + joined(without);
  }
  if (problems.empty()) return;
  throw UsageError("the ranks logged different metrics in this epoch: " + problems.substr(2) +
                   ". Log them on all ranks, or with sync_dist = false");
}

}  // namespace

std::vector<EpochReduction> exchanged(Peers& peers, const std::vector<EpochReduction>& own, bool saw_batches) {
  Json mine = {{"saw", saw_batches}, {"reductions", Json::array()}};
  for (const auto& reduction : own) {
    if (reduction.options.sync_dist.value_or(true)) mine["reductions"].push_back(packed(reduction));
  }
  std::vector<std::vector<EpochReduction>> ranks;
  std::map<std::size_t, std::set<std::string>> saw;
  for (const auto& said : peers.all_gather_bytes(cbor_text(mine))) {
    const auto json = Json::from_cbor(said);
    auto& reductions = ranks.emplace_back();
    for (const auto& item : json.at("reductions")) reductions.push_back(unpacked(item));
    if (!json.at("saw").get<bool>()) continue;
    auto& names = saw[ranks.size() - 1];
    for (const auto& reduction : reductions) names.insert(reduction.name);
  }
  check_names(saw);
  return merged(ranks);
}

void average_steps(Peers& peers, std::vector<LoggedValue>& values) {
  Json mine = Json::object();
  for (const auto& value : values) {
    if (value.sync_dist) mine[value.name] = value.value;
  }
  std::map<std::string, std::pair<double, double>> sums;
  for (const auto& said : peers.all_gather_bytes(cbor_text(mine))) {
    const auto json = Json::from_cbor(said);
    for (const auto& [name, value] : json.items()) {
      auto& [sum, count] = sums[name];
      sum += value.get<double>();
      count += 1;
    }
  }
  for (auto& value : values) {
    if (!value.sync_dist) continue;
    const auto& [sum, count] = sums.at(value.name);
    value.value = sum / count;
  }
}

}  // namespace troupe
