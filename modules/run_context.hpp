// What a module, a callback or a data module may ask of the run that it takes part in.
#pragma once

#include "troupe/modules/log_options.hpp"
#include "troupe/modules/optim/optimizer_handle.hpp"
#include "troupe/modules/options/precision.hpp"
#include "troupe/modules/options/trainer_options.hpp"
#include "troupe/modules/progress.hpp"
#include "troupe/modules/record.hpp"
#include "troupe/modules/stage.hpp"

#include <torch/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace troupe {

class DataModule;
class Metric;
class Optimizers;

/// The run as seen from one worker; `Module::trainer()` returns it. Use it on the worker's thread, that is inside hooks
/// and steps. It is gone when the run has ended.
class RunContext {
 public:
  virtual ~RunContext() = default;

  /// The options as resolved (fast_dev_run and overfit_batches worked in).
  virtual const TrainerOptions& options() const = 0;
  /// <default_root_dir>/<name>/version_N; empty if nothing is written.
  virtual const std::filesystem::path& run_dir() const = 0;
  virtual Stage stage() const = 0;
  /// True during the validation that comes before training.
  virtual bool sanity_checking() const = 0;
  virtual const Progress& progress() const = 0;
  /// In a hook of a training batch: whether metrics of this batch go to the sinks (log_every_n_steps, log_every), if an
  /// optimizer steps after it.
  virtual bool logs_this_batch() const = 0;

  virtual torch::Device device() const = 0;
  virtual int64_t global_rank() const = 0;
  virtual int64_t local_rank() const = 0;
  virtual int64_t world_size() const = 0;

  /// Steps that each optimizer will take in the whole run, for its scheduler: the windows of accumulation of all
  /// epochs, also if a GradientAccumulationScheduler changes their length, or fewer if max_steps ends the run.
  /// Optimizers that take turns (OptimizerConfig::frequency) have them together, each its share. Nothing when the run
  /// has no end, the data's length is unknown, or truncated_bptt_steps makes as many steps of a batch as its sequences
  /// are long; with max_steps it is that then. A training_step that returns nothing, or manual optimization that does
  /// not step once per batch, makes it an estimate.
  ///
  /// Valid from configure_optimizers on. max_steps counts the steps of all optimizers, but while configure_optimizers
  /// runs only the module knows how many there will be: `optimizers` is their number. 0: as many as it returned, or one
  /// while it runs.
  virtual std::optional<int64_t> estimated_stepping_batches(int64_t optimizers = 0) const = 0;
  /// Optimizers and schedulers as configure_optimizers returned them.
  virtual Optimizers& optimizers() = 0;
  /// The parameters that other optimizers have, and optimizer number `index` has not, need no gradient, until
  /// untoggle_optimizer puts back what each of them was.
  virtual void toggle_optimizer(std::size_t index) = 0;
  virtual void untoggle_optimizer(std::size_t index) = 0;
  /// The parts of manual optimization; use Module::manual_backward and OptimizerHandle::step. `closure` may be empty.
  virtual void manual_backward(const torch::Tensor& loss) = 0;
  virtual void step_optimizer(std::size_t index, const OptimizerClosure& closure) = 0;
  virtual Precision precision() const = 0;
  /// Changes accumulate_grad_batches from the next window on; at least 1. Between epochs, so that no window is cut.
  virtual void set_accumulate_grad_batches(int64_t batches) = 0;
  /// Writes a checkpoint of the state as it is, on this thread, and returns when the disk has it. The state of monitors
  /// (EarlyStopping, ModelCheckpoint), which the coordinator has, is not in it.
  virtual void save_checkpoint(const std::filesystem::path& path) = 0;
  /// The 2-norm of all gradients of an optimizer from the `norm` of those that its parameters hold here: itself, unless
  /// ranks hold a part each (strategy = zero); then the call is collective.
  virtual torch::Tensor whole_gradient_norm(const torch::optim::Optimizer& optimizer, torch::Tensor norm) = 0;
  /// The tensors of all ranks, stacked along a new first dimension; in a run of one rank the tensor as it is.
  virtual torch::Tensor all_gather(const torch::Tensor& tensor) = 0;
  /// Null when the run has none.
  virtual DataModule* datamodule() = 0;

  /// See Module::log.
  virtual void log(std::string_view name, const torch::Tensor& value, const LogOptions& options) = 0;
  virtual void log(std::string_view name, double value, const LogOptions& options) = 0;
  virtual void log(std::string_view name, Metric& metric, const LogOptions& options) = 0;
  /// Hands a histogram, an image, a text or a call to the sinks.
  virtual void emit(Record record) = 0;
  /// Adds rows to the tensor `name` of a file in the run's folder; see Module::write_prediction.
  virtual void write_prediction(std::string_view name, const torch::Tensor& value, const std::string& filename) = 0;
  /// Latest value of each metric under each of its names: what monitors and schedulers look at.
  virtual const MetricMap& callback_metrics() const = 0;
  /// Latest values handed to the sinks.
  virtual const MetricMap& logged_metrics() const = 0;
  /// Latest values shown in the progress bar.
  virtual const MetricMap& progress_bar_metrics() const = 0;

  /// Ends the run at the next batch boundary, once min_epochs and min_steps are reached (Lightning's
  /// `trainer.should_stop = True`).
  virtual void request_stop(std::string reason) = 0;
  virtual bool should_stop() const = 0;
  /// Prints a line without breaking the progress bar; on global rank zero only.
  virtual void print(std::string line) = 0;
  /// The same for a message about the run, such as a warning: it goes to stderr.
  virtual void note(std::string line) = 0;
};

}  // namespace troupe
