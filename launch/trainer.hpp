// The way in: a Trainer runs a module through the cast, in this process.
//
//     Trainer trainer({.max_epochs = 3});
//     auto model = trainer.fit<Digits>({.lr = 1e-3}, train_loader, val_loader);    // built on its worker's thread
//     trainer.test(test_loader);                                                   // the best weights of that fit
//
// A call blocks until the stage is over, and throws RunError (user code or the run failed: where and why) or UsageError
// (invalid options or arguments). After a failure `module()` still has the model. Ctrl-C ends at the next batch
// boundary: fit returns with the model kept and a checkpoint written, and was_interrupted() is true; a second Ctrl-C
// ends the process.
//
// Used from one thread, request_stop excepted. One stage at a time in a process. It may be a static or global object.
//
// With trainer.devices above 1 each device has a worker and a module of its own, made from the options; fit returns the
// first one. Under mpirun all processes make the same calls; rank zero writes the files.
#pragma once

#include "troupe/base/type_name.hpp"
#include "troupe/launch/option_group.hpp"
#include "troupe/modules/callback_actor.hpp"
#include "troupe/modules/captured_steps.hpp"
#include "troupe/modules/data_module.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/modules/module_hooks.hpp"
#include "troupe/modules/options/trainer_options.hpp"
#include "troupe/runtime/report/phase_report.hpp"

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

namespace troupe {

/// What a stage may be given besides loaders.
struct RunArguments {
  DataModulePtr datamodule = nullptr;
  /// fit: the checkpoint to go on from. Other stages: the weights to use.
  /// "last": the newest valid one below default_root_dir of a run of this name (trainer.name, else the module's class)
  /// whose tensors fit the module; "auto": the same, or none; "best": that of the newest run.
  std::optional<std::string> ckpt_path = std::nullopt;
  /// predict: keep all outputs in memory and return them. False: predict returns none, for outputs that are more than
  /// memory holds; a callback (PredictionWriter) or write_prediction takes them batch by batch.
  bool return_predictions = true;
};

/// A module to run, without its type.
struct ModuleSource {
  std::function<std::shared_ptr<Module>()> make;
  HookSet overridden;
  std::string class_name;           ///< as type_name() has it
  std::shared_ptr<void> options;    ///< keeps what `groups` refers to
  std::vector<OptionGroup> groups;  ///< for the run's config.toml
  /// For the other devices of the process; empty where `make` returns a module that is there already.
  std::function<std::shared_ptr<Module>()> make_more = {};
};

/// std::shared_ptr<M> of a module M.
template <class P>
concept ModulePointer = requires {
  typename P::element_type;
}
&&std::derived_from<typename P::element_type, Module>&& std::same_as<P, std::shared_ptr<typename P::element_type>>;

class Trainer {
 public:
  /// Throws UsageError for options that cannot be.
  explicit Trainer(TrainerOptions options = {});
  ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  /// Builds an M from its options on the worker and trains it.
  template <std::derived_from<Module> M>
  requires requires { typename M::Options; }
  std::shared_ptr<M> fit(const typename M::Options& options, DataLoaders train = {}, DataLoaders val = {},
                         RunArguments arguments = {}) {
    return fit_source<M>(source<M>(options), std::move(train), std::move(val), std::move(arguments));
  }
  /// Trains a module that is there already; the worker owns it meanwhile. Give it by its own type: of a pointer to a
  /// base class all hooks are called, and the outputs of steps are kept, whether it overrides them or not.
  template <ModulePointer P>
  P fit(P module, DataLoaders train = {}, DataLoaders val = {}, RunArguments arguments = {}) {
    using M = typename P::element_type;
    return fit_source<M>(source<M>(std::move(module)), std::move(train), std::move(val), std::move(arguments));
  }

  /// Metrics of each loader. Without a module: that of the last fit, with the weights of its best checkpoint (or its
  /// last weights where nothing was saved).
  std::vector<MetricMap> validate(DataLoaders loaders = {}, RunArguments arguments = {});
  std::vector<MetricMap> test(DataLoaders loaders = {}, RunArguments arguments = {});
  /// The outputs of predict_step, a list for each loader; none with return_predictions = false.
  EpochOutputs predict(DataLoaders loaders = {}, RunArguments arguments = {});

