// Several callbacks in one run: whose place a module's take, whose state is whose; and monitors of what a validation
// that was left out would have logged.
#include "troupe/runtime/checkpoint/callback_states.hpp"
#include "tests/support/lines.hpp"
#include "tests/support/refusal.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <gmock/gmock.h>

#include <chrono>
#include <set>

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Callbacks = std::vector<std::shared_ptr<Callback>>;

std::shared_ptr<EarlyStopping> stopping(EarlyStoppingOptions options) {
  return std::make_shared<EarlyStopping>(std::move(options));
}
std::shared_ptr<ModelCheckpoint> checkpoint(ModelCheckpointOptions options) {
  return std::make_shared<ModelCheckpoint>(std::move(options));
}

// --- configure_callbacks ---

class WithCallbacks : public Line {
 public:
  std::vector<std::shared_ptr<Callback>> configure_callbacks() override { return own; }
  Callbacks own;
};

class CallbackStates : public testing::Test {
 protected:
  template <class M>
  void fit(std::shared_ptr<M> module, Callbacks callbacks, int64_t epochs, RunArguments arguments = {}) {
    auto options = quiet(dir_);
    options.max_epochs = epochs;
    options.callbacks = std::move(callbacks);
    change(options);
    trainer_ = std::make_unique<Trainer>(options);
    trainer_->fit(std::move(module), points(), val_, std::move(arguments));
  }
  std::set<std::string> files() const {
    std::set<std::string> names;
    for (const auto& file : std::filesystem::directory_iterator(trainer_->run_dir() / "checkpoints")) {
      names.insert(file.path().stem().string());
    }
    return names;
  }
  RunArguments last() const { return {.ckpt_path = (trainer_->run_dir() / "checkpoints/last.safetensors").string()}; }

  TempDir dir_;
  std::unique_ptr<Trainer> trainer_;
  DataLoaders val_ = points(64, false);
  std::function<void(TrainerOptions&)> change = [](TrainerOptions&) {};
};

TEST_F(CallbackStates, AModuleMayHaveTwoCallbacksOfOneType) {
  const auto model = std::make_shared<WithCallbacks>();
  model->own = {checkpoint({.filename = "best-{epoch}", .monitor = "val_loss"}),
                checkpoint({.filename = "every-{step}", .save_top_k = -1, .every_n_train_steps = 2})};
  fit(model, {checkpoint({.filename = "trainers"})}, 1);
  EXPECT_EQ(files(), (std::set<std::string>{"best-epoch=0", "every-step=2", "every-step=4"}));
  for (const bool turned : {false, true}) {
    const auto at_once = stopping({.monitor = "val_loss", .stopping_threshold = 1e9});
    const auto never = stopping({.monitor = "val_loss", .patience = 100});
    model->own = turned ? Callbacks{at_once, never} : Callbacks{never, at_once};
    fit(model, {}, 5);
    EXPECT_EQ(trainer_->current_epoch(), 1) << turned;
  }
}

// --- Keys ---

TEST_F(CallbackStates, TwoWithOneKeyAreRefusedAtTheStart) {
  const auto refused = [&](const Callbacks& callbacks) {
    return error_of([&] { fit(std::make_shared<Line>(), callbacks, 1); });
  };
  EXPECT_THAT(refused({std::make_shared<WeightAveraging>(), std::make_shared<Timer>(),
                       std::make_shared<WeightAveraging>(WeightAveragingOptions{.decay = 0.5})}),
              AllOf(HasSubstr("callback 0 (troupe::WeightAveraging) and callback 2 (troupe::WeightAveraging)"),
                    HasSubstr("'WeightAveraging'")));
  EXPECT_THAT(refused({stopping({.monitor = "val_loss"}), stopping({.monitor = "val_loss"})}),
              HasSubstr("'EarlyStopping{'monitor': 'val_loss', 'mode': 'min'}'"));
  // Also where the module has one of them, and where names of tensors would be mixed up.
  struct Named : Callback {
    explicit Named(std::string name) : key(std::move(name)) {}
    std::string state_key() const override { return key; }
    std::string key;
  };
  const auto named = [](const char* key) { return std::make_shared<Named>(key); };
  EXPECT_THAT(refused({named("mine"), named("mine.w")}), HasSubstr("'mine' and 'mine.w'"));
  EXPECT_EQ(refused({named("mine"), named("mine2"), named(""), named("")}), "");
}

