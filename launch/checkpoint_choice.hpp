// Which of the checkpoints that lie below a folder a run may go on from, or be evaluated with.
#pragma once

#include "troupe/launch/trainer.hpp"
#include "troupe/runtime/checkpoint/checkpoint_finder.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

/// One search: says of each checkpoint whether it fits, and remembers why not. A checkpoint of the same name may be of
/// a model with other sizes. Where the module is built from options, and those of the checkpoint's run were equal, it
/// is not; else its tensors are compared with those of a module that is built for that, on a thread of its own, so that
/// no random number is drawn from the caller's generator. What a module makes only in `setup` is not compared. Used by
/// one thread.
class CheckpointChoice {
 public:
  /// `run` is what the run called `name` writes into its own checkpoints. `launch`: only those of this launch count;
  /// empty: all.
  CheckpointChoice(std::string name, nlohmann::json run, const ModuleSource& source, std::string launch)
      : name_(std::move(name)), run_(std::move(run)), source_(source), launch_(std::move(launch)) {}
  CheckpointChoice(const CheckpointChoice&) = delete;
  CheckpointChoice& operator=(const CheckpointChoice&) = delete;

  /// Must not outlive this.
  CheckpointFilter filter();
  /// Says on stderr what was passed over, and what the clock makes doubtful.
  void warn(const std::optional<FoundCheckpoint>& found) const;
  /// "2 were passed over, the first of them last.safetensors: it belongs to another model: 1 missing in it: bias";
  /// empty for none.
  std::string passed_over() const;

 private:
  using Sizes = std::map<std::string, std::vector<int64_t>>;

  bool fits(const std::filesystem::path& path, const nlohmann::json& metadata);
  std::string difference(const std::filesystem::path& path);
  const Sizes& own_sizes();

  std::string name_;
  nlohmann::json run_;
  const ModuleSource& source_;
  std::string launch_;
  std::optional<Sizes> sizes_;
  bool is_strict_ = true;
  std::vector<FoundCheckpoint::Skipped> skipped_;
};

}  // namespace troupe
