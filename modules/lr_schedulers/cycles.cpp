#include "troupe/modules/lr_schedulers/cycles.hpp"

#include "troupe/base/number_text.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace troupe::lr_schedulers {

namespace {

constexpr double pi = std::numbers::pi;

class WarmRestarts final : public Schedule {
 public:
  WarmRestarts(Optimizer optimizer, CosineAnnealingWarmRestartsOptions options)
      : Schedule(std::move(optimizer), "cosine_annealing_warm_restarts"), options_(options), length_(options.T_0) {
    require(options.T_0 >= 1, "T_0 = " + std::to_string(options.T_0) + "; use at least 1");
    require(options.T_mult >= 1, "T_mult = " + std::to_string(options.T_mult) + "; use at least 1");
    begin();
  }

 protected:
  double rate(std::size_t group, double) const override {
    const auto at = static_cast<double>(position_), length = static_cast<double>(length_);
    return options_.eta_min + (base_lrs()[group] - options_.eta_min) * (1 + std::cos(pi * at / length)) / 2;
  }
  bool moves_later_groups() const override { return false; }
  void advance() override {
    Schedule::advance();
    // As part of a sequence its constructor's step is taken back: then this one is the first.
    if (last_epoch_ <= 0) return restart();
    if (++position_ < length_) return;
    position_ %= length_;
    if (__builtin_mul_overflow(length_, options_.T_mult, &length_)) length_ = std::numeric_limits<int64_t>::max();
  }
  void restart() override {
    Schedule::restart();
    position_ = 0;
    length_ = options_.T_0;
  }
  void save(nlohmann::json& state) const override {
    state["T_cur"] = position_;
    state["T_i"] = length_;
  }
  void load(const StateReader& state) override {
    const auto position = state.count("T_cur"), length = state.count("T_i", /*least=*/1);
    require(position < length, "the checkpoint's T_cur and T_i do not fit together");
    position_ = position;
    length_ = length;
  }

 private:
  CosineAnnealingWarmRestartsOptions options_;
  int64_t position_ = 0;  // PyTorch's T_cur
  int64_t length_;        // T_i
};

// What the two that cycle the momentum share: it moves whenever the epoch does.
class Cycling : public Schedule {
 protected:
  using Schedule::Schedule;

  bool moves_later_groups() const override { return false; }
  void advance() override {
    Schedule::advance();
    set_momenta();
  }
  void restart() override {
    Schedule::restart();
    set_momenta();
  }
  /// Between its two bounds, at last_epoch().
  virtual double momentum(double lowest, double highest) const = 0;

  void begin_momentum(bool cycles, const std::vector<double>& base, const std::vector<double>& max) {
    if (!cycles) return;
    auto& groups = optimizer()->param_groups();
    base_momentum_ = for_groups("base_momentum", base);
    max_momentum_ = for_groups("max_momentum", max);
    for (std::size_t i = 0; i < groups.size(); ++i) {
      require(momentum_of(groups[i]).has_value(),
              "cycle_momentum needs an optimizer with a momentum or betas; set it to false");
      set_momentum(groups[i], max_momentum_[i]);
    }
  }

 private:
  void set_momenta() {
    auto& groups = optimizer()->param_groups();
    for (std::size_t i = 0; i < std::min(groups.size(), max_momentum_.size()); ++i) {
      set_momentum(groups[i], momentum(base_momentum_[i], max_momentum_[i]));
    }
  }

  std::vector<double> base_momentum_, max_momentum_;  // empty: the momentum stays
};

class CyclicLR final : public Cycling {
 public:
  CyclicLR(Optimizer optimizer, CyclicOptions options)
      : Cycling(std::move(optimizer), "cyclic"), options_(std::move(options)) {
    require(!options_.base_lr.empty() && !options_.max_lr.empty(), "base_lr and max_lr must be given");
    require(options_.step_size_up >= 1, "step_size_up = " + std::to_string(options_.step_size_up) + "; use at least 1");
    const auto down = options_.step_size_down.value_or(options_.step_size_up);
    require(down >= 1, "step_size_down = " + std::to_string(down) + "; use at least 1");
    if (!options_.scale_fn) {
      options_.scale_mode = options_.mode == CyclicMode::exp_range ? CyclicScale::iterations : CyclicScale::cycle;
    }
    total_ = static_cast<double>(options_.step_size_up + down);
    ratio_ = static_cast<double>(options_.step_size_up) / total_;
    max_lrs_ = for_groups("max_lr", options_.max_lr);
    const auto base = for_groups("base_lr", options_.base_lr);
    set_rates(base);
    begin_momentum(options_.cycle_momentum, options_.base_momentum, options_.max_momentum);
    // PyTorch's order: an optimizer that had a scheduler before is at its first rate until the first step.
    begin();
    set_base_lrs(base);
  }