  template <ModulePointer P>
  std::vector<MetricMap> validate(P module, DataLoaders loaders = {}, RunArguments arguments = {}) {
    using M = typename P::element_type;
    return evaluate(Stage::validate, source<M>(std::move(module)), std::move(loaders), std::move(arguments));
  }
  template <ModulePointer P>
  std::vector<MetricMap> test(P module, DataLoaders loaders = {}, RunArguments arguments = {}) {
    using M = typename P::element_type;
    return evaluate(Stage::test, source<M>(std::move(module)), std::move(loaders), std::move(arguments));
  }
  template <ModulePointer P>
  EpochOutputs predict(P module, DataLoaders loaders = {}, RunArguments arguments = {}) {
    using M = typename P::element_type;
    run(Stage::predict, source<M>(std::move(module)), {}, std::move(loaders), std::move(arguments));
    return predictions();
  }

  /// A stage of a module without a static type, with the loaders of the module or the data module. Returns the metrics
  /// of each loader that it evaluated.
  std::vector<MetricMap> run_source(Stage stage, ModuleSource source, RunArguments arguments);

  /// An actor of the user's for all stages from now on; see modules/callback_actor.hpp. Throws UsageError for a name
  /// that is taken and for a capacity below 1.
  void add_actor(std::string name, ActorBehavior behavior, ActorOptions options = {});
  /// Options to write into the run's config.toml besides the Trainer's and the module's. The object behind them must
  /// outlive the Trainer.
  void add_options(OptionGroup group);

  /// Ends the running stage at the next batch boundary; from any thread. Does nothing when no stage runs.
  void request_stop(std::string reason);

  const TrainerOptions& options() const;
  /// Of the latest stage.
  const MetricMap& callback_metrics() const;
  /// As the latest fit counted them, also after an evaluation that follows it.
  int64_t global_step() const;
  int64_t current_epoch() const;
  const std::string& stop_reason() const;
  bool was_interrupted() const;
  /// The signal that did it, on this or another rank (launch/signals.hpp); 0: none did.
  int interrupting_signal() const;
  /// Checkpoints of the latest stage that checkpoint_backpressure = skip left out, and those that could not be
  /// written.
  int64_t skipped_checkpoints() const;
  int64_t failed_checkpoints() const;
  const std::shared_ptr<Module>& module() const;
  /// Of the latest stage, with TrainerOptions::capture_step, on the first worker of this process.
  const CapturedSteps& captured() const;
  /// Where the time of the latest stage went, on the first worker of this process; also after a failure.
  const PhaseReport& phases() const;
  /// Events that callback actors missed, by the actor's name.
  const std::vector<std::pair<std::string, int64_t>>& dropped_events() const;
  /// <default_root_dir>/<name>/version_N; empty before the first stage and where nothing is written.
  const std::filesystem::path& run_dir() const;
  /// The best checkpoint of the last fit; empty when there is none.
  std::filesystem::path best_model_path() const;
  /// The last lines of the latest stage: what came of it, where the time went, where the files are. They are printed on
  /// stderr as well, by rank zero, unless enable_progress_bar is off (a program says them then too) or quiet is on.
  /// Empty before the first stage.
  std::string summary() const;

 private:
  friend class Tuner;  // whose trials are fits

  template <class M>
  static ModuleSource source(const typename M::Options& options) {
    auto kept = std::make_shared<typename M::Options>(options);
    check_options(*kept, "model");
    ModuleSource out{[kept]() -> std::shared_ptr<Module> { return std::make_shared<M>(*kept); },
                     module_hooks<M>(),
                     type_name(typeid(M)),
                     kept,
                     {}};
    out.groups.push_back(option_group("model", *kept));
    out.make_more = out.make;
    return out;
  }
  template <class M>
  static ModuleSource source(std::shared_ptr<M> module) {
    const HookSet hooks = module ? module_hooks(*module) : HookSet();
    const auto name = type_name(module ? typeid(*module) : typeid(M));
    return {[module]() -> std::shared_ptr<Module> { return module; }, hooks, name, nullptr, {}};
  }
  template <class M>
  std::shared_ptr<M> fit_source(ModuleSource source, DataLoaders train, DataLoaders val, RunArguments arguments) {
    run(Stage::fit, std::move(source), std::move(train), std::move(val), std::move(arguments));
    return std::static_pointer_cast<M>(module());
  }
  std::vector<MetricMap> evaluate(Stage stage, ModuleSource source, DataLoaders loaders, RunArguments arguments);
  void run(Stage stage, ModuleSource source, DataLoaders train, DataLoaders eval, RunArguments arguments);
  const EpochOutputs& predictions() const;

  class Runner;
  std::unique_ptr<Runner> runner_;
};

}  // namespace troupe
