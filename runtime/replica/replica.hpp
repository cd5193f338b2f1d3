// One copy of the model with everything that a step needs: module, callbacks, optimizers, metrics, random state.
//
// A replica knows no actors. Whoever owns it (a worker) calls it from one thread: the hooks of a boundary one by one,
// batches one by one, in the order of modules/hook_order.hpp. Batch hooks run here, from a program that is compiled
// out of that table once: a hook that neither the module nor a callback has is not in it.
//
// What user code throws passes through; `position()` then says where it happened.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/modules/data_module.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/modules/run_context.hpp"
#include "troupe/runtime/checkpoint/checkpoint.hpp"
#include "troupe/runtime/checkpoint/snapshot_memory.hpp"
#include "troupe/runtime/data/combined_epoch.hpp"
#include "troupe/runtime/data/epoch_origin.hpp"
#include "troupe/runtime/distributed/gradient_reducer.hpp"
#include "troupe/runtime/distributed/peers.hpp"
#include "troupe/runtime/distributed/sharded_optimizer.hpp"
#include "troupe/runtime/logging/log_store.hpp"
#include "troupe/runtime/loops/facts.hpp"
#include "troupe/runtime/precision/grad_scaler.hpp"
#include "troupe/runtime/process/process_settings.hpp"
#include "troupe/runtime/process/pulse.hpp"
#include "troupe/runtime/replica/batch_parts.hpp"
#include "troupe/runtime/replica/curve_axis.hpp"
#include "troupe/runtime/sinks/prediction_file.hpp"

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace troupe {

/// Where a replica's products go. Called on the replica's thread.
class ReplicaOutputs {
 public:
  virtual ~ReplicaOutputs() = default;
  virtual void record(Record record) = 0;
  /// A line of user code's, for stdout.
  virtual void print(std::string line) = 0;
  /// A line of the library's, for stderr.
  virtual void note(std::string line) = 0;
  /// User code asked for the end of the run.
  virtual void stop_requested(const std::string& reason) = 0;
};

struct ReplicaSetup {
  Stage stage = Stage::fit;
  std::function<std::shared_ptr<Module>()> make_module;  ///< called on the replica's thread
  HookSet overridden;                                    ///< of the module's static type
  /// The Trainer's, resolved and with a seed. Of two options this copy is the true one for its replica:
  /// `num_threads` is the number that the Trainer chose (not 0), and `accumulate_grad_batches` may change between
  /// epochs (set_accumulate_grad_batches). Nothing else in it changes.
  TrainerOptions options;
  torch::Device device = torch::kCPU;
  DataModulePtr datamodule;
  DataLoaders train_loaders;                     ///< given to the Trainer; they win over hooks
  DataLoaders eval_loaders;                      ///< of validation, or of the stage
  std::shared_ptr<const Checkpoint> checkpoint;  ///< to start from, or null
  bool weights_only = false;                     ///< take the model from the checkpoint and nothing else
  std::filesystem::path run_dir = {};            ///< for files of predictions; empty: none are written
  bool keeps_predictions = true;                 ///< what predict_step returns, for take_predictions
  nlohmann::json run_identity = nullptr;         ///< `run` in the metadata of checkpoints
  CurveAxis curves = {};                         ///< of the run's folder, after the stages before
  std::shared_ptr<Peers> peers = nullptr;        ///< the other workers of the run; null: there are none
  /// The further devices among which a batch is divided (strategies dp and ddp2), and the module for each.
  std::vector<torch::Device> part_devices = {};
  std::function<std::shared_ptr<Module>()> make_part = nullptr;
  /// Taken around calls of the data module, which the workers of a process share; null where there is one worker.
  std::shared_ptr<std::mutex> data_mutex = nullptr;
  /// Where the replica says what it does; null: it has one of its own.
  std::shared_ptr<Pulse> pulse = nullptr;

  Place place() const { return peers ? peers->place() : Place{}; }
};

enum class AfterBatch { go_on, skip_rest_of_epoch };

class Replica final : public RunContext {
 public:
  Replica(ReplicaSetup setup, ReplicaOutputs& outputs);
  ~Replica() override;

  // --- Boundaries ---

  /// Makes the module, runs the hooks before the first epoch (data, setup, loaders, device, optimizers, checkpoint).
  DataFacts prepare();
  /// Runs one boundary hook of callbacks and module, with what the library itself does at that point.
  void run(Hook hook);
  void run(std::span<const Hook> hooks) {
    for (const Hook hook : hooks) run(hook);
  }
  /// Enters or leaves validation (the sanity check is one too), test or prediction.
  void begin_evaluation(Stage stage, bool is_sanity_check);
  /// The evaluation ends before all of its data was seen: nothing that it logs from now on is kept.
  void cut_evaluation() { evaluation_is_cut_ = true; }
  /// Metrics of each loader's evaluation, then a fresh start.
  std::vector<MetricMap> end_evaluation();
  void begin_train_epoch(int64_t epoch, int64_t batch_idx);
  /// After the hooks at an epoch's beginning, which may have changed what is trained.
  void refresh_averagers();
  /// After the hooks at an epoch's end. Counts on, unless the run ends within the epoch (`is_cut`), which is then gone
  /// on with by whoever resumes the run: schedulers wait for its end, too.
  void end_train_epoch(bool is_cut);
  /// on_exception of the callbacks and the data module. Never throws: what they throw comes back as text, or "".
  std::string report_quietly(const Failure& failure);
  /// The teardown hooks that are left after a failure, as report_quietly does it.
  std::string tear_down_quietly();

  // --- Batches ---

  /// `is_last`: no further batch follows in this epoch, so that a short accumulation window ends here.
  /// `samples_of_all`: those in the batches of all ranks; unset: in this one's.
  AfterBatch train_batch(Batch batch, int64_t batch_idx, bool is_last,
                         std::optional<int64_t> samples_of_all = std::nullopt);
  /// The same for a rank that has no batch in a step of the others: gradients and steps only.
  void train_without_batch(int64_t batch_idx, bool is_last, int64_t samples_of_all);
  void eval_batch(Batch batch, int64_t batch_idx, int64_t dataloader_idx);

  // --- State ---

  /// Everything that a run needs to go on from here, copied into memory that is kept for it. Collective; global rank
  /// zero's has everything, those of others are of no use.
  Checkpoint snapshot(const SnapshotRequest& request);
  /// Where the curves of the run's folder stand after this stage.
  CurveAxis curves() const;
  const DataLoaders& train_loaders() const { return setup_.train_loaders; }
  /// How they make an epoch, with limits.
  const CombinedEpoch& combined_epoch() const { return combined_epoch_; }
  const EpochOrigin& epoch_origin() const { return epoch_origin_; }
  const DataLoaders& eval_loaders() const { return setup_.eval_loaders; }
  const std::shared_ptr<Module>& module() const { return module_; }
  const std::vector<std::shared_ptr<Callback>>& callbacks() const { return callbacks_; }
  /// Gives the module back, in the state that it has, and ends the replica's use.
  std::shared_ptr<Module> release();
  /// The outputs of predict_step, a list for each loader.
  EpochOutputs take_predictions() { return std::move(predictions_); }
  /// Whether module or data module have a say in how batches come to the device.
  bool overrides_transfer() const;
  /// Where the thread is in user code, for the Failure of what it throws.
  Failure position() const;
  /// Callback metrics and those of the bar, after the latest on_step values were read.
  void settle_step_metrics();
  /// The bar's metrics as the module wants them shown.
  MetricMap shown_metrics() {
    current_name_ = "get_progress_bar_dict";
    MetricMap shown = module_->get_progress_bar_dict(progress_bar_metrics_);
    current_name_ = "";
    return shown;
  }
  /// Read and keep the latest on_step values after the next batch, whether a sink is due or not.
  void want_step_metrics() { wants_step_metrics_ = true; }

  // --- RunContext ---

  const TrainerOptions& options() const override { return setup_.options; }
  const std::filesystem::path& run_dir() const override { return setup_.run_dir; }
  Stage stage() const override { return setup_.stage; }
  bool sanity_checking() const override { return sanity_checking_; }
  const Progress& progress() const override { return progress_; }
  torch::Device device() const override { return setup_.device; }
  int64_t global_rank() const override { return setup_.place().global_rank; }
  int64_t local_rank() const override { return setup_.place().local_rank; }
  int64_t world_size() const override { return setup_.place().world_size; }
  Peers* peers() const { return setup_.peers.get(); }
  std::optional<int64_t> estimated_stepping_batches(int64_t optimizers) const override;
  Optimizers& optimizers() override { return optimizers_; }
  void toggle_optimizer(std::size_t index) override;
  void untoggle_optimizer(std::size_t index) override;
  void manual_backward(const torch::Tensor& loss) override;
  void step_optimizer(std::size_t index, const OptimizerClosure& closure) override;
  Precision precision() const override { return precision_; }
  void set_accumulate_grad_batches(int64_t batches) override;
  void save_checkpoint(const std::filesystem::path& path) override;
  torch::Tensor whole_gradient_norm(const torch::optim::Optimizer& optimizer, torch::Tensor norm) override;
  torch::Tensor all_gather(const torch::Tensor& tensor) override {
    return setup_.peers ? setup_.peers->all_gather(tensor) : tensor;
  }
  DataModule* datamodule() override { return setup_.datamodule.get(); }
  void log(std::string_view name, const torch::Tensor& value, const LogOptions& options) override;
  void log(std::string_view name, double value, const LogOptions& options) override;
  void log(std::string_view name, Metric& metric, const LogOptions& options) override;
  void emit(Record record) override;
  void write_prediction(std::string_view name, const torch::Tensor& value, const std::string& filename) override;
  const MetricMap& callback_metrics() const override { return callback_metrics_; }
  const MetricMap& logged_metrics() const override { return logged_metrics_; }
  const MetricMap& progress_bar_metrics() const override { return progress_bar_metrics_; }
  void request_stop(std::string reason) override;
  bool should_stop() const override { return should_stop_; }
  void print(std::string line) override { outputs_.print(std::move(line)); }
  void note(std::string line) override { outputs_.note(std::move(line)); }

 private:
  using Program = std::vector<Hook>;

  /// The table of a training batch, cut where several optimizers and parts of a sequence repeat it.
  struct TrainProgram {
    Program before;  ///< once a batch
    Program step;    ///< for each part of the batch and each optimizer
    bool has_before_step = false;
    bool has_end = false;  ///< on_train_batch_end
  };
  /// One pass through TrainProgram::step.
  struct TrainStep {
    const Batch* batch = nullptr;
    int64_t batch_idx = 0;
    int64_t batch_size = 1;
    double own = 1;  ///< what this rank's gradient counts,
    double all = 1;  ///< of so much: equal where there is one rank, or all have batches of one size
    std::size_t optimizer = 0;
    bool is_first_of_window = true;
    bool closes_window = true;
    bool in_parts = false;  ///< truncated back-propagation through time
    std::size_t part = 0, part_count = 1;
    StepOutput output;
    torch::Tensor loss;  ///< as it enters the window
  };
  /// What an optimizer carries from batch to batch.
  struct Sequence {
    bool has_gradients = false;
    bool is_carried = false;     ///< the window began in a run with another number of ranks, at another place
    double samples = 0;          ///< in the window so far
    double nominal = 0;          ///< in a window of batches like the first
    StepOutput hiddens;          ///< of the part before
    std::deque<double> losses;   ///< the latest, where spikes are looked for
    std::string bad;             ///< why the window's step is to be left out
    bool skips = false;          ///< it is
    int64_t skipped_in_row = 0;  ///< steps
  };
  /// Where a scheduler stands.
  struct Schedule {
    std::size_t optimizer = 0;
    int64_t steps = 0;      ///< of its optimizer's
    int64_t epoch = -1;     ///< the last one after which it was looked at
    bool has_news = false;  ///< its metric was logged since it last looked, or in this epoch
    bool warned = false;
  };

  // replica_setup.cpp
  void configure_callbacks();
  void move_to_device();
  DataFacts collect_loaders();
  void set_up_process();
  void introduce();
  bool prepares_data() const { return (setup_.options.prepare_data_per_node ? local_rank() : global_rank()) == 0; }
  bool is_first_of_process() const { return setup_.place().in_process == 0; }
  std::unique_lock<std::mutex> lock_data() const {
    return setup_.data_mutex ? std::unique_lock(*setup_.data_mutex) : std::unique_lock<std::mutex>();
  }
  void refuse_empty(const std::string& kind, const DataLoader& loader) const;
  void add_evaluation_facts(DataFacts& facts);
  void add_transfer_warnings(DataFacts& facts) const;
  void count_windows(const DataFacts& facts);
  void refuse_foreign_parameters(std::size_t optimizer);
  void configure_optimizers();
  void compile_train_program();
  void check_manual_optimization() const;
  Program compile(std::span<const Hook> table) const;
  // replica_peers.cpp
  void join_peers();
  void agree_on_length(DataFacts& facts);
  void broadcast_buffers();
  bool contributes_nothing(const TrainStep& step) const;
  void contribute_nothing(TrainStep& step);
  GradientAverager* averager_of(const TrainStep& step) const;
  std::vector<GradientAverager*> averagers() const;
  bool shards() const { return setup_.peers && setup_.options.strategy == Strategy::zero; }
  void refresh_shards();
  void refresh_reducers();
  std::vector<torch::Tensor> parameters_of(std::size_t optimizer) const;
  void gather_parameters(std::size_t optimizer);
  bool is_used(Hook hook) const { return setup_.overridden.has(hook); }
  bool is_used_transfer(Hook hook) const { return is_used(hook) || setup_.datamodule.overrides(hook); }

  // replica_parts.cpp
  struct PartOutputs {
    std::vector<StepOutput> outputs;
    std::vector<int64_t> sizes;
  };
  void make_parts();
  PartOutputs run_parts(const Batch& batch, const BatchParts::Step& step);
  StepOutput training_step_in_parts(const TrainStep& step);
  void collect_part_metrics();

  // replica_state.cpp
  void refuse_unstorable() const;
  Checkpoint own_state(const SnapshotRequest& request);
  void append_training_state(Checkpoint& checkpoint, const SnapshotRequest& request);
  Progress saved_progress() const;
  void restore_progress();
  void restore_model();
  void restore_callbacks();
  void restore_rest();

  // rank_state.cpp
  std::vector<std::pair<std::string, torch::Tensor>> random_states() const;
  Checkpoint rank_state(bool validation_was_cut);
  void append_rank_states(Checkpoint& checkpoint, bool validation_was_cut);
  void append_window(Checkpoint& checkpoint) const;
  void restore_window(const Checkpoint& state);
  void restore_rank_state();
  void restore_metrics_of_all(const std::vector<Checkpoint>& states);
  void restore_window_of_all(const std::vector<Checkpoint>& states);

  // epoch_origin.cpp
  int64_t data_ranks() const { return setup_.peers && setup_.options.use_distributed_sampler ? world_size() : 1; }
  nlohmann::json data_position() const;
  void restore_data_position();

  // metrics.cpp
  void reset_metrics();
  void move_metrics(torch::Device device);
  void count_updates();
  void append_metrics(Checkpoint& checkpoint);
  void restore_metrics(const Checkpoint& state);

  // boundary_hooks.cpp
  void tear_down();
  void run_module_hook(Hook hook);
  void run_callback_hook(Hook hook);
  void run_data_hook(Hook hook);

  // train_batch.cpp
  TrainStep begin_step(int64_t batch_idx, bool is_last);
  bool begin_train_batch(Batch& batch, int64_t batch_idx, int64_t batch_size);
  void end_train_batch(const Batch& batch, int64_t batch_idx, int64_t batch_size);
  void run_optimizers(TrainStep& step);
  void run_train_program(TrainStep& step);
  void compute_loss(TrainStep& step);
  void end_of_batch();

  // optimizing.cpp
  std::size_t optimizer_of_turn(int64_t window) const;
  torch::optim::Optimizer& optimizer_of(const TrainStep& step) { return optimizers_[step.optimizer]; }
  bool begins_window(const TrainStep& step) const;
  bool opens_window(const TrainStep& step) const;
  double weight_in_window(const TrainStep& step);
  void finish_gradients(std::size_t index);
  bool leaves_out(std::size_t index);
  void backward(TrainStep& step);
  void step_automatically(TrainStep& step);
  void count_step(std::size_t index);
  void refuse_unless_manual(const char* what) const;

  // scaling.cpp
  void find_unowned_parameters();
  std::vector<torch::Tensor> gradients_in_use(std::size_t optimizer, bool is_window_open) const;
  void begin_pass(const TrainStep& step);
  void end_pass(const TrainStep& step);
  void begin_manual_pass();
  void end_manual_pass();
  bool overflows(std::size_t optimizer);
  void inspect_gradients();

  // bad_numbers.cpp
  bool watches_losses() const;
  void judge_loss(const TrainStep& step);
  std::string bad_gradient(std::size_t index) const;
  bool has_bad_numbers(std::size_t index);
  nlohmann::json recent_losses() const;
  void restore_recent_losses(const nlohmann::json& saved);

  // training_problems.cpp
  void refuse_untrainable(const char* what, const torch::Tensor& loss) const;
  void name_unused_parameters(std::size_t optimizer);
  void refuse_repeated_parameters() const;
  StepOutput call_training_step(const TrainStep& step);
  void name_layers_in_eval_mode();
  int64_t size_of(const Batch& batch);

  // schedules.cpp
  void check_schedulers();
  void step_step_schedulers(std::size_t optimizer);
  void step_epoch_schedulers(bool with_metric);
  void step_scheduler(std::size_t i);
  void note_news(const LoggedValue& value);
  void miss_metric(std::size_t i);
  nlohmann::json schedulers_state() const;
  void load_schedulers_state(const nlohmann::json& states);

  // eval_batch.cpp
  Batch move_batch(Batch batch, Hook hook, int64_t dataloader_idx);
  StepOutput eval_part(Module& module, const Batch& batch, int64_t batch_idx, int64_t dataloader_idx);
  StepOutput eval_step(const Batch& batch, int64_t batch_idx, int64_t dataloader_idx);
  void keep_eval_output(StepOutput output, int64_t dataloader_idx);
  void record_eval_step();

  // replica.cpp
  LogStore& active_log() { return evaluating_ ? eval_log_ : train_log_; }
  void set_origin(Hook hook, bool step_allowed, bool on_step, int64_t batch_size,
                  std::optional<int64_t> dataloader_idx = std::nullopt);
  void keep(const std::vector<LoggedValue>& values, ScalarsRecord* record);
  void flush_epoch();
  void write_epoch_record();
  int64_t record_step() const;

  ReplicaSetup setup_;
  std::optional<ProcessSettings> process_settings_;
  ReplicaOutputs& outputs_;
  std::shared_ptr<Module> module_;
  std::vector<std::shared_ptr<Callback>> callbacks_;
  std::vector<Callback*> batch_callbacks_;  // those with hooks of batches
  CombinedEpoch combined_epoch_;
  Optimizers optimizers_;
  std::vector<std::unique_ptr<GradientReducer>> reducers_;  // of each optimizer; one with manual optimization
  std::vector<std::unique_ptr<ShardedOptimizer>> sharded_;  // of each optimizer, with strategy = zero in place of those
  std::unique_ptr<BatchParts> parts_;                       // with strategies dp and ddp2 on several devices
  PartReport* part_report_ = nullptr;                       // while the module computes a part
  std::optional<int64_t> windows_of_run_;  // where the number of epochs is known, and that of their batches

  std::vector<Sequence> sequences_;     // of each optimizer; one where there is none
  std::vector<Schedule> schedules_;     // of each scheduler
  std::vector<torch::Tensor> toggled_;  // parameters that need no gradient for now
  Precision precision_ = Precision::float32;
  bool converts_batches_ = false;
  std::optional<GradScaler> scaler_;
  std::vector<torch::Tensor> unowned_;           // parameters that no optimizer has, where there is a scaler
  std::vector<bool> checked_for_unused_;         // of each optimizer, where detect_unused_parameters asks for it
  std::vector<std::size_t> checked_parameters_;  // of each optimizer: how many are known to be the module's

  TrainProgram train_program_;
  Program eval_program_;
  Progress progress_;
  LogStore train_log_, eval_log_;
  MetricMap callback_metrics_, logged_metrics_, progress_bar_metrics_;
  ScalarsRecord epoch_record_;  // gathered until the epoch's record is written
  CurveAxis curves_;
  std::vector<StepOutput> batch_outputs_;  // of each optimizer, for on_train_batch_end
  EpochOutputs train_outputs_, eval_outputs_, predictions_;
  PredictionFiles prediction_files_;
  std::vector<MetricMap> eval_results_;
  bool warned_of_outputs_ = false;
  double rows_per_sample_ = -1;  // of this loader's batches so far; -1: none yet
  bool warned_of_sizes_ = false;

  Stage evaluation_stage_ = Stage::validate;
  bool evaluating_ = false;
  bool evaluation_is_cut_ = false;
  std::vector<std::pair<std::string, torch::Tensor>> random_states_before_;  ///< the latest validation of a fit
  bool sanity_checking_ = false;
  bool should_stop_ = false;
  bool wants_step_metrics_ = false;
  bool batch_stepped_ = false;
  bool is_at_batch_end_ = false;       ///< in its hooks: the batch is trained on, and not counted yet
  bool saw_batches_ = false;           ///< since metrics were reduced over ranks
  bool saw_training_batches_ = false;  ///< during an evaluation: what it was before
  bool teardown_done_ = true;
  std::size_t torn_down_ = 0;        ///< the data module, each callback, the module: how many of them
  int64_t eval_batches_before_ = 0;  ///< of CurveAxis, when the latest evaluation began
  bool evaluation_had_batches_ = false;
  bool was_validated_ = false;  ///< in this run, with data: what a validation logs is known
  bool validation_was_empty_ = false;
  int64_t eval_loader_ = 0;
  std::vector<int64_t> updates_before_evaluation_;  // of each metric

  SnapshotMemory snapshot_memory_;
  double saved_at_ = 0;  ///< of the latest checkpoint, at first of the one that the run goes on from
  EpochOrigin epoch_origin_;
  std::vector<bool> is_unstepped_;  ///< of each optimizer with manual optimization: a backward pass came after its step

  // Where the thread is.
  Pulse& pulse_;
  Shared<Hook>& current_hook_;
  Shared<const char*>& current_name_;  ///< a literal
  Shared<int64_t>& current_batch_;
};

}  // namespace troupe
