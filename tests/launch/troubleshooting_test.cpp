// The likeliest mistakes, made on purpose: docs/troubleshooting.md shows what each of them is told, word by word.
#include "tests/support/file_content.hpp"
#include "tests/support/lines.hpp"
#include "tests/support/program.hpp"
#include "troupe/launch/rank_facts.hpp"
#include "troupe/runtime/collectives/launch_environment.hpp"

#include <gmock/gmock.h>
#include <torch/headeronly/version.h>

#include <sstream>

namespace troupe {
namespace {

class Troubleshooting : public ::testing::Test {
 protected:
  /// The page has each line of `said` that the library wrote, whole and as code. Folders of the test are `runs` there.
  void expect_on_page(std::string said) const {
    const auto dir = dir_.path().string();
    for (auto at = said.find(dir); at != std::string::npos; at = said.find(dir)) said.replace(at, dir.size(), "runs");
    EXPECT_FALSE(said.empty()) << "nothing was said";
    std::istringstream lines(said);
    for (std::string line; std::getline(lines, line);) {
      EXPECT_NE(page_.find("\n    " + line + "\n"), std::string::npos)
          << "not in docs/troubleshooting.md:\n    " << line;
    }
  }
  std::string error_of_fit(const std::shared_ptr<Module>& module, DataLoaders train = points()) const {
    testing::internal::CaptureStderr();  // it says that there is no validation loader
    const auto error = error_of([&] { Trainer(options_).fit(module, std::move(train)); });
    testing::internal::GetCapturedStderr();
    return error;
  }
  template <class Step>
  void expect_of_step(Step step) const {
    expect_on_page(error_of_fit(std::make_shared<Steps>(std::move(step))));
  }
  std::string error_of_resuming(const std::shared_ptr<Module>& module, const std::filesystem::path& path) const {
    return error_of([&] { Trainer(options_).fit(module, points(), points(), {.ckpt_path = path.string()}); });
  }

  class Steps : public Line {
   public:
    using Step = std::function<StepOutput(Steps&, const Batch&)>;
    explicit Steps(Step step) : step_(std::move(step)) {}
    StepOutput training_step(const Batch& batch, int64_t) override { return step_(*this, batch); }

   private:
    Step step_;
  };

  TempDir dir_;
  TrainerOptions options_ = quiet(dir_);
  std::string page_ = content_of(std::string(TROUPE_SOURCE_DIR) + "/docs/troubleshooting.md");
};

// The page has LibTorch's own words from 2.11; other versions say the same in another way.
constexpr bool has_words_of_page = TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR == 11;

torch::Tensor scores_of(Module& module, const Batch& batch) {  // of three classes
  return module.forward(batch[0]).expand({-1, 3});
}

// --- Shapes, types and devices ---

TEST_F(Troubleshooting, ALayerOfAnotherSize) {
  if (!has_words_of_page) GTEST_SKIP() << "LibTorch " << TORCH_VERSION << " has other words";
  const auto wide = torch::nn::Linear(3, 1);
  expect_of_step([&](Module&, const Batch& batch) { return torch::nn::Linear(wide)(batch[0]).mean(); });
}

TEST_F(Troubleshooting, RowsOfAnotherType) {
  expect_of_step([](Module& module, const Batch& batch) { return module.forward(batch[0].to(torch::kDouble)).mean(); });
}

TEST_F(Troubleshooting, LabelsOutOfRange) {
  expect_of_step([](Module& module, const Batch& batch) {
    return torch::cross_entropy_loss(scores_of(module, batch), torch::full({batch.size()}, 3));
  });
}

TEST_F(Troubleshooting, LabelsOfAnotherType) {
  if (!has_words_of_page) GTEST_SKIP() << "LibTorch " << TORCH_VERSION << " has other words";
  expect_of_step([](Module& module, const Batch& batch) {
    return torch::cross_entropy_loss(scores_of(module, batch), torch::zeros({batch.size()}));
  });
}

TEST_F(Troubleshooting, ALossThatIsNoScalar) {
  expect_of_step([](Module& module, const Batch& batch) {
    return torch::mse_loss(module.forward(batch[0]), batch[1], at::Reduction::None);
  });
}

TEST_F(Troubleshooting, MoreTensorsThanTheBatchHas) {
  expect_of_step([](Steps& module, const Batch& batch) {
    auto [x, y, weight] = batch.get<3>();
    return module.error(Batch{x, y}) * weight.mean();
  });
}

TEST_F(Troubleshooting, ATensorOnAnotherDevice) {
  expect_of_step([](Module& module, const Batch& batch) {
    return (module.forward(batch[0]) * torch::ones({16, 1}, torch::kMeta)).mean();
  });
}

TEST_F(Troubleshooting, ATensorThatTheBackwardPassNeedsIsChanged) {
  if (!has_words_of_page) GTEST_SKIP() << "LibTorch " << TORCH_VERSION << " has other words";
  expect_of_step([](Module& module, const Batch& batch) {
    auto scores = module.forward(batch[0]).exp();
    const auto loss = scores.square().mean();
    scores.mul_(2);
    return loss;
  });
}

TEST_F(Troubleshooting, TooLittleMemory) {
  expect_of_step(
      [](Steps& module, const Batch& batch) { return module.error(batch) + torch::zeros({int64_t{1} << 50}).sum(); });
}

// --- Nothing is learnt ---

TEST_F(Troubleshooting, ADetachedLoss) {
  expect_of_step([](Steps& module, const Batch& batch) { return torch::tensor(module.error(batch).item<float>()); });
}

TEST_F(Troubleshooting, AFrozenModule) {
  const auto line = std::make_shared<Line>();
  line->freeze();
  expect_on_page(error_of_fit(line));
}

class ForgetsItsOptimizer : public Line {
 public:
  Optimizers configure_optimizers() override { return {}; }
};

TEST_F(Troubleshooting, NoOptimizerAndNoValidationLoader) {
  testing::internal::CaptureStderr();
  Trainer(options_).fit(std::make_shared<ForgetsItsOptimizer>(), points());
  expect_on_page(testing::internal::GetCapturedStderr());
}

class ForgetsToRegister : public Line {
 public:
  StepOutput training_step(const Batch& batch, int64_t) override {
    return torch::mse_loss(hidden_(batch[0]), batch[1]);
  }
  Optimizers configure_optimizers() override { return optim::sgd(hidden_->parameters(), {.lr = 0.1}); }

