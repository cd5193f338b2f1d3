// The guide's section "Hooks": its pseudo-code as C++ that runs, held against a real run (protocol rule P4).
#include "tests/support/program.hpp"

#include <gtest/gtest.h>

#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace guide_hook_order {
namespace {

using Names = std::vector<std::string>;

/// Writes down the hooks in the order of the guide's functions.
class PseudoCode {
 public:
  Names names;

  // [guide:hooks]
  void fit() {
    if (global_rank == 0) prepare_data();
    configure_callbacks();
    train_on_device();  // on each device
  }

  void train_on_device() {
    on_fit_start();
    setup();
    configure_optimizers();

    on_pretrain_routine_start();
    on_pretrain_routine_end();

    val_loop();  // the sanity check

    on_train_start();
    for (int epoch = 0; epoch < epochs; ++epoch) train_loop();
    on_train_end();

    on_fit_end();
    teardown();
  }

  void train_loop() {
    on_epoch_start();
    on_train_epoch_start();

    for (int batch = 0; batch < train_batches; ++batch) {
      on_train_batch_start();

      on_before_batch_transfer();
      transfer_batch_to_device();
      on_after_batch_transfer();

      training_step();

      on_before_zero_grad();
      optimizer_zero_grad();

      on_before_backward();
      backward();
      on_after_backward();

      on_before_optimizer_step();
      optimizer_step();

      on_train_batch_end();

      if (should_check_val(batch)) val_loop();
    }
    training_epoch_end();

    on_train_epoch_end();
    on_epoch_end();
  }

  void val_loop() {
    on_validation_model_eval();  // eval(), gradients off

    on_validation_start();
    on_epoch_start();
    on_validation_epoch_start();

    for (int batch = 0; batch < val_batches; ++batch) {
      on_validation_batch_start();

      on_before_batch_transfer();
      transfer_batch_to_device();
      on_after_batch_transfer();

      validation_step();

      on_validation_batch_end();
    }
    validation_epoch_end();

    on_validation_epoch_end();
    on_epoch_end();
    on_validation_end();

    on_validation_model_train();  // the modes that were there before, gradients on
  }
  // [guide:end]

 private:
  static constexpr int global_rank = 0, epochs = 2, train_batches = 2, val_batches = 2;
  static bool should_check_val(int batch) { return batch == train_batches - 1; }

#define TROUPE_NAMED(name)     \
  void name() {                \
    names.emplace_back(#name); \
  }
  TROUPE_NAMED(prepare_data)
  TROUPE_NAMED(configure_callbacks)
  TROUPE_NAMED(on_fit_start)
  TROUPE_NAMED(setup)
  TROUPE_NAMED(configure_optimizers)
  TROUPE_NAMED(on_pretrain_routine_start)
  TROUPE_NAMED(on_pretrain_routine_end)
  TROUPE_NAMED(on_train_start)
  TROUPE_NAMED(on_train_end)
  TROUPE_NAMED(on_fit_end)
  TROUPE_NAMED(teardown)
  TROUPE_NAMED(on_epoch_start)
  TROUPE_NAMED(on_epoch_end)
  TROUPE_NAMED(on_train_epoch_start)
  TROUPE_NAMED(training_epoch_end)
  TROUPE_NAMED(on_train_epoch_end)
  TROUPE_NAMED(on_train_batch_start)
  TROUPE_NAMED(on_before_batch_transfer)
  TROUPE_NAMED(transfer_batch_to_device)
  TROUPE_NAMED(on_after_batch_transfer)
  TROUPE_NAMED(training_step)
  TROUPE_NAMED(on_before_zero_grad)
  TROUPE_NAMED(optimizer_zero_grad)
  TROUPE_NAMED(on_before_backward)
  TROUPE_NAMED(backward)
  TROUPE_NAMED(on_after_backward)
  TROUPE_NAMED(on_before_optimizer_step)
  TROUPE_NAMED(optimizer_step)
  TROUPE_NAMED(on_train_batch_end)
  TROUPE_NAMED(on_validation_model_eval)
  TROUPE_NAMED(on_validation_start)
  TROUPE_NAMED(on_validation_epoch_start)
  TROUPE_NAMED(on_validation_batch_start)
  TROUPE_NAMED(validation_step)
  TROUPE_NAMED(on_validation_batch_end)
  TROUPE_NAMED(validation_epoch_end)
  TROUPE_NAMED(on_validation_epoch_end)
  TROUPE_NAMED(on_validation_end)
  TROUPE_NAMED(on_validation_model_train)
#undef TROUPE_NAMED
};

// Hooks that the pseudo-code leaves out.
const std::set<std::string> left_out = {
    "on_post_move_to_device", "train_dataloader",  "val_dataloader",      "add_to_queue",
    "get_from_queue",         "training_step_end", "validation_step_end", "configure_gradient_clipping"};

TEST(GuideHooksP4, ARunFollowsThePseudoCode) {
  PseudoCode expected;
  expected.fit();
  const auto run = troupe::run_program(
      troupe::example("hook_order") +
      " fit --trainer.max_epochs 2 --trainer.limit_train_batches 2 --trainer.limit_val_batches 2 2>/dev/null");
  ASSERT_EQ(run.status, 0) << run.output;
  Names names;
  std::istringstream in(run.output);
  for (std::string name; in >> name;) {
    if (!left_out.contains(name)) names.push_back(name);
  }
  EXPECT_EQ(names, expected.names);
}

}  // namespace
}  // namespace guide_hook_order
