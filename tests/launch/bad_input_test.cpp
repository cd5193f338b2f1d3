// Bad input gets one clear sentence, and nothing is lost.
#include "tests/support/lines.hpp"
#include "tests/support/program.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <limits>

#include <unistd.h>

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// What fit says about `module`.
template <class M>
std::string fit_error(std::shared_ptr<M> module, const DataLoader& loader = points(), DataLoaders val = {}) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  const std::string error = error_of([&] { trainer.fit(module, loader, std::move(val)); });
  EXPECT_EQ(trainer.module(), module) << "the model must be kept";
  return error;
}

TEST(BadInput, AnEmptyDataset) {
  const DataLoader empty(std::make_shared<TensorDataset>(torch::zeros({0, 1}), torch::zeros({0, 1})));
  EXPECT_THAT(fit_error(std::make_shared<Line>(), empty),
              HasSubstr("the train loader has no batch: its dataset is empty"));
  EXPECT_THAT(fit_error(std::make_shared<Line>(), points(), empty), HasSubstr("the validation loader has no batch"));
  const DataLoader dropped(points().dataset(), {.batch_size = 100, .drop_last = true});
  EXPECT_THAT(fit_error(std::make_shared<Line>(), dropped), HasSubstr("64 samples are fewer than batch_size = 100"));
  struct Some : Sampler {
    explicit Some(int64_t samples) : count_(samples) {}
    std::vector<int64_t> indices(int64_t, uint64_t, int64_t) const override {
      return std::vector<int64_t>(static_cast<std::size_t>(count_), 0);
    }
    int64_t count_;
  };
  const DataLoader nothing(points().dataset(), {.sampler = std::make_shared<Some>(0)});
  EXPECT_THAT(fit_error(std::make_shared<Line>(), nothing),
              HasSubstr("the train loader has no batch: its sampler gives none of the 64 samples"));
  const DataLoader few(points().dataset(), {.batch_size = 8, .drop_last = true, .sampler = std::make_shared<Some>(3)});
  EXPECT_THAT(fit_error(std::make_shared<Line>(), few), HasSubstr("its 3 samples are fewer than batch_size = 8"));
}

// examples/digits has a number of steps of its own.
TEST(BadInput, ATimeToLogTakesThePlaceOfTheProgramsStepsAndNotOfTheUsers) {
  const TempDir dir;
  const std::string fit = example("digits") + " fit --trainer.fast_dev_run 1 --trainer.default_root_dir " +
                          dir.path().string() + " --trainer.log_every 1s";
  EXPECT_EQ(run_program(fit + " 2>&1").status, 0);
  const auto both = run_program(fit + " --trainer.log_every_n_steps 5 2>&1");
  EXPECT_EQ(both.status, 2);
  EXPECT_THAT(both.output, HasSubstr("with log_every = 1s it would not count: give one of the two"));
}

class Returns : public Line {
 public:
  explicit Returns(StepOutput output) : output_(std::move(output)) {}
  StepOutput training_step(const Batch&, int64_t) override { return output_; }

 private:
  StepOutput output_;
};

TEST(BadInput, ALossThatIsNone) {
  EXPECT_THAT(fit_error(std::make_shared<Returns>(StepOutput(torch::Tensor()))),
              AllOf(HasSubstr("undefined tensor"), HasSubstr("in training_step"), HasSubstr("batch 0")));
  EXPECT_THAT(fit_error(std::make_shared<Returns>(StepOutput(torch::zeros({3, 2})))),
              HasSubstr("a loss of shape [3, 2]"));
  EXPECT_THAT(fit_error(std::make_shared<Returns>(StepOutput({{"pred", torch::zeros({})}}))),
              HasSubstr("without the key \"loss\""));
  EXPECT_THAT(fit_error(std::make_shared<Returns>(StepOutput(torch::zeros({})))), HasSubstr("depends on no parameter"));
}

TEST(BadInput, ABatchMayHoldASparseTensor) {
  for (const int64_t prefetch : {1, 8}) {
    const Collate with_neighbours = [](std::vector<Batch> samples) {
      auto batch = default_collate(std::move(samples));
      batch.append(torch::eye(3).to_sparse());
      batch.append(torch::eye(3).to_sparse_csr());
      return batch;
    };
    const DataLoader loader(points().dataset(),
                            {.batch_size = 16, .num_workers = 1, .collate = with_neighbours, .prefetch = prefetch});
    EXPECT_EQ(fit_error(std::make_shared<Line>(), loader, loader), "");
  }
}

