// Held against LibTorch's own optimizers in float64, to 1e-12 after 20 steps; tests/parity compares with PyTorch's.
#include "troupe/modules/optim/adadelta.hpp"
#include "troupe/modules/optim/adafactor.hpp"
#include "troupe/modules/optim/adagrad.hpp"
#include "troupe/modules/optim/adam.hpp"
#include "troupe/modules/optim/adamax.hpp"
#include "troupe/modules/optim/asgd.hpp"
#include "troupe/modules/optim/lbfgs.hpp"
#include "troupe/modules/optim/lion.hpp"
#include "troupe/modules/optim/muon.hpp"
#include "troupe/modules/optim/nadam.hpp"
#include "troupe/modules/optim/radam.hpp"
#include "troupe/modules/optim/rmsprop.hpp"
#include "troupe/modules/optim/rprop.hpp"
#include "troupe/modules/optim/schedule_free.hpp"
#include "troupe/modules/optim/sgd.hpp"

#include "tests/support/refusal.hpp"
#include "troupe/base/failure.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>
#include <torch/version.h>

#include <functional>
#include <tuple>

namespace troupe::optim {
namespace {

using ::testing::HasSubstr;

std::vector<torch::Tensor> starting_point() {
  return {torch::linspace(-1, 1, 12, torch::kFloat64).reshape({3, 4}).clone().requires_grad_(),
          torch::linspace(0.5, 2, 5, torch::kFloat64).clone().requires_grad_()};
}

torch::Tensor loss_of(const std::vector<torch::Tensor>& parameters) {
  return (parameters[0].pow(4).sum() + (parameters[1] - 3).cos().sum()) * parameters[1].mean();
}

void expect_equal_steps(torch::optim::Optimizer& ours, torch::optim::Optimizer& reference) {
  for (int i = 0; i < 20; ++i) {
    for (auto* optimizer : {&ours, &reference}) {
      optimizer->zero_grad();
      loss_of(optimizer->parameters()).backward();
      optimizer->step();
    }
  }
  for (std::size_t i = 0; i < ours.parameters().size(); ++i) {
    EXPECT_TRUE(torch::allclose(ours.parameters()[i], reference.parameters()[i], 0, 1e-12)) << "parameter " << i;
  }
  EXPECT_FALSE(torch::allclose(ours.parameters()[0], starting_point()[0], 0, 1e-3)) << "nothing was trained";
}

TEST(FusedAdam, TakesTheStepsOfAdam) {
  const auto ours = adam(starting_point(), {.lr = 0.05, .weight_decay = 0.1});
  torch::optim::Adam reference(starting_point(), torch::optim::AdamOptions(0.05).weight_decay(0.1));
  expect_equal_steps(*ours, reference);
}

TEST(FusedAdam, TakesTheStepsOfAdamWithAmsgrad) {
  const auto ours = adam(starting_point(), {.lr = 0.05, .amsgrad = true});
  torch::optim::Adam reference(starting_point(), torch::optim::AdamOptions(0.05).amsgrad(true));
  expect_equal_steps(*ours, reference);
}

TEST(FusedAdam, TakesTheStepsOfAdamW) {
  const auto ours = adamw(starting_point(), {.lr = 0.05, .weight_decay = 0.1});
  torch::optim::AdamW reference(starting_point(), torch::optim::AdamWOptions(0.05).weight_decay(0.1));
  expect_equal_steps(*ours, reference);
}

TEST(FusedAdam, LeavesParametersWithoutAGradientAlone) {
  const auto ours = adam(starting_point(), {.lr = 0.05});
  ours->parameters()[0].pow(2).sum().backward();
  ours->step();
  EXPECT_TRUE(torch::equal(ours->parameters()[1], starting_point()[1]));
  EXPECT_FALSE(torch::equal(ours->parameters()[0], starting_point()[0]));
  EXPECT_TRUE(ours->state(0, 0));
  EXPECT_FALSE(ours->state(0, 1));
}

TEST(FusedSgd, TakesTheStepsOfSgd) {
  using torch::optim::SGDOptions;
  const std::vector<std::pair<SgdOptions, SGDOptions>> cases = {
      {{.lr = 0.01, .weight_decay = 0.1}, SGDOptions(0.01).weight_decay(0.1)},
      {{.lr = 0.01, .momentum = 0.9, .dampening = 0.2}, SGDOptions(0.01).momentum(0.9).dampening(0.2)},
      {{.lr = 0.01, .momentum = 0.9, .nesterov = true}, SGDOptions(0.01).momentum(0.9).nesterov(true)}};
  for (const auto& [own, libtorch] : cases) {
    torch::optim::SGD reference(starting_point(), libtorch);
    expect_equal_steps(*sgd(starting_point(), own), reference);
  }
}

TEST(FusedSgd, BeginsTheMomentumOfAParameterWithItsFirstGradient) {
  const auto ours = sgd(starting_point(), {.lr = 0.1, .momentum = 0.9});
  torch::optim::SGD reference(starting_point(), torch::optim::SGDOptions(0.1).momentum(0.9));
  for (int i = 0; i < 4; ++i) {
    for (torch::optim::Optimizer* optimizer :
         {static_cast<torch::optim::Optimizer*>(ours.get()), static_cast<torch::optim::Optimizer*>(&reference)}) {
      optimizer->zero_grad();
      (i < 2 ? optimizer->parameters()[0].pow(2).sum() : loss_of(optimizer->parameters())).backward();
      optimizer->step();
    }
  }
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(torch::allclose(ours->parameters()[i], reference.parameters()[i], 0, 1e-12)) << i;
  }
}

TEST(FusedAdagrad, TakesTheStepsOfAdagrad) {
  torch::optim::Adagrad reference(
      starting_point(), torch::optim::AdagradOptions(0.1).lr_decay(0.1).weight_decay(0.1).initial_accumulator_value(1));
  expect_equal_steps(
      *adagrad(starting_point(), {.lr = 0.1, .lr_decay = 0.1, .weight_decay = 0.1, .initial_accumulator_value = 1}),
      reference);
}

TEST(ForeachRmsprop, TakesTheStepsOfRmsprop) {
  using torch::optim::RMSpropOptions;
  torch::optim::RMSprop plain(starting_point(), RMSpropOptions(0.01).weight_decay(0.1));
  expect_equal_steps(*rmsprop(starting_point(), {.weight_decay = 0.1}), plain);
  torch::optim::RMSprop full(starting_point(), RMSpropOptions(0.01).alpha(0.8).momentum(0.9).centered(true));
  expect_equal_steps(*rmsprop(starting_point(), {.alpha = 0.8, .momentum = 0.9, .centered = true}), full);
}

// The kernels run over memory; LibTorch's own optimizers go by index.
TEST(KernelOptimizer, TakesParametersAndGradientsOfAnyLayout) {
  using Pair = std::pair<std::function<std::shared_ptr<torch::optim::Optimizer>(Parameters)>,
                         std::function<std::shared_ptr<torch::optim::Optimizer>(Parameters)>>;
  const std::vector<Pair> optimizers = {{[](Parameters p) { return sgd(p, {.lr = 0.1, .momentum = 0.9}); },
                                         [](Parameters p) {
                                           return std::make_shared<torch::optim::SGD>(
                                               p, torch::optim::SGDOptions(0.1).momentum(0.9));
                                         }},
                                        {[](Parameters p) { return adam(p, {.lr = 0.1}); },
                                         [](Parameters p) { return std::make_shared<torch::optim::Adam>(p, 0.1); }},
                                        {[](Parameters p) { return adagrad(p, {.lr = 0.1}); },
                                         [](Parameters p) { return std::make_shared<torch::optim::Adagrad>(p, 0.1); }}};
  const auto values = torch::linspace(-1, 1, 12, torch::kFloat64).reshape({3, 4});
  const auto with_gaps = [&] {
    auto parameter = torch::full({3, 8}, 7.0, torch::kFloat64).slice(1, 0, 8, 2);
    parameter.copy_(values);
    return parameter.requires_grad_();
  };
  const auto transposed = torch::sin(values).t().contiguous().t();
  const auto repeated = torch::full({1, 1}, 0.3, torch::kFloat64).expand({3, 4});
  for (const auto& [own, libtorch] : optimizers) {
    for (const bool has_gaps : {false, true}) {
      const auto trained = [&](const auto& make) {
        Parameters parameters = {has_gaps ? with_gaps() : values.clone().requires_grad_(),
                                 values.clone().requires_grad_(), values.to(torch::kFloat32, false, true)};
        parameters[2].requires_grad_();
        parameters[0].mutable_grad() = transposed.clone();
        parameters[1].mutable_grad() = repeated;
        parameters[2].mutable_grad() = transposed.to(torch::kFloat32);
        const auto optimizer = make(parameters);
        for (int i = 0; i < 3; ++i) optimizer->step();
        return parameters;
      };
      const auto ours = trained(own), reference = trained(libtorch);
      for (std::size_t i = 0; i < ours.size(); ++i) {
        EXPECT_TRUE(torch::allclose(ours[i], reference[i], 0, i == 2 ? 1e-6 : 1e-12)) << "parameter " << i;
        EXPECT_FALSE(torch::allclose(ours[i].to(torch::kFloat64), values, 0, 1e-2)) << "nothing was trained";
      }
      if (!has_gaps) continue;
      const auto gaps = ours[0].detach().as_strided({3, 4}, {8, 2}, 1);
      EXPECT_TRUE(torch::equal(gaps, torch::full({3, 4}, 7.0, torch::kFloat64)));
    }
  }
}

// As in PyTorch: a complex number is stepped as its two real ones.
TEST(KernelOptimizer, StepsComplexNumbersAsPairs) {
  using Make = std::function<std::shared_ptr<torch::optim::Optimizer>(Parameters)>;
  for (const auto& make :
       {Make([](Parameters p) { return adam(p, {.lr = 0.05, .weight_decay = 0.1, .amsgrad = true}); }),
        Make([](Parameters p) { return adamw(p, {.lr = 0.05}); }),
        Make([](Parameters p) { return sgd(p, {.lr = 0.05, .momentum = 0.9, .nesterov = true}); }),
        Make([](Parameters p) { return adagrad(p, {.lr = 0.1, .initial_accumulator_value = 1}); }),
        Make([](Parameters p) { return rmsprop(p, {.momentum = 0.9, .centered = true}); }),
        Make([](Parameters p) { return nadam(p); }), Make([](Parameters p) { return radam(p); }),
        Make([](Parameters p) { return adamax(p); }), Make([](Parameters p) { return adadelta(p); }),
        Make([](Parameters p) { return asgd(p, {.t0 = 2}); }), Make([](Parameters p) { return rprop(p); }),
        Make([](Parameters p) { return lion(p, {.lr = 0.01}); }),
        Make([](Parameters p) { return schedule_free_adamw(p); })}) {
    const auto pairs = torch::linspace(-1, 2, 6, torch::kFloat64).reshape({3, 2});
    const auto complex = torch::view_as_complex(pairs.clone()).requires_grad_();
    const auto plain = pairs.clone().requires_grad_(), beside = torch::ones(2).requires_grad_();
    const auto ours = make({complex, beside}), reference = make({plain});
    for (int i = 0; i < 5; ++i) {
      ours->zero_grad();
      reference->zero_grad();
      (torch::view_as_real(complex).pow(4).sum() + beside.sum().to(torch::kFloat64)).backward();
      plain.pow(4).sum().backward();
      ours->step();
      reference->step();
    }
    EXPECT_TRUE(torch::equal(torch::view_as_real(complex.detach()), plain.detach()));
    EXPECT_FALSE(torch::equal(plain.detach(), pairs));
  }
}

TEST(KernelOptimizer, LetsGoOfTheGradients) {
  auto parameter = starting_point()[0];
  const auto optimizer = adam({parameter});
  parameter.pow(2).sum().backward();
  const torch::Tensor gradient = parameter.grad();
  optimizer->step();
  optimizer->zero_grad();
  EXPECT_EQ(gradient.use_count(), 1);
}

TEST(KernelOptimizer, RefusesSparseGradients) {
  auto weights = torch::ones({4, 2}, torch::requires_grad());
  weights.mutable_grad() = torch::ones({4, 2}).to_sparse();
  const auto optimizer = sgd({weights});
  EXPECT_THAT(refusal([&] { optimizer->step(); }),
              HasSubstr("sgd: the gradient of parameter 0 of group 0 is sparse; torch::optim::SGD"));
  EXPECT_TRUE(torch::equal(weights, torch::ones({4, 2})));
}

TEST(KernelOptimizer, GroupsHaveOptionsOfTheirOwn) {
  auto ours = starting_point(), theirs = starting_point();
  const auto adam_of_groups = adam({{.params = {ours[0]}, .lr = 0.05}, {.params = {ours[1]}}}, {.lr = 0.01});
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(Parameters{theirs[0]}, std::make_unique<torch::optim::AdamOptions>(0.05));
  groups.emplace_back(Parameters{theirs[1]}, std::make_unique<torch::optim::AdamOptions>(0.01));
  torch::optim::Adam reference(groups);
  for (int i = 0; i < 10; ++i) {
    for (auto* optimizer : {static_cast<torch::optim::Optimizer*>(adam_of_groups.get()),
                            static_cast<torch::optim::Optimizer*>(&reference)}) {
      optimizer->zero_grad();
      loss_of(optimizer == &reference ? theirs : ours).backward();
      optimizer->step();
    }
  }
  for (std::size_t i = 0; i < 2; ++i) EXPECT_TRUE(torch::allclose(ours[i], theirs[i], 0, 1e-12)) << i;
}

TEST(KernelOptimizer, AGroupKeepsWhatItSaysThoughThatIsAStartValueInLibTorch) {
  auto ours = starting_point(), theirs = starting_point();
  const auto optimizer = adam({{.params = {ours[0]}, .lr = 1e-3}, {.params = {ours[1]}}}, {.lr = 0.1});
  EXPECT_EQ(optimizer->param_groups()[0].options().get_lr(), 1e-3);
  EXPECT_EQ(optimizer->param_groups()[1].options().get_lr(), 0.1);
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(Parameters{theirs[0]}, std::make_unique<torch::optim::AdamOptions>(1e-3));
  torch::optim::Adam reference(groups, torch::optim::AdamOptions(0.1));
  constexpr bool takes_default = TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR > 11;  // seen with 2.15.0
  EXPECT_EQ(reference.param_groups()[0].options().get_lr(), takes_default ? 0.1 : 1e-3);
}

TEST(KernelOptimizer, AGroupMayComeLater) {
  auto w = starting_point();
  const auto optimizer = adam(Parameters{w[0]}, {.lr = 0.05});
  loss_of(w).backward();
  optimizer->step();
  optimizer->add_group({w[1]}, {.lr = 0.1});
  const auto before = w[1].detach().clone();
  optimizer->step();
  EXPECT_FALSE(torch::equal(w[1], before));
  EXPECT_EQ(optimizer->state(0, 0)->at(0).item<float>(), 2);
  EXPECT_EQ(optimizer->state(1, 0)->at(0).item<float>(), 1);
  EXPECT_THROW(optimizer->add_group({w[0]}, {}), UsageError);
}

TEST(KernelOptimizer, RefusesWhatCannotBe) {
  const auto w = starting_point();
  EXPECT_THROW(adam(Parameters()), UsageError);
  EXPECT_THROW(sgd({{.params = {w[0]}}, {.params = {w[0]}}}), UsageError);
  EXPECT_THROW(sgd(starting_point(), {.nesterov = true}), UsageError);
  EXPECT_THROW(sgd(starting_point(), {.momentum = -0.1}), UsageError);
  EXPECT_THROW(adagrad(starting_point(), {.lr_decay = -1}), UsageError);
  EXPECT_THROW(rmsprop(starting_point(), {.alpha = -1}), UsageError);
  EXPECT_THAT(refusal([&] { adam({torch::Tensor()}); }), HasSubstr("parameter 0 of group 0 is an undefined tensor"));
  EXPECT_THAT(refusal([&] { adam({w[0] * 2}); }), HasSubstr("non-leaf"));
  EXPECT_THAT(refusal([&] { lbfgs({w[0], w[1], w[0]}); }), HasSubstr("lbfgs: parameter 2 of group 0 is there already"));
  EXPECT_THAT(refusal([&] { lbfgs({w[0] * 2}); }), HasSubstr("non-leaf"));
  EXPECT_THROW(lbfgs(starting_point(), {.max_iter = 0}), UsageError);
}

// LibTorch 2.11's fused kernel leaves whole blocks of 16 elements of 16 bits as they are on the CPU.
TEST(FusedSgd, StepsEveryElementOf16Bits) {
  for (const auto type : {torch::kBFloat16, torch::kHalf}) {
    for (const int64_t size : {1, 15, 16, 17, 64, 100}) {
      for (const auto& [momentum, nesterov, right] :
           {std::tuple{0.0, false, 0.875}, std::tuple{0.9, false, 0.67139751}, std::tuple{0.9, true, 0.57925776}}) {
        auto weight = torch::ones({size}, type).requires_grad_();
        const auto optimizer = sgd({weight}, {.lr = 0.05, .momentum = momentum, .nesterov = nesterov});
        for (int step = 0; step < 5; ++step) {
          weight.mutable_grad() = torch::full({size}, 0.5, type);
          optimizer->step();
        }
        const double tolerance = type == torch::kHalf ? 2e-3 : 1e-2;
        EXPECT_NEAR(weight.min().item<double>(), right, tolerance) << type << ' ' << size << ' ' << momentum;
        EXPECT_NEAR(weight.max().item<double>(), right, tolerance) << type << ' ' << size << ' ' << momentum;
      }
    }
  }
}

TEST(FusedAdam, RefusesOptionsOutOfRange) {
  EXPECT_THROW(adam(starting_point(), {.lr = -1}), UsageError);
  EXPECT_THROW(adam(starting_point(), {.lr = std::nan("")}), UsageError);
  EXPECT_THROW(adam(starting_point(), {.betas = {0.9, 1.0}}), UsageError);
}

TEST(KernelOptimizer, NamesTheValueThatIsOutOfRange) {
  const auto said = [](const auto& make) { return refusal([&] { make(starting_point()); }); };
  using P = Parameters;
  EXPECT_THAT(said([](P p) { nadam(p, {.momentum_decay = -1}); }),
              HasSubstr("nadam: momentum_decay = -1.0 is not a number from 0 on"));
  EXPECT_THAT(said([](P p) { radam(p, {.betas = {0.9, 1}}); }), HasSubstr("radam: betas[1] = 1.0 is not in [0, 1)"));
  EXPECT_THAT(said([](P p) { adamax(p, {.eps = -1}); }), HasSubstr("adamax: eps = -1"));
  EXPECT_THAT(said([](P p) { adadelta(p, {.rho = 1.5}); }), HasSubstr("adadelta: rho = 1.5 is not in [0, 1]"));
  EXPECT_THAT(said([](P p) { asgd(p, {.t0 = std::nan("")}); }), HasSubstr("asgd: t0 = nan"));
  EXPECT_THAT(said([](P p) { rprop(p, {.etas = {1, 1.2}}); }), HasSubstr("rprop: etas[0] = 1.0 is not in (0, 1)"));
  EXPECT_THAT(said([](P p) { rprop(p, {.step_sizes = {2, 1}}); }), HasSubstr("rprop: step_sizes[1] = 1"));
  EXPECT_THAT(said([](P p) { lion(p, {.weight_decay = -0.5}); }), HasSubstr("lion: weight_decay = -0.5"));
  EXPECT_THAT(said([](P p) { adafactor(p, {.d = 0.5}); }), HasSubstr("adafactor: d = 0.5 is not a number from 1 on"));
  EXPECT_THAT(said([](P p) { adafactor(p, {.beta2_decay = 1}); }),
              HasSubstr("beta2_decay = 1.0 is not a number up to 0"));
  EXPECT_THAT(said([](P p) { muon(p, {.ns_steps = 100}); }), HasSubstr("muon: ns_steps = 100 is not from 1 to 99"));
  EXPECT_THAT(said([](P p) {
                schedule_free_adamw(p, {.betas = {0, 0.999}});
              }),
              HasSubstr("betas[0] = 0.0 is not above 0"));
  EXPECT_THAT(said([](P p) { schedule_free_adamw(p, {.warmup_steps = -3}); }), HasSubstr("warmup_steps = -3 is not"));
  EXPECT_THAT(said([](P p) { lbfgs(p, {.max_iter = 0}); }), HasSubstr("lbfgs: max_iter = 0 is not 1 or more"));
  const auto complex = torch::ones({2, 2}, torch::kComplexDouble).requires_grad_();
  EXPECT_THAT(refusal([&] { muon({complex}); }), HasSubstr("ComplexDouble cannot be made orthogonal"));
  EXPECT_THAT(refusal([&] { adafactor({complex}); }), HasSubstr("ComplexDouble has no mean squares of rows"));
}

TEST(Muon, TakesMatricesAndLeavesTheRestToAdamW) {
  const auto cube = torch::ones({2, 2, 2}, torch::requires_grad()),
             matrix = torch::ones({2, 3}, torch::requires_grad());
  const auto bias = torch::ones({3}, torch::requires_grad());
  const auto optimizer = muon({cube, matrix, bias}, {.lr = 0.02, .adamw_lr = 0.003});
  ASSERT_EQ(optimizer->param_groups().size(), 2u);
  EXPECT_EQ(optimizer->param_groups()[0].options().get_lr(), 0.02);
  EXPECT_EQ(optimizer->param_groups()[1].options().get_lr(), 0.003);
  (cube.sum() + (matrix * torch::rand({2, 3})).sum() + bias.sum()).backward();
  optimizer->step();
  EXPECT_TRUE(optimizer->state(0, 0)->at(1).defined());
  EXPECT_FALSE(optimizer->state(0, 0)->at(2).defined());
  for (const std::size_t position : {0, 1}) {
    EXPECT_FALSE(optimizer->state(1, position)->at(1).defined());
    EXPECT_TRUE(optimizer->state(1, position)->at(2).defined());
  }
}

TEST(ScheduleFree, GoesBackToTheWeightsThatTrainToTheBit) {
  const auto w = starting_point();
  const auto optimizer = schedule_free_adamw(w, {.lr = 0.05});
  for (int i = 0; i < 5; ++i) {
    optimizer->zero_grad();
    loss_of(w).backward();
    optimizer->step();
  }
  const auto trained = w[0].detach().clone();
  optimizer->eval();
  EXPECT_FALSE(torch::allclose(w[0], trained, 0, 1e-4));
  EXPECT_THAT(refusal([&] { optimizer->step(); }), HasSubstr("hold the weights to evaluate"));
  optimizer->eval();
  optimizer->train();
  EXPECT_TRUE(torch::equal(w[0], trained));
  optimizer->step();
}

struct Named : torch::nn::Module {
  Named() {
    register_module(
        "net", torch::nn::Sequential(torch::nn::Linear(2, 3), torch::nn::LayerNorm(torch::nn::LayerNormOptions({3}))));
    register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({3})));
    register_module("head", torch::nn::Linear(3, 1));
  }
};

