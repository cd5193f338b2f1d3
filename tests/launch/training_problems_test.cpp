// Trainings that cannot be, or are not what they seem: what the user is told.
#include "tests/support/lines.hpp"

#include <gmock/gmock.h>

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class Problems : public ::testing::Test {
 protected:
  // What a fit says on stderr; what it throws is in error_.
  template <class M>
  std::string said_by_fit(std::shared_ptr<M> module, const DataLoader& loader = points()) {
    Trainer trainer(options_);
    testing::internal::CaptureStderr();
    error_ = error_of([&] { trainer.fit(std::move(module), loader); });
    return testing::internal::GetCapturedStderr();
  }
  template <class M>
  std::string error_of_fit(std::shared_ptr<M> module, const DataLoader& loader = points()) {
    said_by_fit(std::move(module), loader);
    return error_;
  }

  TempDir dir_;
  TrainerOptions options_ = quiet(dir_);
  std::string error_;
};

// --- Nothing to train ---

TEST_F(Problems, AFrozenModuleIsTrained) {
  const auto module = std::make_shared<Line>();
  module->freeze();
  EXPECT_THAT(error_of_fit(module), AllOf(HasSubstr("the module is frozen: none of its 2 parameters needs a gradient"),
                                          HasSubstr("call unfreeze() before fit")));
  module->unfreeze();
  EXPECT_EQ(error_of_fit(module), "");
}

class TroubledByHand : public Line {
 public:
  TroubledByHand() { automatic_optimization = false; }
  StepOutput training_step(const Batch& batch, int64_t) override {
    optimizer().zero_grad();
    manual_backward(error(batch));
    optimizer().step();
    return {};
  }
};

TEST_F(Problems, AFrozenModuleIsTrainedByHand) {
  const auto module = std::make_shared<TroubledByHand>();
  module->freeze();
  EXPECT_THAT(error_of_fit(module), HasSubstr("the module is frozen"));
}

class Detached : public Line {
 public:
  StepOutput training_step(const Batch& batch, int64_t) override { return error(batch).detach(); }
};

TEST_F(Problems, ALossIsDetached) {
  EXPECT_THAT(error_of_fit(std::make_shared<Detached>()),
              AllOf(HasSubstr("depends on no parameter that is trained"), Not(HasSubstr("is frozen:"))));
}

// --- Several optimizers ---

class TwoOptimizers : public Line {
 public:
  Optimizers configure_optimizers() override {
    return {optim::sgd({layer_->weight}, {.lr = 0.1}), optim::sgd({layer_->bias}, {.lr = 0.1})};
  }
};

TEST_F(Problems, TwoOptimizersAndAStepThatTakesNoIndex) {
  EXPECT_THAT(error_of_fit(std::make_shared<TwoOptimizers>()),
              AllOf(HasSubstr("configure_optimizers returned 2 optimizers, but training_step takes no optimizer_idx"),
                    HasSubstr("int64_t optimizer_idx)"), HasSubstr("automatic_optimization = false")));
}

// --- Parameters that the module does not have ---

struct ForeignOptions {
  int64_t kind = 0;   // 0: a tensor, 1: a layer, 2: a buffer, 3: none
  bool late = false;  // only from the second epoch on
};
TROUPE_OPTIONS(ForeignOptions, (kind, ""), (late, ""))

