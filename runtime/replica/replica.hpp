// One copy of the model with everything that a step needs: module, callbacks, optimizers, metrics, random state.
//
// A replica knows no actors. Whoever owns it (a worker) calls it from one thread: the hooks of a boundary one by one,
// batches one by one, in the order of modules/hook_order.hpp. Batch hooks run here, from programs that are compiled out
// of that table once: a hook that neither the module nor a callback has is not in them.
//
// It is a facade: each thing that is owned has a class of its own, which a test can make without the others' work. What
// they share is ReplicaCore; what one of them needs of another one is in its constructor.
//
// What user code throws passes through; `position()` then says where it happened.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/modules/run_context.hpp"
#include "troupe/modules/support/step_recorder.hpp"
#include "troupe/runtime/checkpoint/checkpoint.hpp"
#include "troupe/runtime/data/combined_epoch.hpp"
#include "troupe/runtime/data/epoch_origin.hpp"
#include "troupe/runtime/process/process_settings.hpp"
#include "troupe/runtime/replica/batch_sizes.hpp"
#include "troupe/runtime/replica/boundary_hooks.hpp"
#include "troupe/runtime/replica/evaluation.hpp"
#include "troupe/runtime/replica/gradient_sync.hpp"
#include "troupe/runtime/replica/metric_board.hpp"
#include "troupe/runtime/replica/replica_core.hpp"
#include "troupe/runtime/replica/run_record.hpp"
#include "troupe/runtime/replica/schedules.hpp"
#include "troupe/runtime/replica/train_stepper.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace troupe {

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
  void cut_evaluation() { evaluation_.cut(); }
  /// Metrics of each loader's evaluation, then a fresh start.
  std::vector<MetricMap> end_evaluation();
  void begin_train_epoch(int64_t epoch, int64_t batch_idx);
  /// After the hooks at an epoch's beginning, which may have changed what is trained.
  void refresh_averagers() { stepper_.refresh(); }
  /// After the hooks at an epoch's end. Counts on, unless the run ends within the epoch (`is_cut`), which is then gone
  /// on with by whoever resumes the run: schedulers wait for its end, too.
  void end_train_epoch(bool is_cut);
  /// on_exception of the callbacks and the data module. Never throws: what they throw comes back as text, or "".
  std::string report_quietly(const Failure& failure);
  /// The teardown hooks that are left after a failure, as report_quietly does it.
  std::string tear_down_quietly();

  // --- Validation beside the training (trainer.async_validation; validation_beside.cpp) ---

  /// Of a copy (ReplicaSetup::validates_beside), in place of prepare(): makes the module; of its hooks
  /// configure_callbacks and setup alone run, of callbacks setup. Its evaluations are as those of any other replica.
  void prepare_to_validate();
  /// The module as it is, for the copy. `request`: of a checkpoint of this step. Throws what a snapshot does.
  ModelAtStep model_at_step(const SnapshotRequest& request);
  /// The same of a validation that the checkpoint has from which this run goes on. Throws CheckpointError.
  ModelAtStep model_of_checkpoint(int64_t index) const;
  /// The copy becomes the module of that step, its random numbers included. Throws UsageError if it is another module.
  void adopt(const ModelAtStep& model);
  /// What the copy's latest evaluation has logged.
  ValidationResult take_validation_result();
  /// The training's part: metrics, records and schedulers hear of it. Throws UsageError for a scheduler that goes by
  /// such a metric; a sanity check is looked at for that alone.
  void take_validation(const ValidationResult& result, bool is_sanity_check);

  // --- Batches ---

  /// `is_last`: no further batch follows in this epoch, so that a short accumulation window ends here.
  /// `samples_of_all`: those in the batches of all ranks; unset: in this one's.
  AfterBatch train_batch(Batch batch, int64_t batch_idx, bool is_last,
                         std::optional<int64_t> samples_of_all = std::nullopt) {
    return stepper_.train_batch(std::move(batch), batch_idx, is_last, samples_of_all);
  }
  /// The same for a rank that has no batch in a step of the others: gradients and steps only.
  void train_without_batch(int64_t batch_idx, bool is_last, int64_t samples_of_all) {
    stepper_.train_without_batch(batch_idx, is_last, samples_of_all);
  }
  void eval_batch(Batch batch, int64_t batch_idx, int64_t dataloader_idx) {
    evaluation_.batch(std::move(batch), batch_idx, dataloader_idx);
  }

  // --- State ---

  /// Everything that a run needs to go on from here, copied into memory that is kept for it. Collective; global rank
  /// zero's has everything, those of others are of no use.
  Checkpoint snapshot(const SnapshotRequest& request) { return record_.snapshot(request); }
  /// Where the curves of the run's folder stand after this stage.
  CurveAxis curves() const;
  const DataLoaders& train_loaders() const { return core_.setup.train_loaders; }
  /// How they make an epoch, with limits.
  const CombinedEpoch& combined_epoch() const { return combined_epoch_; }
  const EpochOrigin& epoch_origin() const { return epoch_origin_; }
  const DataLoaders& eval_loaders() const { return core_.setup.eval_loaders; }
  const std::shared_ptr<Module>& module() const { return core_.module; }
  const std::vector<std::shared_ptr<Callback>>& callbacks() const { return core_.callbacks; }
  /// Gives the module back, in the state that it has, and ends the replica's use.
  std::shared_ptr<Module> release();
  CapturedSteps captured() const;
  /// The outputs of predict_step, a list for each loader.
  EpochOutputs take_predictions() { return evaluation_.take_predictions(); }
  /// Whether module or data module have a say in how batches come to the device.
  bool overrides_transfer() const;
  /// Where the thread is in user code, for the Failure of what it throws.
  Failure position() const;
  /// Callback metrics and those of the bar, after the latest on_step values were read.
  void settle_step_metrics() { board_.settle_step_metrics(); }
  /// The bar's metrics as the module wants them shown.
  MetricMap shown_metrics();
  /// Names of the metrics that were marked for the progress bar.
  std::vector<std::string> bar_metrics() const;
  /// Read and keep the latest on_step values after the next batch, whether a sink is due or not.
  void want_step_metrics() { board_.want_step_metrics(); }
  /// A sink is due after the next batch after which an optimizer has stepped.
  void log_next_step() { board_.log_next_step(); }

  // --- RunContext ---

  const TrainerOptions& options() const override { return core_.options(); }
  const std::filesystem::path& run_dir() const override { return core_.setup.run_dir; }
  Stage stage() const override { return core_.setup.stage; }
  bool sanity_checking() const override { return evaluation_.is_sanity_check(); }
  bool logs_this_batch() const override { return board_.is_logged(core_.progress.log_step + 1); }
  const Progress& progress() const override {
    refuse_capture("it asks how far the run is (current_epoch, global_step), which a replay does not");
    return core_.progress;
  }
  torch::Device device() const override { return core_.setup.device; }
  int64_t global_rank() const override { return core_.setup.place().global_rank; }
  int64_t local_rank() const override { return core_.setup.place().local_rank; }
  int64_t world_size() const override { return core_.setup.place().world_size; }
  Peers* peers() const { return core_.peers(); }
  std::optional<int64_t> estimated_stepping_batches(int64_t optimizers) const override;
  Optimizers& optimizers() override { return core_.optimizers; }
  void toggle_optimizer(std::size_t index) override { stepper_.toggle(index); }
  void untoggle_optimizer(std::size_t) override { stepper_.untoggle(); }
  void manual_backward(const torch::Tensor& loss) override { stepper_.manual_backward(loss); }
  void step_optimizer(std::size_t index, const OptimizerClosure& closure) override {
    stepper_.step_optimizer(index, closure);
  }
  Precision precision() const override { return core_.precision; }
  void set_accumulate_grad_batches(int64_t batches) override { stepper_.set_accumulate_grad_batches(batches); }
  void save_checkpoint(const std::filesystem::path& path) override {
    refuse_capture("it saves a checkpoint, which a replay does not");
    refuse_save_beside();
    record_.save(path);
  }
  torch::Tensor whole_gradient_norm(const torch::optim::Optimizer& optimizer, torch::Tensor norm) override {
    return sync_.whole_norm(optimizer, std::move(norm));
  }
  torch::Tensor all_gather(const torch::Tensor& tensor) override {
    refuse_capture("it calls all_gather, which a replay does not");
    return core_.setup.peers ? core_.peers()->all_gather(tensor) : tensor;
  }
  DataModule* datamodule() override { return core_.setup.datamodule.get(); }
  void log(std::string_view name, const torch::Tensor& value, const LogOptions& options) override {
    board_.log(name, value, options);
  }
  void log(std::string_view name, double value, const LogOptions& options) override {
    board_.log(name, value, options);
  }
  void log(std::string_view name, Metric& metric, const LogOptions& options) override {
    board_.log(name, metric, options);
  }
  void emit(Record record) override;
  void write_prediction(std::string_view name, const torch::Tensor& value, const std::string& filename) override {
    refuse_capture("it writes a prediction, which a replay does not");
    evaluation_.write_prediction(name, value, filename);
  }
  const MetricMap& callback_metrics() const override {
    refuse_capture("it asks for metrics as numbers, which a replay does not");
    return board_.callback_metrics();
  }
  const MetricMap& logged_metrics() const override {
    refuse_capture("it asks for metrics as numbers, which a replay does not");
    return board_.logged_metrics();
  }
  const MetricMap& progress_bar_metrics() const override {
    refuse_capture("it asks for metrics as numbers, which a replay does not");
    return board_.progress_bar_metrics();
  }
  void request_stop(std::string reason) override;
  bool should_stop() const override {
    refuse_capture("it asks whether the run stops, which a replay does not");
    return should_stop_;
  }
  void print(std::string line) override {
    refuse_capture("it prints, which a replay does not");
    core_.outputs.print(std::move(line));
  }
  void note(std::string line) override {
    refuse_capture("it says something, which a replay does not");
    core_.outputs.note(std::move(line));
  }

 private:
  void set_up_process();
  void make_module();
  void log_hyperparameters();
  void configure_callbacks();
  void configure_optimizers();
  void move_to_device();
  void make_shards();
  void run_own_hook(Hook hook);
  void show_one_model();
  void show_own_weights();
  void flush_epoch();
  void write_captured();
  void refuse_save_beside() const;

  ReplicaCore core_;
  std::optional<ProcessSettings> process_settings_;
  CombinedEpoch combined_epoch_;
  EpochOrigin epoch_origin_;
  std::optional<int64_t> windows_of_run_;  // of accumulation, if they can be counted before
  bool should_stop_ = false;

  MetricBoard board_;
  Schedules schedules_;
  GradientSync sync_;
  BatchSizes sizes_;
  TrainStepper stepper_;
  Evaluation evaluation_;
  RunRecord record_;
  Teardown teardown_;
  // Of a copy that validates beside the training: what its evaluation has logged.
  std::map<std::string, LoggedValue> step_values_;
  std::vector<LoggedValue> epoch_values_;
  bool had_batches_ = false;
};

}  // namespace troupe
