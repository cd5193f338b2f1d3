// Records as an event file that TensorBoard shows: `tensorboard --logdir <folder>`.
#pragma once

#include "troupe/base/unix_seconds.hpp"
#include "troupe/modules/record.hpp"
#include "troupe/runtime/report/run_card.hpp"
#include "troupe/runtime/sinks/append_file.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace troupe {

/// Writes every kind of record to a file of its own, `events.out.tfevents.<seconds>.<host>.<pid>.0`, whose name stands
/// behind those that are there. TensorBoard joins the files of a folder in the order of their names; where a curve
/// comes back to a step that it had passed, its default data server shows what came last and drops the points from that
/// step on, so a run that goes on from an older checkpoint takes the place of what stood behind it, and nothing else is
/// lost.
///
/// Within one sink no curve comes back. In a stage a point that comes late (of a callback actor, say) is moved to the
/// last step of its tag. If a tag's steps begin anew in a later stage, they are counted on from its last one; a Trainer
/// keeps the sink over its stages.
///
/// Besides the records: the options of the run as the text `options`; a layout for the CUSTOM SCALARS tab, which has
/// the metrics of training and of evaluation that measure the same ("train_loss", "val_loss") on one chart; and for the
/// HPARAMS tab what became of the run. That tab takes the latest value of each scalar as a metric, and the first end
/// that it finds, which is therefore written when the run's files are complete, or the sink ends: a stage may still
/// fail when its end was told.
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
  /// The same, with the options of `card` and the content of `folder`'s config.toml, if there is one.
  TensorBoardSink(const std::filesystem::path& folder, const RunCard& card, Clock clock = unix_seconds);
  ~TensorBoardSink() override;

  std::string name() const override { return "tensorboard"; }
  void write(const Record& record) override;
  void flush() override;
  void files_are_complete() override;

  const std::filesystem::path& path() const { return file_.path(); }

 private:
  // Where the curve of a tag stands.
  struct Curve {
    int64_t last = 0;
    int64_t offset = 0;  // added to its steps
    int64_t stage = 0;   // in which they began anew
  };
  using Curves = std::unordered_map<std::string, Curve>;

  int64_t place(Curves& curves, const std::string& tag, int64_t step);
  bool has_late_epoch(const ScalarsRecord& record) const;
  bool stays_in_place(const ScalarsRecord& record);
  void write_moved(const ScalarsRecord& record);
  bool write_tagged(const Record& record);
  void end_stage(Stage stage, RunStatus status);
  void write_end();
  void write_layout();
  void append_events(const Record& record);
  void append_framed(const std::string& event);

  Clock clock_;
  AppendFile file_;
  Curves scalars_, others_;
  std::vector<int64_t> places_;       // of the record at hand
  int64_t stages_ = 0;                // that have ended
  std::vector<std::string> tags_;     // of scalars, in the order of their appearance
  std::size_t tags_in_layout_ = 0;    // how many of them the layout knew
  std::size_t curves_in_layout_ = 0;  // and how many of them are on charts
  int64_t layouts_ = 0;
  bool has_hparams_ = false, has_end_ = false;
  std::optional<RunStatus> end_;  // to be written
};

}  // namespace troupe
