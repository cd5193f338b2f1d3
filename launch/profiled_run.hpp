// A stage under trainer.profiler: what is said and written when it has ended.
#pragma once

#include "troupe/modules/options/trainer_options.hpp"
#include "troupe/modules/stage.hpp"
#include "troupe/runtime/profile/profiling.hpp"

#include <cstdint>
#include <filesystem>
#include <memory>

namespace troupe {

/// Whether a run has a folder for this alone.
bool writes_profile(const TrainerOptions& options);

/// From before the cast is made until its result is there, also that of a run that failed. Files of `run_dir`: see
/// docs/watching.md. The table goes to stdout, warnings to stderr; rank zero speaks.
class ProfiledRun {
 public:
  /// `rank`: the first of this process.
  ProfiledRun(const TrainerOptions& options, Stage stage, const std::filesystem::path& run_dir, int64_t rank);
  ~ProfiledRun();
  ProfiledRun(const ProfiledRun&) = delete;
  ProfiledRun& operator=(const ProfiledRun&) = delete;

 private:
  std::shared_ptr<Profiling> profiling_;
  bool prints_;
};

}  // namespace troupe
