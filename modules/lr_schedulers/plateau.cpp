#include "troupe/modules/lr_schedulers/plateau.hpp"

#include "troupe/base/number_text.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace troupe::lr_schedulers {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

[[noreturn]] void refuse(const std::string& why) {
  throw UsageError("lr_schedulers::reduce_on_plateau: " + why);
}

}  // namespace

ReduceOnPlateau::ReduceOnPlateau(Optimizer optimizer, ReduceOnPlateauOptions options)
    : LRScheduler(std::move(optimizer)), options_(std::move(options)) {
  if (!this->optimizer()) refuse("the optimizer is null");
  if (!(options_.factor < 1)) refuse("factor = " + double_to_text(options_.factor) + " is not below 1");
  if (options_.patience < 0) refuse("patience = " + std::to_string(options_.patience) + "; use at least 0");
  if (options_.cooldown < 0) refuse("cooldown = " + std::to_string(options_.cooldown) + "; use at least 0");
  const auto groups = this->optimizer()->param_groups().size();
  if (options_.min_lr.size() == 1) options_.min_lr.resize(groups, options_.min_lr.front());
  if (options_.min_lr.size() != groups) {
    refuse("min_lr has " + std::to_string(options_.min_lr.size()) + " values, the optimizer has " +
           std::to_string(groups) + " groups");
  }
  best_ = options_.mode == MonitorMode::min ? infinity : -infinity;
}

bool ReduceOnPlateau::is_better(double metric) const {
  const bool falls = options_.mode == MonitorMode::min;
  const double threshold = options_.threshold;
  if (options_.threshold_mode == ThresholdMode::rel) {
    return falls ? metric < best_ * (1.0 - threshold) : metric > best_ * (threshold + 1.0);
  }
  return falls ? metric < best_ - threshold : metric > best_ + threshold;
}

void ReduceOnPlateau::step() {
  refuse("it looks at a metric: use step(metric), or LRSchedulerConfig::monitor");
}

void ReduceOnPlateau::step(double metric) {
  ++last_epoch_;
  if (is_better(metric)) {
    best_ = metric;
    bad_steps_ = 0;
  } else {
    ++bad_steps_;
  }
  if (cooling_ > 0) {
    --cooling_;
    bad_steps_ = 0;
  }
  if (bad_steps_ <= options_.patience) return;
  reduce();
  cooling_ = options_.cooldown;
  bad_steps_ = 0;
}

void ReduceOnPlateau::reduce() {
  auto& groups = optimizer()->param_groups();
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const double old = groups[i].options().get_lr();
    const double rate = std::max(old * options_.factor, options_.min_lr[std::min(i, options_.min_lr.size() - 1)]);
    if (old - rate > options_.eps) groups[i].options().set_lr(rate);
  }
}

nlohmann::json ReduceOnPlateau::state_dict() const {
  // JSON has no infinity: without a best value there was none yet.
  return {{"best", std::isfinite(best_) ? nlohmann::json(best_) : nullptr},
          {"num_bad_epochs", bad_steps_},
          {"cooldown_counter", cooling_},
          {"last_epoch", last_epoch_}};
}

void ReduceOnPlateau::load_state_dict(const nlohmann::json& state) {
  const StateReader reader(state, what_a_state_is);
  const auto best = reader.optional_number("best");
  const auto bad = reader.count("num_bad_epochs"), cooling = reader.count("cooldown_counter"),
             epoch = reader.count("last_epoch");
  best_ = best.value_or(options_.mode == MonitorMode::min ? infinity : -infinity);
  bad_steps_ = bad;
  cooling_ = cooling;
  last_epoch_ = epoch;
}

std::shared_ptr<ReduceOnPlateau> reduce_on_plateau(Optimizer optimizer, ReduceOnPlateauOptions options) {
  return std::make_shared<ReduceOnPlateau>(std::move(optimizer), std::move(options));
}

}  // namespace troupe::lr_schedulers
