// Everything a Trainer can be told, with Lightning's names, meanings and defaults
// (https://lightning.ai/docs/pytorch/2.6/common/trainer.html); a difference is written at the option.
#pragma once

#include "troupe/modules/callback.hpp"
#include "troupe/modules/options/amount.hpp"
#include "troupe/modules/options/options.hpp"
#include "troupe/modules/options/precision.hpp"
#include "troupe/modules/options/tracker_options.hpp"
#include "troupe/modules/options/trainer_choices.hpp"
#include "troupe/modules/record.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

/// A function, since g++ 12 fails on an aggregate with a list of strings as a member's default.
inline std::vector<std::string> default_loggers() {
  return {"csv", "tensorboard"};
}

/// An aggregate: `Trainer trainer({.devices = 2, .max_epochs = 3})`, members in the order in which they stand here.
/// As everywhere, an int in an Amount counts batches and a double is a fraction of them. What each option means is said
/// in TROUPE_OPTIONS below, which is also what `--help` prints; here stands what more there is to know in C++.
struct TrainerOptions {
  /// Lightning has `lightning_logs` here, for all models alike.
  std::string name = "";
  /// Lightning's "gpu" is "cuda" here.
  Accelerator accelerator = Accelerator::automatic;
  /// Each worker is a thread with a replica of its own; on the CPU so many workers share its cores. Lightning's default
  /// is "auto" (all GPUs).
  int64_t devices = 1;
  Strategy strategy = Strategy::automatic;
  /// A part of the samples in training, filled up so that all have equally many; a part of the batches in evaluation,
  /// where nothing is repeated and metrics are those of one rank alone. False: the loaders see to it themselves.
  bool use_distributed_sampler = true;
  UnevenData uneven_data = UnevenData::stop;
  /// Costs a walk through the graph in each step.
  bool find_unused_parameters = false;
  double bucket_cap_mb = 25;
  double first_bucket_mb = 1;
  GradientCompression gradient_compression = GradientCompression::none;
  /// Columns of the two thin matrices that stand for a gradient; PyTorch's powerSGD_hook calls it
  /// matrix_approximation_rank. 1 to 4 are usual, and up to 32 for language models.
  int64_t powersgd_rank = 1;
  /// Early gradients are sensitive: PyTorch advises a tenth of all steps. Its default is 1000 too.
  int64_t powersgd_start_step = 1000;
  bool powersgd_error_feedback = true;
  bool powersgd_warm_start = true;
  /// Windows of accumulation, in each of which every optimizer steps. 500 is what the DiLoCo paper uses
  /// (https://arxiv.org/abs/2311.08105).
  int64_t local_steps = 500;
  /// Those of the outer optimizer, with the paper's values.
  double outer_lr = 0.7;
  double outer_momentum = 0.9;
  /// Buffers are, for example, running means.
  bool broadcast_buffers = true;
  /// Mean and variance are those that one rank with the whole batch would take. It holds for every batch norm of the
  /// module, those called as functions too.
  bool sync_batchnorm = false;
  /// For data that each host keeps for itself.
  bool prepare_data_per_node = false;
  double collective_timeout = 1800;
  /// It watches workers, loaders, fetchers and writers. prepare_data may take as long as it likes; waiting for other
  /// workers is `collective_timeout`'s. It is the limit of all that is not a step, reading data included, and of steps
  /// until their own limit is known.
  double watchdog_timeout = 1800;
  /// Steps of training and of each kind of evaluation have a limit of their own: this many times the longest one so
  /// far, `watchdog_floor` at least and `watchdog_timeout` at most (docs/reliability.md).
  double watchdog_factor = 20;
  /// Ranks that wait so long for others ask whether all are there.
  double watchdog_floor = 10;
  bool watchdog_stacks = false;
  /// Processes. The others go back to the newest state that they have in memory, and start nothing anew. It needs
  /// Open MPI 5, `mpirun --with-ft ulfm` (launch/run gives it), the CPU and strategy = ddp.
  std::string elastic = "";
  int64_t elastic_every_n_steps = 50;
  /// It compares the ranks' own times, waiting left out, and warns once a minute at most.
  double straggler_ratio = 2;

