// Which checkpoint "last" and "best" mean.
#pragma once

#include "troupe/runtime/checkpoint/checkpoint.hpp"

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

/// A checkpoint that was found and read whole, every checksum verified, and what was passed over on the way to it.
struct FoundCheckpoint {
  struct Skipped {
    std::filesystem::path path;
    std::string reason;
  };
  std::filesystem::path path;
  Checkpoint checkpoint;
  std::vector<Skipped> skipped;
};

/// Which checkpoints are looked for, where runs of other programs may lie below the same folder.
struct CheckpointFilter {
  /// The run's name: what lies in other folders <root>/<name>/version_N, and what says in its metadata (`run.name`)
  /// that it has another name, is left out; so is what is damaged there. Empty: any.
  std::string name = {};
  /// Asked of those that are left, the newest first, until one is found; null: all fit.
  std::function<bool(const std::filesystem::path& path, const nlohmann::json& metadata)> fits = nullptr;
};

// Searched are the *.safetensors in `root` itself and in every folder called "checkpoints" below it, at most 8 levels
// deep. Links to folders are followed, each folder is searched once, and hidden ones are left out. Any thread may call.
// Both functions return nothing if there is no such file, or none that the filter lets through, and throw
// CheckpointError, with the folder and what was passed over, if there are some and none will do.

/// The newest valid checkpoint: the greatest `saved_at` of its metadata, then `global_step`, then time of modification.
/// They are read from the newest on until one holds. A run that goes on from a checkpoint gives its own a later
/// `saved_at`, whatever the clock says.
std::optional<FoundCheckpoint> find_last(const std::filesystem::path& root, const CheckpointFilter& filter = {});

/// The checkpoint that the newest valid one calls the best: "best_model_path" in a state of metadata["callbacks"], a
/// path relative to that checkpoint's folder, or an absolute one; it must lie below `root`, or below a folder that a
/// link there leads to. Where that file is missing or damaged, what the next older checkpoint says counts.
std::optional<FoundCheckpoint> find_best(const std::filesystem::path& root, const CheckpointFilter& filter = {});

}  // namespace troupe
