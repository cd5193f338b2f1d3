#include "troupe/runtime/sinks/trackio_sink.hpp"

#include "troupe/base/exception_text.hpp"
#include "troupe/base/number_json.hpp"
#include "troupe/base/random_id.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/sinks/json_line.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <string_view>
#include <utility>

namespace troupe {
namespace {

constexpr std::size_t kRowsAtOnce = 1000, kMostRows = 100'000, kMostBytes = std::size_t{64} << 20;

/// "2026-11-29T20:00:35.123456+00:00", as Python's isoformat writes it.
std::string iso_time(double seconds) {
  const double whole = std::floor(seconds);
  const auto time = static_cast<std::time_t>(whole);
  std::tm parts{};
  gmtime_r(&time, &parts);
  std::array<char, 32> date{};
  std::strftime(date.data(), date.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%s.%06d+00:00", date.data(),
                std::min(999'999, static_cast<int>((seconds - whole) * 1e6)));
  return text.data();
}

std::string first_not_empty(const std::string& first, const std::string& second, const char* third) {
  return !first.empty() ? first : !second.empty() ? second : third;
}

std::string trackio_name(const std::string& name) {
  constexpr std::array<std::string_view, 6> reserved{"project", "run", "timestamp", "step", "time", "metrics"};
  const bool is_reserved = name.starts_with("__") || std::ranges::find(reserved, name) != reserved.end();
  return is_reserved ? "__" + name : name;
}

/// {"trainer": {"max_epochs": 3}} as {"trainer.max_epochs": 3}; Trackio keeps keys that begin with _ for itself.
void add_flat(nlohmann::json& flat, const std::string& name, const nlohmann::json& value) {
  if (value.is_object()) {
    for (const auto& [key, inner] : value.items()) {
      add_flat(flat, (name.empty() ? "" : name + ".") + valid_utf8(key), inner);
    }
    return;
  }
  if (name.empty() || name.starts_with('_')) return;
  flat[name] = value.is_number_float() ? number_to_json(value.get<double>()) : value;
}

}  // namespace

TrackioSink::TrackioSink(const TrackioOptions& options, const RunCard& card, SinkWarning warn, Clock clock)
    : warn_(std::move(warn)),
      clock_(std::move(clock)),
      file_(trackio_folder(options.dir), first_not_empty(options.project, card.name, "default")),
      run_id_(card.id.empty() ? random_id() : card.id),
      run_name_(valid_utf8(first_not_empty(options.run_name, card.version, "run"))),
      config_(nlohmann::json::object()) {
  add_flat(config_, "", card.options);
  config_["_Username"] = nullptr;
  config_["_Created"] = iso_time(clock_());
  config_["_Group"] = nullptr;
  config_["status"] = name_of(RunStatus::running);
  try {
    file_.open(TrackioFile::Patience::none);
  } catch (const TrackioFileError& failure) {
    has_warned_ = true;
    warn_(std::string(failure.what()) + "; the run goes on, and its rows for Trackio wait in memory");
  }
}

TrackioSink::~TrackioSink() {
  (void)text_thrown_by([&] {
    send(TrackioFile::Patience::none);
    if (lost_ + static_cast<int64_t>(batch_.rows.size()) == 0) return;
    warn_(std::to_string(lost_ + static_cast<int64_t>(batch_.rows.size())) + " rows were not written to '" +
          path().string() + "'");
  });
}

void TrackioSink::write(const Record& record) {
  std::visit([&](const auto& held) { add(held); }, record);
}

void TrackioSink::add(const ScalarsRecord& record) {
  if (record.values.empty()) return;
  auto values = record.values;
  const bool has_epoch = std::ranges::any_of(values, [](const auto& value) { return value.first == "epoch"; });
  if (record.epoch >= 0 && !has_epoch) values.emplace_back("epoch", static_cast<double>(record.epoch));
  for (auto& [name, value] : values) name = trackio_name(name);
  std::string json;
  append_json_metrics(json, values);
  add_row(record.step, std::move(json));
}

void TrackioSink::add(const TextRecord& record) {
  std::string json = "{";
  append_json_text(json, trackio_name(record.tag));
  json += R"(:{"_type":"trackio.markdown","_value":)";
  append_json_text(json, record.text);
  json += "}}";
  add_row(record.step, std::move(json));
}

void TrackioSink::add(const HparamsRecord& record) {
  nlohmann::json flat = nlohmann::json::object();
  add_flat(flat, "model", record.hparams);
  for (auto& [name, value] : flat.items()) config_[name] = value;
  is_config_new_ = true;
}

void TrackioSink::add(const StageEndedRecord& record) {
  config_["status"] = name_of(record.status);
  config_["stage"] = to_string(record.stage);
  if (!record.message.empty()) config_["message"] = valid_utf8(record.message);
  is_config_new_ = true;
  if (record.status == RunStatus::failed) {
    batch_.alerts.push_back({iso_time(clock_()), std::string(to_string(record.stage)) + " failed",
                             valid_utf8(record.message), "error", record.step});
  }
  send(TrackioFile::Patience::long_);
}

void TrackioSink::add_row(int64_t step, std::string values) {
  bytes_ += values.size();
  batch_.rows.push_back({iso_time(clock_()), step, std::move(values)});
  if (batch_.rows.size() >= kRowsAtOnce && !is_stuck_) send(TrackioFile::Patience::none);
  if (batch_.rows.size() > kMostRows || bytes_ > kMostBytes) drop_oldest_rows();
}

// A tenth at once, since what is behind them moves.
void TrackioSink::drop_oldest_rows() {
  const auto count = std::max<std::size_t>(1, batch_.rows.size() / 10);
  const auto end = batch_.rows.begin() + static_cast<std::ptrdiff_t>(count);
  for (auto row = batch_.rows.begin(); row != end; ++row) bytes_ -= row->values.size();
  batch_.rows.erase(batch_.rows.begin(), end);
  lost_ += static_cast<int64_t>(count);
}

void TrackioSink::send(TrackioFile::Patience patience) {
  if (batch_.rows.empty() && batch_.alerts.empty() && !is_config_new_) return;
  if (is_config_new_) batch_.config = config_.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const std::string problem = text_thrown_by([&] { file_.write(batch_, run_id_, run_name_, patience); });
  is_stuck_ = !problem.empty();
  if (!is_stuck_) {
    batch_ = {};
    bytes_ = 0;
    is_config_new_ = false;
  } else if (!std::exchange(has_warned_, true)) {
    warn_(problem + "; the run goes on, and its rows for Trackio wait in memory");
  }
}

}  // namespace troupe
