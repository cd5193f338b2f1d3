// Where data comes from, and what a DataModule may do besides: in whole runs.
#include "tests/support/lines.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <gmock/gmock.h>

#include <map>

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Calls = std::vector<std::string>;

// --- Loaders: given, of the data module, of the module ---

// `batches` batches of one sample.
DataLoader counted(int64_t batches) {
  return {std::make_shared<TensorDataset>(torch::zeros({batches, 1}), torch::zeros({batches, 1}))};
}

DataLoaders counted_if(bool is_there, int64_t batches) {
  return is_there ? DataLoaders(counted(batches)) : DataLoaders();
}

// A module and a data module that have loaders where they are told to: the module's are 1 batch long, the data
// module's 2; those given to the Trainer will be 3.
class Counting : public Line {
 public:
  explicit Counting(bool has_loaders) : has_loaders_(has_loaders) {}
  DataLoaders train_dataloader() override { return counted_if(has_loaders_, 1); }
  DataLoaders val_dataloader() override { return counted_if(has_loaders_, 1); }
  DataLoaders test_dataloader() override { return counted_if(has_loaders_, 1); }
  DataLoaders predict_dataloader() override { return counted_if(has_loaders_, 1); }
  StepOutput training_step(const Batch& batch, int64_t) override { return ++seen["train"], error(batch); }
  StepOutput validation_step(const Batch& batch, int64_t) override { return ++seen["val"], error(batch); }
  StepOutput test_step(const Batch& batch, int64_t) override { return ++seen["test"], error(batch); }
  StepOutput predict_step(const Batch& batch, int64_t) override { return ++seen["predict"], forward(batch[0]); }
  std::map<std::string, int> seen;

 private:
  bool has_loaders_;
};

class CountingData : public DataModule {
 public:
  DataLoaders train_dataloader() override { return counted(2); }
  DataLoaders val_dataloader() override { return counted(2); }
  DataLoaders test_dataloader() override { return counted(2); }
  DataLoaders predict_dataloader() override { return counted(2); }
};

struct Sources {
  bool given, data, module;
  int expected() const { return given ? 3 : data ? 2 : 1; }
};

class Precedence : public ::testing::TestWithParam<Sources> {
 protected:
  Precedence() {
    options_.max_epochs = 1;
    options_.num_sanity_val_steps = 0;
  }
  DataLoaders given() const { return counted_if(GetParam().given, 3); }
  RunArguments arguments() const {
    RunArguments arguments;
    if (GetParam().data) arguments.datamodule = std::make_shared<CountingData>();
    return arguments;
  }
  TempDir dir_;
  TrainerOptions options_ = quiet(dir_);
  std::shared_ptr<Counting> module_ = std::make_shared<Counting>(GetParam().module);
};

TEST_P(Precedence, HoldsForTrainingAndValidation) {
  Trainer(options_).fit(module_, given(), given(), arguments());
  EXPECT_EQ(module_->seen["train"], GetParam().expected());
  EXPECT_EQ(module_->seen["val"], GetParam().expected());
}

TEST_P(Precedence, HoldsForTheOtherStages) {
  Trainer trainer(options_);
  trainer.validate(module_, given(), arguments());
  trainer.test(module_, given(), arguments());
  trainer.predict(module_, given(), arguments());
  for (const char* stage : {"val", "test", "predict"}) EXPECT_EQ(module_->seen[stage], GetParam().expected()) << stage;
}

TEST_P(Precedence, HoldsForEachKindOfLoaderByItself) {
  // Training loaders are given, validation loaders are what else there is.
  Trainer(options_).fit(module_, counted(3), {}, arguments());
  EXPECT_EQ(module_->seen["train"], 3);
  EXPECT_EQ(module_->seen["val"], GetParam().data ? 2 : GetParam().module ? 1 : 0);
}

INSTANTIATE_TEST_SUITE_P(EachCombination, Precedence,
                         ::testing::Values(Sources{true, true, true}, Sources{true, true, false},
                                           Sources{true, false, true}, Sources{true, false, false},
                                           Sources{false, true, true}, Sources{false, true, false},
                                           Sources{false, false, true}),
                         [](const auto& info) {
                           const Sources& sources = info.param;
                           return std::string(sources.given ? "Given" : "") + (sources.data ? "Data" : "") +
                                  (sources.module ? "Module" : "");
                         });

TEST(Loaders, WithoutAnyTheErrorSaysWhereTheyMayComeFrom) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  const auto module = std::make_shared<Line>();
  EXPECT_THAT(error_of([&] { trainer.fit(module); }),
              HasSubstr("give fit a train loader, or override train_dataloader"));
  EXPECT_THAT(error_of([&] { trainer.test(module); }), HasSubstr("override test_dataloader"));
  EXPECT_THAT(error_of([&] { trainer.predict(module); }), HasSubstr("override predict_dataloader"));
  EXPECT_THAT(error_of([&] { trainer.validate(module); }), HasSubstr("override val_dataloader"));
}

