// What sinks get from the logger: values that own their data, so that a sink may keep them.
#pragma once

#include "troupe/modules/options/choices.hpp"
#include "troupe/modules/progress.hpp"
#include "troupe/modules/stage.hpp"

#include <torch/types.h>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace troupe {

/// Metrics of one moment. `epoch` is -1 if it has no meaning.
struct ScalarsRecord {
  int64_t step = 0;
  int64_t epoch = -1;
  std::vector<std::pair<std::string, double>> values;
};

/// A distribution: `values` of any shape, on the CPU.
struct HistogramRecord {
  int64_t step = 0;
  std::string tag;
  torch::Tensor values;
};

/// An image: [C, H, W] with C 1, 3 or 4, uint8 in 0..255 or floating in 0..1, on the CPU.
struct ImageRecord {
  int64_t step = 0;
  std::string tag;
  torch::Tensor image;
};

/// Markdown text.
struct TextRecord {
  int64_t step = 0;
  std::string tag;
  std::string text;
};

/// Hyper-parameters of the run, once at its start.
struct HparamsRecord {
  nlohmann::json hparams;
};

/// What became of a run.
enum class RunStatus {
  running,
  finished,
  interrupted,  ///< a signal has ended it
  failed,
};
TROUPE_CHOICES(RunStatus, {running, "running"}, {finished, "finished"}, {interrupted, "interrupted"},
               {failed, "failed"})

/// The model's layers, before training; the callback ModelSummary hands it on.
struct ModelRecord {
  struct Layer {
    std::string name, type, in, out;  ///< shapes as "[32, 784]", empty if they could not be seen
    int64_t parameters = 0;
  };
  std::vector<Layer> layers;
  int64_t parameters = 0, trainable_parameters = 0;
};

/// The end of a stage, its last record. If the stage fails after that (another rank at its very end, a monitor, another
/// sink), one more, which is then what became of it.
struct StageEndedRecord {
  Stage stage = Stage::fit;
  RunStatus status = RunStatus::finished;
  int64_t step = 0;     ///< the axis of metrics
  MetricMap metrics;    ///< the latest ones; of an evaluation its own
  std::string message;  ///< of the failure, or why it ended early
};

/// A file of the run that is complete: a checkpoint.
struct FileRecord {
  std::filesystem::path path;
};

class Sink;

/// Something to be done with each sink itself, on the logger's thread.
struct SinkCall {
  std::function<void(Sink&)> call;
};

using Record = std::variant<ScalarsRecord, HistogramRecord, ImageRecord, TextRecord, HparamsRecord, ModelRecord,
                            StageEndedRecord, FileRecord, SinkCall>;

/// A destination of records (a file, a service). Used from the logger's thread only, files_are_complete excepted, and
/// the end of a stage that fails when the logger has come to its end. What a sink throws is reported and ends the run
/// as a failure in "logger".
class Sink {
 public:
  virtual ~Sink() = default;
  virtual std::string name() const = 0;
  /// Never gets a SinkCall: the logger carries those out.
  virtual void write(const Record& record) = 0;
  /// Makes everything written so far visible to readers.
  virtual void flush() = 0;
  /// The files of the run (run.json, report.html, failure.json, checkpoints) are as the stage leaves them. Behind the
  /// last flush of each stage, on the thread that called the Trainer; not for a sink that has thrown, nor if threads
  /// of the run were left behind. What it throws is a warning. For sinks that send these files somewhere.
  virtual void files_are_complete() {}
};

}  // namespace troupe
