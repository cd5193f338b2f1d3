// Records as an event file that TensorBoard shows: `tensorboard --logdir <folder>`.
#pragma once

#include "troupe/modules/record.hpp"
#include "troupe/runtime/sinks/append_file.hpp"

#include <filesystem>
#include <functional>
#include <string>

namespace troupe {

/// Seconds since 1970.
double unix_seconds();

/// One sink writes one file, `events.out.tfevents.<seconds>.<host>.<pid>.<n>`, with every kind of record in it.
/// TensorBoard takes all such files of a folder for one run.
///
/// Writes are buffered until flush, 64 KiB, or the end of the sink. Each record stands in a frame with checksums
/// (TFRecord), so a file whose end was lost is read up to there.
///
/// Used from one thread. Failed writes throw std::runtime_error with the path and the reason; a record that can not be
/// shown (an image of two channels) throws UsageError with its tag and writes nothing.
class TensorBoardSink : public Sink {
 public:
  using Clock = std::function<double()>;

  /// Creates `folder` where it is missing. Throws UsageError with path and reason when it can not be written. `clock`
  /// gives the time of the records in seconds since 1970.
  explicit TensorBoardSink(const std::filesystem::path& folder, Clock clock = unix_seconds);

  std::string name() const override { return "tensorboard"; }
  void write(const Record& record) override;
  void flush() override { file_.flush(); }

  const std::filesystem::path& path() const { return file_.path(); }

 private:
  void append_framed(const std::string& event);

  Clock clock_;
  AppendFile file_;
};

}  // namespace troupe
