// A folder for runs of several processes.
#pragma once

#include "tests/support/temp_dir.hpp"

#include "troupe/launch/processes.hpp"
#include "troupe/modules/options/trainer_options.hpp"

#include <filesystem>
#include <optional>

namespace troupe {

/// A folder that all ranks name alike; rank zero makes and deletes it.
class SharedDir {
 public:
  SharedDir() {
    auto& processes = Processes::get();
    if (processes.is_rank_zero()) own_.emplace();
    path_ = processes.from_rank_zero([&] { return own_->path().string(); });
  }
  ~SharedDir() { Processes::get().all_gather_bytes(""); }  // rank zero deletes it
  const std::filesystem::path& path() const { return path_; }
  TrainerOptions options() const {
    TrainerOptions options{.max_epochs = 3, .seed = 7, .default_root_dir = path_};
    options.accelerator = Accelerator::cpu;
    options.precision = Precision::float64;
    options.num_threads = 1;
    options.collective_timeout = 60;
    options.enable_progress_bar = options.enable_model_summary = false;
    return options;
  }

 private:
  std::optional<TempDir> own_;
  std::filesystem::path path_;
};

}  // namespace troupe
