// Behaviour that is added to a run from outside of the module.
//
//     class PrintLoss : public troupe::Callback {
//      public:
//       void on_train_epoch_end(RunContext& run, Module&) override {
//         run.print("loss " + std::to_string(run.callback_metrics().at("train_loss_epoch")));
//       }
//     };
//     Trainer trainer({.max_epochs = 3, .callbacks = {std::make_shared<PrintLoss>()}});
//
// Hooks run on the worker's thread, in the order of the callbacks, each before the module's hook of that name
// (exceptions are written at the hook). For behaviour that must not hold up the training, write an actor instead
// (launch/trainer.hpp, Trainer::add_actor).
#pragma once

#include "troupe/modules/stage.hpp"

#include <torch/types.h>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace torch::optim {
class Optimizer;
}

namespace troupe {

class Batch;
class Module;
class RunContext;
class StepOutput;
struct Failure;

class Callback {
 public:
  virtual ~Callback() = default;

  /// Identifies the callback's state in a checkpoint. Empty: it has no state. A run with two equal keys is refused when
  /// it starts, so a key should hold the options that tell callbacks of one class apart. Options that a resumed run may
  /// change stand behind a '#' ("Timer#{\"duration\":60000}"): if a run and its checkpoint have one callback each whose
  /// keys are equal up to there, the callback takes the state over.
  virtual std::string state_key() const { return ""; }
  /// State to store in a checkpoint.
  virtual nlohmann::json state_dict() const { return nullptr; }
  /// Gets back what state_dict returned. The value comes from a file: check it, throw UsageError if it is wrong. The
  /// optimizers are there, and get their own state afterwards.
  virtual void load_state_dict(const nlohmann::json& state) { (void)state; }
  /// Tensors to store with the state, by name; those in use, not copies. Only with a state_key.
  virtual std::vector<std::pair<std::string, torch::Tensor>> state_tensors() const { return {}; }
  /// Gets them back, on the CPU, after load_state_dict. They come from a file: check names, shapes and types, throw
  /// UsageError if they are wrong.
  virtual void load_state_tensors(const std::vector<std::pair<std::string, torch::Tensor>>& tensors) { (void)tensors; }

  /// Around the copying of the run's state for a checkpoint, which stores the weights that the module has in between.
  virtual void on_snapshot_start(Module&) {}
  virtual void on_snapshot_end(Module&) {}

  /// A callback for one more device of this process, whose worker has a module and batches of its own, or for the copy
  /// of the module that validates beside the training (trainer.async_validation). Override it if the callback acts on
  /// the module, or on every batch. It is called before the run, on another thread than the hooks. By default a
  /// callback is called on the first device only, and not in validations beside the training.
  virtual std::shared_ptr<Callback> replicate() const { return nullptr; }

  /// False if no hook of a batch is overridden: they are then not called at all.
  virtual bool has_batch_hooks() const { return true; }

  /// Called after the data module's and before the module's.
  virtual void setup(RunContext&, Module&, Stage) {}
  virtual void teardown(RunContext&, Module&, Stage) {}

  virtual void on_fit_start(RunContext&, Module&) {}
  virtual void on_fit_end(RunContext&, Module&) {}
  virtual void on_pretrain_routine_start(RunContext&, Module&) {}
  virtual void on_pretrain_routine_end(RunContext&, Module&) {}
  /// Around the whole validation before training; the hooks of that validation are called too.
  virtual void on_sanity_check_start(RunContext&, Module&) {}
  virtual void on_sanity_check_end(RunContext&, Module&) {}
  virtual void on_train_start(RunContext&, Module&) {}
  virtual void on_train_end(RunContext&, Module&) {}
  virtual void on_epoch_start(RunContext&, Module&) {}
  virtual void on_epoch_end(RunContext&, Module&) {}
  virtual void on_train_epoch_start(RunContext&, Module&) {}
  virtual void on_train_epoch_end(RunContext&, Module&) {}
  virtual void on_train_batch_start(RunContext&, Module&, const Batch&, int64_t /*batch_idx*/) {}
  virtual void on_train_batch_end(RunContext&, Module&, const StepOutput&, const Batch&, int64_t /*batch_idx*/) {}
  virtual void on_before_zero_grad(RunContext&, Module&, torch::optim::Optimizer&) {}
  virtual void on_before_backward(RunContext&, Module&, const torch::Tensor& /*loss*/) {}
  virtual void on_after_backward(RunContext&, Module&) {}
  virtual void on_before_optimizer_step(RunContext&, Module&, torch::optim::Optimizer&, int64_t /*optimizer_idx*/) {}

  virtual void on_validation_start(RunContext&, Module&) {}
  virtual void on_validation_end(RunContext&, Module&) {}
  virtual void on_validation_epoch_start(RunContext&, Module&) {}
  virtual void on_validation_epoch_end(RunContext&, Module&) {}
  virtual void on_validation_batch_start(RunContext&, Module&, const Batch&, int64_t, int64_t /*dataloader_idx*/) {}
  virtual void on_validation_batch_end(RunContext&, Module&, const StepOutput&, const Batch&, int64_t, int64_t) {}
  virtual void on_test_start(RunContext&, Module&) {}
  virtual void on_test_end(RunContext&, Module&) {}
  virtual void on_test_epoch_start(RunContext&, Module&) {}
  virtual void on_test_epoch_end(RunContext&, Module&) {}
  virtual void on_test_batch_start(RunContext&, Module&, const Batch&, int64_t, int64_t) {}
  virtual void on_test_batch_end(RunContext&, Module&, const StepOutput&, const Batch&, int64_t, int64_t) {}
  virtual void on_predict_start(RunContext&, Module&) {}
  virtual void on_predict_end(RunContext&, Module&) {}
  virtual void on_predict_epoch_start(RunContext&, Module&) {}
  virtual void on_predict_epoch_end(RunContext&, Module&) {}
  virtual void on_predict_batch_start(RunContext&, Module&, const Batch&, int64_t, int64_t) {}
  virtual void on_predict_batch_end(RunContext&, Module&, const StepOutput&, const Batch&, int64_t, int64_t) {}

  /// The metadata of a checkpoint that is being written; before the module's.
  virtual void on_save_checkpoint(RunContext&, Module&, nlohmann::json& /*checkpoint*/) {}
  /// The metadata of the checkpoint that the run starts from; the module has its weights.
  virtual void on_load_checkpoint(RunContext&, Module&, const nlohmann::json& /*checkpoint*/) {}
  /// Something failed in this run, here or elsewhere; teardown follows.
  virtual void on_exception(RunContext&, Module&, const Failure&) {}
};

}  // namespace troupe
