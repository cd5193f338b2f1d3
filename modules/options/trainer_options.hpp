// Everything a Trainer can be told, with Lightning's names, meanings and defaults
// (https://lightning.ai/docs/pytorch/2.6/common/trainer.html); a difference is written at the option.
#pragma once

#include "troupe/modules/callback.hpp"
#include "troupe/modules/options/amount.hpp"
#include "troupe/modules/options/options.hpp"
#include "troupe/modules/record.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

/// An aggregate: `Trainer trainer({.devices = 2, .max_epochs = 3})`, members in the order in which they stand here.
/// As everywhere, an int in an Amount counts batches and a double is a fraction of them.
struct TrainerOptions {
  /// Folder of the runs below `default_root_dir`; empty: the module's class name in snake case. Lightning has
  /// `lightning_logs` here, for all models alike.
  std::string name = "";
  /// "cpu", "cuda", or "auto": cuda where there is a GPU that works, else cpu. Lightning's "gpu" is "cuda" here.
  std::string accelerator = "auto";
  /// Devices of this process to train on, each with a worker (a thread) and a replica of its own; on the CPU so many
  /// workers share its cores. Lightning's default is "auto" (all GPUs).
  int64_t devices = 1;
  /// How devices train together, those of this process and of all others that mpirun started:
  ///
  /// - "ddp": each has its own batches and averages gradients with the others while they are computed,
  /// - "zero": the same, and each holds the optimizer's state of a part of the parameters only (ZeRO-1),
  /// - "dp": the devices of one process divide each batch, and training_step_end gets what all returned,
  /// - "ddp2": dp within a process, ddp between processes,
  /// - "auto": ddp where there are several.
  std::string strategy = "auto";
  /// Give each rank its part of the data: of the samples in training, filled up so that all have equally many; of the
  /// batches in evaluation, where nothing is repeated and metrics are those of one rank alone. False: the loaders
  /// see to it themselves.
  bool use_distributed_sampler = true;
  /// Training loaders of different lengths over ranks: "stop" ends the epoch with the shortest, "cycle" begins shorter
  /// ones anew until all have ended, "join" goes on with those that have batches. Lightning hangs there.
  std::string uneven_data = "stop";
  /// ddp: allow parameters that a loss does not depend on; costs a walk through the graph in each step.
  bool find_unused_parameters = false;
  /// ddp: size of a bucket of gradients, in MiB, and of the first one.
  double bucket_cap_mb = 25;
  double first_bucket_mb = 1;
  /// ddp: send gradients as they are ("none"), or as "fp16" or "bf16".
  std::string gradient_compression = "none";
  /// ddp: take buffers (running means) from rank zero before a step.
  bool broadcast_buffers = true;
  /// ddp, zero: batch norm takes mean and variance over the batches of all ranks, as one rank with the whole batch
  /// would. It holds for every batch norm of the module, those called as functions too.
  bool sync_batchnorm = false;
  /// Call prepare_data on one rank of each host, not of the whole run: for data that each host keeps for itself.
  bool prepare_data_per_node = false;
  /// Seconds after which a worker that waits for another one gives up, and the run ends.
  double collective_timeout = 1800;
  /// Seconds without progress after which a worker, a loader, a fetcher or a writer counts as hung: the run ends, and
  /// says who it was and where. prepare_data may take as long as it likes; waiting for other workers is
  /// `collective_timeout`'s. 0 is off.
  double watchdog_timeout = 1800;
  /// Say then, too, which functions every thread of the process is in.
  bool watchdog_stacks = false;
  /// A rank whose own time for a step, waiting left out, is this many times that of the median rank is named in a
  /// warning, once a minute at most. 0 is off.
  double straggler_ratio = 2;

