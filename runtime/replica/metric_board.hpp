// What a replica knows of metrics: what is logged, the latest values, and the record of an epoch.
#pragma once

#include "troupe/modules/log_options.hpp"
#include "troupe/modules/metrics/metric.hpp"
#include "troupe/modules/record.hpp"
#include "troupe/runtime/checkpoint/checkpoint.hpp"
#include "troupe/runtime/logging/log_store.hpp"
#include "troupe/runtime/loops/facts.hpp"
#include "troupe/runtime/replica/curve_axis.hpp"
#include "troupe/runtime/replica/replica_core.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe {

/// The registered metrics of a module begin anew, or move to a device.
void reset_metrics(const Module& module);
void move_metrics(const Module& module, torch::Device device);

/// The way of a value from log() to the metrics that callbacks see and to the records that sinks get. Training and an
/// evaluation in the middle of it have a log each; one of the two is in use at a time.
///
/// Values of steps that no sink is due for stay where they are (on the device, too) until they are replaced. Used by
/// the worker's thread.
class MetricBoard {
 public:
  explicit MetricBoard(ReplicaCore& core) : core_(core), curves_(core.setup.curves) {}
  MetricBoard(const MetricBoard&) = delete;
  MetricBoard& operator=(const MetricBoard&) = delete;

  /// `listener` hears of each value that becomes a metric, in the order in which they do.
  void on_kept(std::function<void(const LoggedValue&)> listener) { listener_ = std::move(listener); }

  // --- Logging ---

  /// Says which hook comes next, and what is logged there by default. Nothing can be logged in those before the first
  /// epoch and behind the last one.
  void set_origin(Hook hook, bool step_allowed, bool on_step, int64_t batch_size,
                  std::optional<int64_t> dataloader_idx = std::nullopt);
  /// Nothing can be logged while this exists: what a checkpoint calls belongs to no epoch.
  class Closed {
   public:
    explicit Closed(MetricBoard& board) : board_(board), was_closed_(std::exchange(board.is_closed_, true)) {}
    ~Closed() { board_.is_closed_ = was_closed_; }
    Closed(const Closed&) = delete;
    Closed& operator=(const Closed&) = delete;

   private:
    MetricBoard& board_;
    bool was_closed_;
  };
  /// Throw UsageError as LogStore's do, and outside of epochs.
  void log(std::string_view name, const torch::Tensor& value, const LogOptions& options);
  void log(std::string_view name, double value, const LogOptions& options);
  /// A metric that the module has registered. Also throws for one that is logged in training and in evaluation, and for
  /// on_step if a batch is divided among devices.
  void log(std::string_view name, Metric& metric, const LogOptions& options);

  // --- Batches and epochs ---

  void begin_train_epoch() { saw_batches_ = false; }
  /// A step begins: values logged with on_step replace the earlier ones.
  void begin_step() { active_log().begin_step(); }
  /// The same with data, so that this rank has a part in the epoch's metrics.
  void begin_batch() {
    saw_batches_ = true;
    begin_step();
  }
  /// A training batch is over and counted in the progress. Reads and records the values of its step if a sink is due
  /// (only batches after which an optimizer has `stepped` count), or if somebody has asked for them. Collective then.
  void end_of_batch(bool stepped);
  /// Read and keep the latest on_step values after the next batch, whether a sink is due or not.
  void want_step_metrics() { wants_step_metrics_ = true; }
  /// A sink is due after the next batch after which an optimizer has stepped (log_every).
  void log_next_step() { logs_next_step_ = true; }
  /// Whether a sink is due after the batch that will be number `step` of those after which an optimizer has stepped.
  bool is_logged(int64_t step) const;
  /// The latest on_step values of training become metrics.
  void settle_step_metrics();
  /// Reduces what the epoch has logged, over all ranks: it joins the record that write_epoch_record() writes, and is
  /// returned. Collective.
  std::vector<LoggedValue> flush_epoch();
  void write_epoch_record();
  /// The training epoch is over: metrics that were logged in it begin anew.
  void end_train_epoch() { train_log_.reset_metrics(); }

  // --- Evaluation ---

  /// From here on the evaluation's log is in use. Nothing is kept of one that `discards`.
  void begin_evaluation(bool discards);
  /// Nothing that the evaluation logs from now on is kept.
  void discard() { discards_ = true; }
  /// Metrics that are logged under the number of an evaluation's loader begin anew for the next one.
  void close_loader() { eval_log_.close_loader(); }
  /// A batch of an evaluation is over. Values logged with on_step have an axis of their own: the batches of this stage
  /// so far. The epoch's curve has the other one, so the epoch is not said.
  void end_of_eval_batch(Stage stage);
  /// The same where neither values nor batches count.
  void drop_step() { (void)eval_log_.take_step(); }
  void end_evaluation();
  /// What a copy of the module has logged in a validation: it becomes metrics, and the record of the step at which that
  /// was begun, as if it had been logged here then.
  void take_validation(const ValidationResult& result);
  /// The values join what latest() has said before.
  static void add_to_latest(nlohmann::json& latest, const ValidationResult& result);

  // --- What there is ---

  const MetricMap& callback_metrics() const { return callback_metrics_; }
  const MetricMap& logged_metrics() const { return logged_metrics_; }
  const MetricMap& progress_bar_metrics() const { return progress_bar_metrics_; }
  /// Where the curves of the run's folder stand.
  CurveAxis& curves() { return curves_; }
  const CurveAxis& curves() const { return curves_; }

  // --- State (metric_board_state.cpp) ---

  /// The latest values, for monitors that decide before they are logged again.
  nlohmann::json latest() const;
  /// Throws UsageError for what is no such state.
  void load_latest(const nlohmann::json& state);
  /// What the training epoch has gathered. A run that goes on from here begins an evaluation anew, so what one has
  /// gathered so far is left out.
  void append_metrics(Checkpoint& checkpoint) const;
  void restore_metrics(const Checkpoint& state);
  /// Of a run with other ranks: what all of them had gathered.
  void restore_metrics_of_all(const std::vector<Checkpoint>& states);

 private:
  void check_is_open(std::string_view name) const;
  LogStore& active_log() { return evaluates_ ? eval_log_ : train_log_; }
  void keep(const std::vector<LoggedValue>& values, ScalarsRecord* record);
  int64_t record_step(const Progress& at) const;

  ReplicaCore& core_;
  LogStore train_log_, eval_log_;
  MetricMap callback_metrics_, logged_metrics_, progress_bar_metrics_;
  ScalarsRecord epoch_record_;  // gathered until the epoch's record is written
  CurveAxis curves_;
  std::function<void(const LoggedValue&)> listener_;
  bool evaluates_ = false;
  bool discards_ = false;
  bool wants_step_metrics_ = false;
  bool logs_next_step_ = false;
  bool saw_batches_ = false;                        // since metrics were reduced over ranks
  bool saw_training_batches_ = false;               // during an evaluation: what it was before
  bool is_closed_ = false;                          // outside of epochs
  std::vector<int64_t> updates_before_evaluation_;  // of each registered metric
};

}  // namespace troupe