// LibTorch has no views of them.
TEST(BadInput, ASparseTensorOfABatchMayBeCut) {
  const Collate with_itself = [](std::vector<Batch> samples) {
    auto batch = default_collate(std::move(samples));
    const auto x = batch[0];
    batch.append(x.to_sparse());
    batch.append(x.to_sparse_csr());
    return batch;
  };
  const DataLoader loader(points().dataset(), {.batch_size = 16, .collate = with_itself});
  const TempDir dir;
  auto options = quiet(dir);
  options.accelerator = Accelerator::cpu;
  options.strategy = Strategy::dp;
  options.devices = 2;
  EXPECT_EQ(error_of([&] { Trainer(options).fit<Line>({}, loader, loader); }), "");

  const auto dense = torch::arange(24, torch::kFloat32).reshape({2, 12}) % 3;
  const auto parts = Line().tbptt_split_batch({dense, dense.to_sparse(), dense.to_sparse_csr()}, 5);
  ASSERT_EQ(parts.size(), 3u);
  for (const auto& part : parts) {
    EXPECT_EQ(part[1].layout(), torch::kSparse);
    EXPECT_EQ(part[2].layout(), torch::kSparseCsr);
    EXPECT_TRUE(torch::equal(part[1].to_dense(), part[0]));
    EXPECT_TRUE(torch::equal(part[2].to_dense(), part[0]));
  }
  EXPECT_EQ(parts[2][0].size(1), 2);
}

TEST(BadInput, ABatchMayBeSkipped) {
  EXPECT_EQ(fit_error(std::make_shared<Returns>(StepOutput())), "");
}

class WithoutOptimizer : public Line {
 public:
  Optimizers configure_optimizers() override { return {}; }
};

TEST(BadInput, NoOptimizerIsAWarningAndNoTraining) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  auto module = std::make_shared<WithoutOptimizer>();
  const double before = module->weight();
  testing::internal::CaptureStderr();
  trainer.fit(module, points());
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("configure_optimizers returned no optimizer"));
  EXPECT_EQ(module->weight(), before);
  EXPECT_EQ(trainer.global_step(), 0);
}

TEST(BadInput, AMetricThatWasNeverLogged) {
  const TempDir dir;
  auto options = quiet(dir);
  options.callbacks = {std::make_shared<ModelCheckpoint>(ModelCheckpointOptions{.monitor = "val_los"})};
  Trainer trainer(options);
  EXPECT_THAT(error_of([&] { trainer.fit<Line>({}, points(), points()); }),
              AllOf(HasSubstr("val_los"), HasSubstr("val_loss"), HasSubstr("train_loss")));
}

TEST(BadInput, ADataLoaderThatCannotBe) {
  EXPECT_THAT(error_of([] { points(0); }), HasSubstr("batch_size = 0"));
}

TEST(BadInput, OptionsThatAreNoNumber) {
  const TempDir dir;
  auto options = quiet(dir);
  Trainer trainer(options);
  EXPECT_THAT(error_of([&] { trainer.fit<Line>({.lr = std::numeric_limits<double>::quiet_NaN()}, points()); }),
              HasSubstr("model.lr = nan"));
  options.gradient_clip_val = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(error_of([&] { Trainer bad(options); }), HasSubstr("gradient_clip_val"));
}

TEST(BadInput, AFolderThatCannotBeWritten) {
  const TempDir dir;
  std::ofstream(dir.path() / "file") << "in the way";
  auto options = quiet(dir);
  options.default_root_dir = dir.path() / "file";
  Trainer trainer(options);
  EXPECT_THAT(error_of([&] { trainer.fit<Line>({}, points()); }),
              AllOf(HasSubstr("cannot write the run's folder"), HasSubstr("default_root_dir")));
}

class Other : public Module {
 public:
  Other() { register_module("layer", torch::nn::Linear(2, 1)), register_module("more", torch::nn::Linear(1, 1)); }
  StepOutput training_step(const Batch&, int64_t) override { return {}; }
  Optimizers configure_optimizers() override { return optim::adam(parameters()); }
};

TEST(BadInput, CheckpointsThatCannotBeUsed) {
  const TempDir dir;
  const auto options = quiet(dir);
  Trainer trainer(options);
  trainer.fit<Line>({}, points());
  const auto good = trainer.run_dir() / "checkpoints" / "last.safetensors";
  ASSERT_TRUE(std::filesystem::exists(good));
  const auto resume = [&](const std::filesystem::path& path) {
    return error_of([&] { Trainer(options).fit<Line>({}, points(), {}, {.ckpt_path = path.string()}); });
  };
  const auto cut = dir.path() / "cut.safetensors";
  std::filesystem::copy_file(good, cut);
  std::filesystem::resize_file(cut, std::filesystem::file_size(cut) - 3);
  EXPECT_THAT(resume(cut), HasSubstr("cut.safetensors"));
  const auto text = dir.path() / "text.safetensors";
  std::ofstream(text) << "this is no checkpoint";
  EXPECT_THAT(resume(text), HasSubstr("text.safetensors"));
  EXPECT_THAT(resume(dir.path() / "absent.safetensors"), HasSubstr("absent.safetensors"));
  EXPECT_THAT(
      error_of([&] { Trainer(options).fit(std::make_shared<Other>(), points(), {}, {.ckpt_path = good.string()}); }),
      AllOf(HasSubstr("layer.weight"), HasSubstr("[1, 2]"), HasSubstr("more.weight")));
  EXPECT_TRUE(std::filesystem::exists(good));
}

