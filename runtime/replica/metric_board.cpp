#include "troupe/runtime/replica/metric_board.hpp"

#include "troupe/base/text.hpp"
#include "troupe/modules/hook_order.hpp"
#include "troupe/modules/support/step_recorder.hpp"
#include "troupe/runtime/distributed/epoch_exchange.hpp"
#include "troupe/runtime/profile/thread_lane.hpp"

#include <algorithm>

namespace troupe {

void reset_metrics(const Module& module) {
  for (const auto& [name, metric] : module.metrics()) metric->reset();
}

void move_metrics(const Module& module, torch::Device device) {
  for (const auto& [name, metric] : module.metrics()) metric->to(device);
}

namespace {

// Where a value would go nowhere, or into the mean of an epoch that it is no part of.
bool is_outside_of_epochs(Hook hook) {
  const auto is_one_of = [hook](const auto& hooks) { return std::ranges::find(hooks, hook) != std::end(hooks); };
  return is_one_of(hook_order::before_devices) || is_one_of(hook_order::fit_start) ||
         is_one_of(hook_order::train_end) || is_one_of(hook_order::fit_end) || hook == Hook::teardown;
}

}  // namespace

void MetricBoard::set_origin(Hook hook, bool step_allowed, bool on_step, int64_t batch_size,
                             std::optional<int64_t> dataloader_idx) {
  core_.pulse.hook = hook;
  trace_hook(hook);
  is_closed_ = is_outside_of_epochs(hook);
  active_log().set_origin({to_string(hook), on_step, !on_step, step_allowed, batch_size, dataloader_idx});
}

void MetricBoard::check_is_open(std::string_view name) const {
  if (!is_closed_) return;
  throw UsageError("log(\"" + std::string(name) + "\") in " + core_.pulse.place() +
                   ": no epoch is under way that the value could belong to; log it in on_train_start or in a hook of an"
                   " epoch, or hand it to logger()");
}

void MetricBoard::log(std::string_view name, const torch::Tensor& value, const LogOptions& options) {
  check_is_open(name);
  StepRecorder* recorder = StepRecorder::current();
  if (!recorder) return active_log().log(name, value, options);
  const auto again = [this, name = std::string(name), options](const std::vector<torch::Tensor>& inputs) {
    log(name, inputs[0], options);
  };
  recorder->call_without_result("log(" + shown(name) + ")", {value}, again);
}

void MetricBoard::log(std::string_view name, double value, const LogOptions& options) {
  check_is_open(name);
  if (StepRecorder* recorder = StepRecorder::current()) {
    recorder->refuse("log(" + shown(name) +
                     ") is given a number of the host, which a replay has no new one of: give it a tensor");
  }
  active_log().log(name, value, options);
}

void MetricBoard::log(std::string_view name, Metric& metric, const LogOptions& options) {
  check_is_open(name);
  if (StepRecorder* recorder = StepRecorder::current()) {
    const auto again = [this, name = std::string(name), options, &metric](const std::vector<torch::Tensor>&) {
      log(name, metric, options);
    };
    return recorder->call_without_result("log(" + shown(name) + ", metric)", {}, again);
  }
  const auto& registered = core_.module->metrics();
  const auto found = std::ranges::find(registered, &metric, [](const auto& item) { return item.second.get(); });
  const auto refuse = [&](const std::string& why) { throw UsageError("log(\"" + std::string(name) + "\"): " + why); };
  if (found == registered.end()) {
    refuse("the " + metric.class_name() + " is not one of the module's: register_metric it in the constructor");
  }
  if ((evaluates_ ? train_log_ : eval_log_).holds(metric)) {
    refuse("the metric \"" + found->first +
           "\" is logged in training and in evaluation, where it would mix both: register one for each");
  }
  if (core_.shards && options.on_step.value_or(active_log().logs_steps())) {
    refuse(
        "on_step logs the value of the batch at hand, of which each device has seen a part: log it with on_step ="
        " false and on_epoch = true");
  }
  active_log().log(name, metric, options);
}

void MetricBoard::keep(const std::vector<LoggedValue>& values, ScalarsRecord* record) {
  if (discards_) return;
  for (const auto& value : values) {
    callback_metrics_[value.name] = value.value;
    if (value.base != value.name) callback_metrics_[value.base] = value.value;
    if (listener_) listener_(value);
    if (value.prog_bar) progress_bar_metrics_[value.name] = value.value;
    if (value.logger) logged_metrics_[value.name] = value.value;
    if (value.logger && value.fresh && record) record->values.emplace_back(value.name, value.value);
  }
}

bool MetricBoard::is_logged(int64_t step) const {
  const auto& options = core_.options();
  const int64_t every = options.log_every.empty() ? options.log_every_n_steps : 0;
  return logs_next_step_ || (every > 0 && step % every == 0);
}

void MetricBoard::end_of_batch(bool stepped) {
  const Progress& progress = core_.progress;
  const bool is_due = stepped && is_logged(progress.log_step);
  if (is_due) logs_next_step_ = false;
  if (!is_due && !wants_step_metrics_) return;
  const PhaseScope phase(Phase::logging);
  wants_step_metrics_ = false;
  ScalarsRecord record{record_step(progress), progress.epoch, {}};
  auto values = train_log_.take_step();
  if (is_due && core_.peers()) average_steps(*core_.peers(), values);
  keep(values, is_due ? &record : nullptr);
  if (record.values.empty()) return;
  if (curves_.place(record)) core_.outputs.record(std::move(record));
}

void MetricBoard::settle_step_metrics() {
  if (!train_log_.has_step_values()) return;
  const PhaseScope phase(Phase::logging);
  keep(train_log_.take_step(), nullptr);
}

// Epoch values join the record that is written at the end of the epoch's hooks; hooks in between see them as metrics.
std::vector<LoggedValue> MetricBoard::flush_epoch() {
  const PhaseScope phase(Phase::logging);
  LogStore& log = active_log();
  if (core_.peers()) {
    const During during(core_.pulse, "reducing metrics over ranks");
    log.set_epoch_reductions(exchanged(*core_.peers(), log.epoch_reductions(), saw_batches_), core_.module->metrics());
    saw_batches_ = false;
  }
  if (!log.has_epoch_values()) return {};
  std::vector<LoggedValue> values;
  {
    const During during(core_.pulse, "a logged metric's compute");
    values = log.take_epoch();
  }
  for (const auto& warning : log.take_warnings()) core_.outputs.note("warning: " + warning);
  keep(values, &epoch_record_);
  return values;
}

void MetricBoard::write_epoch_record() {
  // What a copy has logged is the training's to write, in its order.
  if (!epoch_record_.values.empty() && !core_.setup.validates_beside) {
    const PhaseScope phase(Phase::logging);
    epoch_record_.step = record_step(core_.progress);
    epoch_record_.epoch = core_.progress.epoch;
    if (curves_.place(epoch_record_)) core_.outputs.record(std::move(epoch_record_));
  }
  epoch_record_ = {};
}

// The latest batch's that stepped. An evaluation by itself stands behind the fit before it.
int64_t MetricBoard::record_step(const Progress& at) const {
  const int64_t log_step = at.log_step;
  if (core_.setup.stage != Stage::fit) return log_step;
  return log_step > 0 ? log_step - 1 : 0;
}

void MetricBoard::begin_evaluation(bool discards) {
  settle_step_metrics();
  evaluates_ = true;
  discards_ = discards;
  saw_training_batches_ = std::exchange(saw_batches_, false);
  updates_before_evaluation_.clear();
  for (const auto& [name, metric] : core_.module->metrics())
    updates_before_evaluation_.push_back(metric->update_count());
}

void MetricBoard::end_of_eval_batch(Stage stage) {
  const int64_t at = curves_.next_batch(stage);
  if (!eval_log_.has_step_values()) return;
  const PhaseScope phase(Phase::logging);
  ScalarsRecord record{at, /*epoch=*/-1, {}};
  keep(eval_log_.take_step(), &record);
  if (!record.values.empty()) core_.outputs.record(std::move(record));
}

void MetricBoard::take_validation(const ValidationResult& result) {
  const PhaseScope phase(Phase::logging);
  ScalarsRecord record{record_step(result.progress), result.progress.epoch, {}};
  keep(result.steps, nullptr);  // the copy has written them
  keep(result.epoch, &record);
  curves_.skip_batches(Stage::validate, result.batches);
  if (!record.values.empty() && curves_.place(record)) core_.outputs.record(std::move(record));
}

void MetricBoard::end_evaluation() {
  eval_log_.reset_metrics();
  evaluates_ = discards_ = false;
  saw_batches_ = saw_training_batches_;
}

}  // namespace troupe
