// Everything a Fabric can be told: those of the Trainer's options that have a meaning for a loop of one's own.
#pragma once

#include "troupe/modules/options/options.hpp"
#include "troupe/modules/options/precision.hpp"
#include "troupe/modules/options/trainer_options.hpp"
#include "troupe/modules/record.hpp"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

/// Names, meanings and defaults are the Trainer's (modules/options/trainer_options.hpp) where nothing else is said;
/// Lightning's Fabric has most of them
/// (https://lightning.ai/docs/fabric/stable/api/fabric_args.html). An aggregate, members in the order in which they
/// stand here: `Fabric fabric({.devices = 2, .seed = 1})`.
struct FabricOptions {
  Accelerator accelerator = Accelerator::automatic;
  /// Each is a thread that runs the function that Fabric::launch is given.
  int64_t devices = 1;
  /// auto (ddp if there are several ranks), ddp or zero. The others need to know where a step begins and ends, which
  /// the Trainer does.
  Strategy strategy = Strategy::automatic;
  bool find_unused_parameters = false;
  double bucket_cap_mb = 25;
  double first_bucket_mb = 1;
  GradientCompression gradient_compression = GradientCompression::none;
  /// Buffers become rank zero's after each step of an optimizer.
  bool broadcast_buffers = true;
  double collective_timeout = 1800;
  /// Of what Fabric::autocast and the modules that are set up compute in.
  Precision precision = Precision::float32;
  /// What Fabric::capture does; the Trainer's default is off.
  CaptureStep capture_step = CaptureStep::automatic;
  int64_t capture_step_programs = 4;
  int64_t capture_step_check_every = 100;
  bool deterministic = false;
  bool detect_anomaly = false;
  std::optional<uint64_t> seed = std::nullopt;
  int64_t num_threads = 0;
  /// Sinks of Fabric::log write into <default_root_dir>/<name>/version_N.
  std::string name = "fabric";
  std::filesystem::path default_root_dir = "runs";
  /// csv, tensorboard, jsonl, trackio; none by default, and then there is no folder.
  std::vector<std::string> loggers = {};
  bool quiet = false;

  // Not on the command line and not in files.

  /// Where Fabric::log writes besides `loggers`. Not null.
  std::vector<std::shared_ptr<Sink>> sinks = {};
};

TROUPE_OPTIONS(FabricOptions, (accelerator, "what to train on; auto: cuda if a GPU works, else cpu"),
               (devices, "devices of this process to train on, each with a thread of its own"),
               (strategy, "how devices train together: ddp or zero; auto: ddp if there are several"),
               (find_unused_parameters, "ddp: allow parameters that a loss does not depend on"),
               (bucket_cap_mb, "ddp: MiB of a bucket of gradients"), (first_bucket_mb, "ddp: MiB of the first bucket"),
               (gradient_compression, "ddp: what gradients are sent as; none: as they are"),
               (broadcast_buffers, "take buffers from rank zero after a step"),
               (collective_timeout, "seconds after which a rank that waits for another one gives up"),
               (precision, "the numbers to compute in"),
               (capture_step, "captured functions: off, where it can be done, always, or with a check"),
               (capture_step_programs, "shapes of batches that are captured at most"),
               (capture_step_check_every, "capture_step = check: compute every n-th call both ways"),
               (deterministic, "use deterministic algorithms only"),
               (detect_anomaly, "find the operation whose backward gives NaN; slow"),
               (seed, "seed of all random numbers; none: drawn at random"),
               (num_threads, "threads that one operation may use; 0: the device's part of the processors"),
               (name, "folder of the runs below default_root_dir"),
               (default_root_dir, "folder that all runs lie below"),
               (loggers, "where Fabric::log writes: csv, tensorboard, jsonl, trackio; empty: nowhere"),
               (quiet, "say nothing on the terminal but warnings and errors"))

/// The Trainer's options that mean the same, for the mechanisms that both use. Throws UsageError for a value that
/// cannot be: "fabric.strategy = fsdp is not valid; use zero, or a Trainer".
TrainerOptions trainer_options(const FabricOptions& options);

}  // namespace troupe
