#include "troupe/runtime/checkpoint/optimizer_state.hpp"
#include "troupe/base/failure.hpp"
#include "troupe/runtime/checkpoint/model_state.hpp"
#include "troupe/runtime/checkpoint/optimizer_fields.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>
#include <torch/utils.h>

#include <functional>
#include <memory>

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
namespace to = torch::optim;
using Optimizer = std::shared_ptr<to::Optimizer>;
using Parameters = std::vector<torch::Tensor>;

/// A net with a layer that gets no gradient, and data of its own.
struct Training {
  torch::nn::Sequential net{torch::nn::Linear(3, 4), torch::nn::Linear(4, 2)};
  torch::nn::Linear idle{2, 2};
  torch::nn::Module all;
  Optimizer optimizer;

  explicit Training(const std::function<Optimizer(Parameters)>& make) {
    all.register_module("net", net.ptr());
    all.register_module("idle", idle.ptr());
    optimizer = make(all.parameters());
  }
  void step(int64_t k) {
    const auto x = torch::sin(torch::arange(18).reshape({6, 3}) + k);
    optimizer->step([&] {
      optimizer->zero_grad();
      auto loss = net->forward(x).pow(2).mean() + torch::cos(net->forward(x.flip(0))).mean();
      loss.backward();
      return loss;
    });
  }
  std::vector<std::pair<std::string, torch::Tensor>> named() const {
    std::vector<std::pair<std::string, torch::Tensor>> list;
    for (const auto& item : all.named_parameters()) list.emplace_back(item.key(), item.value());
    return list;
  }
  /// As a file would give it back: copies, and metadata that went through text.
  Checkpoint save() {
    Checkpoint checkpoint;
    append_model_state(checkpoint, all);
    append_optimizer_state(checkpoint, 0, *optimizer, named());
    for (auto& [name, tensor] : checkpoint.tensors) tensor = tensor.detach().clone(torch::MemoryFormat::Contiguous);
    checkpoint.metadata = nlohmann::json::parse(checkpoint.metadata.dump());
    return checkpoint;
  }
  void load(const Checkpoint& checkpoint) {
    load_model_state(checkpoint, all, true);
    load_optimizer_state(checkpoint, 0, *optimizer, named());
  }
  std::string error_of(const Checkpoint& checkpoint) {
    try {
      load_optimizer_state(checkpoint, 0, *optimizer, named());
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  }
};

torch::Tensor& tensor_of(Checkpoint& checkpoint, const std::string& name) {
  for (auto& [key, tensor] : checkpoint.tensors) {
    if (key == name) return tensor;
  }
  throw std::out_of_range(name);
}

template <class Class, class Options>
std::function<Optimizer(Parameters)> libtorch(Options options) {
  return [options](Parameters parameters) { return std::make_shared<Class>(std::move(parameters), options); };
}

std::function<Optimizer(Parameters)> fused(optim::AdamOptions options) {
  return [options](Parameters parameters) { return optim::adam(std::move(parameters), options); };
}
std::function<Optimizer(Parameters)> fused_w(optim::AdamWOptions options) {
  return [options](Parameters parameters) { return optim::adamw(std::move(parameters), options); };
}

std::function<Optimizer(Parameters)> own(std::function<Optimizer(Parameters)> make) {
  return make;
}
std::function<Optimizer(Parameters)> fused_groups(double lr) {
  return [lr](Parameters p) -> Optimizer {
    return optim::adam({{.params = {p[0], p[1]}, .lr = lr}, {.params = Parameters(p.begin() + 2, p.end())}},
                       {.lr = 0.1});
  };
}

struct Case {
  const char* name;
  std::function<Optimizer(Parameters)> saved, fresh;  // fresh: other hyper-parameters, the checkpoint's must win
};

class RoundTrip : public testing::TestWithParam<Case> {};

TEST_P(RoundTrip, GoesOnBitForBit) {
  Training first(GetParam().saved), second(GetParam().fresh);
  for (int64_t k = 0; k < 4; ++k) first.step(k);
  const auto checkpoint = first.save();
  second.step(7);  // state that must go
  second.load(checkpoint);
  for (int64_t k = 4; k < 8; ++k) {
    first.step(k);
    second.step(k);
  }
  for (const auto& [name, tensor] : first.named()) {
    EXPECT_TRUE(torch::equal(tensor, second.all.named_parameters()[name])) << name;
  }
  const auto a = first.save(), b = second.save();
  EXPECT_EQ(a.metadata, b.metadata);
  EXPECT_EQ(a.tensors.size(), b.tensors.size());
}

TEST_P(RoundTrip, GoesOnFromACheckpointBeforeTheFirstStep) {
  Training first(GetParam().saved), second(GetParam().fresh);
  second.load(first.save());
  first.step(0);
  second.step(0);
  for (const auto& [name, tensor] : first.named()) {
    EXPECT_TRUE(torch::equal(tensor, second.all.named_parameters()[name])) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Optimizers, RoundTrip,
    testing::Values(
        Case{"Fused", fused({.lr = 0.01, .betas = {0.8, 0.9}, .weight_decay = 0.1}), fused({})},
        Case{"FusedAmsgrad", fused({.lr = 0.01, .amsgrad = true}), fused({})},
        Case{"FusedW", fused_w({.lr = 0.01, .eps = 1e-6, .weight_decay = 0.3}), fused_w({.amsgrad = true})},
        Case{"FusedGroups", fused_groups(0.01), fused_groups(0.5)},
        Case{"FusedSgd", own([](Parameters p) {
               return optim::sgd(std::move(p), {.lr = 0.1, .momentum = 0.9, .weight_decay = 0.01, .nesterov = true});
             }),
             own([](Parameters p) { return optim::sgd(std::move(p), {.lr = 0.5, .momentum = 0.1}); })},
        Case{"FusedPlainSgd", own([](Parameters p) { return optim::sgd(std::move(p), {.lr = 0.1}); }),
             own([](Parameters p) { return optim::sgd(std::move(p), {.momentum = 0.1}); })},
        Case{"FusedAdagrad", own([](Parameters p) {
               return optim::adagrad(std::move(p), {.lr_decay = 0.1, .initial_accumulator_value = 0.2});
             }),
             own([](Parameters p) { return optim::adagrad(std::move(p)); })},
        Case{"ForeachRmsprop", own([](Parameters p) {
               return optim::rmsprop(std::move(p), {.alpha = 0.8, .momentum = 0.9, .centered = true});
             }),
             own([](Parameters p) { return optim::rmsprop(std::move(p)); })},
        Case{"ForeachNadam", own([](Parameters p) {
               return optim::nadam(std::move(p), {.weight_decay = 0.1, .decoupled_weight_decay = true});
             }),
             own([](Parameters p) { return optim::nadam(std::move(p), {.lr = 0.5, .momentum_decay = 0.1}); })},
        Case{"ForeachRadam", own([](Parameters p) {
               return optim::radam(std::move(p), {.betas = {0.8, 0.5}});
             }),
             own([](Parameters p) { return optim::radam(std::move(p)); })},
        Case{"ForeachAdamax", own([](Parameters p) { return optim::adamax(std::move(p), {.weight_decay = 0.1}); }),
             own([](Parameters p) { return optim::adamax(std::move(p)); })},
        Case{"ForeachAdadelta", own([](Parameters p) { return optim::adadelta(std::move(p), {.rho = 0.8}); }),
             own([](Parameters p) { return optim::adadelta(std::move(p)); })},
        Case{"ForeachAsgd", own([](Parameters p) { return optim::asgd(std::move(p), {.lr = 0.1, .t0 = 3}); }),
             own([](Parameters p) { return optim::asgd(std::move(p)); })},
        Case{"ForeachRprop", own([](Parameters p) {
               return optim::rprop(std::move(p), {.etas = {0.4, 1.3}});
             }),
             own([](Parameters p) {
               return optim::rprop(std::move(p), {.step_sizes = {0, 1}});
             })},
        Case{"ForeachLion", own([](Parameters p) { return optim::lion(std::move(p), {.weight_decay = 0.1}); }),
             own([](Parameters p) { return optim::lion(std::move(p), {.lr = 1}); })},
        Case{"ForeachAdafactor", own([](Parameters p) { return optim::adafactor(std::move(p), {.d = 1.5}); }),
             own([](Parameters p) { return optim::adafactor(std::move(p), {.lr = 1}); })},
        Case{"Muon", own([](Parameters p) {
               return optim::muon(std::move(p),
                                  {.lr = 0.01, .adjust_lr_fn = optim::AdjustLrFn::match_rms_adamw, .adamw_eps = 1e-6});
             }),
             own([](Parameters p) {
               return optim::muon(std::move(p), {.lr = 1, .ns_coefficients = {1, 2, 3}});
             })},
        Case{"ScheduleFreeAdamw", own([](Parameters p) {
               return optim::schedule_free_adamw(std::move(p), {.lr = 0.01, .warmup_steps = 3, .r = 1});
             }),
             own([](Parameters p) { return optim::schedule_free_adamw(std::move(p), {.lr = 1}); })},
        Case{"SGD", libtorch<to::SGD>(to::SGDOptions(0.1).momentum(0.9).weight_decay(0.01).nesterov(true)),
             libtorch<to::SGD>(to::SGDOptions(0.5).momentum(0.1))},
        Case{"PlainSGD", libtorch<to::SGD>(to::SGDOptions(0.1)), libtorch<to::SGD>(to::SGDOptions(0.5).momentum(0.1))},
        Case{"Adam", libtorch<to::Adam>(to::AdamOptions(0.01).weight_decay(0.1)),
             libtorch<to::Adam>(to::AdamOptions())},
        Case{"AdamAmsgrad", libtorch<to::Adam>(to::AdamOptions(0.01).amsgrad(true).betas({0.5, 0.6})),
             libtorch<to::Adam>(to::AdamOptions())},
        Case{"AdamW", libtorch<to::AdamW>(to::AdamWOptions(0.01).weight_decay(0.2)),
             libtorch<to::AdamW>(to::AdamWOptions())},
        Case{"RMSprop", libtorch<to::RMSprop>(to::RMSpropOptions(0.01)),
             libtorch<to::RMSprop>(to::RMSpropOptions(0.1).centered(true))},
        Case{"RMSpropFull", libtorch<to::RMSprop>(to::RMSpropOptions(0.01).momentum(0.9).centered(true).alpha(0.8)),
             libtorch<to::RMSprop>(to::RMSpropOptions())},
        Case{"Adagrad", libtorch<to::Adagrad>(to::AdagradOptions(0.1).lr_decay(0.1).initial_accumulator_value(0.2)),
             libtorch<to::Adagrad>(to::AdagradOptions())},
        Case{"LBFGS", libtorch<to::LBFGS>(to::LBFGSOptions(0.1).max_iter(3).history_size(4)),
             libtorch<to::LBFGS>(to::LBFGSOptions())},
        Case{"LBFGSWolfe", libtorch<to::LBFGS>(to::LBFGSOptions(1).max_iter(3).line_search_fn("strong_wolfe")),
             libtorch<to::LBFGS>(to::LBFGSOptions())}),
    [](const auto& info) { return std::string(info.param.name); });

// A file is written while the parameters hold the weights to evaluate.
TEST(OptimizerState, GoesOnFromTheModelToEvaluateOfAScheduleFreeOptimizer) {
  const auto make = own([](Parameters p) { return optim::schedule_free_adamw(std::move(p), {.lr = 0.05}); });
  Training first(make), second(make);
  for (int64_t k = 0; k < 4; ++k) first.step(k);
  auto& modes = dynamic_cast<optim::EvaluationWeights&>(*first.optimizer);
  modes.eval();
  const auto checkpoint = first.save();
  const auto evaluated = first.all.named_parameters()["net.0.weight"].detach().clone();
  modes.train();
  EXPECT_TRUE(checkpoint.find("optimizer.0.net.0.weight.y"));
  EXPECT_TRUE(torch::equal(*checkpoint.find("model.net.0.weight"), evaluated));
  second.load(checkpoint);
  EXPECT_FALSE(first.save().find("optimizer.0.net.0.weight.y"));
  for (int64_t k = 4; k < 6; ++k) {
    first.step(k);
    second.step(k);
  }
  for (const auto& [name, tensor] : first.named()) {
    EXPECT_TRUE(torch::equal(tensor, second.all.named_parameters()[name])) << name;
  }
}

TEST(OptimizerState, RefusesStatesOfAnotherShapeThanTheirOwn) {
  Training run(own([](Parameters p) { return optim::adafactor(std::move(p)); }));
  run.step(0);
  auto checkpoint = run.save();
  auto& rows = tensor_of(checkpoint, "optimizer.0.net.0.weight.row_var");
  EXPECT_EQ(rows.sizes(), torch::IntArrayRef({4, 1}));
  rows = torch::zeros({4, 3});
  EXPECT_THAT(run.error_of(checkpoint), HasSubstr("optimizer.0.net.0.weight.row_var is [4, 3] Float in it and [4, 1]"));
  checkpoint = run.save();
  checkpoint.metadata["optimizers"][0]["groups"][0]["d"] = 0.5;
  EXPECT_THAT(run.error_of(checkpoint), HasSubstr("d is 0.5, not a finite number from 1.0 on"));
}

TEST(OptimizerState, IsNamedByParameterAndStateInPyTorchsWords) {
  Training run(fused({.lr = 0.01}));
  run.step(0);
  const auto checkpoint = run.save();
  ASSERT_TRUE(checkpoint.find("optimizer.0.net.0.weight.exp_avg"));
  EXPECT_EQ(checkpoint.find("optimizer.0.net.0.weight.exp_avg")->sizes(), torch::IntArrayRef({4, 3}));
  EXPECT_FALSE(checkpoint.find("optimizer.0.idle.weight.exp_avg"));
  const auto& entry = checkpoint.metadata["optimizers"][0];
  EXPECT_EQ(entry["class"], "FusedAdam");
  EXPECT_EQ(entry["groups"][0]["lr"], 0.01);
  EXPECT_EQ(entry["groups"][0]["betas"], nlohmann::json({0.9, 0.999}));
  EXPECT_EQ(entry["groups"][0]["params"][0], "net.0.weight");
}

TEST(OptimizerState, KeepsTheLearningRateThatASchedulerSet) {
  Training first(fused({.lr = 0.01})), second(fused({.lr = 0.5}));
  first.optimizer->param_groups()[0].options().set_lr(0.003);
  second.load(first.save());
  EXPECT_EQ(second.optimizer->param_groups()[0].options().get_lr(), 0.003);
}

TEST(OptimizerState, KeepsGroupsApart) {
  const auto two_groups = [](double lr) {
    return [lr](Parameters p) -> Optimizer {
      std::vector<to::OptimizerParamGroup> groups;
      groups.emplace_back(Parameters{p[0], p[1]}, std::make_unique<to::SGDOptions>(lr));
      groups.emplace_back(Parameters(p.begin() + 2, p.end()), std::make_unique<to::SGDOptions>(lr * 10));
      return std::make_shared<to::SGD>(groups, to::SGDOptions(1));
    };
  };
  Training first(two_groups(0.01)), second(two_groups(0.5)), one(libtorch<to::SGD>(to::SGDOptions(0.1)));
  second.load(first.save());
  EXPECT_EQ(second.optimizer->param_groups()[1].options().get_lr(), 0.1);
  EXPECT_THAT(one.error_of(first.save()), HasSubstr("has 2 parameter groups, the one of this run has 1"));
}

TEST(OptimizerState, NamesTensorsOfNoModuleAndSharedOnesUniquely) {
  Training run(fused({}));
  auto free = torch::ones({2}, torch::requires_grad());
  to::SGD optimizer(Parameters{free, run.all.parameters()[0]}, to::SGDOptions(0.1).momentum(0.9));
  free.sum().backward();
  optimizer.step();
  Checkpoint checkpoint;
  append_optimizer_state(checkpoint, 1, optimizer, run.named());
  EXPECT_TRUE(checkpoint.find("optimizer.1.unregistered.0.0.momentum_buffer"));
  EXPECT_TRUE(checkpoint.metadata["optimizers"][0].is_null());
  load_optimizer_state(checkpoint, 1, optimizer, run.named());
  EXPECT_EQ(optimizer.state().size(), 1u);
}

TEST(OptimizerState, FollowsTheStridesOfItsParameter) {
  auto parameter = torch::randn({2, 3, 4, 4}).to(torch::MemoryFormat::ChannelsLast).requires_grad_();
  const auto optimizer = optim::adam({parameter});
  parameter.pow(2).sum().backward();
  optimizer->step();
  Checkpoint checkpoint;
  append_optimizer_state(checkpoint, 0, *optimizer, {{"w", parameter}});
  for (auto& [name, tensor] : checkpoint.tensors) tensor = tensor.clone(torch::MemoryFormat::Contiguous);
  load_optimizer_state(checkpoint, 0, *optimizer, {{"w", parameter}});
  EXPECT_EQ(optimizer->state(0, 0)->at(1).strides(), parameter.strides());
}

TEST(OptimizerState, AnotherClassIsRefused) {
  Training adam(fused({})), adamw(fused_w({})), sgd(libtorch<to::SGD>(to::SGDOptions(0.1)));
  EXPECT_THAT(adamw.error_of(adam.save()), HasSubstr("optimizer 0 is FusedAdam in the checkpoint and FusedAdamW in"));
  EXPECT_THAT(sgd.error_of(adam.save()), HasSubstr("and SGD in this run"));
}

TEST(OptimizerState, ACheckpointWithoutThisOptimizerIsRefused) {
  Training run(fused({}));
  EXPECT_THAT(run.error_of({}), HasSubstr("does not hold the state of optimizer 0 (it holds 0)"));
  Checkpoint odd;
  odd.metadata = nlohmann::json::array();
  EXPECT_THAT(run.error_of(odd), HasSubstr("does not hold the state of optimizer 0"));
}

TEST(OptimizerState, OtherNamesAndShapesAreListedAndNothingChanges) {
  Training run(fused({}));
  run.step(0);
  auto renamed = run.save();
  renamed.metadata["optimizers"][0]["groups"][0]["params"][1] = "net.0.old_bias";
  EXPECT_THAT(run.error_of(renamed),
              AllOf(HasSubstr("1 missing in it: net.0.bias"), HasSubstr("1 left over in it: net.0.old_bias")));
  auto reshaped = run.save();
  tensor_of(reshaped, "optimizer.0.net.0.weight.exp_avg") = torch::zeros({3, 4});
  tensor_of(reshaped, "optimizer.0.net.0.bias.step") = torch::full({}, NAN);
  for (auto& [name, tensor] : reshaped.tensors) {
    if (name == "optimizer.0.net.1.weight.exp_avg_sq") name = "optimizer.0.net.1.weight.other";
  }
  reshaped.metadata["optimizers"][0]["groups"][0]["lr"] = 0.7;
  EXPECT_THAT(run.error_of(reshaped), AllOf(HasSubstr("exp_avg is [3, 4] Float in it and [4, 3] Float here"),
                                            HasSubstr("optimizer.0.net.0.bias.step is not a count of steps"),
                                            HasSubstr("1 missing in it: optimizer.0.net.1.weight.exp_avg_sq"),
                                            HasSubstr("1 left over in it: optimizer.0.net.1.weight.other")));
  EXPECT_EQ(run.optimizer->param_groups()[0].options().get_lr(), 1e-3);
}

TEST(OptimizerState, HyperParametersAreChecked) {
  Training run(fused({}));
  const auto with = [&](const char* name, nlohmann::json value) {
    auto checkpoint = run.save();
    checkpoint.metadata["optimizers"][0]["groups"][0][name] = std::move(value);
    return run.error_of(checkpoint);
  };
  EXPECT_THAT(with("lr", "fast"), HasSubstr("optimizers[0].groups[0].lr is \"fast\", not a finite number from 0"));
  EXPECT_THAT(with("lr", nullptr), HasSubstr("lr is null"));
  EXPECT_THAT(with("lr", -1), HasSubstr("lr is -1"));
  EXPECT_THAT(with("betas", {0.9, 1.0}), HasSubstr("not two numbers in [0, 1)"));
  EXPECT_THAT(with("betas", 3), HasSubstr("not two numbers in [0, 1)"));
  EXPECT_THAT(with("amsgrad", 1), HasSubstr("amsgrad is 1, not true or false"));
  EXPECT_THAT(with("params", 5), HasSubstr("has no list of parameter names"));
  EXPECT_THAT(with("amsgrad", true), "");  // no state yet, so none is missing
  for (const std::string name : {"eps", "maximize"}) {
    auto without = run.save();
    without.metadata["optimizers"][0]["groups"][0].erase(name);
    EXPECT_THAT(run.error_of(without), HasSubstr("optimizers[0].groups[0]." + name + " is missing"));
  }
}

TEST(OptimizerState, TheChoiceOfMuonIsNullOrOneOfItsNames) {
  Training run(own([](Parameters p) { return optim::muon(std::move(p)); }));
  auto checkpoint = run.save();
  auto& choice = checkpoint.metadata["optimizers"][0]["groups"][0]["adjust_lr_fn"];
  EXPECT_TRUE(choice.is_null());
  choice = "adamw";
  EXPECT_THAT(run.error_of(checkpoint),
              HasSubstr("adjust_lr_fn is \"adamw\", not null or one of original, match_rms_adamw"));
  choice = "match_rms_adamw";
  EXPECT_EQ(run.error_of(checkpoint), "");
}

TEST(OptimizerState, ListsOfLbfgsThatDoNotBelongTogetherAreRefused) {
  Training run(libtorch<to::LBFGS>(to::LBFGSOptions(0.1).max_iter(3)));
  for (int64_t k = 0; k < 3; ++k) run.step(k);
  const auto good = run.save();
  ASSERT_TRUE(good.find("optimizer.0.net.0.weight.old_dirs.0"));
  auto shorter = good;
  std::erase_if(shorter.tensors, [](const auto& item) { return item.first.ends_with(".ro.0"); });
  EXPECT_THAT(run.error_of(shorter), HasSubstr("differ in length"));
  auto small = good;
  small.metadata["optimizers"][0]["groups"][0]["history_size"] = 0;
  EXPECT_THAT(run.error_of(small), HasSubstr("history_size is 0, not a whole number from 1 on"));
  small.metadata["optimizers"][0]["groups"][0]["history_size"] = 1;
  EXPECT_THAT(run.error_of(small), HasSubstr("longer than history_size"));
  small.metadata["optimizers"][0]["groups"][0]["history_size"] = int64_t{1} << 60;
  EXPECT_THAT(run.error_of(small), HasSubstr("history_size is 1152921504606846976, not"));
  auto text = good;
  text.metadata["optimizers"][0]["groups"][0]["line_search_fn"] = "weak";
  EXPECT_THAT(run.error_of(text), HasSubstr("not null or \"strong_wolfe\""));
}

TEST(OptimizerState, AdagradNeedsTheStateOfEveryParameter) {
  Training run(libtorch<to::Adagrad>(to::AdagradOptions()));
  auto checkpoint = run.save();
  std::erase_if(checkpoint.tensors, [](const auto& item) { return item.first.starts_with("optimizer.0.idle.bias"); });
  EXPECT_THAT(run.error_of(checkpoint),
              HasSubstr("2 missing in it: optimizer.0.idle.bias.step, optimizer.0.idle.bias.sum"));
}

class Own : public to::SGD {
 public:
  using to::SGD::SGD;
};

TEST(OptimizerState, AnUnknownClassIsWrittenWithoutItsStateAndNotResumed) {
  Training run(libtorch<Own>(to::SGDOptions(0.25).momentum(0.9))), sgd(libtorch<to::SGD>(to::SGDOptions(0.1)));
  run.step(0);
  const auto checkpoint = run.save();
  const auto& entry = checkpoint.metadata["optimizers"][0];
  EXPECT_EQ(entry["state"], "not saved");
  EXPECT_EQ(entry["groups"][0]["lr"], 0.25);
  EXPECT_THAT(run.error_of(checkpoint),
              AllOf(HasSubstr("does not hold the state of optimizer 0 ("), HasSubstr("Own)"), HasSubstr("LBFGS")));
  EXPECT_THAT(sgd.error_of(checkpoint), HasSubstr("does not hold the state of optimizer 0 ("));
  EXPECT_THAT(run.error_of(sgd.save()), HasSubstr("optimizer 0 is SGD in the checkpoint"));
}

TEST(FusedAdamRestore, RefusesStateThatItsKernelsCannotUse) {
  auto parameter = torch::ones({3}, torch::requires_grad());
  const auto adam = optim::adam({parameter});
  using State = optim::FusedAdam::State;
  const auto restore = [&](optim::AdamOptions options, std::vector<std::optional<State>> states) {
    adam->restore({options}, {std::move(states)});
  };
  const State good = {torch::ones({}), torch::zeros({3}), torch::zeros({3}), {}};
  EXPECT_NO_THROW(restore({}, {good}));
  EXPECT_THROW(restore({}, {}), UsageError);
  auto reshaped = good;
  reshaped[1] = torch::zeros({2});
  EXPECT_THROW(restore({}, {reshaped}), UsageError);
  EXPECT_THROW(restore({.amsgrad = true}, {good}), UsageError);
  EXPECT_THROW(restore({.lr = NAN}, {good}), UsageError);
  EXPECT_THROW(adam->restore({}, {}), UsageError);
}

}  // namespace
}  // namespace troupe