class Foreign : public ModuleWith<ForeignOptions> {
 public:
  explicit Foreign(ForeignOptions options = {}) : ModuleWith(options) {
    layer = register_module("layer", torch::nn::Linear(1, 1));
    if (options.kind == 0) other = torch::ones({3, 2}, torch::requires_grad());
    if (options.kind == 1) other = torch::nn::Linear(2, 3)->weight;
    if (options.kind == 2) other = register_buffer("other", torch::ones({3, 2}, torch::requires_grad()));
    if (options.kind == 3) other = register_parameter("other", torch::ones({3, 2}));
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    return torch::mse_loss(layer(batch[0]), batch[1]) + 0 * other.sum();
  }
  Optimizers configure_optimizers() override {
    auto parameters = layer->parameters();
    if (!options().late) parameters.push_back(other);
    return {optim::sgd({layer->weight}, {.lr = 0.1}), optim::sgd(parameters, {.lr = 0.1})};
  }
  StepOutput training_step(const Batch& batch, int64_t, int64_t) override { return training_step(batch, 0); }
  void on_train_epoch_start() override {
    if (options().late && current_epoch() == 1) {
      trainer().optimizers()[1].add_param_group(torch::optim::OptimizerParamGroup(std::vector<torch::Tensor>{other}));
    }
  }
  torch::nn::Linear layer{nullptr};
  torch::Tensor other;
};

TEST_F(Problems, AnOptimizerHasAParameterThatTheModuleDoesNotHave) {
  for (const auto strategy : {Strategy::automatic, Strategy::ddp, Strategy::zero}) {
    for (const int64_t kind : {0, 1, 2, 3}) {
      SCOPED_TRACE(name_of(strategy) + std::to_string(kind));
      options_.strategy = strategy;
      options_.devices = strategy == Strategy::automatic ? 1 : 2;
      options_.accelerator = Accelerator::cpu;
      if (kind == 2 && options_.devices == 2) continue;  // ranks cannot share a buffer that needs a gradient
      const auto error = error_of([&] { Trainer(options_).fit<Foreign>({.kind = kind}, points()); });
      if (kind == 3) {
        EXPECT_EQ(error, "");
      } else {
        EXPECT_THAT(error, AllOf(HasSubstr("optimizer 1: parameter 2 of group 0, of shape [3, 2]"),
                                 HasSubstr("register_parameter"), HasSubstr("configure_optimizers")));
      }
    }
  }
}

TEST_F(Problems, AnOptimizerGetsSuchAParameterLater) {
  for (const int64_t kind : {0, 3}) {
    const auto error = error_of([&] { Trainer(options_).fit<Foreign>({.kind = kind, .late = true}, points()); });
    if (kind == 3) {
      EXPECT_EQ(error, "");
    } else {
      EXPECT_THAT(error, HasSubstr("optimizer 1: parameter 0 of group 1, of shape [3, 2]"));
    }
  }
}

// --- Parameters without a gradient ---

class Spare : public Module {
 public:
  Spare() {
    used_ = register_module("used", torch::nn::Linear(1, 1));
    spare_ = register_module("spare", torch::nn::Linear(1, 2));
    stray_ = register_module("stray", torch::nn::Linear(1, 1));
    frozen_ = register_module("frozen", torch::nn::Linear(1, 1));
    for (auto& parameter : frozen_->parameters()) parameter.set_requires_grad(false);
  }
  StepOutput training_step(const Batch& batch, int64_t) override { return torch::mse_loss(used_(batch[0]), batch[1]); }
  Optimizers configure_optimizers() override {
    auto parameters = used_->parameters();
    for (const auto& layer : {spare_, frozen_}) {
      for (const auto& parameter : layer->parameters()) parameters.push_back(parameter);
    }
    return optim::sgd(parameters, {.lr = 0.1});
  }

 private:
  torch::nn::Linear used_{nullptr}, spare_{nullptr}, stray_{nullptr}, frozen_{nullptr};
};

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST_F(Problems, ParametersWithoutAGradientAreNamedOnceOnRequest) {
  EXPECT_THAT(said_by_fit(std::make_shared<Spare>()), Not(HasSubstr("spare.weight")));
  options_.detect_unused_parameters = true;
  const auto said = said_by_fit(std::make_shared<Spare>());
  EXPECT_EQ(error_, "");
  EXPECT_EQ(count(said, "without a gradient at the first step of optimizer 0: spare.weight, spare.bias"), 1u) << said;
  EXPECT_EQ(count(said, "that no optimizer has: stray.weight, stray.bias"), 1u) << said;
  EXPECT_THAT(said, Not(HasSubstr("frozen")));
  EXPECT_THAT(said_by_fit(std::make_shared<Line>()), Not(HasSubstr("gradient")));
}

