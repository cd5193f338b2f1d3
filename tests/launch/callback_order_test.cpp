// Callbacks, data module and module among themselves: the order of Lightning 2.6 (trainer/call.py, loops/), on the
// hooks of the module guide.
#include "tests/support/lines.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <sstream>

namespace troupe {
namespace {

using ::testing::ElementsAreArray;
using Calls = std::vector<std::string>;

// Who is asked what, in order.
struct Journal {
  Calls calls;
  void add(const char* who, const char* hook) { calls.push_back(std::string(who) + "." + hook); }
};

class Diary : public Callback {
 public:
  explicit Diary(Journal& journal) : journal_(journal) {}
  std::string state_key() const override { return "Diary"; }
  nlohmann::json state_dict() const override { return say("state_dict"), nlohmann::json::object(); }
  void load_state_dict(const nlohmann::json&) override { say("load_state_dict"); }
  void setup(RunContext&, Module&, Stage) override { say("setup"); }
  void teardown(RunContext&, Module&, Stage) override { say("teardown"); }
#define TROUPE_DIARY(name)                   \
  void name(RunContext&, Module&) override { \
    say(#name);                              \
  }
  TROUPE_DIARY(on_fit_start)
  TROUPE_DIARY(on_fit_end)
  TROUPE_DIARY(on_pretrain_routine_start)
  TROUPE_DIARY(on_pretrain_routine_end)
  TROUPE_DIARY(on_sanity_check_start)
  TROUPE_DIARY(on_sanity_check_end)
  TROUPE_DIARY(on_train_start)
  TROUPE_DIARY(on_train_end)
  TROUPE_DIARY(on_epoch_start)
  TROUPE_DIARY(on_epoch_end)
  TROUPE_DIARY(on_train_epoch_start)
  TROUPE_DIARY(on_train_epoch_end)
  TROUPE_DIARY(on_after_backward)
  TROUPE_DIARY(on_validation_start)
  TROUPE_DIARY(on_validation_end)
  TROUPE_DIARY(on_validation_epoch_start)
  TROUPE_DIARY(on_validation_epoch_end)
  TROUPE_DIARY(on_test_start)
  TROUPE_DIARY(on_test_end)
  TROUPE_DIARY(on_test_epoch_start)
  TROUPE_DIARY(on_test_epoch_end)
  TROUPE_DIARY(on_predict_start)
  TROUPE_DIARY(on_predict_end)
  TROUPE_DIARY(on_predict_epoch_start)
  TROUPE_DIARY(on_predict_epoch_end)
#undef TROUPE_DIARY
  void on_train_batch_start(RunContext&, Module&, const Batch&, int64_t) override {
    say("on_train_batch_start");
  }
  void on_train_batch_end(RunContext&, Module&, const StepOutput&, const Batch&, int64_t) override {
    say("on_train_batch_end");
  }
  void on_before_zero_grad(RunContext&, Module&, torch::optim::Optimizer&) override {
    say("on_before_zero_grad");
  }
  void on_before_backward(RunContext&, Module&, const torch::Tensor&) override {
    say("on_before_backward");
  }
  void on_before_optimizer_step(RunContext&, Module&, torch::optim::Optimizer&, int64_t) override {
    say("on_before_optimizer_step");
  }
#define TROUPE_DIARY_BATCH(start, end)                                                         \
  void start(RunContext&, Module&, const Batch&, int64_t, int64_t) override {                  \
    say(#start);                                                                               \
  }                                                                                            \
  void end(RunContext&, Module&, const StepOutput&, const Batch&, int64_t, int64_t) override { \
    say(#end);                                                                                 \
  }
  TROUPE_DIARY_BATCH(on_validation_batch_start, on_validation_batch_end)
  TROUPE_DIARY_BATCH(on_test_batch_start, on_test_batch_end)
  TROUPE_DIARY_BATCH(on_predict_batch_start, on_predict_batch_end)
#undef TROUPE_DIARY_BATCH
  void on_save_checkpoint(RunContext&, Module&, nlohmann::json&) override {
    say("on_save_checkpoint");
  }
  void on_load_checkpoint(RunContext&, Module&, const nlohmann::json&) override {
    say("on_load_checkpoint");
  }
  void on_exception(RunContext&, Module&, const Failure&) override {
    say("on_exception");
  }

 private:
  void say(const char* hook) const {
    journal_.add("callback", hook);
  }
  Journal& journal_;
};

class ToldModule : public Line {
 public:
  explicit ToldModule(Journal& journal) : journal_(journal) {}
  StepOutput training_step(const Batch& batch, int64_t i) override {
    say("training_step");
    if (fails) throw std::runtime_error("on purpose");
    return Line::training_step(batch, i);
  }
  StepOutput validation_step(const Batch& b, int64_t i) override {
    return say("validation_step"), Line::validation_step(b, i);
  }
  StepOutput test_step(const Batch& b, int64_t i) override { return say("test_step"), Line::test_step(b, i); }
  StepOutput predict_step(const Batch& b, int64_t i) override { return say("predict_step"), Line::predict_step(b, i); }
  Optimizers configure_optimizers() override { return say("configure_optimizers"), Line::configure_optimizers(); }
  std::vector<std::shared_ptr<Callback>> configure_callbacks() override {
    return say("configure_callbacks"), std::vector<std::shared_ptr<Callback>>{};
  }
  void setup(Stage) override { say("setup"); }
  void teardown(Stage) override { say("teardown"); }
  void prepare_data() override { say("prepare_data"); }
#define TROUPE_TOLD(name) \
  void name() override {  \
    say(#name);           \
  }
  TROUPE_TOLD(on_fit_start)
  TROUPE_TOLD(on_fit_end)
  TROUPE_TOLD(on_pretrain_routine_start)
  TROUPE_TOLD(on_pretrain_routine_end)
  TROUPE_TOLD(on_train_start)
  TROUPE_TOLD(on_train_end)
  TROUPE_TOLD(on_epoch_start)
  TROUPE_TOLD(on_epoch_end)
  TROUPE_TOLD(on_train_epoch_start)
  TROUPE_TOLD(on_train_epoch_end)
  TROUPE_TOLD(on_after_backward)
  TROUPE_TOLD(on_validation_start)
  TROUPE_TOLD(on_validation_end)
  TROUPE_TOLD(on_validation_epoch_start)
  TROUPE_TOLD(on_validation_epoch_end)
  TROUPE_TOLD(on_test_start)
  TROUPE_TOLD(on_test_end)
  TROUPE_TOLD(on_test_epoch_start)
  TROUPE_TOLD(on_test_epoch_end)
  TROUPE_TOLD(on_predict_start)
  TROUPE_TOLD(on_predict_end)
  TROUPE_TOLD(on_predict_epoch_start)
  TROUPE_TOLD(on_predict_epoch_end)
#undef TROUPE_TOLD
#define TROUPE_TOLD_MODE(name)  \
  void name() override {        \
    say(#name), Module::name(); \
  }
  TROUPE_TOLD_MODE(on_validation_model_eval)
  TROUPE_TOLD_MODE(on_validation_model_train)
#undef TROUPE_TOLD_MODE
  void training_epoch_end(const EpochOutputs&) override {
    say("training_epoch_end");
  }
  EpochControl on_train_batch_start(const Batch&, int64_t) override {
    return say("on_train_batch_start"), EpochControl::proceed;
  }
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t) override {
    say("on_train_batch_end");
  }
  void on_before_zero_grad(torch::optim::Optimizer&) override {
    say("on_before_zero_grad");
  }
  void on_before_backward(const torch::Tensor&) override {
    say("on_before_backward");
  }
  void on_before_optimizer_step(torch::optim::Optimizer&, int64_t) override {
    say("on_before_optimizer_step");
  }
#define TROUPE_TOLD_BATCH(start, end)                                    \
  void start(const Batch&, int64_t, int64_t) override {                  \
    say(#start);                                                         \
  }                                                                      \
  void end(const StepOutput&, const Batch&, int64_t, int64_t) override { \
    say(#end);                                                           \
  }
  TROUPE_TOLD_BATCH(on_validation_batch_start, on_validation_batch_end)
  TROUPE_TOLD_BATCH(on_test_batch_start, on_test_batch_end)
  TROUPE_TOLD_BATCH(on_predict_batch_start, on_predict_batch_end)
#undef TROUPE_TOLD_BATCH
  void on_save_checkpoint(nlohmann::json&) override {
    say("on_save_checkpoint");
  }
  void on_load_checkpoint(const nlohmann::json&) override {
    say("on_load_checkpoint");
  }
  bool fails = false;

 private:
  void say(const char* hook) {
    journal_.add("module", hook);
  }
  Journal& journal_;
};

class Source : public DataModule {
 public:
  explicit Source(Journal& journal) : journal_(journal) {}
  void prepare_data() override { say("prepare_data"); }
  void setup(Stage) override { say("setup"); }
  void teardown(Stage) override { say("teardown"); }
  DataLoaders train_dataloader() override { return points(64); }
  DataLoaders val_dataloader() override { return points(64); }
  DataLoaders test_dataloader() override { return points(64); }
  DataLoaders predict_dataloader() override { return points(64); }
  void on_exception(const Failure&) override { say("on_exception"); }

 private:
  void say(const char* hook) { journal_.add("data", hook); }
  Journal& journal_;
};

// "hook" is asked of the callback, then of the module; "who.hook" of one alone.
Calls expanded(const std::string& text) {
  Calls calls;
  std::istringstream in(text);
  for (std::string word; in >> word;) {
    if (word.find('.') != std::string::npos) {
      calls.push_back(word);
    } else {
      calls.push_back("callback." + word), calls.push_back("module." + word);
    }
  }
  return calls;
}

const std::string begin = "data.prepare_data module.prepare_data module.configure_callbacks ";
const std::string set_up = "data.setup setup ";
const std::string end = "data.teardown teardown";
const std::string validation =
    "module.on_validation_model_eval on_validation_start on_epoch_start on_validation_epoch_start "
    "on_validation_batch_start module.validation_step on_validation_batch_end on_validation_epoch_end on_epoch_end "
    "on_validation_end module.on_validation_model_train ";
const std::string order_of_fit_start = begin + "on_fit_start " + set_up + "module.configure_optimizers ";
const std::string pretrain = "on_pretrain_routine_start on_pretrain_routine_end ";
const std::string train_start = "on_train_start on_epoch_start on_train_epoch_start on_train_batch_start ";

class CallbackOrderP4 : public ::testing::Test {
 protected:
  Trainer trainer(bool saves = false, int64_t epochs = 1) {
    auto options = quiet(dir_);
    options.max_epochs = epochs;
    options.enable_checkpointing = saves;
    options.callbacks = {std::make_shared<Diary>(journal_)};
    if (saves) options.num_sanity_val_steps = 0, options.limit_val_batches = 0;
    return Trainer(options);
  }
  RunArguments data() { return {.datamodule = std::make_shared<Source>(journal_)}; }
  TempDir dir_;
  Journal journal_;
  std::shared_ptr<ToldModule> module_ = std::make_shared<ToldModule>(journal_);
};

TEST_F(CallbackOrderP4, OfAFit) {
  trainer().fit(module_, {}, {}, data());
  EXPECT_THAT(
      journal_.calls,
      ElementsAreArray(expanded(
          order_of_fit_start + pretrain + "callback.on_sanity_check_start " + validation +
          "callback.on_sanity_check_end " + train_start +
          "module.training_step on_before_zero_grad on_before_backward on_after_backward on_before_optimizer_step "
          "on_train_batch_end " +
          validation + "module.training_epoch_end on_train_epoch_end on_epoch_end on_train_end on_fit_end " + end)));
}

TEST_F(CallbackOrderP4, OfATest) {
  trainer().test(module_, {}, data());
  EXPECT_THAT(journal_.calls,
              ElementsAreArray(expanded(begin + set_up +
                                        "on_test_start on_epoch_start on_test_epoch_start on_test_batch_start "
                                        "module.test_step on_test_batch_end on_test_epoch_end on_epoch_end "
                                        "on_test_end " +
                                        end)));
}

TEST_F(CallbackOrderP4, OfAPrediction) {
  trainer().predict(module_, {}, data());
  EXPECT_THAT(
      journal_.calls,
      ElementsAreArray(expanded(begin + set_up +
                                "on_predict_start on_predict_epoch_start on_predict_batch_start module.predict_step "
                                "on_predict_batch_end on_predict_epoch_end on_predict_end " +
                                end)));
}

TEST_F(CallbackOrderP4, OfAFailure) {
  module_->fails = true;
  EXPECT_NE(error_of([&] {
              auto options = quiet(dir_);
              options.num_sanity_val_steps = 0;
              options.callbacks = {std::make_shared<Diary>(journal_)};
              Trainer(options).fit(module_, {}, {}, data());
            }),
            "");
  EXPECT_THAT(journal_.calls,
              ElementsAreArray(expanded(order_of_fit_start + pretrain + train_start +
                                        "module.training_step callback.on_exception data.on_exception " + end)));
}

TEST_F(CallbackOrderP4, OfSavingAndLoading) {
  trainer(true).fit(module_, {}, {}, data());
  const auto saved = std::ranges::find(journal_.calls, "callback.state_dict");
  ASSERT_GE(journal_.calls.end() - saved, 3);
  EXPECT_THAT(Calls(saved, saved + 3), ElementsAreArray(expanded("callback.state_dict on_save_checkpoint")));
  journal_.calls.clear();
  auto arguments = data();
  arguments.ckpt_path = "last";
  trainer(true, 2).fit(module_, {}, {}, arguments);
  const auto expected = expanded(begin + "on_fit_start " + set_up +
                                 "module.on_load_checkpoint callback.on_load_checkpoint module.configure_optimizers " +
                                 pretrain + "callback.load_state_dict ");
  ASSERT_GE(journal_.calls.size(), expected.size());
  EXPECT_THAT(Calls(journal_.calls.begin(), journal_.calls.begin() + static_cast<std::ptrdiff_t>(expected.size())),
              ElementsAreArray(expected));
}

}  // namespace
}  // namespace troupe