  std::optional<int64_t> max_epochs = std::nullopt;
  /// Early means by a callback, a request or `max_time`; `max_epochs` and `max_steps` win over it. Unset: 1 if
  /// `min_steps` is set, else 0.
  std::optional<int64_t> min_epochs = std::nullopt;
  int64_t max_steps = -1;
  /// As for min_epochs, `max_epochs` and `max_steps` win over it.
  std::optional<int64_t> min_steps = std::nullopt;
  std::string max_time = "";

  /// Lightning takes 2.0 for 2, here it is refused. As in Lightning a fraction that leaves no batch is refused, and so
  /// is one other than 0.0 and 1.0 of a stream of unknown length.
  Amount limit_train_batches = 1.0;
  Amount limit_val_batches = 1.0;
  Amount limit_test_batches = 1.0;
  Amount limit_predict_batches = 1.0;
  /// Without checkpoints, sinks and the sanity check.
  int64_t fast_dev_run = 0;
  /// It wins over the limits, those of fast_dev_run too.
  Amount overfit_batches = 0.0;

  int64_t num_sanity_val_steps = 2;
  /// A time (Interval(std::chrono::minutes(5)), "00:05:00") is counted from the end of the latest validation, over
  /// epoch boundaries; rank zero's clock decides, and a resumed run goes on with what had passed. It is looked at
  /// between batches. check_val_every_n_epoch then leaves out epochs.
  Interval val_check_interval = 1.0;
  /// None: `val_check_interval`, then a count or a time, goes on over epoch boundaries.
  std::optional<int64_t> check_val_every_n_epoch = 1;
  /// On a copy of the module, with a thread and loaders of its own; values, steps and checkpoints are those of a
  /// validation in turn (docs/guide.md, "Validation beside the training"). It needs the module's options (fit<M>), one
  /// device and the CPU.
  bool async_validation = false;
  int64_t log_every_n_steps = 50;
  /// Of rank zero's clock: the first optimizer step after it. It takes the place of log_every_n_steps, which is refused
  /// beside it.
  std::string log_every = "";

  CombineMode multiple_trainloader_mode = CombineMode::max_size_cycle;

  Precision precision = Precision::float32;

  /// The code of training_step does not run in a replay: it has to do the same with each batch (docs/captured-step.md).
  /// Lightning has no such option; torch.compile comes nearest.
  CaptureStep capture_step = CaptureStep::off;
  /// Batches of other shapes, and the optimizers and the places in a window of accumulation, have programs of their
  /// own; those that are too many are computed the plain way.
  int64_t capture_step_programs = 4;
  int64_t capture_step_check_every = 100;
  std::filesystem::path capture_step_dump = "";

  int64_t accumulate_grad_batches = 1;
  GradWeighting accumulate_grad_weighting = GradWeighting::samples;
  /// Lightning accepts negative values as no clipping.
  std::optional<double> gradient_clip_val = std::nullopt;
  GradientClipAlgorithm gradient_clip_algorithm = GradientClipAlgorithm::norm;

  /// `stop` and `skip` read the loss back in each step. With 16-mixed the scaler sees to the gradients, whatever is set
  /// here: a step that it leaves out has no hooks, does not count and moves no scheduler; in Lightning it does. If no
  /// scale is small enough the run ends.
  NonFinite nonfinite = NonFinite::proceed;
  /// After that many the run ends.
  int64_t max_skipped_steps = 10;
  /// Standard deviations above the mean of the last 100. With `NonFinite::proceed` such a loss is a warning.
  double loss_spike_zscore = 0;
  /// An operation without one ends the run.
  bool deterministic = false;
  /// 0 to 2^64 - 1. In Lightning this is `seed_everything`.
  std::optional<uint64_t> seed = std::nullopt;
  /// The worker's part of the processors that the process may use, by its affinity and its container's CPU quota
  /// (docs/threads.md), and no more than OMP_NUM_THREADS says. Lightning leaves this to PyTorch, which looks at no
  /// quota.
  int64_t num_threads = 0;

