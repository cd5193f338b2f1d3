// Steps that cannot be captured, and why; steps that change their mind.
#include "tests/launch/capture/captured.hpp"
#include "tests/support/refusal.hpp"

#include <gmock/gmock.h>

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// A line whose step does something besides.
struct Doing : Module {
  using Extra = std::function<torch::Tensor(Doing&, const torch::Tensor& loss, int64_t batch_idx)>;
  explicit Doing(Extra extra) : extra(std::move(extra)) { layer = register_module("layer", torch::nn::Linear(1, 1)); }
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    return extra(*this, torch::mse_loss(layer(batch[0]), batch[1]), batch_idx);
  }
  Optimizers configure_optimizers() override { return optim::sgd(parameters(), {.lr = 0.1}); }

  Extra extra;
  torch::nn::Linear layer{nullptr};
  torch::Tensor kept = torch::ones({});
};

class RefusedStep : public CapturedStep {
 protected:
  /// Why the step is not captured; it trains as a plain one all the same, or says so where it has to be captured.
  std::string reason_against(const Doing::Extra& extra) {
    const auto make = [&] { return std::make_shared<Doing>(extra); };
    const Left plain = run(make, points(), options(), CaptureStep::off);
    expect_same(plain, run(make, points(), options(), CaptureStep::automatic));
    EXPECT_EQ(captured.refusals.size(), 1u);
    const std::string reason = captured.refusals.empty() ? "" : captured.refusals.front();
    EXPECT_THAT(error_of([&] { run(make, points(), options(), CaptureStep::require); }), HasSubstr(reason));
    return reason;
  }
};

TEST_F(RefusedStep, ReadsANumber) {
  EXPECT_THAT(
      reason_against([](Doing&, auto& loss, int64_t) { return loss.template item<double>() > 1e9 ? loss * 2 : loss; }),
      HasSubstr("reads a number back to the host (item()"));
}

TEST_F(RefusedStep, HasAShapeThatDependsOnValues) {
  EXPECT_THAT(reason_against([](Doing&, auto& loss, int64_t) { return loss + torch::nonzero(loss > 0).sum() * 0; }),
              HasSubstr("the shape of aten::nonzero's result depends on values"));
  EXPECT_THAT(reason_against([](Doing& m, auto& loss, int64_t) {
                return loss + m.layer->weight.index({m.layer->weight > 0}).sum();
              }),
              HasSubstr("depends on values"));
}

TEST_F(RefusedStep, DoesWhatAReplayDoesNot) {
  EXPECT_THAT(reason_against([](Doing& m, auto& loss, int64_t) {
                m.log("one", 1.0);
                return loss;
              }),
              HasSubstr("log(one) is given a number"));
  EXPECT_THAT(reason_against([mean = std::make_shared<metrics::MeanMetric>()](Doing&, auto& loss, int64_t) {
                mean->update(2.0);
                return loss;
              }),
              HasSubstr("MeanMetric is given a number of the host"));
  EXPECT_THAT(reason_against([](Doing& m, auto& loss, int64_t) {
                m.print("hello");
                return loss;
              }),
              HasSubstr("it prints"));
  EXPECT_THAT(reason_against([](Doing& m, auto& loss, int64_t) { return m.global_step() < 0 ? loss * 2 : loss; }),
              HasSubstr("how far the run is"));
}

TEST_F(RefusedStep, SeedsTheGenerator) {
  EXPECT_THAT(reason_against([](Doing&, auto& loss, int64_t) {
                torch::manual_seed(5);
                return loss * torch::rand({});
              }),
              HasSubstr("it seeds the random generator"));
}

TEST_F(RefusedStep, MakesATensorLarger) {
  EXPECT_THAT(reason_against([](Doing&, auto& loss, int64_t) {
                const torch::NoGradGuard no_gradients;
                auto sum = torch::empty({0});
                torch::add_out(sum, loss.detach(), loss.detach());
                return loss;
              }),
              HasSubstr("larger"));
}

TEST_F(RefusedStep, DoesSomethingElseInItsSecondBatch) {
  EXPECT_THAT(reason_against([](Doing&, auto& loss, int64_t i) { return i == 0 ? loss : loss * 2; }),
              AllOf(HasSubstr("two steps differ"), HasSubstr("operator")));
  EXPECT_THAT(reason_against([](Doing&, auto& loss, int64_t i) { return loss * (i + 2.5); }),
              AllOf(HasSubstr("aten::mul.Scalar"), HasSubstr("other is 2.5 in one step and 3.5 in the next")));
  EXPECT_THAT(
      reason_against([](Doing&, auto& loss, int64_t i) { return loss * torch::tensor(1.f + static_cast<float>(i)); }),
      AllOf(HasSubstr("aten::scalar_tensor"), HasSubstr("is 1. in one step and 2. in the next")));
  EXPECT_THAT(reason_against([](Doing& m, auto& loss, int64_t) {
                m.kept = m.kept * 1.5;
                return loss * m.kept;
              }),
              HasSubstr("aten::mul"));
}

// Running statistics that a step makes for itself, of an input with gaps.
TEST_F(CapturedStep, HasItsOwnStatistics) {
  const auto step = [](Doing&, const torch::Tensor& loss, int64_t) {
    const auto x = loss * torch::arange(48.f).view({3, 4, 2, 2});
    const auto mean = torch::zeros({2}), var = torch::ones({2});
    const auto y = torch::batch_norm(x.slice(1, 0, 2), {}, {}, mean, var, true, 0.1, 1e-5, false);
    return loss + y.abs().sum() * 1e-3 + (mean.sum() + var.sum()) * loss;
  };
  expect_captured([=] { return std::make_shared<Doing>(step); }, points(), options());
}

