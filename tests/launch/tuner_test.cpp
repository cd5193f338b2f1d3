// Finders: what they suggest, and that they leave everything as it was.
#include "tests/support/file_content.hpp"
#include "tests/support/lines.hpp"
#include "tests/support/same_bits.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/launch/tune_command.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/process/memory_limit.hpp"
#include "troupe/runtime/report/run_card.hpp"

#include <c10/util/Exception.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr double mebi = 1 << 20;

// Two threads wait for each other where a machine is busy.
TrainerOptions on_one_thread(const TempDir& dir) {
  auto options = quiet(dir);
  options.num_threads = 1;
  return options;
}

// --- The suggestion ---

LrFindResult curve_of(const std::function<double(double place)>& loss, int64_t steps = 100) {
  LrFindResult result;
  for (int64_t i = 0; i < steps; ++i) {
    result.lr.push_back(0.01 * static_cast<double>(i + 1));
    result.loss.push_back(loss(static_cast<double>(i)));
  }
  return result;
}

TEST(LrFindResult, SuggestsWhereTheLossFallsFastest) {
  const auto fall = [](double place) { return 2 / (1 + std::exp((place - 61) / 5)); };  // steepest at 61
  EXPECT_EQ(curve_of(fall).suggestion_index(), 61u);
  EXPECT_DOUBLE_EQ(*curve_of(fall).suggestion(), 0.62);
  const auto early = [&](double place) { return place < 9 ? 100 - 10 * place : fall(place); };  // is left out
  EXPECT_EQ(curve_of(early).suggestion_index(), 61u);
  EXPECT_EQ(curve_of(early).suggestion_index(0), 8u);
  const auto late = [&](double place) { return place > 98 ? -100 : fall(place); };
  EXPECT_EQ(curve_of(late).suggestion_index(), 61u);
  const auto holes = [&](double place) { return place == 50 ? NAN : place > 90 ? INFINITY : fall(place); };
  EXPECT_EQ(curve_of(holes).suggestion_index(), 61u);
}

TEST(LrFindResult, TakesTheSlopeOverTheRate) {
  LrFindResult result;
  result.lr = {1, 2, 4, 8};
  result.loss = {8, 7, 2, 1};  // slopes -1, -1.5, -1.75, -0.25; from place to place the second is steepest
  EXPECT_EQ(result.suggestion_index(0, 0), 2u);
  EXPECT_EQ(result.suggestion_index(0, 1), 2u);  // -2.5 at the end
  EXPECT_EQ(result.suggestion_index(0, 2), 0u);
}

TEST(LrFindResult, HasNoSuggestionWithoutAFallOrWithTooFewPoints) {
  EXPECT_FALSE(curve_of([](double place) { return place; }).suggestion());
  EXPECT_FALSE(curve_of([](double) { return 1.0; }).suggestion());
  EXPECT_FALSE(curve_of([](double) { return NAN; }).suggestion());
  EXPECT_FALSE(curve_of([](double place) { return -place; }, 12).suggestion());
  EXPECT_TRUE(curve_of([](double place) { return -place; }, 13).suggestion());
}

// --- What stays ---

struct TunedNetOptions {
  double lr = 0.05;
  int64_t batch_size = 4;
  int64_t num_workers = 0;
};
TROUPE_OPTIONS(TunedNetOptions, (lr, "learning rate"), (batch_size, "samples a batch"), (num_workers, "fetchers"))

int64_t module_callbacks = 0;

struct CountsStarts : Callback {
  explicit CountsStarts(int64_t* count) : count_(count) {}
  void setup(RunContext&, Module&, Stage) override { ++*count_; }
  void on_train_batch_end(RunContext&, Module&, const StepOutput&, const Batch&, int64_t) override { ++*count_; }

 private:
  int64_t* count_;
};

// Of another type, whose place a module's callback would take.
struct CountsStartsToo : CountsStarts {
  using CountsStarts::CountsStarts;
};