  /// Stop after this many epochs; -1 is without end. Unset: 1000, and without end where `max_steps` or `max_time` is
  /// set.
  std::optional<int64_t> max_epochs = std::nullopt;
  /// Do not stop early (by a callback, a request, `max_time`) before this many epochs; `max_epochs` and `max_steps` win
  /// over it. Unset: 1 where `min_steps` is set, else 0.
  std::optional<int64_t> min_epochs = std::nullopt;
  /// Stop after this many optimizer steps; -1 is without end.
  int64_t max_steps = -1;
  /// Do not stop early before this many optimizer steps; `max_epochs` and `max_steps` win over it.
  std::optional<int64_t> min_steps = std::nullopt;
  /// Stop after this time, "DD:HH:MM:SS"; empty is without end.
  std::string max_time = "";

  /// Batches of an epoch of training. Lightning takes 2.0 for 2, here it is refused. As in Lightning a fraction that
  /// leaves no batch is refused, and so is one other than 0.0 and 1.0 of a stream of unknown length.
  Amount limit_train_batches = 1.0;
  /// Batches of a validation, of each of its loaders; 0 turns validation off.
  Amount limit_val_batches = 1.0;
  /// Batches of a test, of each of its loaders.
  Amount limit_test_batches = 1.0;
  /// Batches of a prediction, of each of its loaders.
  Amount limit_predict_batches = 1.0;
  /// To find mistakes: run this many batches of each kind once, without checkpoints, sinks and the sanity check. On the
  /// command line also true, which is 1, and false.
  int64_t fast_dev_run = 0;
  /// To find mistakes: train and validate on this many batches only, not shuffled; 0 is off. It wins over the limits,
  /// those of fast_dev_run too.
  Amount overfit_batches = 0.0;

  /// Batches of each validation loader to run before training; -1 is all, 0 is none.
  int64_t num_sanity_val_steps = 2;
  /// Validate after this many batches, or after this fraction of a training epoch.
  Amount val_check_interval = 1.0;
  /// Validate in every n-th epoch only. None: `val_check_interval`, then a count, goes on over epoch boundaries.
  std::optional<int64_t> check_val_every_n_epoch = 1;
  /// Hand metrics to the sinks every n-th optimizer step; 0 is never.
  int64_t log_every_n_steps = 50;

  /// Several training loaders: "max_size_cycle" goes on to the end of the longest and begins the others anew,
  /// "min_size" ends with the shortest, both with a batch that has a part for each (Batch::part); "sequential" takes
  /// one loader after the other. Lightning's CombinedLoader has these names.
  std::string multiple_trainloader_mode = "max_size_cycle";

  /// The numbers to compute in: "32-true", "64-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true"; see
  /// modules/options/precision.hpp.
  std::string precision = "32-true";

  /// Batches whose gradients are added up before an optimizer step.
  int64_t accumulate_grad_batches = 1;
  /// What each of them counts: "samples" by its size (Batch::size), so that the step is that of one large batch also
  /// where the last window of an epoch, or its last batch, is short (for a loss that is a mean over samples); "batches"
  /// is Lightning's way: the loss is divided by accumulate_grad_batches, whatever the window holds.
  std::string accumulate_grad_weighting = "samples";
  /// Bound of the gradients; none and 0 are no clipping. Lightning accepts negative values as no clipping.
  std::optional<double> gradient_clip_val = std::nullopt;
  /// "norm" scales all gradients to the bound, "value" clamps each element.
  std::string gradient_clip_algorithm = "norm";

  /// What becomes of a step whose loss or gradients are not finite, before the optimizer makes it: "continue" makes it,
  /// "stop" ends the run and names the parameter, "skip" leaves it out, on all ranks. The last two read the loss back
  /// in each step. With 16-mixed the scaler sees to the gradients, whatever is set here: a step that it leaves out has
  /// no hooks, does not count and moves no scheduler; in Lightning it does. Where no scale is small enough the run
  /// ends.
  std::string nonfinite = "continue";
  /// With "skip": this many steps in a row at most, then the run ends.
  int64_t max_skipped_steps = 10;
  /// A loss this many standard deviations above the mean of the last 100 is treated as one that is not finite; with
  /// "continue" it is a warning. 0 is off.
  double loss_spike_zscore = 0;
  /// Use deterministic algorithms only; an operation without one ends the run.
  bool deterministic = false;
  /// Seed of all random numbers, 0 to 2^64 - 1. Unset: drawn at random and written to the run's options. In Lightning
  /// this is `seed_everything`.
  std::optional<uint64_t> seed = std::nullopt;
  /// Threads that one operation of a worker may use. 0: the worker's part of the processors that the process may use,
  /// by its affinity and its container's CPU quota (docs/threads.md), and no more than OMP_NUM_THREADS says. Lightning
  /// leaves this to PyTorch, which looks at no quota.
  int64_t num_threads = 0;