  /// All runs are `<default_root_dir>/<name>/version_N`. Lightning's default is the current folder.
  std::filesystem::path default_root_dir = "runs";
  bool enable_checkpointing = true;
  CheckpointBackpressure checkpoint_backpressure = CheckpointBackpressure::wait;
  CheckpointFailure checkpoint_failure = CheckpointFailure::stop;
  /// `#SBATCH --signal=SIGUSR1@90` sends it; the job goes back when the checkpoint is written. With `--ckpt_path auto`
  /// it goes on from there.
  bool slurm_requeue = true;
  bool enable_progress_bar = true;
  /// Adds a ModelSummary (runtime/callbacks/model_summary.hpp) if `callbacks` has none.
  bool enable_model_summary = true;
  bool detect_anomaly = false;
  /// A warning at the first step of their optimizer, for those too that no optimizer has. Lightning has no such option;
  /// PyTorch's DistributedDataParallel names them in an error.
  bool detect_unused_parameters = false;
  /// Lightning's has the same names for the first two, and "advanced" and "pytorch" for what the others do.
  Profiler profiler = Profiler::off;
  /// The first training batch is 0; outside of fit nothing is measured then.
  std::string profile_steps = "";
  /// Prints no progress bar, model summary, notes and summary at the end. Warnings, errors and what goes to stdout
  /// stay: the results of a program's stage, and what the module prints. In a program `--quiet` means the same.
  bool quiet = false;
  /// False: no sinks at all, `sinks` included. Lightning has one option for all three.
  bool logger = true;
  /// csv, tensorboard, jsonl, mlflow, trackio: see runtime/sinks/.
  std::vector<std::string> loggers = default_loggers();

  /// The owner of the process alone may attach, on the same machine.
  Attach attach = Attach::view;
  /// Of 127.0.0.1, at /metrics, in the process of rank zero. 0: any free one, which is printed.
  std::optional<int64_t> metrics_port = std::nullopt;

  // Groups of their own: --mlflow.uri, --trackio.project.

  MlflowOptions mlflow = {};
  TrackioOptions trackio = {};

  // Not on the command line and not in files.

  /// Called on the worker, in this order. Not null.
  std::vector<std::shared_ptr<Callback>> callbacks = {};
  /// Where metrics go besides `loggers`. Not null.
  std::vector<std::shared_ptr<Sink>> sinks = {};
};