/// Random numbers, buffers, momentum, a scheduler that looks at a metric, a frozen part, callbacks.
class TunedNet : public ModuleWith<TunedNetOptions> {
 public:
  explicit TunedNet(TunedNetOptions options = {}) : ModuleWith(options) {
    namespace nn = torch::nn;
    net_ = register_module(
        "net", nn::Sequential(nn::Linear(3, 16), nn::BatchNorm1d(16), nn::ReLU(), nn::Dropout(0.2), nn::Linear(16, 1)));
  }
  torch::Tensor forward(torch::Tensor x) override { return net_->forward(x); }
  StepOutput training_step(const Batch& batch, int64_t) override {
    const auto loss = torch::mse_loss(forward(batch[0]), batch[1]);
    log("train_loss", loss, {.on_epoch = true});
    return loss;
  }
  std::vector<std::shared_ptr<Callback>> configure_callbacks() override {
    return {std::make_shared<CountsStartsToo>(&module_callbacks)};
  }
  DataLoaders train_dataloader() override {
    torch::manual_seed(3);
    const auto x = torch::randn({64, 3});
    return DataLoader(std::make_shared<TensorDataset>(x, x.sum(1, true)),
                      {.batch_size = options().batch_size, .shuffle = true, .num_workers = options().num_workers});
  }
  Optimizers configure_optimizers() override {
    const auto optimizer = optim::sgd(parameters(), {.lr = options().lr, .momentum = 0.9});
    return {optimizer, LRSchedulerConfig{.scheduler = lr_schedulers::reduce_on_plateau(optimizer, {.patience = 0}),
                                         .monitor = "train_loss_epoch"}};
  }

 private:
  torch::nn::Sequential net_{nullptr};
};

std::map<std::string, torch::Tensor> tuned_state_of(const torch::nn::Module& module) {
  std::map<std::string, torch::Tensor> state;
  for (const auto& item : module.named_parameters()) state[item.key()] = item.value().detach().clone();
  for (const auto& item : module.named_buffers()) state[item.key()] = item.value().detach().clone();
  return state;
}

void expect_same_bits(const std::map<std::string, torch::Tensor>& a, const std::map<std::string, torch::Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) EXPECT_TRUE(has_same_bits(tensor, b.at(name))) << name;
}

/// Runs every finder and says nothing of what they find.
void find_all(Trainer& trainer, const std::shared_ptr<TunedNet>& module) {
  Tuner tuner(trainer);
  tuner.lr_find(module, {}, {.num_training = 40, .update_attr = false});
  const auto size = module->options().batch_size;
  tuner.scale_batch_size(module, {}, {.steps_per_trial = 2, .max_trials = 3});
  EXPECT_EQ(module->options().batch_size, 8);
  auto options = module->options();
  options.batch_size = size;
  module->set_options(options);
  tuner.measure_threads(module, {}, {.steps = 3, .warm_up = 1, .repeats = 1});
  tuner.measure_fetchers(module, {}, {.steps = 3, .warm_up = 1, .repeats = 1});
}

TEST(Tuner, AFitAfterFindersIsTheFitWithoutThemToTheBit) {
  std::vector<std::map<std::string, torch::Tensor>> ends, numbers;
  for (const bool finds : {false, true}) {
    const TempDir dir;
    auto options = on_one_thread(dir);
    int64_t callbacks = module_callbacks = 0;
    options.callbacks = {std::make_shared<CountsStarts>(&callbacks)};
    options.logger = false;
    options.precision = Precision::float64;  // which changes the module's types
    Trainer trainer(options);
    torch::manual_seed(11);
    const auto module = std::make_shared<TunedNet>();
    (void)torch::rand({5});
    if (finds) {
      module->train(false);
      module->children()[0]->train(true);
      const auto gradient = torch::ones_like(module->parameters()[0]);
      module->parameters()[0].mutable_grad() = gradient;
      module->parameters()[1].set_requires_grad(false);
      const auto before = tuned_state_of(*module);
      find_all(trainer, module);
      expect_same_bits(tuned_state_of(*module), before);
      EXPECT_FALSE(module->is_training());
      EXPECT_TRUE(module->children()[0]->is_training());
      EXPECT_TRUE(module->parameters()[0].grad().is_same(gradient));
      EXPECT_TRUE(gradient.eq(1).all().item<bool>());
      EXPECT_FALSE(module->parameters()[2].grad().defined());
      EXPECT_FALSE(module->parameters()[1].requires_grad());
      module->parameters()[1].set_requires_grad(true);
      module->parameters()[0].mutable_grad() = torch::Tensor();
      EXPECT_EQ(callbacks + module_callbacks, 0);
      EXPECT_EQ(trainer.global_step(), 0);
      EXPECT_TRUE(trainer.run_dir().empty());
      EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
    }
    numbers.push_back({{"rand", torch::rand({5})}});
    trainer.fit(module);
    EXPECT_GT(callbacks, 0);
    EXPECT_GT(module_callbacks, 0);
    ends.push_back(tuned_state_of(*module));
  }
  expect_same_bits(ends[0], ends[1]);
  expect_same_bits(numbers[0], numbers[1]);
}

