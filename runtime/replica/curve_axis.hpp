// Where the curves of a run's folder stand.
#pragma once

#include "troupe/modules/progress.hpp"
#include "troupe/modules/record.hpp"
#include "troupe/modules/stage.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace troupe {

/// The stages of one Trainer write into one folder, one after the other, and TensorBoard's data server forgets what it
/// has of a curve from a step on at which the curve begins anew. So no stage may begin before the place at which the
/// one before has ended: an evaluation by itself is logged where the last fit has ended, and a further fit, which
/// counts its epochs and steps from zero (or from its checkpoint), is written behind that fit. A run that goes on
/// exactly where the last one has ended is written as it is.
///
/// Values that an evaluation logs with on_step have an axis of their own, the batches of that stage so far, which goes
/// on over evaluations and resumed runs.
///
/// A value: the Trainer hands it from stage to stage, and a replica keeps it during one. Used from one thread.
class CurveAxis {
 public:
  /// A fit begins at `at`, that of its checkpoint or zero.
  void begin_fit(const Progress& at);
  /// A fit has ended at `at`, well or not. Does nothing if none has begun.
  void end_fit(const Progress& at);
  /// The fit that has ended runs again from an earlier place of its own, as if it had not been any further.
  /// `has_written`: what this axis has placed stands in the folder, and is not written again; else somebody else has
  /// written, and how far is not known.
  void go_back(bool has_written);
  /// Where the last fit has ended, as it counted itself.
  const Progress& fitted() const { return fitted_; }

  /// Metrics of the running stage, at their place in the folder. False: they stand there already.
  bool place(ScalarsRecord& record);
  /// The same of what user code gives to the sinks: no place of other records depends on its steps.
  void place(Record& record) const;
  /// The place of values that the next batch of an evaluation logs with on_step.
  int64_t next_batch(Stage stage) { return batches_[index(stage)]++; }
  /// Batches of `stage` so far.
  int64_t batches(Stage stage) const { return batches_[index(stage)]; }
  /// What a checkpoint says: the axis goes on there, unless it is further already.
  void skip_batches(Stage stage, int64_t count);

 private:
  static std::size_t index(Stage stage) { return static_cast<std::size_t>(stage); }

  Progress fitted_;
  bool is_fitting_ = false;
  bool goes_back_ = false;
  int64_t written_ = -1;  // steps before it are in the folder
  Progress offset_;       // added to what the latest fit counts: epoch, global_step and log_step
  int64_t last_ = 0;      // the greatest step of metrics so far
  int64_t floor_ = 0;     // the same when the fit began
  std::array<int64_t, 4> batches_{};
};

}  // namespace troupe
