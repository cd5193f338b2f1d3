#include "troupe/runtime/checkpoint/metric_state.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/state_reader.hpp"
#include "troupe/base/text.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace troupe {

namespace {

constexpr const char* totals_name = "log.train";
constexpr std::array reduce_names = {"mean", "sum", "min", "max"};  // in the order of Reduce

std::string state_name(const std::string& metric, const std::string& state) {
  return "metric." + metric + "." + state;
}

[[noreturn]] void refuse_log(const std::string& why) {
  throw CheckpointError("the checkpoint's train_log is damaged: " + why);
}

EpochReduction reduction_of(const StateReader& entry) {
  EpochReduction reduction;
  reduction.name = entry.text("name");
  const auto reduce = entry.text("reduce_fx");
  const auto known = std::ranges::find(reduce_names, reduce);
  if (known == reduce_names.end()) refuse_log("reduce_fx = " + shown(reduce));
  reduction.options.reduce_fx = static_cast<Reduce>(known - reduce_names.begin());
  reduction.options.prog_bar = entry.flag("prog_bar");
  reduction.options.logger = entry.flag("logger");
  reduction.on_step = entry.flag("on_step");
  return reduction;
}

}  // namespace

void append_metric_state(Checkpoint& checkpoint, const std::string& name, const MetricStates& states) {
  for (const auto& state : states.states) checkpoint.tensors.emplace_back(state_name(name, state.name), state.value);
  checkpoint.metadata["metrics"][name] = {{"updates", states.updates}};
}

std::vector<std::string> load_metric_states(const Checkpoint& checkpoint, const NamedMetrics& metrics) {
  std::vector<std::string> left_over;
  const auto saved = checkpoint.metadata.value("metrics", nlohmann::json::object());
  if (!saved.is_object()) throw CheckpointError("the checkpoint's metrics are damaged: they are no object");
  for (const auto& [name, facts] : saved.items()) {
    const auto found = std::ranges::find(metrics, name, &NamedMetrics::value_type::first);
    if (found == metrics.end()) {
      left_over.push_back(shown(name));
      continue;
    }
    const std::string of = "the checkpoint's state of the metric \"" + name + "\"";
    MetricStates states = found->second->states();
    states.updates = StateReader(facts, of).count("updates", /*least=*/1);
    for (auto& state : states.states) {
      const auto* tensor = checkpoint.find(state_name(name, state.name));
      if (!tensor) throw UsageError(of + " lacks \"" + state.name + "\": was the metric changed?");
      state.value = *tensor;
    }
    try {
      found->second->load_states(states);
    } catch (const UsageError& error) {
      throw UsageError(of + " does not fit: " + error.what());
    }
  }
  return left_over;
}

void append_epoch_reductions(Checkpoint& checkpoint, const std::vector<EpochReduction>& reductions) {
  if (reductions.empty()) return;
  auto log = nlohmann::json::array();
  std::vector<double> totals;
  for (const auto& reduction : reductions) {
    nlohmann::json entry = {{"name", reduction.name},
                            {"reduce_fx", reduce_names[static_cast<std::size_t>(reduction.options.reduce_fx)]},
                            {"on_step", reduction.on_step},
                            {"prog_bar", reduction.options.prog_bar},
                            {"logger", reduction.options.logger}};
    if (!reduction.metric.empty()) entry["metric"] = reduction.metric;
    log.push_back(std::move(entry));
    totals.insert(totals.end(), {reduction.total, reduction.weight});
  }
  checkpoint.metadata["train_log"] = std::move(log);
  checkpoint.tensors.emplace_back(totals_name, torch::tensor(totals, torch::kFloat64).reshape({-1, 2}));
}

std::vector<EpochReduction> load_epoch_reductions(const Checkpoint& checkpoint) {
  const auto log = checkpoint.metadata.value("train_log", nlohmann::json::array());
  if (!log.is_array()) refuse_log("it is no array");
  if (log.empty()) return {};
  const auto* totals = checkpoint.find(totals_name);
  const auto count = static_cast<int64_t>(log.size());
  if (!totals || totals->scalar_type() != torch::kFloat64 || totals->sizes() != torch::IntArrayRef({count, 2})) {
    refuse_log(std::string(totals_name) + " is not a tensor of F64 [" + std::to_string(count) + ", 2]");
  }
  const auto saved_metrics = checkpoint.metadata.value("metrics", nlohmann::json::object());
  std::vector<EpochReduction> reductions;
  for (int64_t i = 0; i < count; ++i) {
    const StateReader entry(log[static_cast<std::size_t>(i)], "an entry of the checkpoint's train_log");
    EpochReduction reduction = reduction_of(entry);
    reduction.total = (*totals)[i][0].item<double>();
    reduction.weight = (*totals)[i][1].item<double>();
    if (!std::isfinite(reduction.weight) || reduction.weight <= 0) {
      refuse_log("the weight of " + shown(reduction.name) + " is not above 0");
    }
    if (entry.has("metric")) {
      reduction.metric = entry.text("metric");
      if (!saved_metrics.contains(reduction.metric)) continue;
    }
    reductions.push_back(std::move(reduction));
  }
  return reductions;
}

}  // namespace troupe