TEST(Tuner, LeavesAlsoAModuleWhoseTrialFailsAsItWas) {
  const TempDir dir;
  auto options = on_one_thread(dir);
  options.logger = false;
  Trainer trainer(options);
  struct Fails : TunedNet {
    StepOutput training_step(const Batch& batch, int64_t index) override {
      if (index == 3) throw std::runtime_error("the fourth batch is bad");
      return TunedNet::training_step(batch, index);
    }
  };
  const auto module = std::make_shared<Fails>();
  const auto before = tuned_state_of(*module);
  EXPECT_THAT(error_of([&] { Tuner(trainer).lr_find(module); }), HasSubstr("the fourth batch is bad"));
  expect_same_bits(tuned_state_of(*module), before);
}

TEST(Tuner, PutsTheStatesOfMetricsBack) {
  const TempDir dir;
  auto options = on_one_thread(dir);
  options.logger = false;
  Trainer trainer(options);
  struct Counts : TunedNet {
    StepOutput training_step(const Batch& batch, int64_t index) override {
      error->update(batch[1], torch::zeros_like(batch[1]));
      return TunedNet::training_step(batch, index);
    }
    MetricHolder<metrics::MeanAbsoluteError> error = register_metric("error", metrics::MeanAbsoluteError());
  };
  const auto module = std::make_shared<Counts>();
  module->error->update(torch::full({2}, 3.0), torch::zeros({2}));
  Tuner(trainer).lr_find(module, {}, {.num_training = 20, .update_attr = false});
  EXPECT_EQ(module->error->compute().item<double>(), 3);
  EXPECT_EQ(module->error->update_count(), 1);
}

// --- The learning rate ---

TEST(Tuner, GivesTheOptionTheRateAndWritesTheCurve) {
  const TempDir dir;
  auto options = on_one_thread(dir);
  options.name = "line";
  Trainer trainer(options);
  LineOptions line;
  const auto found = Tuner(trainer).lr_find<Line>(line, points(), {.min_lr = 1e-4, .max_lr = 10});
  ASSERT_TRUE(found.suggestion());
  EXPECT_EQ(line.lr, *found.suggestion());
  EXPECT_TRUE(found.stopped_early);  // SGD diverges above 1
  EXPECT_EQ(found.lr.front(), 1e-4);
  EXPECT_NEAR(found.lr[1], 1e-4 * std::pow(1e5, 2.0 / 100), 1e-12);

  const auto folder = trainer.run_dir();
  EXPECT_EQ(folder.filename(), "version_0");
  const auto csv = content_of(folder / "lr_find.csv");
  EXPECT_THAT(csv, StartsWith("lr,smoothed_loss,loss\n1e-04,"));
  EXPECT_EQ(std::ranges::count(csv, '\n'), static_cast<int64_t>(found.lr.size()) + 1);
  auto card = read_run_card(folder);
  EXPECT_EQ(card.stage, "tune");
  EXPECT_EQ(card.status, RunStatus::finished);
  ASSERT_EQ(card.findings.size(), 1u);
  EXPECT_EQ(card.findings[0].columns[0].values, found.lr);
  EXPECT_EQ(card.findings[0].chosen, found.suggestion_index());
  EXPECT_THAT(content_of(folder / "report.html"), HasSubstr("The loss falls fastest at the rate "));
  EXPECT_FALSE(std::filesystem::exists(folder / "metrics.csv"));
  EXPECT_FALSE(std::filesystem::exists(folder / "checkpoints"));

  trainer.fit<Line>(line, points());
  EXPECT_EQ(trainer.run_dir(), folder);
  card = read_run_card(folder);
  EXPECT_EQ(card.stage, "fit");
  EXPECT_EQ(card.options["model"]["lr"], line.lr);
  EXPECT_EQ(card.findings.size(), 1u);
  EXPECT_THAT(content_of(folder / "config.toml"), HasSubstr("lr = " + double_to_text(line.lr)));
  EXPECT_THAT(content_of(folder / "report.html"), HasSubstr("The loss falls fastest at the rate "));
}

