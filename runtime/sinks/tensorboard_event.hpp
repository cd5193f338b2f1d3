// Records as the protobuf messages that TensorBoard reads (tensorflow.Event, without the TFRecord frame).
//
// Field numbers: https://github.com/tensorflow/tensorboard/tree/master/tensorboard/compat/proto (event, summary,
// tensor) and .../plugins/hparams (plugin_data, api), .../plugins/custom_scalar (layout).
#pragma once

#include "troupe/modules/record.hpp"
#include "troupe/runtime/sinks/metric_charts.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace troupe {

/// The event every file begins with.
std::string version_event(double wall_time);

/// The events of `record`, in the order to write; none for a record without content. Names that are not valid UTF-8
/// are repaired. Throws UsageError naming the tag of an image or histogram that can not be shown.
///
/// Scalars are 32-bit floats; `epoch` becomes a scalar of its own, as in Lightning. Text gets the tag
/// `<tag>/text_summary`. Nested hyper-parameters are flattened: {"optim": {"lr": 0.1}} gives "optim/lr"; lists and null
/// become JSON text.
std::vector<std::string> to_events(const Record& record, double wall_time);

/// What became of the run that hyper-parameters were written of: the status in TensorBoard's HPARAMS tab. TensorBoard
/// keeps the first of a folder.
std::string session_end_event(double wall_time, RunStatus status);

/// The CUSTOM SCALARS tab: each of `charts` with its curves together. TensorBoard shows the layout of the largest step.
std::string layout_event(double wall_time, int64_t step, const std::vector<MetricChart>& charts);

}  // namespace troupe
