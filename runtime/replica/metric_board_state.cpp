// The place of metrics in checkpoints.
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/metric_state.hpp"
#include "troupe/runtime/replica/metric_board.hpp"

#include <cmath>

namespace troupe {

namespace {

// JSON has no nan.
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

}  // namespace

nlohmann::json MetricBoard::latest() const {
  return {{"callback", latest_to_json(callback_metrics_)},
          {"logged", latest_to_json(logged_metrics_)},
          {"progress_bar", latest_to_json(progress_bar_metrics_)}};
}

void MetricBoard::load_latest(const nlohmann::json& state) {
  for (const auto& [name, map] : {std::pair("callback", &callback_metrics_), std::pair("logged", &logged_metrics_),
                                  std::pair("progress_bar", &progress_bar_metrics_)}) {
    *map = latest_from_json(state.value(name, nlohmann::json()));
  }
}

void MetricBoard::append_metrics(Checkpoint& checkpoint) const {
  const auto& registered = core_.module->metrics();
  for (std::size_t i = 0; i < registered.size(); ++i) {
    const auto& [name, metric] = registered[i];
    const bool is_of_evaluation = evaluates_ && (i >= updates_before_evaluation_.size() ||
                                                 updates_before_evaluation_[i] != metric->update_count());
    if (metric->update_count() > 0 && !is_of_evaluation) append_metric_state(checkpoint, name, metric->states());
  }
  append_epoch_reductions(checkpoint, train_log_.epoch_reductions());
}

void MetricBoard::restore_metrics(const Checkpoint& state) {
  const auto& registered = core_.module->metrics();
  for (const auto& name : load_metric_states(state, registered)) {
    core_.outputs.note("warning: the checkpoint has the state of a metric \"" + name +
                       "\", which the module does not register: it is left out");
  }
  train_log_.set_epoch_reductions(load_epoch_reductions(state), registered);
}

void MetricBoard::restore_metrics_of_all(const std::vector<Checkpoint>& states) {
  const auto& registered = core_.module->metrics();
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

}  // namespace troupe