  /// Folder that all runs lie below: `<default_root_dir>/<name>/version_N`. Lightning's default is the current one.
  std::filesystem::path default_root_dir = "runs";
  /// Write checkpoints.
  bool enable_checkpointing = true;
  /// A checkpoint that is due while the one before is being written: "wait" for that, or "skip" one that
  /// `every_n_train_steps` asks for. What a validation, the end of an epoch or of training asks for always waits.
  std::string checkpoint_backpressure = "wait";
  /// A checkpoint that cannot be written (a full disk) ends the run ("stop"), or is a warning and the run goes on
  /// ("continue"). The files from before stay either way.
  std::string checkpoint_failure = "stop";
  /// In a job of SLURM that SIGUSR1 (`#SBATCH --signal=SIGUSR1@90`) interrupts: put the job back into the queue when
  /// the checkpoint is written. With `--ckpt_path auto` it goes on from there.
  bool slurm_requeue = true;
  /// Show progress on the terminal.
  bool enable_progress_bar = true;
  /// Print the module's layers and sizes before training: adds a ModelSummary (runtime/callbacks/model_summary.hpp)
  /// where `callbacks` has none.
  bool enable_model_summary = true;
  /// Find the operation whose backward gives NaN; slow.
  bool detect_anomaly = false;
  /// Name the parameters that have no gradient at the first step of their optimizer, and those that no optimizer has,
  /// once, as a warning. Lightning has no such option; PyTorch's DistributedDataParallel names them in an error.
  bool detect_unused_parameters = false;
  /// Write metrics; false: no sinks at all. Lightning has one option for this and `loggers`.
  bool logger = true;

  // Not on the command line and not in files.

  /// Called on the worker, in this order. Not null.
  std::vector<std::shared_ptr<Callback>> callbacks = {};
  /// Where metrics go; empty: CSV and TensorBoard files in the run's folder. Not null.
  std::vector<std::shared_ptr<Sink>> loggers = {};
};

