// The parts that options choose by name, and the lines with which a program adds its own.
//
//     struct SignSgdOptions { double lr = 1e-4; };
//     TROUPE_OPTIONS(SignSgdOptions, (lr, "learning rate"))
//     const bool sign_sgd = register_optimizer<SignSgdOptions>("sign_sgd", [](Module& module, const SignSgdOptions& o)
//     {
//       return std::make_shared<SignSgd>(module.parameters(), o.lr);
//     });
//
// Then `--optimizer sign_sgd --optimizer.lr 0.001` trains with it (launch/command_line.hpp). Such lines stand in a
// source of the program itself, outside of functions: a linker leaves out an object of a static library that nothing
// refers to. A name that is taken is refused when the options are read, with both places.
#pragma once

#include "troupe/modules/callback.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/modules/optim/lr_scheduler.hpp"
#include "troupe/modules/optim/optimizers.hpp"
#include "troupe/modules/options/trainer_options.hpp"
#include "troupe/modules/record.hpp"
#include "troupe/modules/run_context.hpp"
#include "troupe/runtime/parts/registry.hpp"

#include <concepts>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// What makes an optimizer of a module's parameters.
using OptimizerRegistry = Registry<OptimizerPtr(Module&)>;
/// What makes a scheduler of an optimizer; the run says how long it is.
using SchedulerRegistry = Registry<LRSchedulerConfig(const OptimizerPtr&, const RunContext&)>;
using CallbackRegistry = Registry<std::shared_ptr<Callback>()>;
/// What puts a logger into the Trainer's options.
using LoggerRegistry = Registry<void(TrainerOptions&)>;

// With those that come with the library.
OptimizerRegistry& optimizer_registry();
SchedulerRegistry& scheduler_registry();
CallbackRegistry& callback_registry();
LoggerRegistry& logger_registry();

TROUPE_CHOICES(LRSchedulerConfig::Interval, {epoch, "epoch"}, {step, "step"})

/// What every scheduler by name takes besides its own options: when it moves on (LRSchedulerConfig).
struct SchedulerTiming {
  LRSchedulerConfig::Interval interval = LRSchedulerConfig::Interval::epoch;
  int64_t frequency = 1;
  std::string monitor = "val_loss";
  bool strict = true;
};
TROUPE_OPTIONS(SchedulerTiming, (interval, "it moves on at ends of epochs, or after steps of the optimizer"),
               (frequency, "it moves on after so many epochs or steps"),
               (monitor, "the metric that reduce_on_plateau looks at"),
               (strict, "a metric that is not there when it is wanted ends the run; false: a warning"))

namespace parts_detail {

/// A scheduler with its own options and its timing. `make(optimizer, options, timing, run)` returns the scheduler.
template <Described Options, class MakeScheduler>
class NamedScheduler final : public SchedulerRegistry::Named {
 public:
  NamedScheduler(MakeScheduler making, Options values, SchedulerTiming timing)
      : making_(std::move(making)), options_(std::move(values)), timing_(std::move(timing)) {}

  std::vector<OptionRef> options() override {
    auto refs = option_refs(options_);
    for (auto& ref : option_refs(timing_)) refs.push_back(std::move(ref));
    return refs;
  }
  LRSchedulerConfig make(const OptimizerPtr& optimizer, const RunContext& run) const override {
    return {.scheduler = making_(optimizer, options_, timing_, run),
            .interval = timing_.interval,
            .frequency = timing_.frequency,
            .monitor = timing_.monitor,
            .strict = timing_.strict};
  }

 private:
  MakeScheduler making_;
  Options options_;
  SchedulerTiming timing_;
};

template <Described Options, class MakeScheduler>
void add_scheduler(SchedulerRegistry& registry, PartInfo info, MakeScheduler make, Options defaults = {},
                   SchedulerTiming timing = {}) {
  registry.add_named(std::move(info), [make, defaults, timing] {
    return std::make_unique<NamedScheduler<Options, MakeScheduler>>(make, defaults, timing);
  });
}

}  // namespace parts_detail

/// `make(module, options)` returns a pointer to the optimizer, of a struct that TROUPE_OPTIONS describes. Returns true.
template <Described Options, class Make>
bool register_optimizer(std::string name, Make make, std::string meaning = "",
                        std::source_location where = std::source_location::current()) {
  optimizer_registry().add<Options>(
      {std::move(name), std::move(meaning), {}, origin_of(where)},
      [make](Module& module, const Options& options) -> OptimizerPtr { return make(module, options); });
  return true;
}

/// `make(optimizer, options)` returns a pointer to the LRScheduler. Returns true.
template <Described Options, class Make>
bool register_scheduler(std::string name, Make make, std::string meaning = "",
                        std::source_location where = std::source_location::current()) {
  parts_detail::add_scheduler<Options>(
      scheduler_registry(), {std::move(name), std::move(meaning), {}, origin_of(where)},
      [make](const OptimizerPtr& optimizer, const Options& options, const SchedulerTiming&,
             const RunContext&) -> std::shared_ptr<LRScheduler> { return make(optimizer, options); });
  return true;
}

/// `make(options)` returns a pointer to the Callback. Returns true.
template <Described Options, class Make>
bool register_callback(std::string name, Make make, std::string meaning = "",
                       std::source_location where = std::source_location::current()) {
  callback_registry().add<Options>(
      {std::move(name), std::move(meaning), {}, origin_of(where)},
      [make](const Options& options) -> std::shared_ptr<Callback> { return make(options); });
  return true;
}

/// `make(options)` returns a pointer to the Sink. Returns true.
template <Described Options, class Make>
bool register_logger(std::string name, Make make, std::string meaning = "",
                     std::source_location where = std::source_location::current()) {
  logger_registry().add<Options>(
      {std::move(name), std::move(meaning), {}, origin_of(where)},
      [make](TrainerOptions& trainer, const Options& options) { trainer.sinks.push_back(make(options)); });
  return true;
}

}  // namespace troupe