TEST_F(CallbackStates, TwoThatDifferHaveAStateEach) {
  const auto callbacks = [&]() -> Callbacks {
    return {checkpoint({.monitor = "val_loss"}),
            checkpoint({.dirpath = dir_ / "other", .monitor = "val_loss"}),
            checkpoint({.filename = "x", .monitor = "val_loss"}),
            checkpoint({.filename = "y-{epoch}", .monitor = "val_loss", .save_top_k = 2, .save_last = true}),
            stopping({.monitor = "val_loss", .patience = 10}),
            stopping({.monitor = "val_loss", .min_delta = 5, .patience = 10}),
            std::make_shared<Timer>(),
            std::make_shared<Timer>(TimerOptions{.duration = std::chrono::hours(1)})};
  };
  fit(std::make_shared<Line>(), callbacks(), 2);
  const auto states = read_checkpoint(*last().ckpt_path).metadata.at("callbacks");
  EXPECT_EQ(states.size(), 8u);
  const auto second = callbacks();
  fit(std::make_shared<Line>(), second, 3, last());
  EXPECT_EQ(std::dynamic_pointer_cast<EarlyStopping>(second[4])->wait_count(), 0);
  EXPECT_EQ(std::dynamic_pointer_cast<EarlyStopping>(second[5])->wait_count(), 2);
  EXPECT_EQ(std::dynamic_pointer_cast<ModelCheckpoint>(second[3])->best_k_models().size(), 2u);
}

TEST_F(CallbackStates, AResumedRunMayChangeWhatOnlyTellsThemApart) {
  const auto first = stopping({.monitor = "val_loss", .min_delta = 5, .patience = 10});
  fit(std::make_shared<Line>(),
      {std::make_shared<Timer>(), first, checkpoint({.monitor = "val_loss", .save_last = true})}, 3);
  const auto states = read_checkpoint(*last().ckpt_path).metadata.at("callbacks");
  const auto longer = std::make_shared<Timer>(TimerOptions{.duration = std::chrono::hours(1)});
  const auto second = stopping({.monitor = "val_loss", .min_delta = 5, .patience = 20});
  const auto more = checkpoint({.monitor = "val_loss", .save_top_k = 5});
  fit(std::make_shared<Line>(), {longer, second, more}, 4, last());
  EXPECT_GT(longer->time_elapsed().count(), states.at("Timer").at("time_elapsed").at("fit").get<double>());
  EXPECT_EQ(second->wait_count(), 3);
  EXPECT_EQ(more->best_k_models().size(), 2u);
}

TEST(SavedKey, IsTakenOverWhereNobodyElseCouldBeMeant) {
  const nlohmann::json saved = {{"A#1", 0}, {"B#1", 0}, {"B#2", 0}, {"C", 0}, {"D#1", 0}};
  const std::vector<std::string> running = {"A#2", "B#3", "C", "C#1", "D#2", "D#3"};
  const auto found = [&](const char* key) { return saved_key(saved, key, running); };
  EXPECT_EQ(found("A#2"), "A#1");
  EXPECT_EQ(found("B#3"), "") << "two could be meant";
  EXPECT_EQ(found("C"), "C");
  EXPECT_EQ(found("C#1"), "") << "it belongs to another one";
  EXPECT_EQ(found("D#2"), "") << "two could take it";
  EXPECT_EQ(found("E"), "");
  EXPECT_EQ(saved_key(nlohmann::json::array(), "A#2", running), "");
  EXPECT_EQ(saved_key(saved, "", running), "");
}