 private:
  torch::nn::Linear hidden_{1, 1};
};

TEST_F(Troubleshooting, ALayerThatIsNotRegistered) {
  expect_on_page(error_of_fit(std::make_shared<ForgetsToRegister>()));
}

TEST_F(Troubleshooting, ALossThatIsNotFinite) {
  options_.nonfinite = NonFinite::stop;
  expect_on_page(error_of([&] { Trainer(options_).fit<Line>({.lr = 1e30}, points(), points()); }));
}

// --- Data ---

TEST_F(Troubleshooting, NoLoader) {
  expect_on_page(error_of_fit(std::make_shared<Line>(), {}));
}

TEST_F(Troubleshooting, FewerSamplesThanABatch) {
  expect_on_page(
      error_of_fit(std::make_shared<Line>(), DataLoader(points().dataset(), {.batch_size = 100, .drop_last = true})));
}

TEST_F(Troubleshooting, ALimitThatLeavesNothing) {
  options_.limit_train_batches = 0.01;
  expect_on_page(error_of_fit(std::make_shared<Line>()));
}

class Ragged : public Dataset {
 public:
  int64_t size() const override { return 8; }
  Batch get(int64_t index) override { return {torch::ones({1 + index % 2}), torch::ones({1})}; }
};

TEST_F(Troubleshooting, SamplesOfSeveralShapes) {
  expect_on_page(error_of_fit(std::make_shared<Line>(), DataLoader(std::make_shared<Ragged>(), {.batch_size = 4})));
}

// --- Metrics ---

TEST_F(Troubleshooting, AMetricThatIsNotLogged) {
  options_.callbacks = {std::make_shared<EarlyStopping>(EarlyStoppingOptions{.monitor = "val_los"})};
  expect_on_page(error_of([&] { Trainer(options_).fit<Line>({}, points(), points()); }));
}

TEST_F(Troubleshooting, AValueThatIsNoScalar) {
  expect_of_step([](Steps& module, const Batch& batch) {
    module.log("scores", module.forward(batch[0]));
    return module.error(batch);
  });
}

class LogsAStepAtTheEnd : public Line {
 public:
  void on_train_epoch_end() override { log("epochs", 1.0, {.on_step = true}); }
};

TEST_F(Troubleshooting, AStepIsLoggedWhereThereIsNone) {
  expect_on_page(error_of_fit(std::make_shared<LogsAStepAtTheEnd>()));
}

// --- Checkpoints ---

class Deeper : public Line {
 public:
  Deeper() { register_module("more", torch::nn::Linear(1, 1)); }
};

TEST_F(Troubleshooting, CheckpointsThatDoNotFit) {
  Trainer trainer(options_);
  trainer.fit<Line>({}, points(), points());
  const auto last = trainer.run_dir() / "checkpoints" / "last.safetensors";
  expect_on_page(error_of_resuming(std::make_shared<Deeper>(), last));
  expect_on_page(error_of_resuming(std::make_shared<Line>(), last.parent_path() / "lst.safetensors"));
  write_pth(named_model_tensors(Line()), dir_ / "weights.pth");
  expect_on_page(error_of_resuming(std::make_shared<Line>(), dir_ / "weights.pth"));
}

TEST_F(Troubleshooting, ATestWithoutATraining) {
  expect_on_page(error_of([&] { Trainer(options_).test(points(), {.ckpt_path = "best"}); }));
}

// --- Options, devices and processes ---

TEST_F(Troubleshooting, OptionsThatCannotBe) {
  for (const char* words :
       {"fit --data.batchsize 3", "fit --trainer.devices two", "fit --trainer.accelerator gpu", "fit --optimizer adma",
        "fit --optimizer adam --optimizer.beta 0.9", "fit --trainer.default_root_dir /proc/none"}) {
    expect_on_page(run_program(example("digits") + " " + words + " 2>&1").output);
  }
}

TEST_F(Troubleshooting, NoGpu) {
  if (torch::cuda::is_available()) GTEST_SKIP() << "there is one";
  options_.accelerator = Accelerator::cuda;
  expect_on_page(error_of([&] { Trainer(options_).fit<Line>({}, points(), points()); }));
}

TEST_F(Troubleshooting, OneModuleForSeveralDevices) {
  options_.devices = 2;
  options_.accelerator = Accelerator::cpu;
  expect_on_page(error_of_fit(std::make_shared<Line>()));
}

TEST_F(Troubleshooting, AnotherMpirun) {
  expect_on_page(error_of([] { check_size_of_mpi({.launcher = Launcher::mpi, .size = 4}, 1); }));
}

TEST_F(Troubleshooting, RanksWithOtherOptions) {
  const RankFacts first{"node0", "/shared/digits", "aa", "/lib/libtorch_cpu.so", {{"model", {{"lr", 0.1}}}}};
  auto second = first;
  second.host = "node1";
  second.options["model"]["lr"] = 0.2;
  expect_on_page(disagreement({first, second}));
}

}  // namespace
}  // namespace troupe