TEST(BadInput, WeightsThatARunCannotGoOnFrom) {
  const TempDir dir;
  const auto options = quiet(dir);
  const Line line;
  write_pth(named_model_tensors(line), dir / "line.pth");
  write_sharded_safetensors(named_model_tensors(line), dir / "folder");
  Checkpoint weights;
  append_model_state(weights, line);
  write_checkpoint(weights, dir / "weights.safetensors");
  const auto resume = [&](const std::filesystem::path& path) {
    return error_of([&] { Trainer(options).fit<Line>({}, points(), {}, {.ckpt_path = path.string()}); });
  };
  const auto what_to_do = AllOf(HasSubstr("holds weights without the state of a run, so fit cannot go on from it"),
                                HasSubstr("load_weights or load_from_checkpoint"));
  EXPECT_THAT(resume(dir / "line.pth"), AllOf(HasSubstr("line.pth' is a file of torch.save"), what_to_do));
  EXPECT_THAT(resume(dir / "folder"),
              AllOf(HasSubstr("model.safetensors' is a safetensors file, but no checkpoint of"), what_to_do));
  EXPECT_THAT(resume(dir / "weights.safetensors"), AllOf(HasSubstr("weights.safetensors' holds"), what_to_do));
  EXPECT_THAT(resume(dir / "wieghts.safetensors"), HasSubstr("No such file or directory; did you mean '"));
  for (const char* taken : {"line.pth", "folder", "weights.safetensors"}) {
    Trainer(options).validate(std::make_shared<Line>(), points(), {.ckpt_path = (dir / taken).string()});
  }
}

TEST(BadInput, ThereIsNothingToGoOnFrom) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  EXPECT_THAT(error_of([&] { trainer.fit<Line>({}, points(), {}, {.ckpt_path = "last"}); }),
              HasSubstr(dir.path().string()));
}

class Throws : public Line {
 public:
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    if (current_epoch() == 1 && batch_idx == 2) throw std::runtime_error("the sky fell");
    return Line::training_step(batch, batch_idx);
  }
  void teardown(Stage) override { torn_down = true; }
  bool torn_down = false;
};

TEST(BadInput, AFailureKeepsItsRootCauseP6) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  auto module = std::make_shared<Throws>();
  try {
    trainer.fit(module, points());
    FAIL();
  } catch (const RunError& error) {
    EXPECT_EQ(error.failure().message, "the sky fell");
    EXPECT_EQ(error.failure().hook, "training_step");
    EXPECT_EQ(error.failure().stage, "fit");
    EXPECT_EQ(error.failure().epoch, 1);
    EXPECT_EQ(error.failure().batch_idx, 2);
    EXPECT_EQ(error.failure().device, "cpu");
  }
  EXPECT_TRUE(module->torn_down);
  // The epoch that was finished before is safe.
  EXPECT_TRUE(std::filesystem::exists(trainer.run_dir() / "checkpoints" / "last.safetensors"));
}

class Broken : public Dataset {
 public:
  int64_t size() const override { return 40; }
  Batch get(int64_t index) override {
    if (index == 33) throw std::runtime_error("cannot decode");
    return {torch::ones({1}), torch::ones({1})};
  }
};

TEST(BadInput, AnExceptionInADatasetNamesTheSample) {
  const DataLoader loader(std::make_shared<Broken>(), {.batch_size = 4, .num_workers = 2});
  EXPECT_THAT(fit_error(std::make_shared<Line>(), loader), AllOf(HasSubstr("33"), HasSubstr("cannot decode")));
}

TEST(BadInput, TheProgramSaysOneSentenceAndReturnsNonZero) {
  const auto said = [](const std::string& arguments) {
    const auto run = run_program(example("digits") + " " + arguments + " 2>&1");
    EXPECT_NE(run.status, 0) << arguments;
    EXPECT_EQ(std::count(run.output.begin(), run.output.end(), '\n'), 1) << run.output;
    return run.output;
  };
  EXPECT_THAT(said("fitt"), HasSubstr("fit"));
  EXPECT_THAT(said("fit --trainer.max_epoch 3"), HasSubstr("--trainer.max_epochs"));
  EXPECT_THAT(said("fit --model.lr nan"), HasSubstr("nan"));
  EXPECT_THAT(said("fit --data.batch_size 0 --trainer.fast_dev_run 1"), HasSubstr("batch_size = 0"));
  EXPECT_THAT(said("fit --data.dir /nowhere --trainer.fast_dev_run 1"), HasSubstr("/nowhere"));
  EXPECT_THAT(said("fit --trainer.default_root_dir /proc/none"), HasSubstr("/proc/none"));
  EXPECT_THAT(said("fit --trainer.accelerator tpu"), HasSubstr("cpu"));
}

}  // namespace
}  // namespace troupe
