// Schedulers against PyTorch's, over 60 steps and two groups, to 1e-14; and their states.
#include "tests/parity/parity.hpp"
#include "tests/support/refusal.hpp"
#include "troupe/modules/lr_schedulers/combined.hpp"
#include "troupe/modules/lr_schedulers/cycles.hpp"
#include "troupe/modules/lr_schedulers/decay.hpp"
#include "troupe/modules/lr_schedulers/plateau.hpp"
#include "troupe/modules/optim/adam.hpp"
#include "troupe/modules/optim/sgd.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

namespace troupe {
namespace {

using namespace lr_schedulers;
using ::testing::HasSubstr;
using Scheduler = std::shared_ptr<LRScheduler>;
using ScheduleList = std::vector<std::shared_ptr<Schedule>>;

constexpr int64_t steps = 60;

torch::Tensor parameter() {
  return torch::zeros(1, torch::requires_grad());
}
Optimizer sgd() {
  return optim::sgd({{.params = {parameter()}, .lr = 0.5}, {.params = {parameter()}, .lr = 0.02}}, {.momentum = 0.7});
}
Optimizer libtorch_sgd() {
  std::vector<torch::optim::OptimizerParamGroup> groups;
  for (const double lr : {0.5, 0.02}) {
    groups.emplace_back(std::vector<torch::Tensor>{parameter()},
                        std::make_unique<torch::optim::SGDOptions>(torch::optim::SGDOptions(lr).momentum(0.7)));
  }
  return std::make_shared<torch::optim::SGD>(groups, torch::optim::SGDOptions(1));
}
Optimizer adam() {
  return optim::adam({{.params = {parameter()}, .lr = 0.5}, {.params = {parameter()}, .lr = 0.02}});
}
Optimizer libtorch_adam() {
  std::vector<torch::optim::OptimizerParamGroup> groups;
  for (const double lr : {0.5, 0.02}) {
    groups.emplace_back(std::vector<torch::Tensor>{parameter()}, std::make_unique<torch::optim::AdamOptions>(lr));
  }
  return std::make_shared<torch::optim::Adam>(groups);
}

struct SchedulerCase {
  const char* name;
  bool is_adam;
  std::function<Scheduler(Optimizer)> make;
};

const std::vector<SchedulerCase>& scheduler_cases() {
  static const std::vector<SchedulerCase> all = {
      {"lambda", false,
       [](Optimizer o) {
         return lambda(o, LambdaOptions{{[](int64_t e) { return std::pow(0.95, e); },
                                         [](int64_t e) { return 1.0 / static_cast<double>(1 + e); }}});
       }},
      {"multiplicative", false,
       [](Optimizer o) { return multiplicative(o, [](int64_t e) { return e % 3 ? 0.9 : 1.1; }); }},
      {"step", false, [](Optimizer o) { return lr_schedulers::step(o, {.step_size = 7, .gamma = 0.3}); }},
      {"multi_step", false,
       [](Optimizer o) {
         return multi_step(o, {.milestones = {3, 20, 20, 41}, .gamma = 0.5});
       }},
      {"constant", false, [](Optimizer o) { return constant(o, {.factor = 0.25, .total_iters = 9}); }},
      {"linear", false,
       [](Optimizer o) { return linear(o, {.start_factor = 0.1, .end_factor = 0.8, .total_iters = 13}); }},
      {"exponential", false, [](Optimizer o) { return exponential(o, {.gamma = 0.93}); }},
      {"polynomial", false, [](Optimizer o) { return polynomial(o, {.total_iters = 40, .power = 1.7}); }},
      {"cosine", false, [](Optimizer o) { return cosine_annealing(o, {.T_max = 17, .eta_min = 0.001}); }},
      {"restarts", false,
       [](Optimizer o) { return cosine_annealing_warm_restarts(o, {.T_0 = 5, .T_mult = 2, .eta_min = 0.001}); }},
      {"restarts_even", false, [](Optimizer o) { return cosine_annealing_warm_restarts(o, {.T_0 = 7}); }},
      {"cyclic", false,
       [](Optimizer o) {
         return cyclic(o, {.base_lr = {0.001}, .max_lr = {0.1}, .step_size_up = 6, .step_size_down = 9});
       }},
      {"cyclic2", true,
       [](Optimizer o) {
         return cyclic(
             o, {.base_lr = {0.001, 0.01}, .max_lr = {0.1, 0.2}, .step_size_up = 5, .mode = CyclicMode::triangular2});
       }},
      {"cyclic_exp", false,
       [](Optimizer o) {
         return cyclic(o, {.base_lr = {0.001},
                           .max_lr = {0.1},
                           .step_size_up = 6,
                           .mode = CyclicMode::exp_range,
                           .gamma = 0.98,
                           .cycle_momentum = false});
       }},
      {"one_cycle", false, [](Optimizer o) { return one_cycle(o, {.max_lr = {0.3}, .total_steps = 60}); }},
      {"one_cycle_adam", true,
       [](Optimizer o) {
         return one_cycle(o, {.max_lr = {0.3, 0.1},
                              .epochs = 6,
                              .steps_per_epoch = 10,
                              .pct_start = 0.4,
                              .anneal_strategy = AnnealStrategy::linear,
                              .three_phase = true});
       }},
      {"plateau", false,
       [](Optimizer o) {
         return reduce_on_plateau(o, {.factor = 0.5, .patience = 2, .cooldown = 3, .min_lr = {0.01, 0.001}});
       }},
      {"plateau_max", false,
       [](Optimizer o) {
         return reduce_on_plateau(
             o, {.mode = MonitorMode::max, .patience = 1, .threshold = 0.05, .threshold_mode = ThresholdMode::abs});
       }},
      {"chained", false,
       [](Optimizer o) {
         return chained(ScheduleList{constant(o, {.factor = 0.1, .total_iters = 20}), exponential(o, {.gamma = 0.9})});
       }},
      {"sequential", false,
       [](Optimizer o) {
         return sequential(o,
                           ScheduleList{constant(o, {.factor = 0.1, .total_iters = 20}), exponential(o, {.gamma = 0.9}),
                                        cosine_annealing(o, {.T_max = 11})},
                           {20, 31});
       }},
      {"warmup", false,
       [](Optimizer o) {
         return linear_warmup(o, {.warmup_steps = 10, .start_factor = 0.001},
                              cosine_annealing_warm_restarts(o, {.T_0 = 8, .T_mult = 2}));
       }},
      {"cycle_after_cycle", false,
       [](Optimizer o) {
         auto first = cyclic(o, {.base_lr = {0.01}, .max_lr = {0.2}, .step_size_up = 5, .step_size_down = 4});
         return sequential(o, ScheduleList{first, one_cycle(o, {.max_lr = {0.3}, .total_steps = 60})}, {12});
       }},
      {"cyclic_after_linear", true,
       [](Optimizer o) {
         auto first = linear(o, {.start_factor = 0.1, .total_iters = 6});
         auto then = cyclic(
             o, {.base_lr = {0.01}, .max_lr = {0.2}, .step_size_up = 7, .mode = CyclicMode::exp_range, .gamma = 0.97});
         return sequential(o, ScheduleList{first, then}, {8});
       }},
      {"decay_after_one_cycle", false,
       [](Optimizer o) {
         auto first = one_cycle(o, {.max_lr = {0.3}, .total_steps = 25, .three_phase = true});
         return sequential(o, ScheduleList{first, exponential(o, {.gamma = 0.9})}, {20});
       }},
      {"chained_one_cycle", true,
       [](Optimizer o) {
         auto first = one_cycle(o, {.max_lr = {0.3}, .total_steps = 60});
         return chained(ScheduleList{first, exponential(o, {.gamma = 0.95})});
       }},
      {"lambda_after_cyclic", false,
       [](Optimizer o) {
         cyclic(o, {.base_lr = {0.01}, .max_lr = {0.2}, .step_size_up = 6});
         return lambda(o, [](int64_t e) { return std::pow(0.9, e); });
       }},
      {"lambda_after_one_cycle", false,
       [](Optimizer o) {
         one_cycle(o, {.max_lr = {0.3}, .total_steps = 50});
         return lambda(o, [](int64_t e) { return std::pow(0.9, e); });
       }},
      {"cyclic_after_step", false,
       [](Optimizer o) {
         lr_schedulers::step(o, {.step_size = 3});
         return cyclic(o, {.base_lr = {0.01}, .max_lr = {0.2}, .step_size_up = 6});
       }},
      {"restarts_first", false,
       [](Optimizer o) {
         auto first = cosine_annealing_warm_restarts(o, {.T_0 = 5, .T_mult = 2});
         auto second = multiplicative(o, [](int64_t e) { return e % 2 ? 0.9 : 1.05; });
         return sequential(o, ScheduleList{first, second, polynomial(o, {.total_iters = 12, .power = 0.8})}, {13, 30});
       }},
      {"linear_without_iterations", false,
       [](Optimizer o) { return linear(o, {.start_factor = 0.5, .total_iters = 0}); }}};
  return all;
}

double metric(int64_t step) {
  constexpr double values[] = {1.0, 0.5, 0.5, 0.49999, 0.6, 0.4, 0.41, 0.42, 0.43, 0.44};
  return values[step % 10] / static_cast<double>(1 + step / 25);
}

void advance(LRScheduler& scheduler, int64_t step) {
  scheduler.needs_metric() ? scheduler.step(metric(step)) : scheduler.step();
}

torch::Tensor state_of(const Optimizer& optimizer) {
  std::vector<torch::Tensor> rows;
  for (auto& group : optimizer->param_groups()) {
    rows.push_back(torch::tensor({group.options().get_lr(), *momentum_of(group)}, torch::kFloat64));
  }
  return torch::stack(rows);
}

torch::Tensor run(Optimizer optimizer, const Scheduler& scheduler, int64_t from = 0) {
  std::vector<torch::Tensor> rows = {state_of(optimizer)};
  for (int64_t i = from; i < steps; ++i) {
    advance(*scheduler, i);
    rows.push_back(state_of(optimizer));
  }
  return torch::stack(rows);
}

TEST(SchedulerParity, RatesAndMomentaArePyTorchs) {
  const auto reference = pytorch_reference("schedulers.py");
  EXPECT_EQ(reference.size(), scheduler_cases().size());
  for (const auto& c : scheduler_cases()) {
    SCOPED_TRACE(c.name);
    const auto own = c.is_adam ? adam() : sgd();
    const auto ours = run(own, c.make(own));
    EXPECT_LE(largest_difference(ours, reference.at(c.name)), 1e-14);
    const auto made_with = state_of(c.is_adam ? adam() : sgd());
    EXPECT_GT(largest_difference(ours, made_with.expand_as(ours)), 0) << "nothing changed";
    const auto theirs = c.is_adam ? libtorch_adam() : libtorch_sgd();
    EXPECT_LE(largest_difference(run(theirs, c.make(theirs)), reference.at(c.name)), 1e-14);
  }
}

TEST(SchedulerState, GoesOnExactly) {
  for (const auto& c : scheduler_cases()) {
    for (const int64_t stop : {1, 10, 20, 33}) {
      SCOPED_TRACE(c.name + (" after " + std::to_string(stop)));
      const auto make_optimizer = c.is_adam ? adam : sgd;
      auto first = make_optimizer();
      const auto scheduler = c.make(first);
      for (int64_t i = 0; i < stop; ++i) advance(*scheduler, i);
      const auto state = nlohmann::json::parse(scheduler->state_dict().dump());
      auto second = make_optimizer();
      const auto resumed = c.make(second);
      resumed->load_state_dict(state);
      // Rates and momenta come back with the optimizer.
      for (std::size_t g = 0; g < 2; ++g) {
        second->param_groups()[g].options().set_lr(first->param_groups()[g].options().get_lr());
        set_momentum(second->param_groups()[g], *momentum_of(first->param_groups()[g]));
      }
      EXPECT_TRUE(torch::equal(run(first, scheduler, stop), run(second, resumed, stop)));
    }
  }
}

TEST(SchedulerState, DamagedOnesAreRefusedAndChangeNothing) {
  for (const auto& c : scheduler_cases()) {
    SCOPED_TRACE(c.name);
    auto optimizer = c.is_adam ? adam() : sgd();
    const auto scheduler = c.make(optimizer);
    for (int64_t i = 0; i < 5; ++i) advance(*scheduler, i);
    const auto good = scheduler->state_dict();
    std::vector<nlohmann::json> damaged = {nullptr, 1, "x", nlohmann::json::array(), nlohmann::json::object()};
    for (const auto& [key, value] : good.items()) {
      const auto huge = std::numeric_limits<int64_t>::max();
      for (const auto& bad : {nlohmann::json("x"), nlohmann::json(-7), nlohmann::json(huge), nlohmann::json(1e300),
                              nlohmann::json::array({1})}) {
        auto state = good;
        state[key] = bad;
        damaged.push_back(state);
      }
    }
    for (const auto& state : damaged) {
      // "best" may be any number.
      if (state.is_object() && state.contains("best") && state["best"].is_number() && state["best"] != good["best"]) {
        continue;
      }
      EXPECT_THROW(scheduler->load_state_dict(state), UsageError) << state;
      EXPECT_EQ(scheduler->state_dict(), good) << state;
    }
  }
}

TEST(SchedulerGroups, ThatComeLaterFollowRulesOfTheLastRateAlone) {
  const auto rate_of_later_group = [](const std::function<Scheduler(Optimizer)>& make) {
    const auto optimizer = optim::sgd({parameter()}, {.lr = 1, .momentum = 0.5});
    const auto scheduler = make(optimizer);
    optimizer->add_group({parameter()}, {.lr = 0.5, .momentum = 0.5});
    for (int i = 0; i < 3; ++i) scheduler->step();
    EXPECT_NE(scheduler->last_lr()[0], 1);
    EXPECT_EQ(momentum_of(optimizer->param_groups()[1]), 0.5);
    return scheduler->last_lr()[1];
  };
  EXPECT_EQ(rate_of_later_group([](Optimizer o) { return exponential(o, {.gamma = 0.5}); }), 0.0625);
  EXPECT_EQ(rate_of_later_group([](Optimizer o) { return lambda(o, [](int64_t e) { return 1.0 / (1.0 + e); }); }), 0.5);
  EXPECT_EQ(rate_of_later_group([](Optimizer o) { return cosine_annealing(o, {.T_max = 5}); }), 0.5);
  EXPECT_EQ(rate_of_later_group(
                [](Optimizer o) { return cyclic(o, {.base_lr = {0.1}, .max_lr = {0.2}, .step_size_up = 4}); }),
            0.5);
  EXPECT_EQ(
      rate_of_later_group([](Optimizer o) {
        const ScheduleList two = {constant(o, {.factor = 0.5}), one_cycle(o, {.max_lr = {0.2}, .total_steps = 9})};
        return sequential(o, two, {1});
      }),
      0.5);
}

// Where PyTorch stops with a division by zero.
TEST(SchedulerOptions, OfPhasesWithoutAStepAndOfFactorZeroGiveFiniteRates) {
  const auto cycle = one_cycle(sgd(), {.max_lr = {0.3}, .total_steps = 10, .pct_start = 0.1});
  EXPECT_EQ(cycle->last_lr()[0], 0.3);
  const auto optimizer = sgd();
  const auto off = constant(optimizer, {.factor = 0, .total_iters = 2});
  EXPECT_EQ(off->last_lr()[0], 0);
  for (int i = 0; i < 2; ++i) off->step();
  EXPECT_EQ(off->last_lr()[0], 0.5);
}

TEST(SchedulerOptions, ThatCannotBeAreRefused) {
  const auto o = sgd();
  EXPECT_THAT(refusal([&] { lr_schedulers::step(o, {.step_size = 0}); }), HasSubstr("step_size = 0"));
  EXPECT_THAT(refusal([&] { lr_schedulers::step(nullptr, {.step_size = 1}); }), HasSubstr("null"));
  EXPECT_THAT(refusal([&] { constant(o, {.factor = 1.5}); }), HasSubstr("factor = 1.5"));
  EXPECT_THAT(refusal([&] { linear(o, {.start_factor = 0}); }), HasSubstr("start_factor = 0.0"));
  EXPECT_THAT(refusal([&] { cosine_annealing(o, {.T_max = 0}); }), HasSubstr("T_max = 0"));
  EXPECT_THAT(refusal([&] { cyclic(o, {.base_lr = {0.1, 0.1, 0.1}, .max_lr = {1}}); }), HasSubstr("3 values"));
  EXPECT_THAT(refusal([&] { one_cycle(o, {.max_lr = {1}}); }), HasSubstr("total_steps = 0"));
  EXPECT_THAT(refusal([&] { one_cycle(o, {.max_lr = {1}, .epochs = -2, .steps_per_epoch = -3}); }),
              HasSubstr("total_steps = 0"));
  EXPECT_THAT(refusal([&] { sequential(o, {constant(o), constant(o)}, {}); }), HasSubstr("0 milestones"));
  EXPECT_THAT(refusal([&] { sequential(o, {constant(o), constant(sgd())}, {3}); }), HasSubstr("another optimizer"));
  EXPECT_THAT(refusal([&] { sequential(o, {constant(o), constant(o), constant(o)}, {5, 5}); }), HasSubstr("grow"));
  EXPECT_THAT(refusal([&] { chained({}); }), HasSubstr("no scheduler"));
  EXPECT_THAT(refusal([&] { reduce_on_plateau(o)->step(); }), HasSubstr("metric"));
  const auto cycle = one_cycle(o, {.max_lr = {1}, .total_steps = 3});
  for (int i = 0; i < 3; ++i) cycle->step();
  EXPECT_THAT(refusal([&] { cycle->step(); }), HasSubstr("total_steps = 3"));
}

}  // namespace
}  // namespace troupe