TEST(NamedGroups, AreThoseOfThePatternsAndTheRest) {
  Named net;
  const auto optimizer = adamw(net, {{"*.bias|norm.*", {.weight_decay = 0}}, {"head.weight", {.lr = 0.5}}},
                               {.lr = 0.1, .weight_decay = 0.2});
  const auto groups = optimizer->param_groups();
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_EQ(groups[0].params().size(), 5u);  // four biases, and the weight of norm
  EXPECT_EQ(optimizer->options(0).weight_decay, 0);
  EXPECT_EQ(optimizer->options(0).lr, 0.1);
  ASSERT_EQ(groups[1].params().size(), 1u);
  EXPECT_TRUE(groups[1].params()[0].is_same(net.named_parameters()["head.weight"]));
  EXPECT_EQ(optimizer->options(1).lr, 0.5);
  EXPECT_EQ(groups[2].params().size(), 2u);
  EXPECT_EQ(optimizer->options(2).weight_decay, 0.2);
  EXPECT_EQ(sgd(net, {{"*", {.lr = 1}}})->param_groups().size(), 1u);
  EXPECT_EQ(lion(net)->param_groups()[0].params().size(), 8u);
  EXPECT_EQ(muon(net, {{"head.*", {.lr = 0.5, .use_muon = false}}}, {.lr = 0.1})->param_groups()[0].options().get_lr(),
            0.5);
}

TEST(NamedGroups, RefuseAPatternThatFitsNothingAndAParameterThatTwoClaim) {
  Named net;
  EXPECT_THAT(
      refusal([&] {
        adamw(net, {{"*.bias|*nrom*", {.weight_decay = 0}}});
      }),
      HasSubstr("adamw: no parameter's name fits the pattern '*nrom*'; the nearest are norm.weight, norm.bias, "));
  EXPECT_THAT(refusal([&] {
                sgd(net, {{"*.bias", {.lr = 1}}, {"head.*", {.lr = 2}}});
              }),
              HasSubstr("sgd: the parameter head.bias fits two groups, '*.bias' and 'head.*'; it can be in one"));
  torch::nn::Module nothing;
  EXPECT_THAT(refusal([&] { sgd(nothing, {{"*", {.lr = 1}}}); }), HasSubstr("the module has no parameters"));
}

}  // namespace
}  // namespace troupe::optim