TEST(Tuner, GivesAModuleThatIsThereTheRate) {
  const TempDir dir;
  Trainer trainer(on_one_thread(dir));
  const auto module = std::make_shared<Line>();
  testing::internal::CaptureStderr();
  const auto found =
      Tuner(trainer).lr_find(module, points(), {.min_lr = 1e-4, .max_lr = 0.5, .mode = LrFindMode::linear});
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "") << "a trial validates nothing, which is no news";
  EXPECT_EQ(module->options().lr, *found.suggestion());
  EXPECT_EQ(module->hparams()["lr"], *found.suggestion());
  EXPECT_FALSE(found.stopped_early);
  EXPECT_EQ(found.lr.size(), 100u);
  EXPECT_DOUBLE_EQ(found.lr[49], 1e-4 + 0.5 * (0.5 - 1e-4));
  EXPECT_DOUBLE_EQ(found.lr.back(), 0.5);
}

TEST(Tuner, CountsWindowsOfAccumulationOnceAndRanksAgree) {
  for (const int64_t devices : {1, 2}) {
    const TempDir dir;
    auto options = on_one_thread(dir);
    options.accumulate_grad_batches = 3 - devices;
    options.devices = devices;
    Trainer trainer(options);
    LineOptions line;
    const auto found =
        Tuner(trainer).lr_find<Line>(line, points(4), {.min_lr = 1e-4, .max_lr = 10, .num_training = 60});
    EXPECT_TRUE(found.stopped_early) << devices;
    EXPECT_NEAR(found.lr[7], 1e-4 * std::pow(1e5, 8.0 / 60), 1e-12) << devices;
    const auto at = found.lr.size();
    EXPECT_EQ(line.lr, *found.suggestion());
    EXPECT_EQ(
        Tuner(trainer).lr_find<Line>(line, points(4), {.min_lr = 1e-4, .max_lr = 10, .num_training = 60}).lr.size(),
        at);
  }
}

struct NoRate {
  double speed = 1;
};
TROUPE_OPTIONS(NoRate, (speed, "of no use"))
class WithoutRate : public ModuleWith<NoRate> {
 public:
  using ModuleWith::ModuleWith;
};

std::string refusal_of_lr_find(const LrFindOptions& how,
                               const std::shared_ptr<Line>& module = std::make_shared<Line>()) {
  const TempDir dir;
  auto options = on_one_thread(dir);
  options.logger = false;
  Trainer trainer(options);
  return error_of([&] { Tuner(trainer).lr_find(std::shared_ptr<Module>(module), points(64, false), how); });
}

TEST(Tuner, RefusesASearchThatCannotBe) {
  const LrFindOptions usual{.update_attr = false};
  const auto with = [&](const std::function<void(LrFindOptions&)>& change) {
    auto how = usual;
    change(how);
    return refusal_of_lr_find(how);
  };
  EXPECT_EQ(with([](auto& how) { how.min_lr = how.max_lr = 0.5; }),
            "lr_find.min_lr = 0.5 is not below max_lr = 0.5; use a smaller one, such as 5e-09");
  EXPECT_EQ(with([](auto& how) { how.min_lr = 0; }),
            "lr_find.min_lr = 0.0 cannot grow by a factor; use a number above 0, such as 1e-8");
  EXPECT_EQ(
      with([](auto& how) { how.num_training = 12; }),
      "lr_find.num_training = 12 is too few: the first 10 rates and the last one do not count, so use at least 13");
  EXPECT_EQ(with([](auto& how) { how.early_stop_threshold = 1.0; }),
            "lr_find.early_stop_threshold = 1.0 would end the search at once; use more than 1, or none");
  EXPECT_THAT(with([](auto& how) { how.min_lr = 1e6, how.max_lr = 1e9; }),
              AllOf(StartsWith("the loss diverged at the rate 1"),
                    HasSubstr("use a smaller lr_find.min_lr than 1e+06, such as 1e+03, or")));
  EXPECT_THAT(with([](auto& how) { how.min_lr = 1e-30, how.max_lr = 1e-29; }),
              AllOf(StartsWith("the loss fell at none of the 100 rates"), HasSubstr("use a larger lr_find.max_lr")));
}