 protected:
  double rate(std::size_t group, double) const override {
    return base_lrs()[group] + (max_lrs_[group] - base_lrs()[group]) * share() * scale();
  }
  double momentum(double lowest, double highest) const override {
    return highest - (highest - lowest) * share() * scale();
  }

 private:
  double cycle() const { return std::floor(1 + static_cast<double>(last_epoch_) / total_); }
  double share() const {
    const double x = 1.0 + static_cast<double>(last_epoch_) / total_ - cycle();
    return x <= ratio_ ? x / ratio_ : (x - 1) / (ratio_ - 1);
  }
  double scale() const {
    const double x = options_.scale_mode == CyclicScale::cycle ? cycle() : static_cast<double>(last_epoch_);
    if (options_.scale_fn) return options_.scale_fn(x);
    if (options_.mode == CyclicMode::triangular2) return 1 / std::pow(2.0, x - 1);
    return options_.mode == CyclicMode::exp_range ? std::pow(options_.gamma, x) : 1.0;
  }

  CyclicOptions options_;
  double total_ = 0, ratio_ = 0;
  std::vector<double> max_lrs_;
};

class OneCycleLR final : public Cycling {
 public:
  OneCycleLR(Optimizer optimizer, OneCycleOptions options)
      : Cycling(std::move(optimizer), "one_cycle"), options_(std::move(options)) {
    require(!options_.max_lr.empty(), "max_lr must be given");
    if (options_.total_steps == 0 && options_.epochs >= 1 && options_.steps_per_epoch >= 1) {
      require(!__builtin_mul_overflow(options_.epochs, options_.steps_per_epoch, &options_.total_steps),
              "epochs * steps_per_epoch is too large");
    }
    require(options_.total_steps >= 1,
            "total_steps = " + std::to_string(options_.total_steps) + "; give it, or epochs and steps_per_epoch");
    require(options_.pct_start >= 0 && options_.pct_start <= 1,
            "pct_start = " + double_to_text(options_.pct_start) + " is not in [0, 1]");
    require(options_.div_factor > 0 && options_.final_div_factor > 0,
            "div_factor and final_div_factor must be above 0");
    max_lrs_ = for_groups("max_lr", options_.max_lr);
    auto first = max_lrs_;
    for (double& lr : first) lr /= options_.div_factor;
    set_first_rates(first);
    begin_momentum(options_.cycle_momentum, options_.base_momentum, options_.max_momentum);
    begin();
  }

 protected:
  double rate(std::size_t group, double) const override {
    const double first = base_lrs()[group], highest = max_lrs_[group], last = first / options_.final_div_factor;
    const auto [phase, share] = place();
    if (phase == 0) return between(first, highest, share);
    if (phase == 2) return between(first, last, share);
    return between(highest, options_.three_phase ? first : last, share);
  }
  void advance() override {
    require(last_epoch_ < options_.total_steps,
            "step " + std::to_string(last_epoch_ + 1) +
                " of a cycle of total_steps = " + std::to_string(options_.total_steps));
    Cycling::advance();
  }
  double momentum(double lowest, double highest) const override {
    const auto [phase, share] = place();
    if (phase == 2) return highest;
    return phase == 0 ? between(highest, lowest, share) : between(lowest, highest, share);
  }

 private:
  struct Place {
    int phase;
    double share;
  };
  Place place() const {
    const auto total = static_cast<double>(options_.total_steps), at = static_cast<double>(last_epoch_);
    std::vector<double> ends = {options_.pct_start * total - 1};
    if (options_.three_phase) ends.push_back(2 * options_.pct_start * total - 2);
    ends.push_back(total - 1);
    double start = 0;
    for (std::size_t i = 0;; ++i) {
      if (at <= ends[i] || i + 1 == ends.size()) {
        // A phase without a step, where PyTorch divides by zero, is at its end.
        const double length = ends[i] - start;
        return {static_cast<int>(i), length == 0 ? 1 : (at - start) / length};
      }
      start = ends[i];
    }
  }
  double between(double start, double end, double share) const {
    if (options_.anneal_strategy == AnnealStrategy::linear) return (end - start) * share + start;
    return end + (start - end) / 2.0 * (std::cos(pi * share) + 1);
  }

  OneCycleOptions options_;
  std::vector<double> max_lrs_;
};

}  // namespace

std::shared_ptr<Schedule> cosine_annealing_warm_restarts(Optimizer optimizer,
                                                         CosineAnnealingWarmRestartsOptions options) {
  return std::make_shared<WarmRestarts>(std::move(optimizer), options);
}
std::shared_ptr<Schedule> cyclic(Optimizer optimizer, CyclicOptions options) {
  return std::make_shared<CyclicLR>(std::move(optimizer), std::move(options));
}
std::shared_ptr<Schedule> one_cycle(Optimizer optimizer, OneCycleOptions options) {
  return std::make_shared<OneCycleLR>(std::move(optimizer), std::move(options));
}

}  // namespace troupe::lr_schedulers