TEST_F(CallbackStates, StatesThatNobodyTakesAreNamed) {
  fit(std::make_shared<Line>(), {std::make_shared<WeightAveraging>(), checkpoint({.save_last = true})}, 1);
  const auto stderr_of = [&](const Callbacks& callbacks) {
    testing::internal::CaptureStderr();
    fit(std::make_shared<Line>(), callbacks, 2, {.ckpt_path = last().ckpt_path});
    return testing::internal::GetCapturedStderr();
  };
  EXPECT_THAT(stderr_of({checkpoint({.save_last = true})}),
              AllOf(HasSubstr("states of callbacks that this run has not"), HasSubstr(": WeightAveraging\n")));
  EXPECT_THAT(stderr_of({checkpoint({.save_last = true})}), Not(HasSubstr("states of callbacks")));
}

// --- No validation ---

TEST_F(CallbackStates, MonitorsOfAValidationThatIsLeftOutDoNotEndTheRun) {
  change = [](TrainerOptions& options) { options.limit_val_batches = 0; };
  const auto best = checkpoint({.monitor = "val_loss", .save_last = true});
  fit(std::make_shared<Line>(), {best, stopping({.monitor = "val_loss"})}, 2);
  EXPECT_EQ(trainer_->current_epoch(), 2);
  EXPECT_EQ(files(), (std::set<std::string>{"last"}));
  change = [](TrainerOptions& options) { options.limit_val_batches = 0.0; };
  fit(std::make_shared<Line>(), {checkpoint({.filename = "{val_loss}", .monitor = "val_loss"})}, 1);
  // Where there is none at all the name is a mistake.
  change = [](TrainerOptions&) {};
  val_ = {};
  EXPECT_THAT(error_of([&] { fit(std::make_shared<Line>(), {checkpoint({.monitor = "val_loss"})}, 2); }),
              HasSubstr("no metric 'val_loss' was logged"));
}

// Gives as many samples as the epoch says.
class Stream : public IterableDataset {
 public:
  explicit Stream(std::vector<int64_t> lengths) : lengths_(std::move(lengths)) {}
  void start(int64_t epoch, int64_t, int64_t) override { left_ = lengths_.at(static_cast<std::size_t>(epoch)); }
  std::optional<Batch> next() override {
    if (left_-- <= 0) return std::nullopt;
    return Batch{torch::ones({1}), torch::ones({1})};
  }

 private:
  std::vector<int64_t> lengths_;
  int64_t left_ = 0;
};

TEST_F(CallbackStates, MonitorsOfAValidationWithoutABatchDoNotEndTheRun) {
  change = [](TrainerOptions& options) { options.num_sanity_val_steps = 0; };
  val_ = DataLoader(std::make_shared<Stream>(std::vector<int64_t>{0, 0, 3, 0, 3}), {.batch_size = 1});
  const auto best = checkpoint({.filename = "{epoch}", .monitor = "val_loss", .save_top_k = -1, .save_last = true});
  const auto patience = stopping({.monitor = "val_loss", .min_delta = 100, .patience = 2});
  testing::internal::CaptureStderr();
  fit(std::make_shared<Line>(), {best, patience}, 5);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("the validation had no batch"));
  EXPECT_EQ(trainer_->current_epoch(), 5);
  EXPECT_EQ(patience->wait_count(), 1) << "a value is checked once";
  EXPECT_THAT(files(), testing::IsSupersetOf({"epoch=2", "epoch=4", "last"}));
  EXPECT_EQ(best->best_model_score().has_value(), true);
}

// A validation that has batches and logs nothing is a mistake still.
class Silent : public Line {
 public:
  StepOutput validation_step(const Batch&, int64_t) override { return {}; }
};

TEST_F(CallbackStates, AValidationThatLogsNothingIsAMistake) {
  EXPECT_THAT(error_of([&] { fit(std::make_shared<Silent>(), {stopping({.monitor = "val_loss"})}, 2); }),
              HasSubstr("EarlyStopping's monitor: no metric 'val_loss' was logged"));
}

}  // namespace
}  // namespace troupe
