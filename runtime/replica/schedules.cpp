#include "troupe/runtime/replica/schedules.hpp"

#include "troupe/base/nearest.hpp"
#include "troupe/base/state_reader.hpp"
#include "troupe/base/text.hpp"
#include "troupe/base/type_name.hpp"

#include <algorithm>

namespace troupe {

namespace {

std::string class_of(const LRScheduler& scheduler) {
  return full_type_name(typeid(scheduler));
}

[[noreturn]] void refuse_scheduler(std::size_t i, const std::string& why) {
  throw UsageError("lr_scheduler " + std::to_string(i) + ": " + why);
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
    if (config.interval != LRSchedulerConfig::Interval::step || schedules_[i].optimizer != optimizer) continue;
    schedules_[i].steps += 1;
    if (schedules_[i].steps % config.frequency == 0) step(i);
  }
}

void Schedules::after_epoch(bool with_metric) {
  if (!core_.module->automatic_optimization) return;
  for (std::size_t i = 0; i < schedules_.size(); ++i) {
    const auto& config = config_of(i);
    if (config.interval != LRSchedulerConfig::Interval::epoch || config.scheduler->needs_metric() != with_metric)
      continue;
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

void Schedules::refuse_late(const std::vector<LoggedValue>& values) const {
  for (std::size_t i = 0; i < schedules_.size(); ++i) {
    const auto& monitor = config_of(i).monitor;
    const bool is_late = config_of(i).scheduler->needs_metric() && std::ranges::any_of(values, [&](const auto& value) {
                           return monitor == value.name || monitor == value.base;
                         });
    if (!is_late) continue;
    refuse_scheduler(i, "it monitors '" + shown(monitor) +
                            "', which comes some time after its step with trainer.async_validation = true, so that no"
                            " two runs would train alike: use false, or a metric that training logs");
  }
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
    if (config.interval == LRSchedulerConfig::Interval::step) board_.settle_step_metrics();
    // Looking twice at one value would count it as no improvement.
    const auto latest = board_.callback_metrics().find(config.monitor);
    const bool has_news = std::exchange(schedules_[i].has_news, false);
    if (!has_news || latest == board_.callback_metrics().end()) return miss_metric(i);
    metric = latest->second;
  }
  const Hook before = core_.pulse.hook;
  core_.pulse.hook = Hook::lr_scheduler_step;
  const PhaseScope phase(id_of(module_owner, Hook::lr_scheduler_step));
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
  std::vector<std::string> names;
  for (const auto& [name, value] : board_.callback_metrics()) names.push_back(name);
  const std::string text =
      "lr_scheduler " + std::to_string(i) + " monitors '" + shown(config.monitor) + "', which was not logged; " +
      (names.empty() ? "no metric was"
                     : "logged were: " + joined(names) + "; did you mean " + nearest(config.monitor, names) + "?");
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
  if (!states.is_array()) throw CheckpointError("the checkpoint's lr_schedulers are damaged: they are not a list");
  if (states.size() != schedules_.size()) {
    throw UsageError("the checkpoint has " + std::to_string(states.size()) +
                     " lr_schedulers, configure_optimizers returned " + std::to_string(schedules_.size()));
  }
  for (std::size_t i = 0; i < states.size(); ++i) {
    const StateReader entry(states[i], "the checkpoint's lr_scheduler " + std::to_string(i));
    auto& scheduler = *config_of(i).scheduler;
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
