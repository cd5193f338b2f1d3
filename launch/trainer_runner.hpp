// What a Trainer does, behind its header: that one knows neither the cast nor the replica.
#pragma once

#include "troupe/actors/coordinator.hpp"
#include "troupe/launch/actor_system.hpp"
#include "troupe/launch/trainer.hpp"
#include "troupe/runtime/checkpoint/checkpoint.hpp"
#include "troupe/runtime/process/crash_note.hpp"
#include "troupe/runtime/report/run_files.hpp"

#include <nlohmann/json.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>

namespace troupe {

class ModelCheckpoint;

/// Functions and results are the Trainer's of the same name.
class Trainer::Runner {
 public:
  explicit Runner(TrainerOptions options);
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  void run(Stage stage, ModuleSource source, DataLoaders train, DataLoaders eval, RunArguments arguments);
  /// Whether a stage is within run(); any thread may ask.
  bool is_running() const { return is_running_; }
  const cast::RunResult& evaluate(Stage stage, ModuleSource source, DataLoaders loaders, RunArguments arguments);
  /// With the module of the last fit.
  const cast::RunResult& evaluate_fitted(Stage stage, DataLoaders loaders, RunArguments arguments);

  void add_actor(std::string name, ActorBehavior behavior, ActorOptions options);
  void add_options(OptionGroup group) { extra_groups_.push_back(std::move(group)); }
  void request_stop(std::string reason);
  /// What a finder has measured goes into the run's folder, which is made if it is not there, unless nothing is logged.
  void record(const ModuleSource& source, Finding finding);

  const TrainerOptions& options() const { return options_; }
  /// Of the latest stage.
  const cast::RunResult& result() const { return result_; }
  const std::shared_ptr<Module>& module() const { return module_; }
  const std::filesystem::path& run_dir() const { return run_dir_; }
  std::filesystem::path best_model_path() const;
  std::string summary() const;

 private:
  void run_once(Stage stage, ModuleSource source, DataLoaders train, DataLoaders eval, RunArguments arguments,
                std::optional<std::chrono::steady_clock::time_point> deadline);
  void check_elastic() const;
  void try_once(Stage stage, const ModuleSource& source, const DataLoaders& train, const DataLoaders& eval,
                const RunArguments& arguments, std::optional<std::chrono::steady_clock::time_point> deadline);
  void take_loss(std::chrono::milliseconds patience);
  bool goes_on_without_losses();
  bool recovers_enough();
  void go_back();
  int64_t tell_spares();
  std::shared_ptr<Checkpoint> newest_kept() const;
  void take_over_files();
  cast::RunSetup make_setup(Stage stage, const ModuleSource& source, const RunArguments& arguments);
  void add_checkpoint(cast::RunSetup& setup, Stage stage, const ModuleSource& source,
                      const RunArguments& arguments) const;
  Checkpoint read_found(const std::string& wanted, const ModuleSource& source, std::string& path,
                        std::string& passed_over) const;
  [[noreturn]] void refuse_missing(const std::string& wanted, const ModuleSource& source,
                                   const std::string& passed_over) const;
  std::string run_name(const ModuleSource& source) const;
  nlohmann::json run_identity(const ModuleSource& source) const;
  void add_workers(cast::RunSetup& setup, const ModuleSource& source);
  void divide_processors(const cast::RunSetup& setup, TrainerOptions& options) const;
  bool validates_beside(const cast::RunSetup& setup) const;
  void refuse_async_validation(const cast::RunSetup& setup, const ModuleSource& source) const;
  void take_result(Stage stage);
  void requeue() const;
  void tell_sinks_of_files();
  std::vector<std::shared_ptr<Sink>> all_sinks() const;
  void leave_threads_behind();
  double patience() const;
  std::chrono::milliseconds patience_with_others() const;
  void make_run_dir(Stage stage, const ModuleSource& source);
  std::filesystem::path new_run_dir(const ModuleSource& source);
  void write_config(const std::filesystem::path& run_dir, const ModuleSource& source);
  void take_over_folder_of_finders(const ModuleSource& source);
  std::vector<OptionGroup> all_groups(const ModuleSource& source);
  std::shared_ptr<RunFiles> run_files(const ModuleSource& source);
  void add_sinks(cast::RunSetup& setup, const ModuleSource& source);
  std::shared_ptr<live::LiveServer> make_live(Stage stage);
  void record_refusal(cast::RunSetup& setup, Stage stage, const ModuleSource& source);
  std::filesystem::path own_best_model_path() const;
  std::vector<const ModelCheckpoint*> model_checkpoints() const;
  std::vector<CrashPlace> crash_places(const cast::RunSetup& setup) const;
  void say_summary() const;

  TrainerOptions given_;    // as given: what is run again from config.toml
  TrainerOptions options_;  // resolved
  std::vector<OptionGroup> extra_groups_;
  std::vector<CallbackActor> actors_;
  std::filesystem::path run_dir_;
  std::shared_ptr<RunFiles> files_;  // of rank zero, between two stages
  std::shared_ptr<SinkWarnings> sink_warnings_ = std::make_shared<SinkWarnings>();
  std::vector<std::shared_ptr<Sink>> sinks_;  // that options_.loggers names
  CurveAxis curves_;                          // of the run's folder
  std::filesystem::path best_;                // as rank zero has it, after a fit of several processes
  std::optional<int64_t> metrics_port_;       // that the first stage has got
  std::unique_ptr<ActorSystem> system_;
  std::atomic<bool> is_running_ = false;
  std::shared_ptr<cast::KeptState> kept_;  // trainer.elastic: of the stage that runs
  std::shared_ptr<Checkpoint> restored_;   // that it has gone back to, after a process was lost
  bool has_trained_ = false;               // this process, in that stage: it is no spare that is called up
  struct Losses {
    std::string who;  // "process 2 on host"; empty: none that the stage has not gone back for
    std::chrono::steady_clock::time_point noticed;
  };
  Losses losses_;
  cast::RunResult result_;
  bool is_folder_of_finders_ = false;  // which no stage has run in
  std::optional<Stage> stage_;         // that has left it
  double seconds_ = 0;                 // which it took
  ModuleSource fitted_;
  std::shared_ptr<Module> module_;
};

}  // namespace troupe