// --- Transfer hooks ---

// Adds to every number of a batch, so that what came through which hooks can be read off it.
Batch plus(Batch batch, double number) {
  for (auto& tensor : batch.tensors()) tensor = tensor + number;
  return batch;
}

class PlainLine : public Line {
 public:
  StepOutput training_step(const Batch& batch, int64_t) override { return note("fit", batch), error(batch); }
  StepOutput validation_step(const Batch& batch, int64_t) override { return note("validate", batch), error(batch); }
  StepOutput test_step(const Batch& batch, int64_t) override { return note("test", batch), error(batch); }
  StepOutput predict_step(const Batch& batch, int64_t) override { return note("predict", batch), forward(batch[0]); }
  std::map<std::string, double> seen;

 private:
  void note(const char* stage, const Batch& batch) { seen[stage] = batch[0].mean().item<double>(); }
};

class MovingLine : public PlainLine {
 public:
  Batch on_before_batch_transfer(Batch batch, int64_t) override { return plus(std::move(batch), 1); }
  Batch transfer_batch_to_device(Batch batch, torch::Device device, int64_t) override {
    return plus(batch.to(device), 10);
  }
  Batch on_after_batch_transfer(Batch batch, int64_t) override { return plus(std::move(batch), 100); }
};

class MovingData : public CountingData {
 public:
  Batch on_before_batch_transfer(Batch batch, int64_t) override { return plus(std::move(batch), 2); }
  Batch on_after_batch_transfer(Batch batch, int64_t) override { return plus(std::move(batch), 200); }
};

template <class M>
std::map<std::string, double> seen_in_all_stages(const std::shared_ptr<M>& module, const DataModulePtr& data) {
  const TempDir dir;
  auto options = quiet(dir);
  options.max_epochs = 1;
  Trainer trainer(options);
  trainer.fit(module, {}, {}, {.datamodule = data});
  trainer.test(module, {}, {.datamodule = data});
  trainer.predict(module, {}, {.datamodule = data});
  return module->seen;
}

std::map<std::string, double> everywhere(double value) {
  return {{"fit", value}, {"validate", value}, {"test", value}, {"predict", value}};
}

TEST(TransferHooks, OfTheDataModuleAreCalledInEveryStage) {
  EXPECT_EQ(seen_in_all_stages(std::make_shared<PlainLine>(), std::make_shared<MovingData>()), everywhere(202));
}

TEST(TransferHooks, OfTheDataModuleWinEachByItself) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(seen_in_all_stages(std::make_shared<MovingLine>(), std::make_shared<MovingData>()), everywhere(212));
  const auto said = testing::internal::GetCapturedStderr();
  EXPECT_THAT(said, HasSubstr("on_before_batch_transfer is overridden in the module and in the data module"));
  EXPECT_THAT(said, Not(HasSubstr("transfer_batch_to_device is overridden")));
}

TEST(TransferHooks, OfTheModuleAreCalledWhereTheDataModuleHasNone) {
  EXPECT_EQ(seen_in_all_stages(std::make_shared<MovingLine>(), std::make_shared<CountingData>()), everywhere(111));
}

TEST(TransferHooks, AreNotMissedBehindAPointerToABaseClass) {
  const std::shared_ptr<DataModule> moving = std::make_shared<MovingData>();
  EXPECT_EQ(seen_in_all_stages(std::make_shared<MovingLine>(), moving), everywhere(212));
  const std::shared_ptr<DataModule> plain = std::make_shared<CountingData>();
  EXPECT_EQ(seen_in_all_stages(std::make_shared<MovingLine>(), plain), everywhere(111));
}

TEST(TransferHooks, WithoutARunAreTheIdentity) {
  CountingData data;
  const Batch batch{torch::ones({2})};
  const auto moved = data.on_after_batch_transfer(
      data.transfer_batch_to_device(data.on_before_batch_transfer(batch, 0), torch::kCPU, 0), 0);
  EXPECT_TRUE(torch::equal(moved[0], batch[0]));
}

// --- The rest of a data module ---

struct PointsOptions {
  int64_t batch_size = 16;
  double slope = 2;
};
TROUPE_OPTIONS(PointsOptions, (batch_size, "samples a batch"), (slope, "of the line"))