TROUPE_OPTIONS(
    TrainerOptions, (name, "folder of the runs below default_root_dir; empty: the module's class name in snake case"),
    (accelerator, "what to train on; auto: cuda if a GPU works, else cpu"),
    (devices, "devices of this process to train on, each with a worker of its own"),
    (strategy, "how devices train together (docs/distributed.md); auto: ddp if there are several"),
    (use_distributed_sampler, "give each rank its part of the data"),
    (uneven_data,
     "ranks with different numbers of batches: end with the shortest, begin shorter ones anew, or go on with "
     "those that have batches"),
    (find_unused_parameters, "ddp: allow parameters that a loss does not depend on"),
    (bucket_cap_mb, "ddp: MiB of a bucket of gradients"), (first_bucket_mb, "ddp: MiB of the first bucket"),
    (gradient_compression, "ddp: what gradients are sent as; none: as they are"),
    (powersgd_rank, "powersgd: columns of the matrices that stand for a gradient"),
    (powersgd_start_step, "powersgd: send gradients as they are for so many steps first"),
    (powersgd_error_feedback, "powersgd: add what was left out to the next step's gradient"),
    (powersgd_warm_start, "powersgd: begin each step with the matrices of the one before"),
    (local_steps, "local_sgd, diloco: optimizer steps of each rank between two exchanges of weights"),
    (outer_lr, "diloco: learning rate of the outer optimizer"),
    (outer_momentum, "diloco: momentum of the outer optimizer"),
    (broadcast_buffers, "ddp: take buffers from rank zero before a step"),
    (sync_batchnorm, "ddp, zero, zero2, fsdp: batch norm over the batches of all ranks"),
    (prepare_data_per_node, "call prepare_data on one rank of each host, not of the whole run"),
    (collective_timeout, "seconds after which a worker that waits for another one gives up"),
    (watchdog_timeout, "seconds without progress after which the run ends and says who hangs; 0 is off"),
    (watchdog_factor, "the same for steps: after this many times the longest one; 0: watchdog_timeout for all"),
    (watchdog_floor, "but not before so many seconds; after them ranks also ask whether the others are there"),
    (watchdog_stacks, "say then where every thread is"),
    (elastic,
     "go on with those that are left if a process is lost, as 2:8: the fewest and the most (more are spares); empty: "
     "end"),
    (elastic_every_n_steps, "elastic: optimizer steps between two states that every process keeps in memory"),
    (straggler_ratio, "name ranks whose steps take this many times the median's; 0 is off"),
    (max_epochs, "stop after so many epochs; -1: without end; none: 1000 unless max_steps or max_time is set"),
    (min_epochs, "do not stop early before so many epochs"),
    (max_steps, "stop after so many optimizer steps; -1: without end"),
    (min_steps, "do not stop early before so many optimizer steps"),
    (max_time, "stop after this time, DD:HH:MM:SS, HH:MM:SS or as 90m; empty: without end"),
    (limit_train_batches, "training batches an epoch: a count (10) or a fraction (0.5; 1.0 is all)"),
    (limit_val_batches, "batches of each validation loader: a count or a fraction; 0 turns validation off"),
    (limit_test_batches, "batches of each test loader: a count or a fraction"),
    (limit_predict_batches, "batches of each predict loader: a count or a fraction"),
    (fast_dev_run, "run n batches of each kind once to find mistakes; true is 1, 0 is off", ::troupe::switchable),
    (overfit_batches, "train and validate on these batches only, not shuffled: a count or a fraction; 0.0 is off"),
    (num_sanity_val_steps, "batches of each validation loader to run before training; -1 is all"),
    (val_check_interval,
     "validate after so many batches, after this fraction of an epoch, or after this time (00:05:00, 5m)"),
    (check_val_every_n_epoch, "validate in every n-th epoch only; none: count val_check_interval over epochs"),
    (async_validation, "validate a copy of the module on a thread of its own while training goes on"),
    (log_every_n_steps, "hand metrics to the sinks every n-th optimizer step; 0 is never"),
    (log_every, "hand metrics to the sinks after this time, as 5s, in place of log_every_n_steps; empty: by steps"),
    (multiple_trainloader_mode,
     "several train loaders: a batch of each, to the end of the longest or of the shortest, or one after the other"),
    (precision, "the numbers to compute in"),
    (capture_step,
     "record training steps and replay them without autograd's cost, with the same bits: where it can be done, always, "
     "or with a check"),
    (capture_step_programs, "shapes of batches that are captured at most"),
    (capture_step_check_every, "capture_step = check: compute every n-th step both ways"),
    (capture_step_dump, "write the captured steps to this file, an operator per line; empty: nowhere"),
    (accumulate_grad_batches, "batches whose gradients are added up before an optimizer step"),
    (accumulate_grad_weighting,
     "what each batch of a step counts: its samples (short ones count less), or the same as all batches"),
    (gradient_clip_val, "bound of the gradients; none and 0 are no clipping"),
    (gradient_clip_algorithm, "what is bounded: the norm of all gradients, or the value of each element"),
    (nonfinite,
     "a loss or gradient that is not finite: make the step all the same, end the run, or leave the step out"),
    (max_skipped_steps, "nonfinite = skip: steps in a row at most"),
    (loss_spike_zscore, "standard deviations above the last losses that count as not finite; 0 is off"),
    (deterministic, "use deterministic algorithms only"),
    (seed, "seed of all random numbers; none: drawn at random and written down"),
    (num_threads, "threads that one operation may use; 0: the worker's part of the processors"),
    (default_root_dir, "folder that all runs lie below"), (enable_checkpointing, "write checkpoints"),
    (checkpoint_backpressure,
     "a checkpoint that is due while one is being written: wait for that, or leave out one of every_n_train_steps"),
    (checkpoint_failure, "a checkpoint that cannot be written: end the run, or warn and go on"),
    (slurm_requeue, "SIGUSR1 in a job of SLURM: put it back into the queue"),
    (enable_progress_bar, "show progress on the terminal"),
    (enable_model_summary, "print the module's layers and sizes before training"),
    (detect_anomaly, "find the operation whose backward gives NaN; slow"),
    (detect_unused_parameters, "name the parameters that get no gradient, once"),
    (profiler, "measure hooks, operators, or write a trace of the whole cast"),
    (profile_steps,
     "profiler = operators or trace: training batches to record, as 100-120, counted over the whole run; empty: all"),
    (quiet, "say nothing on the terminal but warnings and errors"), (logger, "write metrics"),
    (loggers, "where metrics go: csv, tensorboard, jsonl, mlflow, trackio"),
    (attach, "what troupe attach may do with the run while it goes on: nothing, look at it, or control it"),
    (metrics_port, "port of 127.0.0.1 at which Prometheus gets the run's numbers; 0: any free one; none: no endpoint"))