class SpareOfTwo : public Line {
 public:
  SpareOfTwo() { spare_ = register_module("spare", torch::nn::Linear(1, 1)); }
  StepOutput training_step(const Batch& batch, int64_t, int64_t) override { return error(batch); }
  Optimizers configure_optimizers() override {
    return {optim::sgd(layer_->parameters(), {.lr = 0.1}),
            optim::sgd({layer_->bias, spare_->weight, spare_->bias}, {.lr = 0.1})};
  }

 private:
  torch::nn::Linear spare_{nullptr};
};

TEST_F(Problems, ParametersWithoutAGradientAreNamedByOptimizer) {
  options_.detect_unused_parameters = true;
  options_.accumulate_grad_batches = 2;
  const auto said = said_by_fit(std::make_shared<SpareOfTwo>());
  EXPECT_THAT(said, HasSubstr("optimizer 1: spare.weight, spare.bias"));
  EXPECT_THAT(said, Not(HasSubstr("optimizer 0")));
  EXPECT_THAT(said, Not(HasSubstr("no optimizer has")));
}

// --- Hiddens ---

enum class Mistake { none, shape, name, forgotten };

class RecurrentWithState : public Module {
 public:
  explicit RecurrentWithState(Mistake mistake) : mistake_(mistake) {
    gru_ = register_module("gru", torch::nn::GRU(torch::nn::GRUOptions(1, 3).batch_first(true)));
    truncated_bptt_steps = 2;
  }
  StepOutput training_step(const Batch& part, int64_t, const StepOutput& hiddens) override {
    const auto state = hiddens.empty() ? torch::Tensor() : hiddens[mistake_ == Mistake::name ? "hiden" : "hidden"];
    const auto [out, next] = gru_(part[0], state);
    const auto loss = out.square().mean();
    if (mistake_ == Mistake::forgotten) return loss;
    return {{"loss", loss}, {"hidden", mistake_ == Mistake::shape ? next.transpose(0, 1).contiguous() : next}};
  }
  Optimizers configure_optimizers() override { return optim::sgd(parameters(), {.lr = 0.1}); }

 private:
  Mistake mistake_;
  torch::nn::GRU gru_{nullptr};
};

std::shared_ptr<RecurrentWithState> with_mistake(Mistake mistake) {
  return std::make_shared<RecurrentWithState>(mistake);
}

DataLoader sequences_of_state() {
  return {std::make_shared<TensorDataset>(torch::linspace(0, 1, 24).reshape({4, 6, 1})), {.batch_size = 2}};
}

TEST_F(Problems, HiddensOfTheWrongShapeAreShownWithThePart) {
  EXPECT_EQ(error_of_fit(with_mistake(Mistake::none), sequences_of_state()), "");
  EXPECT_THAT(error_of_fit(with_mistake(Mistake::shape), sequences_of_state()),
              AllOf(HasSubstr("part 2 of 3 of the batch"), HasSubstr("tensors [2, 2, 1]"),
                    HasSubstr("hiddens hidden [2, 1, 3]"), HasSubstr("in training_step")));
}

TEST_F(Problems, HiddensThatAreNotThereAreNamed) {
  EXPECT_THAT(error_of_fit(with_mistake(Mistake::name), sequences_of_state()),
              AllOf(HasSubstr("no 'hiden'"), HasSubstr("part 2 of 3")));
  EXPECT_THAT(error_of_fit(with_mistake(Mistake::forgotten), sequences_of_state()),
              AllOf(HasSubstr("truncated_bptt_steps = 2"), HasSubstr("\"hidden\""), HasSubstr("it returned loss []")));
}

}  // namespace
}  // namespace troupe