TEST(Tuner, RefusesAModuleThatHasNoRateToTry) {
  const LrFindOptions usual{.update_attr = false};
  struct Untrained : Line {
    Optimizers configure_optimizers() override { return {}; }
  };
  struct ByHand : Line {
    ByHand() { automatic_optimization = false; }
  };
  struct Two : Line {
    Optimizers configure_optimizers() override {
      return {optim::sgd({layer_->weight}, {.lr = 0.1}), optim::sgd({layer_->bias}, {.lr = 0.1})};
    }
    StepOutput training_step(const Batch& batch, int64_t, int64_t) override { return error(batch); }
  };
  struct Sparse : Line {
    Sparse() { register_buffer("mask", torch::eye(3).to_sparse()); }
  };
  struct Grows : Line {
    void setup(Stage) override { register_buffer("late" + std::to_string(buffers().size()), torch::zeros(1)); }
  };
  EXPECT_THAT(
      refusal_of_lr_find(usual, std::make_shared<Untrained>()),
      StartsWith("the learning rate finder needs an optimizer, and configure_optimizers returned none: return one"));
  EXPECT_THAT(refusal_of_lr_find(usual, std::make_shared<ByHand>()),
              StartsWith("the learning rate finder needs automatic optimization"));
  EXPECT_THAT(refusal_of_lr_find(usual, std::make_shared<Two>()), HasSubstr("configure_optimizers returned 2: let it"));
  EXPECT_THAT(refusal_of_lr_find(usual, std::make_shared<Sparse>()),
              AllOf(StartsWith("the module cannot be copied, to be put back after a trial: tensor "), HasSubstr("mask"),
                    HasSubstr("; give the module's options instead, as in lr_find<M>(options)")));
  EXPECT_THAT(refusal_of_lr_find(usual, std::make_shared<Grows>()),
              AllOf(HasSubstr("cannot be put back as it was: late0"), HasSubstr("lr_find<M>(options)")));
  EXPECT_EQ(refusal_of_lr_find(usual, nullptr), "the Tuner was given a null module");
  EXPECT_THAT(refusal_of_lr_find({}), HasSubstr("set update_attr = false"));
}

TEST(Tuner, NamesTheOptionThatComesNearestToARate) {
  const TempDir dir;
  Trainer trainer(on_one_thread(dir));
  Tuner tuner(trainer);
  NoRate none;
  EXPECT_EQ(error_of([&] { tuner.lr_find<WithoutRate>(none); }),
            "no option of the module is called lr or learning_rate; did you mean speed? (speed); lr_find.attr_name"
            " names the one that holds the rate");
  LineOptions line;
  EXPECT_THAT(error_of([&] { tuner.lr_find<Line>(line, points(), {.attr_name = "lrr"}); }),
              HasSubstr("is called lrr; did you mean lr? (lr)"));
  auto fast = on_one_thread(dir);
  fast.fast_dev_run = 2;
  Trainer short_trainer(fast);
  EXPECT_THAT(error_of([&] { Tuner tuner(short_trainer); }), HasSubstr("trainer.fast_dev_run = 2 trains too little"));
}

// --- The batch size ---

/// Needs memory that is not there for batches above `most`.
template <int64_t most>
struct Limited : TunedNet {
  explicit Limited(TunedNetOptions options = {}) : TunedNet(options) {}
  StepOutput training_step(const Batch& batch, int64_t index) override {
    TORCH_CHECK_WITH(OutOfMemoryError, batch.size() <= most, "CUDA out of memory. Tried to allocate 2.00 GiB.");
    return TunedNet::training_step(batch, index);
  }
};

template <class M>
std::pair<int64_t, std::string> batch_size_of(const ScaleBatchSizeOptions& how) {
  const TempDir dir;
  auto options = on_one_thread(dir);
  options.logger = false;
  Trainer trainer(options);
  TunedNetOptions net;
  const auto found = Tuner(trainer).scale_batch_size<M>(net, {}, how);
  EXPECT_EQ(net.batch_size, found.batch_size);
  return {found.batch_size, found.says};
}

