// Records as an event file that TensorBoard shows: `tensorboard --logdir <folder>`.
#pragma once

#include "troupe/base/unix_seconds.hpp"
#include "troupe/modules/record.hpp"
#include "troupe/runtime/sinks/append_file.hpp"

#include <filesystem>
#include <functional>
#include <string>

namespace troupe {

/// Writes every kind of record to a file of its own, `events.out.tfevents.<seconds>.<host>.<pid>.0`, whose name stands
/// behind those that are there. TensorBoard joins the files of a folder in the order of their names; where a curve
/// comes back to a step that it had passed, its default data server shows what came last and drops the points from that
/// step on, so a run that goes on from an older checkpoint takes the place of what stood behind it, and nothing else is
/// lost.
///
/// Writes are buffered until flush, 64 KiB, or the end of the sink. Each record stands in a frame with checksums
/// (TFRecord), so a file whose end was lost is read up to there.
///
/// Used from one thread. Failed writes throw std::runtime_error with the path and the reason; a record that can not be
/// shown (an image of two channels) throws UsageError with its tag and writes nothing.
class TensorBoardSink : public Sink {
 public:
  using Clock = std::function<double()>;

  /// Creates `folder` if it is missing. Throws UsageError with path and reason when it can not be written. `clock`
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
