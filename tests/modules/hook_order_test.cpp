// Holds the table against the pseudo-code of Lightning's module guide, section "Hooks".
#include "troupe/modules/hook_order.hpp"

#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

namespace troupe {
namespace {

using Names = std::vector<std::string>;

template <class Table>
Names names(const Table& table) {
  Names out;
  for (const Hook hook : table) out.emplace_back(to_string(hook));
  return out;
}

Names words(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), {}};
}

TEST(HookOrderP4, FitStartsAndEndsAsInTheGuide) {
  EXPECT_EQ(names(hook_order::before_devices), words("prepare_data configure_callbacks"));
  EXPECT_EQ(names(hook_order::fit_start),
            words("on_fit_start setup configure_optimizers on_pretrain_routine_start on_pretrain_routine_end"));
  EXPECT_EQ(names(hook_order::train_start), words("on_train_start"));
  EXPECT_EQ(names(hook_order::train_end), words("on_train_end"));
  EXPECT_EQ(names(hook_order::fit_end), words("on_fit_end"));
  EXPECT_EQ(names(hook_order::teardown), words("teardown"));
}

TEST(HookOrderP4, ATrainingEpochRunsAsInTheGuide) {
  EXPECT_EQ(names(hook_order::train_epoch_start), words("on_epoch_start on_train_epoch_start"));
  EXPECT_EQ(names(hook_order::train_batch),
            words("on_train_batch_start on_before_batch_transfer transfer_batch_to_device on_after_batch_transfer "
                  "training_step on_before_zero_grad optimizer_zero_grad on_before_backward backward "
                  "on_after_backward on_before_optimizer_step optimizer_step on_train_batch_end"));
  EXPECT_EQ(names(hook_order::train_epoch_end), words("training_epoch_end on_train_epoch_end on_epoch_end"));
}

TEST(HookOrderP4, ValidationRunsAsInTheGuideAndTestMirrorsIt) {
  const Names start = words("on_validation_model_eval on_validation_start on_epoch_start on_validation_epoch_start");
  const Names batch = words(
      "on_validation_batch_start on_before_batch_transfer transfer_batch_to_device on_after_batch_transfer "
      "validation_step on_validation_batch_end");
  const Names end =
      words("validation_epoch_end on_validation_epoch_end on_epoch_end on_validation_end on_validation_model_train");
  EXPECT_EQ(names(hook_order::validation_start), start);
  EXPECT_EQ(names(hook_order::validation_batch), batch);
  EXPECT_EQ(names(hook_order::validation_end), end);

  const auto as_test = [](Names list) {
    for (auto& name : list) {
      const auto at = name.find("validation");
      if (at != std::string::npos) name.replace(at, std::string("validation").size(), "test");
    }
    return list;
  };
  EXPECT_EQ(names(hook_order::test_start), as_test(start));
  EXPECT_EQ(names(hook_order::test_batch), as_test(batch));
  EXPECT_EQ(names(hook_order::test_end), as_test(end));
}

}  // namespace
}  // namespace troupe
