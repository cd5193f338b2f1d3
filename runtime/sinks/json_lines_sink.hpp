// Records as lines of JSON: <folder>/metrics.jsonl.
#pragma once

#include "troupe/base/unix_seconds.hpp"
#include "troupe/modules/record.hpp"
#include "troupe/runtime/sinks/append_file.hpp"
#include "troupe/runtime/sinks/sink_warning.hpp"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace troupe {

/// Writes one object a record (https://jsonlines.org), UTF-8:
///
///     {"step":9,"epoch":0,"time":1764446435.25,"values":{"train_loss":0.5,"lr":0.001}}
///     {"step":9,"time":1764446435.25,"text":{"sample":"Once upon a time"}}
///     {"time":1764446430.0,"hparams":{"hidden":128}}
///     {"step":40,"time":1764446490.5,"ended":{"stage":"fit","status":"finished","metrics":{"val_loss":0.5},"message":""}}
///     {"time":1764446490.25,"file":"runs/model/version_0/checkpoints/last.safetensors"}
///
/// `step` and `epoch` are the axes of the curves; `epoch` is left out where it has no meaning. `time` is in seconds
/// since 1970. Numbers are the shortest that read back as the same double; what is not finite is "NaN", "Infinity" or
/// "-Infinity". Histograms and images are left out.
///
/// A file that exists is continued. Its last line is removed if it was cut short (a full disk, a power failure). Lines
/// are written whole; up to 64 KiB wait in memory until flush.
///
/// When the disk is full, or the file cannot be written for another reason, one warning is given and the run goes on:
/// up to 16 MiB of lines wait in memory and are written when that is possible again, later ones are lost.
///
/// Used from one thread.
class JsonLinesSink : public Sink {
 public:
  using Clock = std::function<double()>;

  /// Creates `folder` if it is missing. Throws UsageError with path and reason when it can not be written, or when
  /// metrics.jsonl exists and is something else. `clock` gives seconds since 1970.
  explicit JsonLinesSink(const std::filesystem::path& folder, SinkWarning warn = warn_on_stderr,
                         Clock clock = unix_seconds);
  ~JsonLinesSink() override;

  std::string name() const override { return "jsonl"; }
  void write(const Record& record) override;
  void flush() override;

  const std::filesystem::path& path() const { return file_.path(); }
  /// Records that were lost since the file could not be written.
  int64_t lost() const { return lost_; }

 private:
  bool is_full();
  void warn_once(const std::exception& failure);

  SinkWarning warn_;
  Clock clock_;
  AppendFile file_;
  std::string line_;
  bool has_warned_ = false;
  int64_t lost_ = 0;
};

}  // namespace troupe
