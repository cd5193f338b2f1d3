// A failure as a value that travels between actors without losing its root cause (protocol rule P6).
#pragma once

#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace troupe {

/// Where and why a run failed. The first failure of a run wins; later ones are consequences.
struct Failure {
  int64_t rank = 0;
  std::string host;        ///< empty in a run of one process; files have its name nevertheless
  std::string device;      ///< "cpu", "cuda:0"; empty when no device was involved
  std::string stage;       ///< "fit", "validate", "test", "predict"
  std::string hook;        ///< the hook or step that raised, or the part of the cast ("loader", "checkpointer", ...)
  int64_t epoch = -1;      ///< -1 if none had started
  int64_t batch_idx = -1;  ///< -1 outside of a batch
  std::string message;     ///< what the user's code or the library said
  bool is_loss = false;    ///< a process is gone, and those that are left may go on (trainer.elastic)

  /// One sentence: message first, then where.
  std::string describe() const;
};

/// What Trainer::fit and its siblings throw when a run fails; what() is Failure::describe().
class RunError : public std::runtime_error {
 public:
  explicit RunError(Failure failure) : std::runtime_error(failure.describe()), failure_(std::move(failure)) {}
  const Failure& failure() const { return failure_; }

 private:
  Failure failure_;
};

/// A value that an option, a file or an argument cannot have; says the value and the nearest valid choice.
class UsageError : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// A file that cannot be read as a checkpoint, or a value in it that no run writes; what() says where and why.
class CheckpointError : public UsageError {
 public:
  using UsageError::UsageError;
  CheckpointError(const std::filesystem::path& path, const std::string& reason)
      : UsageError("cannot read the checkpoint '" + path.string() + "': " + reason) {}
};

}  // namespace troupe
