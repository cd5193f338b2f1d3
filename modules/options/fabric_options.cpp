#include "troupe/modules/options/fabric_options.hpp"

#include <algorithm>
#include <string>
#include <string_view>

namespace troupe {

namespace {

// The Trainer's own check says what is wrong with a value, under the name of its own option.
void validate_as_fabric(const TrainerOptions& options) {
  try {
    validate(options);
  } catch (const UsageError& error) {
    constexpr std::string_view theirs = "trainer.";
    std::string text = error.what();
    for (auto at = text.find(theirs); at != std::string::npos; at = text.find(theirs, at + 1)) {
      text.replace(at, theirs.size(), "fabric.");
    }
    throw UsageError(text);
  }
}

}  // namespace

TrainerOptions trainer_options(const FabricOptions& options) {
  check_options(options, "fabric");
  const auto usable = {Strategy::automatic, Strategy::ddp, Strategy::zero};
  if (std::ranges::find(usable, options.strategy) == usable.end()) {
    throw UsageError("fabric.strategy = " + std::string(name_of(options.strategy)) + " is not valid; use " +
                     (divides_batches(options.strategy) ? "ddp" : "zero") + ", or a Trainer, which has it");
  }
  const auto null = std::ranges::find(options.sinks, nullptr);
  if (null != options.sinks.end()) {
    throw UsageError("fabric.sinks[" + std::to_string(null - options.sinks.begin()) + "] is null; leave it out");
  }
  TrainerOptions as;
  as.name = options.name;
  as.accelerator = options.accelerator;
  as.devices = options.devices;
  as.strategy = options.strategy;
  as.find_unused_parameters = options.find_unused_parameters;
  as.bucket_cap_mb = options.bucket_cap_mb;
  as.first_bucket_mb = options.first_bucket_mb;
  as.gradient_compression = options.gradient_compression;
  as.broadcast_buffers = options.broadcast_buffers;
  as.collective_timeout = options.collective_timeout;
  as.precision = options.precision;
  as.capture_step = options.capture_step;
  as.capture_step_programs = options.capture_step_programs;
  as.capture_step_check_every = options.capture_step_check_every;
  as.deterministic = options.deterministic;
  as.detect_anomaly = options.detect_anomaly;
  as.seed = options.seed;
  as.num_threads = options.num_threads;
  as.default_root_dir = options.default_root_dir;
  as.quiet = options.quiet;
  as.enable_progress_bar = as.enable_model_summary = as.enable_checkpointing = false;
  as.loggers = options.loggers;
  as.logger = !options.loggers.empty();
  as.sinks = options.sinks;
  validate_as_fabric(as);
  return resolved(as);
}

}  // namespace troupe
