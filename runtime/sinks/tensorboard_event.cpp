#include "troupe/runtime/sinks/tensorboard_event.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/sinks/histogram.hpp"
#include "troupe/runtime/sinks/png.hpp"

#include <protozero/pbf_writer.hpp>

#include <algorithm>
#include <cmath>
#include <string_view>

namespace troupe {
namespace {

using protozero::pbf_writer;

namespace event {
constexpr int kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5;
}
namespace summary {
constexpr int kValue = 1;
}
namespace value {
constexpr int kTag = 1, kSimpleValue = 2, kImage = 4, kHistogram = 5, kTensor = 8, kMetadata = 9;
}
namespace image {
constexpr int kHeight = 1, kWidth = 2, kColorspace = 3, kEncoded = 4;
}
namespace histogram {
constexpr int kMin = 1, kMax = 2, kNum = 3, kSum = 4, kSumSquares = 5, kBucketLimit = 6, kBucket = 7;
}
namespace tensor {
constexpr int kType = 1, kShape = 2, kStringValue = 8, kDtString = 7;
}
namespace hparams {
constexpr int kVersion = 1, kSessionStart = 3, kSessionEnd = 4;
constexpr int kStartHparams = 1, kStartTime = 5, kEntryKey = 1, kEntryValue = 2;
constexpr int kEndStatus = 1, kEndTime = 2;
constexpr int kUnknown = 0, kSuccess = 1, kFailure = 2, kRunning = 3;
constexpr int kNumberValue = 2, kStringValue = 3, kBoolValue = 4;
}  // namespace hparams
namespace layout {
constexpr int kCategory = 2, kCategoryTitle = 1, kCategoryChart = 2, kChartTitle = 1, kMultiline = 2, kTagPattern = 1;
}

/// An event with one Summary that `fill` writes the values of.
template <typename Fill>
std::string summary_event(double wall_time, int64_t step, Fill fill) {
  std::string data;
  pbf_writer event(data);
  event.add_double(event::kWallTime, wall_time);
  event.add_int64(event::kStep, step);
  pbf_writer summary(event, event::kSummary);
  fill(summary);
  return data;
}

void add_plugin(pbf_writer& value, std::string_view plugin, const std::string& content) {
  pbf_writer metadata(value, value::kMetadata);
  pbf_writer plugin_data(metadata, 1);
  plugin_data.add_string(1, plugin.data(), plugin.size());
  plugin_data.add_bytes(2, content);
}

std::vector<std::string> encode(const ScalarsRecord& record, double wall_time) {
  auto values = record.values;
  bool has_epoch = std::ranges::any_of(values, [](const auto& entry) { return entry.first == "epoch"; });
  if (record.epoch >= 0 && !has_epoch) values.emplace_back("epoch", static_cast<double>(record.epoch));
  if (record.values.empty()) return {};
  return {summary_event(wall_time, record.step, [&](pbf_writer& summary) {
    for (const auto& [name, number] : values) {
      pbf_writer value(summary, summary::kValue);
      value.add_string(value::kTag, valid_utf8(name));
      value.add_float(value::kSimpleValue, static_cast<float>(number));
    }
  })};
}

std::vector<std::string> encode(const HistogramRecord& record, double wall_time) {
  Histogram counts = make_histogram(record.values);
  return {summary_event(wall_time, record.step, [&](pbf_writer& summary) {
    pbf_writer value(summary, summary::kValue);
    value.add_string(value::kTag, valid_utf8(record.tag));
    pbf_writer message(value, value::kHistogram);
    message.add_double(histogram::kMin, counts.min);
    message.add_double(histogram::kMax, counts.max);
    message.add_double(histogram::kNum, counts.count);
    message.add_double(histogram::kSum, counts.sum);
    message.add_double(histogram::kSumSquares, counts.sum_squares);
    message.add_packed_double(histogram::kBucketLimit, counts.bucket_limit.begin(), counts.bucket_limit.end());
    message.add_packed_double(histogram::kBucket, counts.bucket.begin(), counts.bucket.end());
  })};
}

std::vector<std::string> encode(const ImageRecord& record, double wall_time) {
  std::string png = encode_png(record.image);
  return {summary_event(wall_time, record.step, [&](pbf_writer& summary) {
    pbf_writer value(summary, summary::kValue);
    value.add_string(value::kTag, valid_utf8(record.tag));
    pbf_writer message(value, value::kImage);
    message.add_int32(image::kHeight, static_cast<int32_t>(record.image.size(1)));
    message.add_int32(image::kWidth, static_cast<int32_t>(record.image.size(2)));
    message.add_int32(image::kColorspace, static_cast<int32_t>(record.image.size(0)));
    message.add_bytes(image::kEncoded, png);
  })};
}

/// A string for a plugin; `is_list`: as a tensor of shape [1], else of shape [].
std::string string_event(double wall_time, int64_t step, const std::string& tag, std::string_view plugin,
                         const std::string& text, bool is_list) {
  return summary_event(wall_time, step, [&](pbf_writer& summary) {
    pbf_writer value(summary, summary::kValue);
    value.add_string(value::kTag, tag);
    add_plugin(value, plugin, "");
    pbf_writer message(value, value::kTensor);
    message.add_enum(tensor::kType, tensor::kDtString);
    {
      pbf_writer shape(message, tensor::kShape);
      if (is_list) {
        pbf_writer dimension(shape, 2);
        dimension.add_int64(1, 1);
      }
    }
    message.add_bytes(tensor::kStringValue, text);
  });
}

std::vector<std::string> encode(const TextRecord& record, double wall_time) {
  return {string_event(wall_time, record.step, valid_utf8(record.tag) + "/text_summary", "text",
                       valid_utf8(record.text), true)};
}

struct Hparam {
  std::string name;
  nlohmann::json value;  ///< a string, a boolean or a finite number
};

/// JSON has no NaN, and TensorBoard turns hyper-parameters into JSON: what is not finite is written as text.
nlohmann::json to_leaf(const nlohmann::json& value) {
  if (value.is_string()) return valid_utf8(value.get<std::string>());
  if (value.is_boolean()) return value;
  if (value.is_number()) {
    auto number = value.get<double>();
    if (std::isfinite(number)) return number;
    return std::isnan(number) ? "nan" : number > 0 ? "inf" : "-inf";
  }
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void flatten(const nlohmann::json& value, const std::string& name, std::vector<Hparam>& out) {
  if (!value.is_object()) {
    out.push_back({name.empty() ? "hparams" : name, to_leaf(value)});
    return;
  }
  for (const auto& [key, inner] : value.items()) {
    flatten(inner, (name.empty() ? "" : name + "/") + valid_utf8(key), out);
  }
}

std::string session_start(const std::vector<Hparam>& params, double wall_time) {
  std::string data;
  pbf_writer plugin(data);
  plugin.add_int32(hparams::kVersion, 0);
  pbf_writer message(plugin, hparams::kSessionStart);
  for (const auto& [name, value] : params) {
    pbf_writer entry(message, hparams::kStartHparams);
    entry.add_string(hparams::kEntryKey, name);
    pbf_writer content(entry, hparams::kEntryValue);
    if (value.is_string()) {
      content.add_string(hparams::kStringValue, value.get<std::string>());
    } else if (value.is_boolean()) {
      content.add_bool(hparams::kBoolValue, value.get<bool>());
    } else {
      content.add_double(hparams::kNumberValue, value.get<double>());
    }
  }
  message.add_double(hparams::kStartTime, wall_time);
  return data;
}

int session_status(RunStatus status) {
  switch (status) {
    case RunStatus::running: return hparams::kRunning;
    case RunStatus::finished: return hparams::kSuccess;
    case RunStatus::failed: return hparams::kFailure;
    case RunStatus::interrupted: break;
  }
  return hparams::kUnknown;
}

std::string hparams_event(double wall_time, std::string_view tag, const std::string& content) {
  return summary_event(wall_time, 0, [&](pbf_writer& summary) {
    pbf_writer value(summary, summary::kValue);
    value.add_string(value::kTag, tag.data(), tag.size());
    add_plugin(value, "hparams", content);
  });
}

std::vector<std::string> encode(const HparamsRecord& record, double wall_time) {
  if (record.hparams.is_null()) return {};
  std::vector<Hparam> params;
  flatten(record.hparams, "", params);
  if (params.empty()) return {};
  // Without an experiment record, whose lists would hold for every run in the folder, TensorBoard takes the parameters
  // and the metrics from the runs themselves.
  return {hparams_event(wall_time, "_hparams_/session_start_info", session_start(params, wall_time))};
}

// The end of a stage is the sink's; files and calls are not TensorBoard's.
template <class Other>
std::vector<std::string> encode(const Other&, double) {
  return {};
}

/// A regular expression of Python's for `name` alone.
std::string exactly(const std::string& name) {
  std::string pattern = "^";
  for (const char c : name) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                          static_cast<unsigned char>(c) >= 0x80;
    if (!is_plain) pattern += '\\';
    pattern += c;
  }
  return pattern + "$";
}

std::string tag_of(const Record& record) {
  return std::visit(
      [](const auto& held) -> std::string {
        if constexpr (requires { held.tag; }) return held.tag;
        return "";
      },
      record);
}

}  // namespace

std::string version_event(double wall_time) {
  std::string data;
  pbf_writer event(data);
  event.add_double(event::kWallTime, wall_time);
  event.add_string(event::kFileVersion, "brain.Event:2");
  return data;
}

std::vector<std::string> to_events(const Record& record, double wall_time) {
  try {
    return std::visit([&](const auto& held) { return encode(held, wall_time); }, record);
  } catch (const UsageError& error) {
    throw UsageError("cannot log '" + tag_of(record) + "': " + error.what());
  }
}

std::string session_end_event(double wall_time, RunStatus status) {
  std::string data;
  {
    pbf_writer plugin(data);
    plugin.add_int32(hparams::kVersion, 0);
    pbf_writer message(plugin, hparams::kSessionEnd);
    message.add_enum(hparams::kEndStatus, session_status(status));
    message.add_double(hparams::kEndTime, wall_time);
  }
  return hparams_event(wall_time, "_hparams_/session_end_info", data);
}

std::string layout_event(double wall_time, int64_t step, const std::vector<MetricChart>& charts) {
  std::string data;
  {
    pbf_writer page(data);
    pbf_writer category(page, layout::kCategory);
    category.add_string(layout::kCategoryTitle, "training and evaluation");
    for (const auto& chart : charts) {
      pbf_writer message(category, layout::kCategoryChart);
      message.add_string(layout::kChartTitle, valid_utf8(chart.title));
      pbf_writer curves(message, layout::kMultiline);
      for (const auto& name : chart.names) curves.add_string(layout::kTagPattern, exactly(valid_utf8(name)));
    }
  }
  return string_event(wall_time, step, "custom_scalars__config__", "custom_scalars", data, false);
}

}  // namespace troupe
