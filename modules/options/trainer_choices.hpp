// What a Trainer's options may be where there are a few values only (see modules/options/precision.hpp for precision).
#pragma once

#include "troupe/modules/options/choices.hpp"

namespace troupe {

/// `automatic`: cuda if there is a GPU that works, else cpu.
enum class Accelerator { automatic, cpu, cuda };
// By letters "gpu", Lightning's name, is nearest to "cpu", which is not what its writer means.
TROUPE_CHOICES(Accelerator, {automatic, "auto"}, {cpu, "cpu"}, {cuda, "cuda"},
               {cuda, "gpu", ::troupe::ChoiceUse::suggested})

/// How devices train together, those of this process and of all others that mpirun started.
enum class Strategy {
  automatic,  ///< ddp if there are several
  ddp,        ///< each has its own batches and averages gradients with the others while they are computed
  zero,       ///< the same, and each holds the optimizer's state of a part of the parameters only (ZeRO-1)
  dp,         ///< the devices of one process divide each batch, and training_step_end gets what all returned
  ddp2,       ///< dp within a process, ddp between processes
  zero2,      ///< as zero, and each holds its part of the gradients only (ZeRO-2)
  fsdp,       ///< as zero2, and of the parameters too: a block of layers is whole while it is used (ZeRO-3)
  local_sgd,  ///< each takes `local_steps` steps of its own, then all take the mean of their weights
  diloco,     ///< the same, and an outer optimizer, Nesterov's SGD, steps along the mean of what they have moved
};
TROUPE_CHOICES(Strategy, {automatic, "auto"}, {ddp, "ddp"}, {zero, "zero"}, {zero2, "zero2"}, {fsdp, "fsdp"},
               {dp, "dp"}, {ddp2, "ddp2"}, {local_sgd, "local_sgd"}, {diloco, "diloco"})
/// Whether a process has one worker that computes a batch in parts, on all of its devices.
constexpr bool divides_batches(Strategy strategy) {
  return strategy == Strategy::dp || strategy == Strategy::ddp2;
}

/// Whether each rank holds a part of the optimizers' state.
constexpr bool divides_optimizers(Strategy strategy) {
  return strategy == Strategy::zero || strategy == Strategy::zero2 || strategy == Strategy::fsdp;
}
/// Whether each rank holds a part of the gradients, so that those of every pass are averaged.
constexpr bool divides_gradients(Strategy strategy) {
  return strategy == Strategy::zero2 || strategy == Strategy::fsdp;
}

/// Whether ranks take steps of their own between two exchanges of weights, and send no gradients.
constexpr bool trains_locally(Strategy strategy) {
  return strategy == Strategy::local_sgd || strategy == Strategy::diloco;
}

/// What happens if ranks have different numbers of batches. Lightning hangs there.
enum class UnevenData {
  stop,   ///< the epoch ends for all when one has no more
  cycle,  ///< it begins its data anew until all have come to their end once
  join,   ///< it goes on without batches until all have ended
};
TROUPE_CHOICES(UnevenData, {stop, "stop"}, {cycle, "cycle"}, {join, "join"})

/// What gradients are sent as; with local_sgd and diloco what the weights have moved.
enum class GradientCompression {
  none,  ///< as they are
  fp16,
  bf16,
  powersgd,  ///< matrices as the product of two thin ones; what that leaves out is added to the next step's gradient
};
TROUPE_CHOICES(GradientCompression, {none, "none"}, {fp16, "fp16"}, {bf16, "bf16"}, {powersgd, "powersgd"})

/// How several training loaders make one epoch. Lightning's CombinedLoader has these names.
enum class CombineMode {
  max_size_cycle,  ///< a batch has a part for each (Batch::part); to the end of the longest, the others begin anew
  min_size,        ///< a batch has a part for each; to the end of the shortest
  sequential,      ///< one loader after the other
};
TROUPE_CHOICES(CombineMode, {max_size_cycle, "max_size_cycle"}, {min_size, "min_size"}, {sequential, "sequential"})

/// What each of the batches counts whose gradients are added up before an optimizer step.
enum class GradWeighting {
  /// Its size (Batch::size), so that the step is that of one large batch, also if the last window of an epoch, or its
  /// last batch, is short (for a loss that is a mean over samples).
  samples,
  /// Lightning's way: the loss is divided by accumulate_grad_batches, whatever the window holds.
  batches,
};
TROUPE_CHOICES(GradWeighting, {samples, "samples"}, {batches, "batches"})

enum class GradientClipAlgorithm {
  norm,   ///< scales all gradients so that their norm is within the bound
  value,  ///< clamps each element
};
TROUPE_CHOICES(GradientClipAlgorithm, {norm, "norm"}, {value, "value"})

/// Whether training steps are recorded once and replayed (docs/captured-step.md).
enum class CaptureStep {
  off,
  automatic,  ///< those that can be; of others the reason is said, once
  require,    ///< a training step that cannot be captured is an error with its reason
  check,      ///< as automatic, and some are computed both ways: the first operator that differs ends the run
};
TROUPE_CHOICES(CaptureStep, {off, "off"}, {automatic, "auto"}, {require, "require"}, {check, "check"})

/// What becomes of a step whose loss or gradients are not finite, before the optimizer makes it.
enum class NonFinite {
  proceed,  ///< it is made
  stop,     ///< the run ends, and names the parameter
  skip,     ///< it is left out, on all ranks
};
TROUPE_CHOICES(NonFinite, {proceed, "continue"}, {stop, "stop"}, {skip, "skip"})

/// What becomes of a checkpoint that is due while the one before is being written.
enum class CheckpointBackpressure {
  wait,
  /// One that `every_n_train_steps` asks for is left out. What a validation, the end of an epoch or of training asks
  /// for always waits.
  skip,
};
TROUPE_CHOICES(CheckpointBackpressure, {wait, "wait"}, {skip, "skip"})

/// What a checkpoint that cannot be written (a full disk) means. The files from before stay either way.
enum class CheckpointFailure {
  stop,     ///< the run ends
  proceed,  ///< a warning
};
TROUPE_CHOICES(CheckpointFailure, {stop, "stop"}, {proceed, "continue"})

/// What others may do with the run while it goes on, by the socket in its folder (docs/attach.md).
enum class Attach {
  off,      ///< there is no socket
  view,     ///< look at it
  control,  ///< end it, write checkpoints, validate, set the learning rate
};
TROUPE_CHOICES(Attach, {off, "off"}, {view, "view"}, {control, "control"})

/// What is measured besides the phases, which always are (docs/watching.md).
enum class Profiler {
  off,
  simple,     ///< a table of every hook: calls, mean, longest, share
  operators,  ///< LibTorch's operators by time and memory
  trace,      ///< trace.json, which opens in Perfetto: a lane for each member of the cast, the operators in it
};
TROUPE_CHOICES(Profiler, {off, "off"}, {simple, "simple"}, {operators, "operators"}, {trace, "trace"})

}  // namespace troupe