/// Throws UsageError for the first value that cannot be: "trainer.devices = 0 ...; use at least 1". An option that does
/// nothing because another one, which is off by default, was not given is refused too: profile_steps without a
/// profiler, capture_step_* without capture_step, max_skipped_steps without nonfinite = skip, gradient_clip_algorithm
/// without gradient_clip_val, powersgd_* without gradient_compression = powersgd, local_steps and outer_* without their
/// strategies, and those of mlflow and trackio with the default loggers.
void validate(const TrainerOptions& options);

/// What the options mean together; doing it twice changes nothing more. Expects valid options.
///
/// - fast_dev_run n: n batches of each kind, n steps, one epoch with a validation at its end, and no sanity check,
///   checkpoints or sinks. Callbacks stay: those that write checkpoints look at `enable_checkpointing`.
/// - overfit_batches: becomes the limit of training and of validation; the order is not shuffled where it is not none.
/// - quiet: no progress bar. The model summary is not printed, and is on the run's page.
/// - max_epochs and min_epochs get the values that they have when unset, so that neither is empty.
TrainerOptions resolved(TrainerOptions options);

/// max_time as a duration; nothing when it is empty. Throws UsageError when duration_from_text does not take it.
std::optional<std::chrono::milliseconds> max_time_of(const TrainerOptions& options);
/// log_every, in the same way; also throws for no time at all.
std::optional<std::chrono::milliseconds> log_every_of(const TrainerOptions& options);

/// Processes of a run that goes on if some are lost.
struct ElasticRange {
  int64_t least = 1, most = 1;
};
/// elastic; nothing when it is empty. Throws UsageError when it is not "2:8".
std::optional<ElasticRange> elastic_of(const TrainerOptions& options);

/// Training batches, counted from 0 over the whole run, `first` and `last` included.
struct BatchRange {
  int64_t first = 0, last = 0;
};
/// profile_steps; nothing when it is empty. Throws UsageError when it is neither "100-120" nor "100".
std::optional<BatchRange> profile_steps_of(const TrainerOptions& options);

}  // namespace troupe
