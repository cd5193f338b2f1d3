#include "troupe/modules/callbacks/early_stopping.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/state_reader.hpp"
#include "troupe/base/text.hpp"
#include "troupe/modules/callbacks/state_key.hpp"

#include <charconv>
#include <cmath>

namespace troupe {

namespace {

EarlyStoppingOptions checked(EarlyStoppingOptions options) {
  const auto refuse = [](const std::string& why) { throw UsageError("EarlyStopping: " + why); };
  check_monitor("EarlyStopping", options.monitor);
  if (options.monitor.empty()) refuse("monitor is empty; name the metric to watch, for example val_loss");
  if (!std::isfinite(options.min_delta) || options.min_delta < 0) {
    refuse("min_delta = " + double_to_text(options.min_delta) + "; use a number of at least 0");
  }
  if (options.patience < 0) refuse("patience = " + std::to_string(options.patience) + "; use at least 0");
  if (options.stopping_threshold && std::isnan(*options.stopping_threshold)) {
    refuse("stopping_threshold = nan; use a number");
  }
  if (options.divergence_threshold && std::isnan(*options.divergence_threshold)) {
    refuse("divergence_threshold = nan; use a number");
  }
  return options;
}

// For people: six digits are enough.
std::string brief(double value) {
  char buffer[32];
  if (!std::isfinite(value)) return double_to_text(value);
  return {buffer, std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::general, 6).ptr};
}

}  // namespace

EarlyStopping::EarlyStopping(EarlyStoppingOptions options) : options_(checked(std::move(options))) {}

void EarlyStopping::start(const RunInfo& info) {
  has_validation_ = info.has_validation;
  sources_.start(info);
  has_news_ = false;
  best_score_.reset();
  wait_count_ = 0;
  stopped_epoch_.reset();
}

Decision EarlyStopping::decide(Moment moment, const Progress& progress, const MetricMap& metrics) {
  if (moment == Moment::sanity_check_end) return {};
  sources_.observe(moment, metrics);
  if (moment == Moment::validation_end) has_news_ = true;
  const auto value = metrics.find(options_.monitor);
  if (value == metrics.end()) {
    if (options_.strict && moment == Moment::train_epoch_end && sources_.are_complete()) {
      throw metric_not_logged("EarlyStopping's monitor", options_.monitor, metrics);
    }
    return {};
  }

  Decision decision;
  if (is_due(moment)) {
    has_news_ = false;
    decision.reason = check(value->second);
    decision.stop = !decision.reason.empty();
    decision.go_on = !decision.stop;
    stopped_epoch_ = decision.stop ? std::optional(progress.epoch) : std::nullopt;
  }
  if (moment == Moment::train_epoch_end) has_news_ = false;
  return decision;
}

bool EarlyStopping::is_due(Moment moment) const {
  const bool is_from_validation = sources_.is_from_validation(options_.monitor);
  if (is_from_validation && !has_news_) return false;
  const bool at_epoch_end = !has_validation_ || options_.check_on_train_epoch_end.value_or(!is_from_validation);
  return moment == (at_epoch_end ? Moment::train_epoch_end : Moment::validation_end);
}

std::string EarlyStopping::check(double value) {
  const std::string name = shown(options_.monitor);
  const std::string best = best_score_ ? "; best " + brief(*best_score_) : "";
  if (!std::isfinite(value) && options_.check_finite) return name + " = " + brief(value) + " is not finite" + best;
  if (options_.stopping_threshold && is_better(value, *options_.stopping_threshold)) {
    if (std::isfinite(value)) best_score_ = value;
    return name + " = " + brief(value) + " reached the stopping threshold " + brief(*options_.stopping_threshold);
  }
  if (options_.divergence_threshold && is_better(*options_.divergence_threshold, value)) {
    return name + " = " + brief(value) + " passed the divergence threshold " + brief(*options_.divergence_threshold) +
           best;
  }
  const double pessimistic =
      options_.mode == MonitorMode::min ? value + options_.min_delta : value - options_.min_delta;
  if (std::isfinite(value) && (!best_score_ || is_better(pessimistic, *best_score_))) {
    best_score_ = value;
    wait_count_ = 0;
    return "";
  }
  if (++wait_count_ < options_.patience) return "";
  if (!best_score_) return name + " was not finite for " + std::to_string(wait_count_) + " checks";
  const std::string by = options_.min_delta > 0 ? " by more than " + brief(options_.min_delta) : "";
  return name + " did not improve on " + brief(*best_score_) + by + " for " + std::to_string(wait_count_) +
         (wait_count_ == 1 ? " check" : " checks");
}

std::string EarlyStopping::state_key() const {
  const EarlyStoppingOptions usual;
  return StateKey("EarlyStopping{'monitor': '" + options_.monitor + "', 'mode': '" + name_of(options_.mode) + "'}")
      .add("min_delta", options_.min_delta, usual.min_delta)
      .add("patience", options_.patience, usual.patience)
      .add("check_finite", options_.check_finite, usual.check_finite)
      .add("stopping_threshold", options_.stopping_threshold, usual.stopping_threshold)
      .add("divergence_threshold", options_.divergence_threshold, usual.divergence_threshold)
      .add("check_on_train_epoch_end", options_.check_on_train_epoch_end, usual.check_on_train_epoch_end)
      .text();
}

nlohmann::json EarlyStopping::state_dict() const {
  return {{"wait_count", wait_count_},
          {"stopped_epoch", stopped_epoch_ ? nlohmann::json(*stopped_epoch_) : nullptr},
          {"best_score", best_score_ ? nlohmann::json(*best_score_) : nullptr},
          {"has_news", has_news_},
          {"sources", sources_.state_dict()},
          {"patience", options_.patience}};
}

void EarlyStopping::load_state_dict(const nlohmann::json& state) {
  const StateReader reader(state, "the checkpoint's state of " + shown(state_key()));
  const auto wait_count = reader.count("wait_count");
  const auto best_score = reader.optional_number("best_score");
  const auto stopped_epoch = reader.optional_count("stopped_epoch");
  const auto has_news = reader.flag("has_news");
  sources_.load_state_dict(reader.object("sources"));
  has_news_ = has_news;
  wait_count_ = wait_count;
  best_score_ = best_score;
  stopped_epoch_ = stopped_epoch;
}

}  // namespace troupe