TEST_F(CapturedStep, TakesTensorsThatAreMadeOfTheSameNumbersEachTime) {
  expect_captured(
      [] {
        return std::make_shared<Doing>(
            [](Doing& m, auto& loss, int64_t) { return loss * torch::tensor({2.5f}).sum() * m.kept; });
      },
      points(), options());
}

// A tensor that the module gives another value in place is read anew in each replay, and one that it replaces too.
struct Annealed : Doing {
  Annealed() : Doing([](Doing& m, auto& loss, int64_t) { return loss * m.kept; }) {}
  void on_train_epoch_start() override {
    if (current_epoch() == 1) kept.mul_(0.5);
    if (current_epoch() == 2) kept = torch::full({}, 3.0);
  }
};

TEST_F(CapturedStep, ReadsWhatTheModuleKeeps) {
  auto longer = options();
  longer.max_epochs = 5;
  expect_captured([] { return std::make_shared<Annealed>(); }, points(), longer);
}

// The same if several programs read it, and if the first two were equal.
struct WarmedUp : Doing {
  WarmedUp() : Doing([](Doing& m, auto& loss, int64_t) { return loss * m.kept; }) {}
  EpochControl on_train_batch_start(const Batch&, int64_t) override {
    kept = torch::full({}, ++count < 5 ? 1.0 : 0.5 + 0.1 * static_cast<double>(count / 8));
    return EpochControl::proceed;
  }
  int64_t count = 0;
};

TEST_F(CapturedStep, ReadsWhatAHookReplaces) {
  auto longer = options();
  longer.max_epochs = 5;
  const auto make = [] { return std::make_shared<WarmedUp>(); };
  const Left plain = run(make, points(24), longer, CaptureStep::off);
  expect_same(plain, run(make, points(24), longer, CaptureStep::automatic));
  const auto annealed = [] { return std::make_shared<Annealed>(); };
  longer.accumulate_grad_batches = 2;
  expect_captured(annealed, points(24), longer);
}

// A layer that is frozen from some epoch on, and a mode that a hook sets.
struct Changing : Doing {
  Changing() : Doing([](Doing& m, auto& loss, int64_t) { return m.is_training() ? loss : loss * 2; }) {}
  void on_train_epoch_start() override {
    layer->bias.set_requires_grad(current_epoch() != 1);
    train(current_epoch() != 2);
  }
};

TEST_F(CapturedStep, IsRecordedAnewWhenTheModuleChanges) {
  auto longer = options();
  longer.max_epochs = 4;
  expect_captured([] { return std::make_shared<Changing>(); }, points(), longer);
}

// An index out of range in batch 6, which is replayed.
struct FailsInItsStep : Module {
  FailsInItsStep() { rows = register_module("rows", torch::nn::Embedding(10, 1)); }
  StepOutput training_step(const Batch& batch, int64_t) override { return rows(batch[0]).pow(2).mean(); }
  Optimizers configure_optimizers() override { return optim::sgd(parameters(), {.lr = 0.1}); }
  void teardown(Stage) override { had_gradients = torch::GradMode::is_enabled(); }

  torch::nn::Embedding rows{nullptr};
  bool had_gradients = false;
};

TEST_F(CapturedStep, ThatFailsEndsTheRunLikeAPlainOne) {
  auto indices = torch::arange(64).remainder(10);
  indices[50] = 10;
  const DataLoader loader{std::make_shared<TensorDataset>(indices), {.batch_size = 8}};
  const auto module = std::make_shared<FailsInItsStep>();
  const auto error_by = [&](CaptureStep capture) {
    return error_of([&] { run([&] { return module; }, loader, options(), capture); });
  };
  const std::string error = error_by(CaptureStep::require);
  EXPECT_THAT(error, AllOf(HasSubstr("index out of range in self"), HasSubstr("training_step"), HasSubstr("batch 6")));
  EXPECT_TRUE(module->had_gradients);
  EXPECT_EQ(error, error_by(CaptureStep::off));
}

TEST_F(RefusedStep, ChangesItsMindLater) {
  const auto make = [] {
    return std::make_shared<Doing>([](Doing&, auto& loss, int64_t i) { return i < 3 ? loss * 2 : loss * 3; });
  };
  auto checked = options();
  checked.capture_step_check_every = 1;
  EXPECT_THAT(error_of([&] { run(make, points(), checked, CaptureStep::check); }),
              AllOf(HasSubstr("capture_step = check"), HasSubstr("aten::mul.Scalar")));
}

TEST_F(RefusedStep, HasMoreShapesThanAreCaptured) {
  torch::manual_seed(1);
  auto few = options();
  few.capture_step_programs = 1;
  const auto make = [] { return std::make_shared<Doing>([](Doing&, auto& loss, int64_t) { return loss; }); };
  const Left plain = run(make, points(24), options(), CaptureStep::off);
  expect_same(plain, run(make, points(24), few, CaptureStep::automatic));
  EXPECT_THAT(captured.refusals, Contains(HasSubstr("more than 1 shapes of batches")));
  EXPECT_EQ(captured.programs.size(), 1u);
  EXPECT_GT(captured.replays(), 0);
}

}  // namespace
}  // namespace troupe
