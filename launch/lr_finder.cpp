// Tuner::find_lr: the learning rate.
#include "troupe/base/number_text.hpp"
#include "troupe/launch/tuner_trials.hpp"
#include "troupe/runtime/report/finding.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace troupe {

namespace {

using finders::in_short;

constexpr double smoothing = 0.98;  // Lightning's beta
constexpr int64_t unseen_rates = 10 + 1;

void check_rates(const LrFindOptions& how) {
  const auto refuse = [](const char* name, double value, const std::string& rule) {
    finders::refuse(std::string("lr_find.") + name, double_to_text(value), rule);
  };
  const bool needs_ratio = how.mode == LrFindMode::exponential;
  if (!std::isfinite(how.min_lr) || how.min_lr < 0 || (needs_ratio && how.min_lr == 0)) {
    refuse("min_lr", how.min_lr,
           needs_ratio ? "cannot grow by a factor; use a number above 0, such as 1e-8" : "is no rate; use 0 or more");
  }
  if (!std::isfinite(how.max_lr)) refuse("max_lr", how.max_lr, "is no rate; use a number such as 1");
  if (how.min_lr >= how.max_lr) {
    refuse("min_lr", how.min_lr,
           "is not below max_lr = " + double_to_text(how.max_lr) + "; use a smaller one, such as " +
               in_short(how.max_lr * 1e-8));
  }
  if (how.num_training < unseen_rates + 2) {
    finders::refuse("lr_find.num_training", std::to_string(how.num_training),
                    "is too few: the first 10 rates and the last one do not count, so use at least " +
                        std::to_string(unseen_rates + 2));
  }
  if (how.early_stop_threshold && !(*how.early_stop_threshold > 1)) {
    refuse("early_stop_threshold", *how.early_stop_threshold, "would end the search at once; use more than 1, or none");
  }
}

// The rate of a step, as Lightning's schedulers of the search have it: the second is not the next after min_lr.
double rate_of_step(const LrFindOptions& how, int64_t step) {
  if (step == 0) return how.min_lr;
  const double part = static_cast<double>(step + 1) / static_cast<double>(how.num_training);
  return how.mode == LrFindMode::linear ? how.min_lr + part * (how.max_lr - how.min_lr)
                                        : how.min_lr * std::pow(how.max_lr / how.min_lr, part);
}

// In place of the module's schedulers: the search has the rates.
class StandsStill final : public LRScheduler {
 public:
  using LRScheduler::LRScheduler;
  void step() override {}
  nlohmann::json state_dict() const override { return nullptr; }
  void load_state_dict(const nlohmann::json&) override {}
};

void stop_schedulers(RunContext& run) {
  auto& optimizers = run.optimizers();
  std::vector<LRSchedulerConfig> still;
  for (const auto& config : optimizers.lr_schedulers()) {
    still.push_back({.scheduler = std::make_shared<StandsStill>(config.scheduler->optimizer()),
                     .interval = LRSchedulerConfig::Interval::step,
                     .frequency = std::numeric_limits<int64_t>::max(),
                     .monitor = ""});
  }
  optimizers = Optimizers(std::vector<OptimizerPtr>(optimizers.begin(), optimizers.end()), std::move(still));
}

class RateProbe final : public finders::Probe {
 public:
  explicit RateProbe(LrFindOptions how) : how_(std::move(how)) {}
  std::shared_ptr<Callback> replicate() const override { return std::make_shared<RateProbe>(how_); }

  void on_pretrain_routine_start(RunContext& run, Module& module) override {
    const std::string finder = "the learning rate finder needs ";
    const auto count = run.optimizers().size();
    if (!module.automatic_optimization) {
      refuse(finder +
             "automatic optimization, since it sets the rate before each step, and the module has"
             " automatic_optimization = false: choose its rates by hand");
    }
    if (count == 0) {
      refuse(finder +
             "an optimizer, and configure_optimizers returned none: return one, such as"
             " optim::adamw(parameters(), {.lr = options().lr})");
    }
    if (count > 1) {
      refuse(finder + "one optimizer, since it tries one rate at a time, and configure_optimizers returned " +
             std::to_string(count) + ": let it return one of them for the search");
    }
    stop_schedulers(run);
  }

  void on_train_batch_start(RunContext& run, Module&, const Batch&, int64_t) override {
    step_ = run.progress().global_step;
    rate_ = rate_of_step(how_, step_);
    for (auto& group : run.optimizers()[0].param_groups()) group.options().set_lr(rate_);
  }

  void on_train_batch_end(RunContext& run, Module&, const StepOutput& output, const Batch&, int64_t) override {
    const double loss = mean_over_ranks(run, output.find("loss"));
    if (is_over_ || run.progress().global_step == step_) return;  // which is not a window's last batch
    add(loss);
    if (!is_over_ && diverges()) {
      is_over_ = result_.stopped_early = true;
      run.request_stop("the loss diverged");
    }
  }

  LrFindResult result() const { return result_; }

 private:
  // Ranks see batches of their own, and must agree on where the search ends. NaN: no rank has a loss.
  static double mean_over_ranks(RunContext& run, const torch::Tensor* loss) {
    const double value = loss && loss->defined() ? loss->item<double>() : 0;
    const auto own = torch::tensor({value, loss && loss->defined() ? 1.0 : 0.0}, torch::kFloat64).to(run.device());
    const auto sum = run.all_gather(own).reshape({-1, 2}).sum(0).cpu();
    return sum[0].item<double>() / sum[1].item<double>();
  }

