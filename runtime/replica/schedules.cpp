#include "troupe/runtime/replica/schedules.hpp"

#include "troupe/base/nearest.hpp"
#include "troupe/base/saved_count.hpp"
#include "troupe/base/text.hpp"

#include <c10/util/Type.h>

#include <algorithm>

namespace troupe {

namespace {

using Interval = LRSchedulerConfig::Interval;

std::string class_of(const LRScheduler& scheduler) {
  return c10::demangle(typeid(scheduler).name());
}

[[noreturn]] void refuse_scheduler(std::size_t i, const std::string& why) {
  throw UsageError("lr_scheduler " + std::to_string(i) + ": " + why);
}

[[noreturn]] void refuse_schedules_state(const std::string& why) {
  throw UsageError("the checkpoint's lr_schedulers are damaged: " + why);
}

int64_t schedule_count_at(const nlohmann::json& entry, const char* key, int64_t least) {
  const auto found = entry.find(key);
  if (found == entry.end() || !is_saved_count(*found, least)) {
    refuse_schedules_state(std::string(key) + " is not a count");
  }
  return found->get<int64_t>();
}

}  // namespace

Schedules::Schedules(ReplicaCore& core, MetricBoard& board) : core_(core), board_(board) {
  board_.on_kept([this](const LoggedValue& value) { note_news(value); });
}

void Schedules::configure() {
  const auto& configs = core_.optimizers.lr_schedulers();
  schedules_.clear();
  for (std::size_t i = 0; i < configs.size(); ++i) {
    const auto& config = configs[i];
    if (!config.scheduler) refuse_scheduler(i, "it is null");
    if (config.frequency < 1)
      refuse_scheduler(i, "frequency = " + std::to_string(config.frequency) + "; use at least 1");
    if (config.scheduler->needs_metric() && config.monitor.empty()) {
      refuse_scheduler(i, "it looks at a metric; name it in LRSchedulerConfig::monitor");
    }
    const auto found = std::find(core_.optimizers.begin(), core_.optimizers.end(), config.scheduler->optimizer());
    if (found == core_.optimizers.end())
      refuse_scheduler(i, "its optimizer is none of those that configure_optimizers returned");
    schedules_.push_back({static_cast<std::size_t>(found - core_.optimizers.begin())});
  }
}

void Schedules::after_step(std::size_t optimizer) {
  for (std::size_t i = 0; i < schedules_.size(); ++i) {
    const auto& config = config_of(i);
    if (config.interval != Interval::step || schedules_[i].optimizer != optimizer) continue;
    schedules_[i].steps += 1;
    if (schedules_[i].steps % config.frequency == 0) step(i);
  }
}

void Schedules::after_epoch(bool with_metric) {
  if (!core_.module->automatic_optimization) return;
  for (std::size_t i = 0; i < schedules_.size(); ++i) {
    const auto& config = config_of(i);
    if (config.interval != Interval::epoch || config.scheduler->needs_metric() != with_metric) continue;
    if (schedules_[i].epoch == core_.progress.epoch) continue;
    schedules_[i].epoch = core_.progress.epoch;
    if ((core_.progress.epoch + 1) % config.frequency == 0) step(i);
    schedules_[i].has_news = false;  // what this epoch has logged is of no use to the next
  }
}

void Schedules::note_validation(bool had_batches) {
  was_validated_ |= had_batches;
  validation_was_empty_ |= !had_batches;
}

void Schedules::note_news(const LoggedValue& value) {
  for (std::size_t i = 0; i < schedules_.size(); ++i) {
    const auto& monitor = config_of(i).monitor;
    schedules_[i].has_news |= monitor == value.name || monitor == value.base;
  }
}

void Schedules::step(std::size_t i) {
  const auto& config = config_of(i);
  std::optional<double> metric;
  if (config.scheduler->needs_metric()) {
    if (config.interval == Interval::step) board_.settle_step_metrics();
    // Looking twice at one value would count it as no improvement.
    const auto latest = board_.callback_metrics().find(config.monitor);
    const bool has_news = std::exchange(schedules_[i].has_news, false);
    if (!has_news || latest == board_.callback_metrics().end()) return miss_metric(i);
    metric = latest->second;
  }
  const Hook before = core_.pulse.hook;
  core_.pulse.hook = Hook::lr_scheduler_step;
  core_.module->lr_scheduler_step(*config.scheduler, static_cast<int64_t>(schedules_[i].optimizer), metric);
  core_.pulse.hook = before;
}

// A scheduler is to look at a metric that has no new value: where it had one before that is all; where it has never had
// one and nothing can bring it any more, the name is a mistake.
void Schedules::miss_metric(std::size_t i) {
  const auto& config = config_of(i);
  if (board_.callback_metrics().contains(config.monitor)) return;
  const bool may_come = !core_.setup.eval_loaders.empty() && !was_validated_;
  const auto warn = [&](const std::string& text) {
    if (!std::exchange(schedules_[i].warned, true)) core_.outputs.note("warning: " + text);
  };
  if (may_come && (validation_was_empty_ || core_.options().limit_val_batches.is_none())) {
    return warn("lr_scheduler " + std::to_string(i) + " monitors '" + shown(config.monitor) +
                "', which training does not log, and no batch is validated on: it stays where it is");
  }
  if (may_come) return;
  std::string logged;
  std::vector<std::string> names;
  for (const auto& [name, value] : board_.callback_metrics()) {
    logged += (logged.empty() ? "" : ", ") + name;
    names.push_back(name);
  }
  const std::string text =
      "lr_scheduler " + std::to_string(i) + " monitors '" + shown(config.monitor) + "', which was not logged; " +
      (names.empty() ? "no metric was"
                     : "logged were: " + logged + "; did you mean " + nearest(config.monitor, names) + "?");
  if (config.strict) throw UsageError(text);
  warn(text);
}

nlohmann::json Schedules::state_dict() const {
  auto states = nlohmann::json::array();
  for (std::size_t i = 0; i < schedules_.size(); ++i) {
    const auto& scheduler = *config_of(i).scheduler;
    states.push_back({{"class", class_of(scheduler)},
                      {"steps", schedules_[i].steps},
                      {"epoch", schedules_[i].epoch},
                      {"has_news", schedules_[i].has_news},
                      {"state", scheduler.state_dict()}});
  }
  return states;
}

void Schedules::load_state_dict(const nlohmann::json& states) {
  if (!states.is_array()) refuse_schedules_state("they are not a list");
  if (states.size() != schedules_.size()) {
    throw UsageError("the checkpoint has " + std::to_string(states.size()) +
                     " lr_schedulers, configure_optimizers returned " + std::to_string(schedules_.size()));
  }
  for (std::size_t i = 0; i < states.size(); ++i) {
    const auto& entry = states[i];
    auto& scheduler = *config_of(i).scheduler;
    if (!entry.is_object() || !entry.contains("state") || !entry.contains("class") || !entry["class"].is_string()) {
      refuse_schedules_state("entry " + std::to_string(i) + " has no class or no state");
    }
    if (entry["class"] != class_of(scheduler)) {
      throw UsageError("lr_scheduler " + std::to_string(i) + " is a " + shown(entry["class"].get<std::string>()) +
                       " in the checkpoint and a " + class_of(scheduler) + " here");
    }
    schedules_[i].steps = schedule_count_at(entry, "steps", 0);
    schedules_[i].epoch = schedule_count_at(entry, "epoch", -1);
    const auto news = entry.find("has_news");  // older files have none
    if (news != entry.end() && !news->is_boolean()) refuse_schedules_state("has_news is neither true nor false");
    schedules_[i].has_news = news != entry.end() && news->get<bool>();
    scheduler.load_state_dict(entry["state"]);
  }
}

}  // namespace troupe
