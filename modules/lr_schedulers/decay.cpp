#include "troupe/modules/lr_schedulers/decay.hpp"

#include "troupe/base/number_text.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace troupe::lr_schedulers {

namespace {

// The recursive forms are PyTorch's, so that the rates agree to the last bit and other changes of a rate last.

class Functions : public Schedule {
 protected:
  Functions(Optimizer optimizer, const char* name, std::vector<Factor> factors)
      : Schedule(std::move(optimizer), name), factors_(std::move(factors)) {
    if (factors_.size() == 1) factors_.resize(group_count(), factors_.front());
    require(factors_.size() == group_count(), std::to_string(factors_.size()) + " functions for " +
                                                  std::to_string(group_count()) + " groups; give one, or one each");
    for (const auto& factor : factors_) require(static_cast<bool>(factor), "a function is empty");
  }
  bool moves_later_groups() const override { return false; }
  std::vector<Factor> factors_;
};

class LambdaLR final : public Functions {
 public:
  LambdaLR(Optimizer optimizer, std::vector<Factor> factors)
      : Functions(std::move(optimizer), "lambda", std::move(factors)) {
    begin();
  }

 protected:
  double rate(std::size_t group, double) const override { return base_lrs()[group] * factors_[group](last_epoch_); }
};

class MultiplicativeLR final : public Functions {
 public:
  MultiplicativeLR(Optimizer optimizer, std::vector<Factor> factors)
      : Functions(std::move(optimizer), "multiplicative", std::move(factors)) {
    begin();
  }

 protected:
  double rate(std::size_t group, double lr) const override {
    return is_initial() ? lr : lr * factors_[group](last_epoch_);
  }
};

class StepLR final : public Schedule {
 public:
  StepLR(Optimizer optimizer, StepOptions options) : Schedule(std::move(optimizer), "step"), options_(options) {
    require(options.step_size >= 1, "step_size = " + std::to_string(options.step_size) + "; use at least 1");
    begin();
  }

 protected:
  double rate(std::size_t, double lr) const override {
    return last_epoch_ == 0 || last_epoch_ % options_.step_size != 0 ? lr : lr * options_.gamma;
  }
  std::optional<double> closed_form(std::size_t group) const override {
    return base_lrs()[group] * std::pow(options_.gamma, last_epoch_ / options_.step_size);
  }

 private:
  StepOptions options_;
};

class MultiStepLR final : public Schedule {
 public:
  MultiStepLR(Optimizer optimizer, MultiStepOptions options)
      : Schedule(std::move(optimizer), "multi_step"), options_(std::move(options)) {
    std::ranges::sort(options_.milestones);
    begin();
  }

 protected:
  double rate(std::size_t, double lr) const override {
    const auto times = std::ranges::count(options_.milestones, last_epoch_);
    return times == 0 ? lr : lr * std::pow(options_.gamma, times);
  }
  std::optional<double> closed_form(std::size_t group) const override {
    const auto passed = std::ranges::upper_bound(options_.milestones, last_epoch_) - options_.milestones.begin();
    return base_lrs()[group] * std::pow(options_.gamma, passed);
  }

 private:
  MultiStepOptions options_;
};

class ConstantLR final : public Schedule {
 public:
  ConstantLR(Optimizer optimizer, ConstantOptions options)
      : Schedule(std::move(optimizer), "constant"), options_(options) {
    require(options.factor >= 0 && options.factor <= 1,
            "factor = " + double_to_text(options.factor) + " is not in [0, 1]");
    begin();
  }

 protected:
  double rate(std::size_t group, double lr) const override {
    if (last_epoch_ == 0) return lr * options_.factor;
    if (last_epoch_ != options_.total_iters) return lr;
    // PyTorch divides by a factor of 0 here and stops.
    if (options_.factor == 0) return group < group_count() ? base_lrs()[group] : lr;
    return lr * (1.0 / options_.factor);
  }
  std::optional<double> closed_form(std::size_t group) const override {
    return base_lrs()[group] *
           (options_.factor + (last_epoch_ >= options_.total_iters ? 1.0 : 0.0) * (1 - options_.factor));
  }

 private:
  ConstantOptions options_;
};

class LinearLR final : public Schedule {
 public:
  LinearLR(Optimizer optimizer, LinearOptions options) : Schedule(std::move(optimizer), "linear"), options_(options) {
    require(options.start_factor > 0 && options.start_factor <= 1,
            "start_factor = " + double_to_text(options.start_factor) + " is not in (0, 1]");
    require(options.end_factor >= 0 && options.end_factor <= 1,
            "end_factor = " + double_to_text(options.end_factor) + " is not in [0, 1]");
    require(options.total_iters >= 0, "total_iters = " + std::to_string(options.total_iters) + "; use at least 0");
    begin();
  }

 protected:
  double rate(std::size_t, double lr) const override {
    const auto& [start, end, total] = options_;
    if (last_epoch_ == 0) return lr * start;
    if (last_epoch_ > total) return lr;
    const auto at = static_cast<double>(last_epoch_), all = static_cast<double>(total);
    return lr * (1.0 + (end - start) / (all * start + (at - 1) * (end - start)));
  }
  std::optional<double> closed_form(std::size_t group) const override {
    const auto& [start, end, total] = options_;
    if (total == 0) return base_lrs()[group] * start;
    return base_lrs()[group] *
           (start + (end - start) * static_cast<double>(std::min(total, last_epoch_)) / static_cast<double>(total));
  }

