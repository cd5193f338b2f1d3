// The place of metrics in checkpoints.
#include "troupe/runtime/checkpoint/metric_state.hpp"
#include "troupe/runtime/checkpoint/progress_json.hpp"
#include "troupe/runtime/replica/metric_board.hpp"

namespace troupe {

nlohmann::json MetricBoard::latest() const {
  return {{"callback", metrics_to_json(callback_metrics_)},
          {"logged", metrics_to_json(logged_metrics_)},
          {"progress_bar", metrics_to_json(progress_bar_metrics_)}};
}

void MetricBoard::add_to_latest(nlohmann::json& latest, const ValidationResult& result) {
  for (const auto* values : {&result.steps, &result.epoch}) {
    for (const auto& value : *values) {
      latest["callback"][value.name] = latest["callback"][value.base] = metric_to_json(value.value);
      if (value.prog_bar) latest["progress_bar"][value.name] = metric_to_json(value.value);
      if (value.logger) latest["logged"][value.name] = metric_to_json(value.value);
    }
  }
}

void MetricBoard::load_latest(const nlohmann::json& state) {
  for (const auto& [name, map] : {std::pair("callback", &callback_metrics_), std::pair("logged", &logged_metrics_),
                                  std::pair("progress_bar", &progress_bar_metrics_)}) {
    *map = metrics_from_json(state.value(name, nlohmann::json()));
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