TEST(Tuner, FindsTheLargestBatchThatFits) {
  const auto power = BatchSizeMode::power, binsearch = BatchSizeMode::binsearch;
  EXPECT_EQ(batch_size_of<Limited<20>>({.mode = power}),
            std::pair(int64_t{16}, std::string("Batches of 16 fit, those of 32 do not: memory is out.")));
  EXPECT_EQ(batch_size_of<Limited<20>>({.mode = power, .init_val = 40}).first, 20);
  EXPECT_EQ(batch_size_of<Limited<20>>({.mode = binsearch, .margin = 0}).first, 20);
  EXPECT_EQ(batch_size_of<Limited<20>>({.mode = binsearch, .init_val = 50, .margin = 0}).first, 20);
  EXPECT_EQ(
      batch_size_of<Limited<20>>({.mode = binsearch}),
      std::pair(int64_t{19}, std::string("Batches of 20 fit, those of 21 do not: memory is out. 19 leaves a margin.")));
  EXPECT_EQ(batch_size_of<TunedNet>({}),
            std::pair(int64_t{64}, std::string("Batches of 128 fit, and an epoch has 64 samples.")));
  EXPECT_EQ(
      batch_size_of<TunedNet>({.mode = binsearch, .max_val = 24}),
      std::pair(int64_t{24}, std::string("Batches of 24 fit, and scale_batch_size.max_val allows no larger ones.")));
  EXPECT_EQ(batch_size_of<TunedNet>({.max_trials = 2}).second,
            "Batches of 4 fit, and scale_batch_size.max_trials allows no further trial.");
  EXPECT_THAT(error_of([] { batch_size_of<Limited<0>>({.init_val = 4}); }),
              AllOf(StartsWith("no batch size fits into memory, and even 1 sample(s) per batch are too many (CUDA out"),
                    HasSubstr("use a smaller model")));
}

TEST(Tuner, TriesBatchesOfLoadersAndOfADataModule) {
  const TempDir dir;
  auto options = on_one_thread(dir);
  options.logger = false;
  Trainer trainer(options);
  Tuner tuner(trainer);
  LineOptions line;
  const auto x = torch::linspace(-1, 1, 64).unsqueeze(1);
  const DataLoader loader(std::make_shared<TensorDataset>(x, x), {.batch_size = 5, .drop_last = true});
  const auto found = tuner.scale_batch_size<Line>(line, loader);
  EXPECT_EQ(found.batch_size, 64);
  EXPECT_EQ(found.says, "Batches of 64 fit, those of 128 are larger than an epoch.");
  EXPECT_EQ(loader.options().batch_size, 5);
  EXPECT_EQ(found.trials.size(), 7u);

  struct Points : DataModuleWith<TunedNetOptions> {
    using DataModuleWith::DataModuleWith;
    DataLoaders train_dataloader() override { return points(options().batch_size); }
  };
  const auto data = std::make_shared<Points>(TunedNetOptions{});
  tuner.scale_batch_size<Line>(line, data, {.max_val = 16});
  EXPECT_EQ(data->options().batch_size, 16);
  EXPECT_THAT(error_of([&] { tuner.scale_batch_size<Line>(line, data, {.batch_arg_name = "batchsize"}); }),
              HasSubstr("no option of the data or the module is called batchsize; did you mean batch_size? ("));
  EXPECT_THAT(error_of([&] { tuner.scale_batch_size<Line>(line, points()); }), "");
  EXPECT_EQ(error_of([&] { tuner.scale_batch_size<Line>(line, data, {.steps_per_trial = 0}); }),
            "scale_batch_size.steps_per_trial = 0 cannot be; use at least 1");
}

/// Takes 4 MiB per sample.
struct Heavy : TunedNet {
  explicit Heavy(TunedNetOptions options = {}) : TunedNet(options) {}
  StepOutput training_step(const Batch& batch, int64_t index) override {
    const auto memory = torch::empty({batch.size(), 1 << 20});
    return TunedNet::training_step(batch, index);
  }
};

TEST(Tuner, KeepsALimitOfMemoryOnTheCpu) {
  const double limit = static_cast<double>(resident_memory()) / mebi + 100;
  EXPECT_EQ(batch_size_of<Heavy>({.memory_limit_mb = limit}).first, 16);  // 64 MiB, and 128 are too many
  EXPECT_THAT(
      error_of([] { batch_size_of<Heavy>({.memory_limit_mb = 1.0}); }),
      AllOf(StartsWith("scale_batch_size.memory_limit_mb = 1.0 is less than the "), HasSubstr("use more than those")));
  EXPECT_NO_THROW((void)torch::empty({256, 1 << 20})) << "the limit has stayed";
}

