// Which checkpoint "last" and "best" mean.
#pragma once

#include "troupe/runtime/checkpoint/checkpoint.hpp"

#include <filesystem>
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

// Searched are the *.safetensors in `root` itself and in every folder called "checkpoints" below it, at most 8 levels
// deep. Hidden folders and links to folders are left out, so links in a circle do no harm. Any thread may call. Both
// functions return nothing where there is no such file at all, and throw CheckpointError, with the folder and what was
// passed over, where there are some and none will do.

/// The newest valid checkpoint: the greatest `saved_at` of its metadata, then `global_step`, then time of modification.
/// They are read from the newest on until one holds.
std::optional<FoundCheckpoint> find_last(const std::filesystem::path& root);

/// The checkpoint that the newest valid one calls the best: "best_model_path" in a state of metadata["callbacks"], a
/// path relative to that checkpoint's folder, or an absolute one; it must lie below `root`. Where that file is missing
/// or damaged, what the next older checkpoint says counts.
std::optional<FoundCheckpoint> find_best(const std::filesystem::path& root);

}  // namespace troupe
