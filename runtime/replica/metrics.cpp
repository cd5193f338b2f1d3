// The metrics that the module has registered: whose they are, when they begin anew, and their place in checkpoints.
#include "troupe/runtime/checkpoint/metric_state.hpp"
#include "troupe/runtime/replica/replica.hpp"

#include <algorithm>

namespace troupe {

void Replica::log(std::string_view name, Metric& metric, const LogOptions& options) {
  const auto& registered = module_->metrics();
  const auto found = std::ranges::find(registered, &metric, [](const auto& item) { return item.second.get(); });
  const auto refuse = [&](const std::string& why) { throw UsageError("log(\"" + std::string(name) + "\"): " + why); };
  if (found == registered.end()) {
    refuse("the " + metric.class_name() + " is not one of the module's: register_metric it in the constructor");
  }
  if ((evaluating_ ? train_log_ : eval_log_).holds(metric)) {
    refuse("the metric \"" + found->first +
           "\" is logged in training and in evaluation, where it would mix both: register one for each");
  }
  if (part_report_) {
    return part_report_->log_metric(name, static_cast<std::size_t>(found - registered.begin()), options);
  }
  if (parts_ && options.on_step.value_or(active_log().logs_steps())) {
    refuse(
        "on_step logs the value of the batch at hand, of which each device has seen a part: log it with on_step ="
        " false and on_epoch = true");
  }
  active_log().log(name, metric, options);
}

void Replica::reset_metrics() {
  for (const auto& [name, metric] : module_->metrics()) metric->reset();
}

void Replica::move_metrics(torch::Device device) {
  for (const auto& [name, metric] : module_->metrics()) metric->to(device);
}

void Replica::count_updates() {
  updates_before_evaluation_.clear();
  for (const auto& [name, metric] : module_->metrics()) updates_before_evaluation_.push_back(metric->update_count());
}

// A run that goes on from here begins an evaluation anew, so what one has gathered so far is left out.
void Replica::append_metrics(Checkpoint& checkpoint) {
  collect_part_metrics();
  const auto& registered = module_->metrics();
  for (std::size_t i = 0; i < registered.size(); ++i) {
    const auto& [name, metric] = registered[i];
    const bool is_of_evaluation = evaluating_ && (i >= updates_before_evaluation_.size() ||
                                                  updates_before_evaluation_[i] != metric->update_count());
    if (metric->update_count() > 0 && !is_of_evaluation) append_metric_state(checkpoint, name, metric->states());
  }
  append_epoch_reductions(checkpoint, train_log_.epoch_reductions());
}

void Replica::restore_metrics(const Checkpoint& state) {
  const auto& registered = module_->metrics();
  for (const auto& name : load_metric_states(state, registered)) {
    outputs_.note("warning: the checkpoint has the state of a metric \"" + name +
                  "\", which the module does not register: it is left out");
  }
  train_log_.set_epoch_reductions(load_epoch_reductions(state), registered);
}

}  // namespace troupe