TEST(MemoryLimit, CountsWhatIsGivenBack) {
  auto before = torch::empty({1 << 20}, torch::kByte);
  {
    const MemoryLimit limit(8 << 20);
    for (int i = 0; i < 20; ++i) (void)torch::empty({7 << 20}, torch::kByte);
    const auto held = torch::empty({6 << 20}, torch::kByte);
    EXPECT_THAT(error_of([] { (void)torch::empty({3 << 20}, torch::kByte); }),
                HasSubstr("out of memory: 3145728 bytes"));
    before = torch::empty({1 << 20}, torch::kByte);
  }
  before = torch::empty({9 << 20}, torch::kByte);
  EXPECT_TRUE(is_out_of_memory("std::bad_alloc"));
  EXPECT_TRUE(is_out_of_memory("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."));
  EXPECT_FALSE(is_out_of_memory("mat1 and mat2 shapes cannot be multiplied"));
}

TEST(MemoryLimit, ReadsWhatMachineAndControlGroupsHave) {
  const TempDir root;
  const auto write = [&](const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root.path() / path).parent_path());
    std::ofstream(root.path() / path) << text;
  };
  EXPECT_FALSE(available_memory(root.path()));
  write("proc/meminfo", "MemTotal:  9999999 kB\nMemAvailable:    4000 kB\n");
  EXPECT_EQ(available_memory(root.path()), 4000 * 1024);
  write("proc/self/cgroup", "0::/a/b\n");
  write("sys/fs/cgroup/a/b/memory.max", "max\n");
  write("sys/fs/cgroup/a/b/memory.current", "100\n");
  EXPECT_EQ(available_memory(root.path()), 4000 * 1024);
  write("sys/fs/cgroup/a/memory.max", "3000\n");
  write("sys/fs/cgroup/a/memory.current", "1000\n");
  EXPECT_EQ(available_memory(root.path()), 2000);
}

// --- Speed ---

TEST(Tuner, MeasuresThreadsAndFetchersAndSetsNothing) {
  const TempDir dir;
  Trainer trainer(on_one_thread(dir));
  Tuner tuner(trainer);
  TunedNetOptions net;
  const MeasureOptions how{.steps = 4, .warm_up = 1, .repeats = 2};
  for (const bool of_threads : {true, false}) {
    const auto found =
        of_threads ? tuner.measure_threads<TunedNet>(net, {}, how) : tuner.measure_fetchers<TunedNet>(net, {}, how);
    ASSERT_FALSE(found.settings.empty());
    EXPECT_EQ(found.settings.front().value, of_threads ? 1 : 0);
    EXPECT_TRUE(std::ranges::any_of(found.settings, [&](const auto& each) { return each.value == found.suggestion; }));
    for (const auto& each : found.settings) {
      EXPECT_GT(each.seconds_per_batch, 0);
      EXPECT_GE(each.spread, 0);
    }
    const auto csv = content_of(trainer.run_dir() / (of_threads ? "measure_threads.csv" : "measure_fetchers.csv"));
    EXPECT_THAT(csv, StartsWith(of_threads ? "num_threads,seconds_per_batch,spread\n1.0,"
                                           : "num_workers,seconds_per_batch,spread\n0.0,"));
  }
  EXPECT_EQ(net.num_workers, 0);
  EXPECT_EQ(trainer.options().num_threads, 1);
  EXPECT_EQ(error_of([&] { tuner.measure_threads<TunedNet>(net, {}, {.steps = 1}); }),
            "measure.steps = 1 cannot be; use at least 3");
}

// --- The command line ---

struct Ran {
  int status = -1;
  std::string out, err;
};

Ran run_tune(std::vector<std::string> arguments, const TempDir& dir) {
  arguments.insert(arguments.begin(), "tuned_net");
  for (const std::string& word : {"--trainer.default_root_dir=" + dir.path().string(), std::string("--trainer.seed=7"),
                                  std::string("--trainer.num_threads=1")}) {
    arguments.push_back(word);
  }
  std::vector<char*> words;
  for (auto& argument : arguments) words.push_back(argument.data());
  Ran ran;
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  ran.status = troupe::main<TunedNet>(static_cast<int>(words.size()), words.data());
  ran.out = testing::internal::GetCapturedStdout();
  ran.err = testing::internal::GetCapturedStderr();
  return ran;
}

