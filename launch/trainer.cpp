#include "troupe/launch/trainer.hpp"

#include "troupe/launch/config_file.hpp"
#include "troupe/launch/run_dir.hpp"
#include "troupe/launch/signals.hpp"
#include "troupe/modules/callbacks/model_checkpoint.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/device.hpp"
#include "troupe/runtime/sinks/csv_sink.hpp"
#include "troupe/runtime/sinks/tensorboard_sink.hpp"

#include <algorithm>
#include <fstream>
#include <iostream>
#include <mutex>
#include <random>

namespace troupe {

namespace {

caf::actor_system_config caf_config() {
  caf::actor_system_config config;
  // Idle threads of "stealing", the default, poll; the workers want the cores.
  config.set("scheduler.policy", caf::atom("sharing"));
  config.set("scheduler.max-threads", std::size_t{2});
  return config;
}

uint64_t draw_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32 | device()) >> 1;
}

std::vector<const ModelCheckpoint*> model_checkpoints(const std::vector<std::shared_ptr<Callback>>& callbacks) {
  std::vector<const ModelCheckpoint*> found;
  for (const auto& callback : callbacks) {
    if (const auto* checkpoint = dynamic_cast<const ModelCheckpoint*>(callback.get())) found.push_back(checkpoint);
  }
  return found;
}

}  // namespace

// The actors' threads, and the run that is in progress.
struct Trainer::System {
  caf::actor_system_config config = caf_config();
  caf::actor_system actors{config};
  std::mutex mutex;
  const cast::Run* run = nullptr;

  void stop(const std::string& reason, bool interrupt) {
    std::lock_guard lock(mutex);
    if (run) run->stop(reason, interrupt);
  }
  void set(const cast::Run* current) {
    std::lock_guard lock(mutex);
    run = current;
  }
};

Trainer::Trainer(TrainerOptions options) : given_(std::move(options)) {
  troupe::validate(given_);
  if (given_.devices > 1) {
    throw UsageError("trainer.devices = " + std::to_string(given_.devices) + ": a run uses one device so far; use 1");
  }
  if (!given_.seed) given_.seed = draw_seed();
  options_ = resolved(given_);
  if (!options_.enable_checkpointing) {
    std::erase_if(options_.callbacks,
                  [](const auto& callback) { return dynamic_cast<const ModelCheckpoint*>(callback.get()) != nullptr; });
  }
  system_ = std::make_unique<System>();
}

Trainer::~Trainer() = default;

void Trainer::add_actor(std::string name, ActorBehavior behavior, ActorOptions options) {
  if (options.capacity < 1) {
    throw UsageError("the actor " + name + " has capacity = " + std::to_string(options.capacity) + "; use at least 1");
  }
  for (const auto& actor : actors_) {
    if (actor.name == name) throw UsageError("there is an actor called " + name + " already");
  }
  actors_.push_back({std::move(name), std::move(behavior), options});
}

void Trainer::request_stop(std::string reason) {
  system_->stop(reason, false);
}

std::filesystem::path Trainer::best_model_path() const {
  for (const auto* checkpoint : model_checkpoints(options_.callbacks)) {
    if (!checkpoint->best_model_path().empty()) return checkpoint->best_model_path();
  }
  return {};
}

void Trainer::make_run_dir(Stage stage, const ModuleSource& source) {
  const bool saves = stage == Stage::fit && options_.enable_checkpointing;
  const bool writes = options_.fast_dev_run == 0 && (options_.logger || saves);
  if (!writes || !run_dir_.empty()) return;
  run_dir_ = create_run_dir(options_.default_root_dir,
                            options_.name.empty() ? snake_case_class_name(source.class_name) : options_.name);
  std::vector<OptionGroup> groups{option_group("trainer", given_)};
  groups.insert(groups.end(), source.groups.begin(), source.groups.end());
  groups.insert(groups.end(), extra_groups_.begin(), extra_groups_.end());
  std::ofstream file(run_dir_ / "config.toml");
  file << to_toml(groups);
  if (!file.flush()) throw UsageError("cannot write " + (run_dir_ / "config.toml").string());
}

Checkpoint Trainer::found(std::optional<FoundCheckpoint> checkpoint, const std::string& wanted) const {
  if (!checkpoint) {
    throw UsageError("ckpt_path = \"" + wanted + "\": there is no checkpoint below " +
                     std::filesystem::absolute(options_.default_root_dir).string());
  }
  for (const auto& skipped : checkpoint->skipped) {
    std::cerr << "troupe: warning: passed over " << skipped.path.string() << ": " << skipped.reason << '\n';
  }
  return std::move(checkpoint->checkpoint);
}

