// The calls of a real run, held against the pseudo-code of the module guide's section "Hooks" (protocol rule P4).
#include "tests/support/program.hpp"

#include <gtest/gtest.h>

#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace troupe {
namespace {

using Names = std::vector<std::string>;

Names words_of(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), {}};
}

// Hooks that the guide's pseudo-code leaves out; the list of hooks has them.
const std::set<std::string> not_in_pseudo_code = {
    "on_post_move_to_device", "train_dataloader",    "val_dataloader", "test_dataloader",
    "predict_dataloader",     "add_to_queue",        "get_from_queue", "configure_gradient_clipping",
    "training_step_end",      "validation_step_end", "test_step_end"};

Names hooks_of(const std::string& arguments) {
  const auto run = run_program(example("hook_order") + " " + arguments + " 2>/dev/null");
  EXPECT_EQ(run.status, 0) << run.output;
  Names names;
  for (auto& name : words_of(run.output)) {
    if (!not_in_pseudo_code.contains(name)) names.push_back(std::move(name));
  }
  return names;
}

// The guide's functions, with as many batches as asked for.
std::string transfer() {
  return " on_before_batch_transfer transfer_batch_to_device on_after_batch_transfer ";
}

std::string repeat(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text + " ";
  return out;
}

std::string val_loop(int batches) {
  return "on_validation_model_eval on_validation_start on_epoch_start on_validation_epoch_start " +
         repeat("on_validation_batch_start" + transfer() + "validation_step on_validation_batch_end", batches) +
         "validation_epoch_end on_validation_epoch_end on_epoch_end on_validation_end on_validation_model_train ";
}

std::string train_batch() {
  return "on_train_batch_start" + transfer() +
         "training_step on_before_zero_grad optimizer_zero_grad on_before_backward backward on_after_backward "
         "on_before_optimizer_step optimizer_step on_train_batch_end ";
}

std::string fit_start() {
  return "prepare_data configure_callbacks on_fit_start setup configure_optimizers on_pretrain_routine_start "
         "on_pretrain_routine_end ";
}

const std::string epoch_start = "on_epoch_start on_train_epoch_start ";
const std::string epoch_end = "training_epoch_end on_train_epoch_end on_epoch_end ";
const std::string fit_end = "on_train_end on_fit_end teardown";

TEST(HookOrderP4, FitCallsEveryHookOfTheGuideInItsOrder) {
  const auto epoch = epoch_start + repeat(train_batch(), 3) + val_loop(2) + epoch_end;
  EXPECT_EQ(hooks_of("fit --trainer.max_epochs 2 --trainer.limit_train_batches 3 --trainer.limit_val_batches 2"),
            words_of(fit_start() + val_loop(2) + "on_train_start " + epoch + epoch + fit_end));
}

TEST(HookOrderP4, ValidationWithinTheEpochFollowsTheBatchAfterWhichItIsDue) {
  EXPECT_EQ(hooks_of("fit --trainer.limit_train_batches 2 --trainer.limit_val_batches 1 --trainer.val_check_interval 1 "
                     "--trainer.num_sanity_val_steps 0"),
            words_of(fit_start() + "on_train_start " + epoch_start + train_batch() + val_loop(1) + train_batch() +
                     val_loop(1) + epoch_end + fit_end));
}

TEST(HookOrderP4, AnAccumulationWindowZeroesOnItsFirstBatchAndStepsOnItsLast) {
  const std::string head = "on_train_batch_start" + transfer() + "training_step ";
  const std::string zero = "on_before_zero_grad optimizer_zero_grad ";
  const std::string back = "on_before_backward backward on_after_backward ";
  const std::string step = "on_before_optimizer_step optimizer_step ";
  const std::string tail = "on_train_batch_end ";
  // Three batches, windows of two: the short last window steps too.
  EXPECT_EQ(hooks_of("fit --trainer.limit_train_batches 3 --trainer.limit_val_batches 0 "
                     "--trainer.accumulate_grad_batches 2"),
            words_of(fit_start() + "on_train_start " + epoch_start + head + zero + back + tail + head + back + step +
                     tail + head + zero + back + step + tail + epoch_end + fit_end));
}

TEST(HookOrderP4, ValidateAndTestMirrorTheValidationLoop) {
  const std::string before = "prepare_data configure_callbacks setup ";
  EXPECT_EQ(hooks_of("validate --trainer.limit_val_batches 2"), words_of(before + val_loop(2) + "teardown"));
  auto as_test = words_of(val_loop(2));
  for (auto& name : as_test) {
    if (const auto at = name.find("validation"); at != std::string::npos) name.replace(at, 10, "test");
  }
  auto expected = words_of(before);
  expected.insert(expected.end(), as_test.begin(), as_test.end());
  expected.emplace_back("teardown");
  EXPECT_EQ(hooks_of("test --trainer.limit_test_batches 2"), expected);
}

TEST(HookOrderP4, PredictHasHooksOfItsOwn) {
  const auto run = run_program(example("hook_order") + " predict --trainer.limit_predict_batches 1 2>/dev/null");
  EXPECT_EQ(run.status, 0);
  const auto expected = words_of(
      "prepare_data configure_callbacks setup on_post_move_to_device predict_dataloader "
      "on_predict_model_eval on_predict_start on_predict_epoch_start on_predict_batch_start" +
      transfer() +
      "predict_step on_predict_batch_end on_predict_epoch_end on_predict_end teardown add_to_queue "
      "get_from_queue");
  const auto names = words_of(run.output);
  ASSERT_GE(names.size(), expected.size());
  EXPECT_EQ(Names(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(expected.size())), expected);
}

TEST(HookOrderP4, SavingAndLoadingCheckpointsCallTheirHooks) {
  const auto folder = run_program("mktemp -d").output;
  const std::string dir = folder.substr(0, folder.find('\n'));
  const std::string options =
      " --trainer.enable_checkpointing true --trainer.limit_val_batches 0 "
      "--trainer.default_root_dir " +
      dir + " 2>/dev/null";
  const auto first = run_program(example("hook_order") + " fit --trainer.max_epochs 1" + options);
  EXPECT_NE(first.output.find("\non_save_checkpoint\n"), std::string::npos);
  const auto second = run_program(example("hook_order") + " fit --trainer.max_epochs 2 --ckpt_path last" + options);
  EXPECT_EQ(second.status, 0);
  EXPECT_NE(second.output.find("\non_load_checkpoint\n"), std::string::npos);
  run_program("rm -r " + dir);
}

}  // namespace
}  // namespace troupe