  // As Lightning's: the correction of the mean is that of one step later.
  void add(double loss) {
    const auto steps = static_cast<double>(step_ + 1);
    mean_ = smoothing * mean_ + (1 - smoothing) * loss;
    const double smoothed = mean_ / (1 - std::pow(smoothing, steps + 1));
    result_.lr.push_back(rate_);
    result_.raw_loss.push_back(loss);
    result_.loss.push_back(smoothed);
  }

  bool diverges() {
    const double latest = result_.loss.back();
    const bool is_first = step_ == 0;
    const bool is_high = how_.early_stop_threshold && !is_first && latest > *how_.early_stop_threshold * best_;
    if (is_first || latest < best_) best_ = latest;
    return is_high || !std::isfinite(latest);
  }

  LrFindOptions how_;
  LrFindResult result_;
  int64_t step_ = 0;
  double rate_ = 0, mean_ = 0, best_ = 0;
  bool is_over_ = false;
};

// What the loss gains per unit of the rate at the place number `i` of `places`, as torch.gradient has it: from the
// places beside it to the second order, at an end from the one beside it
// (https://docs.pytorch.org/docs/2.11/generated/torch.gradient.html).
double slope_at(const LrFindResult& curve, const std::vector<std::size_t>& places, std::size_t i) {
  const auto rate = [&](std::size_t at) { return curve.lr[places[at]]; };
  const auto loss = [&](std::size_t at) { return curve.loss[places[at]]; };
  const auto straight = [&](std::size_t from) { return (loss(from + 1) - loss(from)) / (rate(from + 1) - rate(from)); };
  if (i == 0) return straight(0);
  if (i + 1 == places.size()) return straight(i - 1);
  const double before = rate(i) - rate(i - 1), after = rate(i + 1) - rate(i);
  return (before * straight(i) + after * straight(i - 1)) / (before + after);
}

}  // namespace

std::optional<std::size_t> LrFindResult::suggestion_index(int64_t skip_begin, int64_t skip_end) const {
  std::vector<std::size_t> places;
  const auto end = static_cast<int64_t>(loss.size()) - skip_end;
  for (int64_t i = skip_begin; i < end; ++i) {
    if (std::isfinite(loss[static_cast<std::size_t>(i)])) places.push_back(static_cast<std::size_t>(i));
  }
  if (places.size() < 2) return std::nullopt;
  std::optional<std::size_t> steepest;
  double least = 0;
  for (std::size_t i = 0; i < places.size(); ++i) {
    const double slope = slope_at(*this, places, i);
    if (!(slope < least)) continue;
    least = slope;
    steepest = places[i];
  }
  return steepest;
}

std::optional<double> LrFindResult::suggestion(int64_t skip_begin, int64_t skip_end) const {
  const auto index = suggestion_index(skip_begin, skip_end);
  return index ? std::optional(lr[*index]) : std::nullopt;
}

namespace {

std::string no_suggestion(const LrFindResult& result, const LrFindOptions& how) {
  const auto steps = static_cast<int64_t>(result.lr.size());
  const std::string from_below =
      "use a smaller lr_find.min_lr than " + in_short(how.min_lr) + ", such as " + in_short(how.min_lr * 1e-3);
  if (result.stopped_early && steps < unseen_rates + 2) {
    return "the loss diverged at the rate " + in_short(result.lr.back()) + ", after " + std::to_string(steps) + " of " +
           std::to_string(how.num_training) + " rates, which are too few for a suggestion: " + from_below +
           ", or larger batches or early_stop_threshold if the loss only differs from batch to batch";
  }
  return "the loss fell at none of the " + std::to_string(steps) + " rates from " + in_short(result.lr.front()) +
         " to " + in_short(result.lr.back()) +
         (result.stopped_early
              ? ", where it diverged: " + from_below
              : ": use a larger lr_find.max_lr than " + in_short(how.max_lr) + ", or more lr_find.num_training");
}

}  // namespace

LrFindResult Tuner::find_lr(const TunedModule& module, const TunedData& data, const LrFindOptions& how) {
  check_rates(how);
  const auto option = how.update_attr ? learning_rate_option(module.options, how.attr_name) : "";
  const Trials trials(trainer_, module, data);
  const auto probe = std::make_shared<RateProbe>(how);
  trials.run(finders::options_of_trial(trials.options(), how.num_training), probe, data.loaders);
  auto result = probe->result();
  if (result.lr.empty()) {
    throw UsageError(
        "the learning rate finder saw no step of the optimizer: training_step returned no loss, or the"
        " data is empty");
  }
  const auto chosen = result.suggestion_index();
  result.says = chosen ? "The loss falls fastest at the rate " + in_short(result.lr[*chosen]) +
                             (result.stopped_early ? ", and diverges at " + in_short(result.lr.back()) : "") + "."
                       : "No suggestion: " + no_suggestion(result, how) + ".";
  record(module.source(), {.name = "lr_find",
                           .title = "Learning rate",
                           .says = result.says,
                           .columns = {{"lr", result.lr}, {"smoothed_loss", result.loss}, {"loss", result.raw_loss}},
                           .x_is_logarithmic = how.mode == LrFindMode::exponential,
                           .chosen = chosen});
  if (!chosen) throw UsageError(no_suggestion(result, how));
  if (how.update_attr) module.options.change({{option, result.lr[*chosen]}});
  return result;
}

}  // namespace troupe