TEST(TuneStage, PrintsTheOptionsThatTakeWhatItSuggests) {
  const TempDir dir;
  const auto ran = run_tune({"tune", "--tune.lr", "--tune.batch_size", "--tune.fetchers", "--lr_find.num_training",
                             "40", "--scale_batch_size.max_val=8", "--measure.steps=3", "--measure.repeats=1"},
                            dir);
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.out, testing::MatchesRegex("--model.batch_size 8 --model.lr [0-9.e-]+ --model.num_workers [0-9]+\n"));
  EXPECT_THAT(ran.err,
              AllOf(HasSubstr("batch size: Batches of 8 fit"), HasSubstr("learning rate: The loss falls fastest"),
                    HasSubstr("fetchers: num_workers = "), HasSubstr("ms per batch (median), spread")));
  const auto folder = dir.path() / "tuned_net" / "version_0";
  EXPECT_EQ(read_run_card(folder).findings.size(), 3u);
  EXPECT_THAT(content_of(folder / "config.toml"),
              AllOf(HasSubstr("batch_size = 4"), testing::Not(HasSubstr("[tune]"))));
  EXPECT_FALSE(std::filesystem::exists(dir.path() / "tuned_net" / "version_1"));
  const auto quiet_run =
      run_tune({"tune", "--tune.lr", "--quiet", "--trainer.logger=false", "--model.batch_size=32"}, dir);
  EXPECT_THAT(quiet_run.out, StartsWith("--model.lr "));
  EXPECT_EQ(quiet_run.err, "");
  EXPECT_FALSE(std::filesystem::exists(dir.path() / "tuned_net" / "version_1"));
}

// Its curve is that of a module which makes the same optimizer itself, and the rate is the optimizer's option.
TEST(TuneStage, TriesTheOptimizerThatIsNamed) {
  const auto curve_with = [](std::vector<std::string> words) {
    const TempDir dir;
    words.insert(words.begin(), {"tune", "--tune.lr", "--model.batch_size=32"});
    const auto ran = run_tune(std::move(words), dir);
    EXPECT_EQ(ran.status, 0) << ran.err;
    return std::pair(ran.out, content_of(dir.path() / "tuned_net" / "version_0" / "lr_find.csv"));
  };
  const auto own = curve_with({});
  const auto same = curve_with({"--optimizer", "sgd", "--optimizer.momentum=0.9"});
  EXPECT_EQ(same.second, own.second);
  EXPECT_EQ(same.first, "--optimizer" + own.first.substr(std::string("--model").size()));
  EXPECT_NE(curve_with({"--optimizer", "adamw"}).second, own.second);
}

TEST(TuneStage, SaysInOneSentenceWhatIsWrong) {
  const TempDir dir;
  const auto refusal = [&](std::vector<std::string> words) {
    const auto ran = run_tune(std::move(words), dir);
    EXPECT_EQ(ran.status, 2);
    EXPECT_EQ(ran.out, "");
    return ran.err;
  };
  EXPECT_EQ(refusal({"tune"}),
            "tuned_net: tune was not told what to find: use --tune.lr, --tune.batch_size, --tune.threads or"
            " --tune.fetchers, one or several\n");
  EXPECT_EQ(refusal({"fit", "--tune.lr"}),
            "tuned_net: --tune.lr belongs to the stage tune, which finds it: use tune --tune.lr, and give the other"
            " stages what it suggests\n");
  EXPECT_EQ(refusal({"tune", "--tune.lr", "--ckpt_path", "last"}),
            "tuned_net: tune begins with new weights: leave ckpt_path = last out\n");
  EXPECT_THAT(refusal({"tune", "--tune.lrr"}), HasSubstr("did you mean --tune.lr?"));
  EXPECT_THAT(refusal({"tune", "--tune.lr", "--lr_find.mode", "liner"}), HasSubstr("linear"));
  EXPECT_THAT(refusal({"tune", "--tune.lr", "--lr_find.attr_name", "rate"}), HasSubstr("did you mean lr?"));
  EXPECT_THAT(refusal({"tnue", "--tune.lr"}), HasSubstr("did you mean tune? (fit, validate, test, predict, tune)"));
}

}  // namespace
}  // namespace troupe
