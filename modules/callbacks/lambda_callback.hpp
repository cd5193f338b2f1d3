// A callback out of functions.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/modules/callback.hpp"
#include "troupe/modules/hooks.hpp"

#include <functional>
#include <string>

namespace troupe {

/// The functions; those that are empty are not called. Named as the hooks.
struct LambdaCallbackOptions {
  using Simple = std::function<void(RunContext&, Module&)>;
#define TROUPE_DECLARE(name, arguments, owners) \
  TROUPE_TAKES(none, arguments)(Simple name = {};) TROUPE_TAKES(none_in_batch, arguments)(Simple name = {};)
  TROUPE_HOOKS(TROUPE_DECLARE)
#undef TROUPE_DECLARE
  std::function<void(RunContext&, Module&, const Batch&, int64_t batch_idx)> on_train_batch_start = {};
  std::function<void(RunContext&, Module&, const StepOutput&, const Batch&, int64_t batch_idx)> on_train_batch_end = {};
  std::function<void(RunContext&, Module&, Stage)> setup = {};
  std::function<void(RunContext&, Module&, Stage)> teardown = {};
  std::function<void(RunContext&, Module&, const Failure&)> on_exception = {};
  /// Call copies of the functions for every device of the process: at the same time, on a thread each. What they share
  /// must bear that. False: on the first device alone, which sees its share of the batches.
  bool on_every_device = false;
};

///     std::make_shared<LambdaCallback>(LambdaCallbackOptions{
///         .on_train_epoch_end = [](RunContext& run, Module&) { run.print("an epoch is over"); }})
///
/// (https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.LambdaCallback.html)
class LambdaCallback : public Callback {
 public:
  explicit LambdaCallback(LambdaCallbackOptions hooks) : hooks_(std::move(hooks)) {}

  std::shared_ptr<Callback> replicate() const override {
    return hooks_.on_every_device ? std::make_shared<LambdaCallback>(hooks_) : nullptr;
  }
  bool has_batch_hooks() const override {
    return hooks_.on_train_batch_start || hooks_.on_train_batch_end || hooks_.on_after_backward;
  }
#define TROUPE_FORWARD(name)                            \
  void name(RunContext& run, Module& module) override { \
    if (hooks_.name) hooks_.name(run, module);          \
  }
#define TROUPE_FORWARD_SIMPLE(name, arguments, owners) \
  TROUPE_TAKES(none, arguments)(TROUPE_FORWARD(name)) TROUPE_TAKES(none_in_batch, arguments)(TROUPE_FORWARD(name))
  TROUPE_HOOKS(TROUPE_FORWARD_SIMPLE)
#undef TROUPE_FORWARD_SIMPLE
#undef TROUPE_FORWARD
  void on_train_batch_start(RunContext& run, Module& module, const Batch& batch, int64_t batch_idx) override {
    if (hooks_.on_train_batch_start) hooks_.on_train_batch_start(run, module, batch, batch_idx);
  }
  void on_train_batch_end(RunContext& run, Module& module, const StepOutput& output, const Batch& batch,
                          int64_t batch_idx) override {
    if (hooks_.on_train_batch_end) hooks_.on_train_batch_end(run, module, output, batch, batch_idx);
  }
  void setup(RunContext& run, Module& module, Stage stage) override {
    if (hooks_.setup) hooks_.setup(run, module, stage);
  }
  void teardown(RunContext& run, Module& module, Stage stage) override {
    if (hooks_.teardown) hooks_.teardown(run, module, stage);
  }
  void on_exception(RunContext& run, Module& module, const Failure& failure) override {
    if (hooks_.on_exception) hooks_.on_exception(run, module, failure);
  }

 private:
  LambdaCallbackOptions hooks_;
};

}  // namespace troupe
