// What a run has for an MLflow server and the server has not yet: <run>/mlflow.spool, and <run>/mlflow.json beside it.
//
// The spool has a JSON object a line, each with its number:
//
//     {"seq":1,"tags":[["mlflow.source.name","digits"]],"params":[["trainer.max_epochs","3"]]}
//     {"seq":2,"step":9,"time":1700000000000,"metrics":[["loss",0.25],["grad_norm","NaN"]]}
//     {"seq":3,"status":"FINISHED","time":1700000001000}
//     {"seq":4,"artifacts":true}
//
// mlflow.json says whose they are, and the number of the last one that the server has. Whatever is sent a second time
// (the process was killed before it wrote that number) leaves the server as it is.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/runtime/sinks/append_file.hpp"
#include "troupe/runtime/sinks/mlflow_client.hpp"

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// <run>/mlflow.json.
struct MlflowState {
  std::string address;     ///< http_address's
  std::string experiment;  ///< its name
  std::string run_name;
  std::string key;      ///< 32 hexadecimal digits, by which a run is found that was created and whose answer got lost
  std::string run_id;   ///< empty until the server has said it
  int64_t started = 0;  ///< milliseconds since 1970
  int64_t sent = 0;     ///< number of the last entry that the server has
  std::optional<MlflowStatus> status;  ///< the last that was sent
};

/// None if the file is not there. Throws UsageError for one that is no such state, FileError.
std::optional<MlflowState> read_mlflow_state(const std::filesystem::path& run_folder);
/// Throws FileError.
void write_mlflow_state(const MlflowState& state, const std::filesystem::path& run_folder);

struct MlflowStatusChange {
  MlflowStatus status = MlflowStatus::running;
  int64_t time = 0;
};

/// A line of the spool. All metrics of one have the same step and time.
struct SpoolEntry {
  int64_t number = 0;
  MlflowBatch batch;
  std::optional<MlflowStatusChange> status;
  bool has_artifacts = false;  ///< the run's files are to be sent, as they are then
  uint64_t end = 0;            ///< position in the file behind the line
};

/// The line of an entry, with its end.
std::string spool_line(const SpoolEntry& entry);
/// Throws UsageError, with `what` in front, for what spool_line did not write and for keys that no server takes.
SpoolEntry spool_entry(std::string_view line, const std::string& what);

/// Another process has the spool open.
class SpoolInUse : public UsageError {
 public:
  using UsageError::UsageError;
};

/// The file, for the one process that has it open. Any thread may call; no function waits for anything but the disk.
class MlflowSpool {
 public:
  /// `sent` is MlflowState's. Removes a last line that was cut short. Throws SpoolInUse, and UsageError for a file
  /// that cannot be written or is damaged.
  MlflowSpool(const std::filesystem::path& run_folder, int64_t sent);
  ~MlflowSpool();
  MlflowSpool(const MlflowSpool&) = delete;
  MlflowSpool& operator=(const MlflowSpool&) = delete;

  /// Gives the entry its number. After a failed write it is kept in memory, up to 4 MiB, and written by the next call
  /// that can; what is beyond is lost, and counted. Throws std::runtime_error for a failed write.
  void append(SpoolEntry entry);
  /// Makes what was appended visible to next(). Throws std::runtime_error.
  void flush();

  /// The next entries behind the last `mark_sent`, 256 KiB of lines or one. Throws UsageError if they are damaged.
  std::vector<SpoolEntry> next();
  void mark_sent(const SpoolEntry& entry);
  /// Empties the file if all in it is sent and it has `least` bytes.
  void shrink(uint64_t least);

  /// Entries that are not sent, and those that a full disk has cost.
  int64_t waiting() const;
  int64_t lost() const;
  /// Of those that wait, how many are in memory alone, since they cannot be written: lost if nothing changes.
  int64_t unwritten() const;

 private:
  void open_end();
  void flush_locked();

  mutable std::mutex mutex_;
  std::filesystem::path path_;
  int lock_ = -1;  // holds the lock, and reads
  AppendFile file_;
  int64_t sent_ = 0, last_ = 0, lost_ = 0;
  uint64_t position_ = 0;      // of the next entry to read
  std::size_t unwritten_ = 0;  // bytes in the buffer of file_ at most
  bool cannot_write_ = false;
};

}  // namespace troupe
