// When a replica moves its schedulers on, and their state in a checkpoint.
#include "troupe/base/nearest.hpp"
#include "troupe/base/state_reader.hpp"
#include "troupe/base/text.hpp"
#include "troupe/base/type_name.hpp"
#include "troupe/runtime/replica/replica.hpp"

#include <algorithm>

namespace troupe {

namespace {

using Interval = LRSchedulerConfig::Interval;

std::string class_of(const LRScheduler& scheduler) {
  return full_type_name(typeid(scheduler));
}

[[noreturn]] void refuse(std::size_t i, const std::string& why) {
  throw UsageError("lr_scheduler " + std::to_string(i) + ": " + why);
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
    schedules_[i].has_news = false;  // what this epoch has logged is of no use to the next
  }
}

void Replica::note_news(const LoggedValue& value) {
  for (std::size_t i = 0; i < schedules_.size(); ++i) {
    const auto& monitor = optimizers_.lr_schedulers()[i].monitor;
    schedules_[i].has_news |= monitor == value.name || monitor == value.base;
  }
}

void Replica::step_scheduler(std::size_t i) {
  const auto& config = optimizers_.lr_schedulers()[i];
  std::optional<double> metric;
  if (config.scheduler->needs_metric()) {
    if (config.interval == Interval::step) settle_step_metrics();
    // Looking twice at one value would count it as no improvement.
    const auto latest = callback_metrics_.find(config.monitor);
    const bool has_news = std::exchange(schedules_[i].has_news, false);
    if (!has_news || latest == callback_metrics_.end()) return miss_metric(i);
    metric = latest->second;
  }
  const Hook before = current_hook_;
  current_hook_ = Hook::lr_scheduler_step;
  module_->lr_scheduler_step(*config.scheduler, static_cast<int64_t>(schedules_[i].optimizer), metric);
  current_hook_ = before;
}

// A scheduler is to look at a metric that has no new value: where it had one before that is all; where it has never had
// one and nothing can bring it any more, the name is a mistake.
void Replica::miss_metric(std::size_t i) {
  const auto& config = optimizers_.lr_schedulers()[i];
  if (callback_metrics_.contains(config.monitor)) return;
  const bool may_come = !setup_.eval_loaders.empty() && !was_validated_;
  const auto warn = [&](const std::string& text) {
    if (!std::exchange(schedules_[i].warned, true)) outputs_.note("warning: " + text);
  };
  if (may_come && (validation_was_empty_ || setup_.options.limit_val_batches.is_none())) {
    return warn("lr_scheduler " + std::to_string(i) + " monitors '" + shown(config.monitor) +
                "', which training does not log, and no batch is validated on: it stays where it is");
  }
  if (may_come) return;
  std::vector<std::string> names;
  for (const auto& [name, value] : callback_metrics_) names.push_back(name);
  const std::string text =
      "lr_scheduler " + std::to_string(i) + " monitors '" + shown(config.monitor) + "', which was not logged; " +
      (names.empty() ? "no metric was"
                     : "logged were: " + joined(names) + "; did you mean " + nearest(config.monitor, names) + "?");
  if (config.strict) throw UsageError(text);
  warn(text);
}

nlohmann::json Replica::schedulers_state() const {
  auto states = nlohmann::json::array();
  for (std::size_t i = 0; i < schedules_.size(); ++i) {
    const auto& scheduler = *optimizers_.lr_schedulers()[i].scheduler;
    states.push_back({{"class", class_of(scheduler)},
                      {"steps", schedules_[i].steps},
                      {"epoch", schedules_[i].epoch},
                      {"has_news", schedules_[i].has_news},
                      {"state", scheduler.state_dict()}});
  }
  return states;
}

void Replica::load_schedulers_state(const nlohmann::json& states) {
  if (!states.is_array()) throw CheckpointError("the checkpoint's lr_schedulers are damaged: they are not a list");
  if (states.size() != schedules_.size()) {
    throw UsageError("the checkpoint has " + std::to_string(states.size()) +
                     " lr_schedulers, configure_optimizers returned " + std::to_string(schedules_.size()));
  }
  for (std::size_t i = 0; i < states.size(); ++i) {
    const StateReader entry(states[i], "the checkpoint's lr_scheduler " + std::to_string(i));
    auto& scheduler = *optimizers_.lr_schedulers()[i].scheduler;
    const auto saved_class = entry.text("class");
    if (saved_class != class_of(scheduler)) {
      throw UsageError("lr_scheduler " + std::to_string(i) + " is a " + shown(saved_class) +
                       " in the checkpoint and a " + class_of(scheduler) + " here");
    }
    if (!entry.has("state")) entry.refuse("it has no state");
    schedules_[i].steps = entry.count("steps");
    schedules_[i].epoch = entry.count("epoch", -1);
    schedules_[i].has_news = entry.flag("has_news");
    scheduler.load_state_dict(states[i]["state"]);
  }
}

}  // namespace troupe