// Resolves "last" and "best" and reads the file, before anything is built.
void Trainer::add_checkpoint(cast::RunSetup& setup, Stage stage, const RunArguments& arguments) const {
  if (!arguments.ckpt_path || arguments.ckpt_path->empty()) return;
  const std::string& wanted = *arguments.ckpt_path;
  const auto read = [&]() -> Checkpoint {
    if (wanted == "last") return found(find_last(options_.default_root_dir), wanted);
    if (wanted != "best") return stage == Stage::fit ? read_checkpoint(wanted) : read_weights(wanted);
    const auto own = best_model_path();
    return own.empty() ? found(find_best(options_.default_root_dir), wanted) : read_checkpoint(own);
  };
  setup.replica.checkpoint = std::make_shared<Checkpoint>(read());
  setup.replica.weights_only = stage != Stage::fit;
  if (stage == Stage::fit) setup.state.checkpoint = setup.replica.checkpoint;
}

cast::RunSetup Trainer::make_setup(Stage stage, const ModuleSource& source, const RunArguments& arguments) {
  cast::RunSetup setup;
  setup.replica.device = choose_device(options_.accelerator);
  add_checkpoint(setup, stage, arguments);
  make_run_dir(stage, source);
  if (stage == Stage::fit && options_.enable_checkpointing && model_checkpoints(options_.callbacks).empty()) {
    options_.callbacks.push_back(std::make_shared<ModelCheckpoint>(ModelCheckpointOptions{.save_last = true}));
  }
  const auto checkpoints = model_checkpoints(options_.callbacks);
  setup.weights_only_checkpoints = std::any_of(checkpoints.begin(), checkpoints.end(), [](const auto* checkpoint) {
    return checkpoint->options().save_weights_only;
  });
  setup.state.stage = stage;
  setup.state.options = options_;
  setup.state.info.run_dir = run_dir_;
  setup.replica.stage = stage;
  setup.replica.make_module = source.make;
  setup.replica.overridden = source.overridden;
  setup.replica.options = options_;
  setup.replica.datamodule = arguments.datamodule;
  setup.replica.run_dir = run_dir_;
  setup.actors = actors_;
  if (options_.logger && !run_dir_.empty()) {
    setup.sinks = options_.loggers;
    if (setup.sinks.empty()) {
      setup.sinks = {std::make_shared<CsvSink>(run_dir_), std::make_shared<TensorBoardSink>(run_dir_)};
    }
  }
  return setup;
}

void Trainer::run(Stage stage, ModuleSource source, DataLoaders train, DataLoaders eval, RunArguments arguments) {
  if (!per_thread_generators()) {
    throw UsageError(
        "LibTorch does not draw from this program's random generators: link Troupe into the program itself, "
        "not into a plug-in");
  }
  cast::RunSetup setup = make_setup(stage, source, arguments);
  setup.replica.train_loaders = std::move(train);
  setup.replica.eval_loaders = std::move(eval);
  module_ = nullptr;
  source.make = nullptr;  // the worker is the module's only owner now
  fitted_ = std::move(source);

  constexpr std::chrono::seconds without_end{-1};
  const auto max_time = stage == Stage::fit ? max_time_of(options_).value_or(without_end) : without_end;
  if (max_time == std::chrono::seconds(0)) setup.state.stop = StopRequest{"max_time is 0", false};
  cast::Run run = cast::start_run(system_->actors, std::move(setup));
  system_->set(&run);
  {
    SignalWatch signals([this](int) { system_->stop("interrupted by a signal", true); });
    if (max_time != without_end && run.result.wait_for(max_time) == std::future_status::timeout) {
      run.stop("max_time = " + options_.max_time + " is over", false);
    }
    run.result.wait();
  }
  system_->set(nullptr);
  result_ = run.result.get();
  module_ = std::move(result_.module);
  if (result_.failure) throw RunError(*result_.failure);
  if (module_) module_->get_from_queue(result_.queue);
}

const cast::RunResult& Trainer::evaluate(Stage stage, ModuleSource source, DataLoaders loaders,
                                         RunArguments arguments) {
  run(stage, std::move(source), {}, std::move(loaders), std::move(arguments));
  return result_;
}

const cast::RunResult& Trainer::evaluate_fitted(Stage stage, DataLoaders loaders, RunArguments arguments) {
  if (!module_) {
    throw UsageError(std::string(to_string(stage)) + " was given no module and nothing was trained before: pass one");
  }
  if (!arguments.ckpt_path && !best_model_path().empty()) arguments.ckpt_path = "best";
  ModuleSource source = fitted_;
  source.make = [module = module_] { return module; };
  return evaluate(stage, std::move(source), std::move(loaders), std::move(arguments));
}

std::vector<MetricMap> Trainer::validate(DataLoaders loaders, RunArguments arguments) {
  return evaluate_fitted(Stage::validate, std::move(loaders), std::move(arguments)).evaluation;
}

std::vector<MetricMap> Trainer::test(DataLoaders loaders, RunArguments arguments) {
  return evaluate_fitted(Stage::test, std::move(loaders), std::move(arguments)).evaluation;
}

EpochOutputs Trainer::predict(DataLoaders loaders, RunArguments arguments) {
  return evaluate_fitted(Stage::predict, std::move(loaders), std::move(arguments)).predictions;
}

}  // namespace troupe