 private:
  LinearOptions options_;
};

class ExponentialLR final : public Schedule {
 public:
  ExponentialLR(Optimizer optimizer, ExponentialOptions options)
      : Schedule(std::move(optimizer), "exponential"), options_(options) {
    begin();
  }

 protected:
  double rate(std::size_t, double lr) const override { return is_initial() ? lr : lr * options_.gamma; }
  std::optional<double> closed_form(std::size_t group) const override {
    return base_lrs()[group] * std::pow(options_.gamma, last_epoch_);
  }

 private:
  ExponentialOptions options_;
};

class PolynomialLR final : public Schedule {
 public:
  PolynomialLR(Optimizer optimizer, PolynomialOptions options)
      : Schedule(std::move(optimizer), "polynomial"), options_(options) {
    require(options.total_iters >= 1, "total_iters = " + std::to_string(options.total_iters) + "; use at least 1");
    begin();
  }

 protected:
  double rate(std::size_t, double lr) const override {
    if (is_initial() || last_epoch_ > options_.total_iters) return lr;
    const auto at = static_cast<double>(last_epoch_), all = static_cast<double>(options_.total_iters);
    return lr * std::pow((1.0 - at / all) / (1.0 - (at - 1) / all), options_.power);
  }
  std::optional<double> closed_form(std::size_t group) const override {
    const auto at = static_cast<double>(std::min(options_.total_iters, last_epoch_));
    return base_lrs()[group] * std::pow(1.0 - at / static_cast<double>(options_.total_iters), options_.power);
  }

 private:
  PolynomialOptions options_;
};

class CosineAnnealingLR final : public Schedule {
 public:
  CosineAnnealingLR(Optimizer optimizer, CosineAnnealingOptions options)
      : Schedule(std::move(optimizer), "cosine_annealing"), options_(options) {
    require(options.T_max >= 1, "T_max = " + std::to_string(options.T_max) + "; use at least 1");
    begin();
  }

 protected:
  double rate(std::size_t group, double lr) const override {
    const auto& [T_max, eta_min] = options_;
    if (is_initial()) return lr;
    constexpr double pi = std::numbers::pi;
    const auto at = static_cast<double>(last_epoch_), half = static_cast<double>(T_max);
    if ((last_epoch_ - 1 - T_max) % (2 * T_max) == 0) {
      return lr + (base_lrs()[group] - eta_min) * (1 - std::cos(pi / half)) / 2;
    }
    return (1 + std::cos(pi * at / half)) / (1 + std::cos(pi * (at - 1) / half)) * (lr - eta_min) + eta_min;
  }
  std::optional<double> closed_form(std::size_t group) const override {
    const auto& [T_max, eta_min] = options_;
    const double angle = std::numbers::pi * static_cast<double>(last_epoch_) / static_cast<double>(T_max);
    return eta_min + (base_lrs()[group] - eta_min) * (1 + std::cos(angle)) / 2;
  }
  bool moves_later_groups() const override { return false; }

 private:
  CosineAnnealingOptions options_;
};

}  // namespace

std::shared_ptr<Schedule> lambda(Optimizer optimizer, Factor lr_lambda) {
  return std::make_shared<LambdaLR>(std::move(optimizer), std::vector<Factor>{std::move(lr_lambda)});
}
std::shared_ptr<Schedule> lambda(Optimizer optimizer, LambdaOptions options) {
  return std::make_shared<LambdaLR>(std::move(optimizer), std::move(options.lr_lambda));
}
std::shared_ptr<Schedule> multiplicative(Optimizer optimizer, Factor lr_lambda) {
  return std::make_shared<MultiplicativeLR>(std::move(optimizer), std::vector<Factor>{std::move(lr_lambda)});
}
std::shared_ptr<Schedule> multiplicative(Optimizer optimizer, LambdaOptions options) {
  return std::make_shared<MultiplicativeLR>(std::move(optimizer), std::move(options.lr_lambda));
}
std::shared_ptr<Schedule> step(Optimizer optimizer, StepOptions options) {
  return std::make_shared<StepLR>(std::move(optimizer), options);
}
std::shared_ptr<Schedule> multi_step(Optimizer optimizer, MultiStepOptions options) {
  return std::make_shared<MultiStepLR>(std::move(optimizer), std::move(options));
}
std::shared_ptr<Schedule> constant(Optimizer optimizer, ConstantOptions options) {
  return std::make_shared<ConstantLR>(std::move(optimizer), options);
}
std::shared_ptr<Schedule> linear(Optimizer optimizer, LinearOptions options) {
  return std::make_shared<LinearLR>(std::move(optimizer), options);
}
std::shared_ptr<Schedule> exponential(Optimizer optimizer, ExponentialOptions options) {
  return std::make_shared<ExponentialLR>(std::move(optimizer), options);
}
std::shared_ptr<Schedule> polynomial(Optimizer optimizer, PolynomialOptions options) {
  return std::make_shared<PolynomialLR>(std::move(optimizer), options);
}
std::shared_ptr<Schedule> cosine_annealing(Optimizer optimizer, CosineAnnealingOptions options) {
  return std::make_shared<CosineAnnealingLR>(std::move(optimizer), options);
}

}  // namespace troupe::lr_schedulers
