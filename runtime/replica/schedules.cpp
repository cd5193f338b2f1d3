// When a replica moves its schedulers on, and their state in a checkpoint.
#include "troupe/modules/nearest.hpp"
#include "troupe/modules/saved_count.hpp"
#include "troupe/runtime/replica/replica.hpp"

#include <c10/util/Type.h>

#include <algorithm>

namespace troupe {

namespace {

using Interval = LRSchedulerConfig::Interval;

std::string class_of(const LRScheduler& scheduler) {
  return c10::demangle(typeid(scheduler).name());
}

[[noreturn]] void refuse(std::size_t i, const std::string& why) {
  throw UsageError("lr_scheduler " + std::to_string(i) + ": " + why);
}

[[noreturn]] void refuse_state(const std::string& why) {
  throw UsageError("the checkpoint's lr_schedulers are damaged: " + why);
}

int64_t count_at(const nlohmann::json& entry, const char* key, int64_t least) {
  const auto found = entry.find(key);
  if (found == entry.end() || !is_saved_count(*found, least)) {
    refuse_state(std::string(key) + " is not a count");
  }
  return found->get<int64_t>();
}

}  // namespace

void Replica::check_schedulers() {
  const auto& configs = optimizers_.lr_schedulers();
  schedules_.clear();
  for (std::size_t i = 0; i < configs.size(); ++i) {
    const auto& config = configs[i];
    if (!config.scheduler) refuse(i, "it is null");
    if (config.frequency < 1) refuse(i, "frequency = " + std::to_string(config.frequency) + "; use at least 1");
    if (config.scheduler->needs_metric() && config.monitor.empty()) {
      refuse(i, "it looks at a metric; name it in LRSchedulerConfig::monitor");
    }
    const auto found = std::find(optimizers_.begin(), optimizers_.end(), config.scheduler->optimizer());
    if (found == optimizers_.end()) refuse(i, "its optimizer is none of those that configure_optimizers returned");
    schedules_.push_back({static_cast<std::size_t>(found - optimizers_.begin())});
  }
}

// After each step of an optimizer: those of its schedulers that count steps.
void Replica::step_step_schedulers(std::size_t optimizer) {
  for (std::size_t i = 0; i < schedules_.size(); ++i) {
    const auto& config = optimizers_.lr_schedulers()[i];
    if (config.interval != Interval::step || schedules_[i].optimizer != optimizer) continue;
    schedules_[i].steps += 1;
    if (schedules_[i].steps % config.frequency == 0) step_scheduler(i);
  }
}

// After the epoch's last batch; those that look at a metric after its end, when its metrics are there. A run that goes
// on from in between does it once.
void Replica::step_epoch_schedulers(bool with_metric) {
  if (!module_->automatic_optimization) return;
  for (std::size_t i = 0; i < schedules_.size(); ++i) {
    const auto& config = optimizers_.lr_schedulers()[i];
    if (config.interval != Interval::epoch || config.scheduler->needs_metric() != with_metric) continue;
    if (schedules_[i].epoch == progress_.epoch) continue;
    schedules_[i].epoch = progress_.epoch;
    if ((progress_.epoch + 1) % config.frequency == 0) step_scheduler(i);
  }
}

void Replica::step_scheduler(std::size_t i) {
  const auto& config = optimizers_.lr_schedulers()[i];
  std::optional<double> metric;
  if (config.scheduler->needs_metric()) {
    if (config.interval == Interval::step) settle_step_metrics();
    metric = monitored(i);
    if (!metric) return;
  }
  const Hook before = current_hook_;
  current_hook_ = Hook::lr_scheduler_step;
  module_->lr_scheduler_step(*config.scheduler, static_cast<int64_t>(schedules_[i].optimizer), metric);
  current_hook_ = before;
}

std::optional<double> Replica::monitored(std::size_t i) {
  const auto& config = optimizers_.lr_schedulers()[i];
  const auto found = callback_metrics_.find(config.monitor);
  if (found != callback_metrics_.end()) return found->second;
  std::string logged;
  std::vector<std::string> names;
  for (const auto& [name, value] : callback_metrics_) {
    logged += (logged.empty() ? "" : ", ") + name;
    names.push_back(name);
  }
  const std::string text =
      "lr_scheduler " + std::to_string(i) + " monitors '" + shown(config.monitor) + "', which was not logged; " +
      (names.empty() ? "no metric was"
                     : "logged were: " + logged + "; did you mean " + nearest(config.monitor, names) + "?");
  if (config.strict) throw UsageError(text);
  if (!std::exchange(schedules_[i].warned, true)) outputs_.note("warning: " + text);
  return std::nullopt;
}

nlohmann::json Replica::schedulers_state() const {
  auto states = nlohmann::json::array();
  for (std::size_t i = 0; i < schedules_.size(); ++i) {
    const auto& scheduler = *optimizers_.lr_schedulers()[i].scheduler;
    states.push_back({{"class", class_of(scheduler)},
                      {"steps", schedules_[i].steps},
                      {"epoch", schedules_[i].epoch},
                      {"state", scheduler.state_dict()}});
  }
  return states;
}

void Replica::load_schedulers_state(const nlohmann::json& states) {
  if (!states.is_array()) refuse_state("they are not a list");
  if (states.size() != schedules_.size()) {
    throw UsageError("the checkpoint has " + std::to_string(states.size()) +
                     " lr_schedulers, configure_optimizers returned " + std::to_string(schedules_.size()));
  }
  for (std::size_t i = 0; i < states.size(); ++i) {
    const auto& entry = states[i];
    auto& scheduler = *optimizers_.lr_schedulers()[i].scheduler;
    if (!entry.is_object() || !entry.contains("state") || !entry.contains("class") || !entry["class"].is_string()) {
      refuse_state("entry " + std::to_string(i) + " has no class or no state");
    }
    if (entry["class"] != class_of(scheduler)) {
      throw UsageError("lr_scheduler " + std::to_string(i) + " is a " + shown(entry["class"].get<std::string>()) +
                       " in the checkpoint and a " + class_of(scheduler) + " here");
    }
    schedules_[i].steps = count_at(entry, "steps", 0);
    schedules_[i].epoch = count_at(entry, "epoch", -1);
    scheduler.load_state_dict(entry["state"]);
  }
}

}  // namespace troupe