TROUPE_OPTIONS(
    TrainerOptions, (name, "folder of the runs below default_root_dir; empty: the module's class name in snake case"),
    (accelerator, "auto (cuda where a GPU works), cpu or cuda"),
    (devices, "devices of this process to train on, each with a worker of its own"),
    (strategy, "how devices train together: auto, ddp, zero, dp or ddp2"),
    (use_distributed_sampler, "give each rank its part of the data"),
    (uneven_data, "ranks with different numbers of batches: stop, cycle or join"),
    (find_unused_parameters, "ddp: allow parameters that a loss does not depend on"),
    (bucket_cap_mb, "ddp: MiB of a bucket of gradients"), (first_bucket_mb, "ddp: MiB of the first bucket"),
    (gradient_compression, "ddp: send gradients as they are (none), or as fp16 or bf16"),
    (broadcast_buffers, "ddp: take buffers from rank zero before a step"),
    (sync_batchnorm, "ddp, zero: batch norm over the batches of all ranks"),
    (prepare_data_per_node, "call prepare_data once a host, not once in all"),
    (collective_timeout, "seconds after which a worker that waits for another one gives up"),
    (watchdog_timeout, "seconds without progress after which the run ends and says who hangs; 0 is off"),
    (watchdog_stacks, "say then where every thread is"),
    (straggler_ratio, "name ranks whose steps take this many times the median's; 0 is off"),
    (max_epochs, "stop after so many epochs; -1: without end; none: 1000 unless max_steps or max_time is set"),
    (min_epochs, "do not stop early before so many epochs"),
    (max_steps, "stop after so many optimizer steps; -1: without end"),
    (min_steps, "do not stop early before so many optimizer steps"),
    (max_time, "stop after this time, DD:HH:MM:SS; empty: without end"),
    (limit_train_batches, "training batches an epoch: a count (10) or a fraction (0.5; 1.0 is all)"),
    (limit_val_batches, "batches of each validation loader: a count or a fraction; 0 turns validation off"),
    (limit_test_batches, "batches of each test loader: a count or a fraction"),
    (limit_predict_batches, "batches of each predict loader: a count or a fraction"),
    (fast_dev_run, "run n batches of each kind once to find mistakes; true is 1, 0 is off", ::troupe::switchable),
    (overfit_batches, "train and validate on these batches only, not shuffled: a count or a fraction; 0.0 is off"),
    (num_sanity_val_steps, "batches of each validation loader to run before training; -1 is all"),
    (val_check_interval, "validate after so many batches or after this fraction of an epoch"),
    (check_val_every_n_epoch, "validate in every n-th epoch only; none: count val_check_interval over epochs"),
    (log_every_n_steps, "hand metrics to the sinks every n-th optimizer step; 0 is never"),
    (multiple_trainloader_mode, "several train loaders: max_size_cycle, min_size or sequential"),
    (precision, "32-true, 64-true, 16-mixed, bf16-mixed, 16-true or bf16-true"),
    (accumulate_grad_batches, "batches whose gradients are added up before an optimizer step"),
    (accumulate_grad_weighting, "samples (short batches count less) or batches (all count the same)"),
    (gradient_clip_val, "bound of the gradients; none and 0 are no clipping"),
    (gradient_clip_algorithm, "norm (of all gradients) or value (of each element)"),
    (nonfinite, "a loss or gradient that is not finite: continue, stop, or skip the step"),
    (max_skipped_steps, "nonfinite = skip: steps in a row at most"),
    (loss_spike_zscore, "standard deviations above the last losses that count as not finite; 0 is off"),
    (deterministic, "use deterministic algorithms only"),
    (seed, "seed of all random numbers; none: drawn at random and written down"),
    (num_threads, "threads that one operation may use; 0: the worker's part of the processors"),
    (default_root_dir, "folder that all runs lie below"), (enable_checkpointing, "write checkpoints"),
    (checkpoint_backpressure, "a checkpoint that is due while one is being written: wait, or skip it"),
    (checkpoint_failure, "a checkpoint that cannot be written: stop, or continue"),
    (slurm_requeue, "SIGUSR1 in a job of SLURM: put it back into the queue"),
    (enable_progress_bar, "show progress on the terminal"),
    (enable_model_summary, "print the module's layers and sizes before training"),
    (detect_anomaly, "find the operation whose backward gives NaN; slow"),
    (detect_unused_parameters, "name the parameters that get no gradient, once"), (logger, "write metrics"))

/// Throws UsageError for the first value that cannot be: "trainer.devices = 0 ...; use at least 1".
void validate(const TrainerOptions& options);

/// What the options mean together; doing it twice changes nothing more. Expects valid options.
///
/// - fast_dev_run n: n batches of each kind, n steps, one epoch with a validation at its end, and no sanity check,
///   checkpoints or sinks. Callbacks stay: those that write checkpoints look at `enable_checkpointing`.
/// - overfit_batches: becomes the limit of training and of validation; the order is not shuffled where it is not none.
/// - max_epochs and min_epochs get the values that they have when unset, so that neither is empty.
TrainerOptions resolved(TrainerOptions options);

/// max_time as a duration; nothing when it is empty. Throws UsageError when it is not "DD:HH:MM:SS".
std::optional<std::chrono::seconds> max_time_of(const TrainerOptions& options);

}  // namespace troupe