class Points : public DataModuleWith<PointsOptions> {
 public:
  explicit Points(PointsOptions options = {}) : DataModuleWith(options) {}
  void setup(Stage) override {
    epochs_asked_for = trainer().options().max_epochs.value_or(-1);
    const auto x = torch::linspace(-1, 1, 64).unsqueeze(1);
    points_ = std::make_shared<TensorDataset>(x, options().slope * x);
    ++times_set_up;
  }
  DataLoaders train_dataloader() override {
    device = trainer().device().str();
    return DataLoader(points_, {.batch_size = options().batch_size});
  }
  DataLoaders test_dataloader() override { return train_dataloader(); }
  nlohmann::json state_dict() const override { return {{"times_set_up", times_set_up}}; }
  void load_state_dict(const nlohmann::json& state) override { restored = state.at("times_set_up").get<int>(); }
  void on_exception(const Failure& failure) override { failures.push_back(failure.message); }

  int64_t epochs_asked_for = 0;
  std::string device;
  int times_set_up = 0, restored = 0;
  Calls failures;

 private:
  std::shared_ptr<TensorDataset> points_;
};

TEST(ADataModule, SeesItsRun) {
  const TempDir dir;
  const auto data = std::make_shared<Points>();
  Trainer(quiet(dir)).fit<Line>({}, {}, {}, {.datamodule = data});
  EXPECT_EQ(data->epochs_asked_for, 2);
  EXPECT_EQ(data->device, "cpu");
  EXPECT_FALSE(data->in_run());
  EXPECT_THAT(error_of([&] { data->trainer(); }), HasSubstr("outside of a run"));
}

class AsksItsData : public Line {
 public:
  Optimizers configure_optimizers() override {
    batches = datamodule()->train_dataloader()[0].batch_count().value();
    return Line::configure_optimizers();
  }
  int64_t batches = 0;
};

TEST(ADataModule, IsThereForTheModule) {
  const TempDir dir;
  const auto module = std::make_shared<AsksItsData>();
  Trainer(quiet(dir)).fit(module, {}, {}, {.datamodule = std::make_shared<Points>(PointsOptions{.batch_size = 8})});
  EXPECT_EQ(module->batches, 8);
  EXPECT_EQ(module->datamodule(), nullptr);
}

TEST(ADataModule, HasHyperParametersThatCheckpointsAndSinksGet) {
  class Keeper : public Sink {
   public:
    std::string name() const override { return "keeper"; }
    void write(const Record& record) override {
      if (const auto* found = std::get_if<HparamsRecord>(&record)) hparams = found->hparams;
    }
    void flush() override {}
    nlohmann::json hparams;
  };
  const TempDir dir;
  auto options = quiet(dir);
  const auto sink = std::make_shared<Keeper>();
  options.loggers = {};
  options.sinks = {sink};
  Trainer trainer(options);
  trainer.fit<Line>({}, {}, {}, {.datamodule = std::make_shared<Points>(PointsOptions{.batch_size = 4, .slope = 3})});
  const nlohmann::json expected = {{"batch_size", 4}, {"slope", 3.0}};
  EXPECT_EQ(sink->hparams, (nlohmann::json{{"lr", 0.1}, {"data", expected}}));

  const auto path = trainer.run_dir() / "checkpoints/last.safetensors";
  EXPECT_EQ(read_checkpoint(path).metadata["datamodule_hparams"], expected);
  const auto loaded = load_from_checkpoint<Points>(path, {.hparams = {{"slope", 5.0}}});
  EXPECT_EQ(loaded->options().batch_size, 4);
  EXPECT_EQ(loaded->options().slope, 5);
  EXPECT_EQ(loaded->restored, 1);
  EXPECT_THAT(error_of([&] {
                load_from_checkpoint<Points>(path, {.hparams = {{"slop", 5.0}}});
              }),
              AllOf(HasSubstr("'slop'"), HasSubstr("did you mean slope?")));
}

TEST(ADataModule, GetsItsStateBackWhenARunGoesOn) {
  const TempDir dir;
  Trainer(quiet(dir)).fit<Line>({}, {}, {}, {.datamodule = std::make_shared<Points>()});
  const auto data = std::make_shared<Points>();
  auto options = quiet(dir);
  options.max_epochs = 3;
  Trainer(options).fit<Line>({}, {}, {}, {.datamodule = data, .ckpt_path = "last"});
  EXPECT_EQ(data->restored, 1);
  const auto tested = std::make_shared<Points>();
  Trainer(options).test(std::make_shared<Line>(), {}, {.datamodule = tested, .ckpt_path = "last"});
  EXPECT_EQ(tested->restored, 0);
}

class Falls : public Line {
 public:
  StepOutput training_step(const Batch&, int64_t) override { throw std::runtime_error("the sky fell"); }
};

TEST(ADataModule, IsToldOfAFailure) {
  const TempDir dir;
  const auto data = std::make_shared<Points>();
  EXPECT_THAT(error_of([&] { Trainer(quiet(dir)).fit(std::make_shared<Falls>(), {}, {}, {.datamodule = data}); }),
              HasSubstr("the sky fell"));
  EXPECT_THAT(data->failures, ElementsAre("the sky fell"));
}

}  // namespace
}  // namespace troupe
