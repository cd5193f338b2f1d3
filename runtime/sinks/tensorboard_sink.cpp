#include "troupe/runtime/sinks/tensorboard_sink.hpp"

#include "troupe/base/exception_text.hpp"
#include "troupe/base/host_name.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/file_system.hpp"
#include "troupe/runtime/sinks/crc32c.hpp"
#include "troupe/runtime/sinks/tensorboard_event.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <string_view>
#include <system_error>
#include <utility>

namespace troupe {
namespace {

namespace fs = std::filesystem;

// Ten digits, as the seconds of now have until 2286: names in the order of text.
constexpr int64_t last_ten_digit_second = 9'999'999'998;
constexpr std::string_view event_file_prefix = "events.out.tfevents.";

// The seconds in the name of the folder's newest event file; -1: it has none.
int64_t newest_seconds(const fs::path& folder) {
  int64_t newest = -1;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(event_file_prefix)) continue;
    int64_t seconds = 0;
    const auto [end, failed] =
        std::from_chars(name.data() + event_file_prefix.size(), name.data() + name.size(), seconds);
    const bool is_ours = failed == std::errc() && end < name.data() + name.size() && *end == '.';
    if (is_ours && seconds < last_ten_digit_second) newest = std::max(newest, seconds);
  }
  return newest;
}

// TensorBoard reads the files of a folder in the order of their names, as text, so the new one must stand behind those
// that are there: within one second, and when the clock was set back, too.
AppendFile open_file(const fs::path& folder, double now) {
  create_output_folder(folder);
  const int64_t seconds = std::max(static_cast<int64_t>(now), newest_seconds(folder) + 1);
  const auto name = std::string(event_file_prefix) + std::to_string(seconds) + "." + host_name() + "." +
                    std::to_string(getpid()) + ".0";
  return {folder / name, AppendFile::Existing::refuse};
}

constexpr std::uintmax_t kLongestConfig = 64 * 1024;

/// A cell of a Markdown table, as code: | within it parts no cells.
std::string table_cell(const std::string& text) {
  std::string cell = single_line(text);
  std::ranges::replace(cell, '`', '\'');
  return "`" + cell + "`";
}

/// Options that are not as they would be if nothing was given: {"trainer.max_epochs": {"3", "1000"}}.
void add_differing(const nlohmann::json& value, const nlohmann::json& usual, const std::string& name,
                   std::vector<std::array<std::string, 3>>& rows) {
  if (value.is_object()) {
    for (const auto& [key, inner] : value.items()) {
      const bool is_known = usual.is_object() && usual.contains(key);
      add_differing(inner, is_known ? usual[key] : nlohmann::json(), (name.empty() ? "" : name + ".") + key, rows);
    }
  } else if (value != usual) {
    const auto text = [](const nlohmann::json& json) {
      return json.is_null() ? "" : json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    };
    rows.push_back({name, text(value), text(usual)});
  }
}

std::string small_file_content(const fs::path& path) try {
  const InputFile file(path);
  return file.size() > kLongestConfig ? "" : file.read_all();
} catch (const FileError&) {
  return "";
}

/// Markdown: what differs from the defaults as a table, then the whole configuration.
std::string options_text(const RunCard& card, const fs::path& config) {
  std::vector<std::array<std::string, 3>> rows;
  add_differing(card.options, card.defaults, "", rows);
  std::string text;
  if (!rows.empty()) text = "| option | value | default |\n|---|---|---|\n";
  for (const auto& [name, value, usual] : rows) {
    text +=
        "| " + table_cell(name) + " | " + table_cell(value) + " | " + (usual.empty() ? "" : table_cell(usual)) + " |\n";
  }
  const auto content = small_file_content(config);
  if (content.empty()) return text;
  std::string fence = "```";
  while (content.find(fence) != std::string::npos) fence += '`';
  return text + (text.empty() ? "" : "\n") + fence + "toml\n" + content + (content.ends_with('\n') ? "" : "\n") +
         fence + "\n";
}

template <typename Integer>
std::string little_endian(Integer value) {
  std::string out;
  for (std::size_t i = 0; i < sizeof value; ++i) out += static_cast<char>(value >> (8 * i) & 0xFF);
  return out;
}

}  // namespace

TensorBoardSink::TensorBoardSink(const fs::path& folder, Clock clock)
    : clock_(std::move(clock)), file_(open_file(folder, clock_())) {
  append_framed(version_event(clock_()));
  flush();
}

TensorBoardSink::TensorBoardSink(const fs::path& folder, const RunCard& card, Clock clock)
    : TensorBoardSink(folder, std::move(clock)) {
  auto text = options_text(card, folder / "config.toml");
  if (!text.empty()) write(TextRecord{0, "options", std::move(text)});
}

TensorBoardSink::~TensorBoardSink() {
  // An evaluation that went well says nothing of a fit after it: the status waits until here.
  if (stages_ == 0 || !has_hparams_ || has_end_) return;
  if (!end_) end_ = RunStatus::finished;
  (void)text_thrown_by([&] { write_end(); });
}

void TensorBoardSink::write(const Record& record) {
  if (const auto* scalars = std::get_if<ScalarsRecord>(&record)) {
    if (has_late_epoch(*scalars)) return write(ScalarsRecord{scalars->step, /*epoch=*/-1, scalars->values});
    if (!stays_in_place(*scalars)) return write_moved(*scalars);
  } else if (const auto* ended = std::get_if<StageEndedRecord>(&record)) {
    end_stage(ended->stage, ended->status);
  } else if (const auto* hparams = std::get_if<HparamsRecord>(&record)) {
    if (has_hparams_) return;  // TensorBoard keeps the first
    has_hparams_ = !hparams->hparams.empty();
  } else if (write_tagged(record)) {
    return;
  }
  append_events(record);
}

// A histogram, an image or a text.
bool TensorBoardSink::write_tagged(const Record& record) {
  return std::visit(
      [&]<class Held>(const Held& held) {
        if constexpr (requires { held.tag; }) {
          const int64_t step = place(others_, held.tag, held.step);
          if (step == held.step) return false;
          Held moved = held;
          moved.step = step;
          append_events(std::move(moved));
          return true;
        }
        return false;
      },
      record);
}

void TensorBoardSink::flush() {
  if (end_ == RunStatus::failed) write_end();  // nothing changes that
  write_layout();
  file_.flush();
}

void TensorBoardSink::files_are_complete() {
  write_end();
  flush();
}

int64_t TensorBoardSink::place(Curves& curves, const std::string& tag, int64_t step) {
  const auto [found, is_new] = curves.try_emplace(tag, Curve{step, 0, stages_});
  if (is_new) {
    if (&curves == &scalars_) tags_.push_back(tag);
    return step;
  }
  auto& curve = found->second;
  // The records of a stage may still come when it has ended (a callback actor's): it is a step back that tells that a
  // later stage counts anew.
  if (curve.stage != stages_) {
    if (step >= curve.last) {
      curve.offset = 0;
    } else if (step + curve.offset < curve.last) {
      curve.offset = curve.last + 1 - step;
      curve.stage = stages_;
    }
  }
  curve.last = std::max(curve.last, step + curve.offset);
  return curve.last;
}

// At a step that the epoch's curve has passed in this stage, as of a validation beside the training: moved to the
// latest step it would be wrong there.
bool TensorBoardSink::has_late_epoch(const ScalarsRecord& record) const {
  if (record.epoch < 0) return false;
  const auto found = scalars_.find("epoch");
  if (found == scalars_.end()) return false;
  const Curve& curve = found->second;
  return curve.stage == stages_ && record.step + curve.offset < curve.last;
}

// Finds the places of a record's values, the epoch's last.
bool TensorBoardSink::stays_in_place(const ScalarsRecord& record) {
  static const std::string epoch = "epoch";
  places_.clear();
  bool has_epoch = record.epoch < 0;
  for (const auto& [name, value] : record.values) {
    places_.push_back(place(scalars_, name, record.step));
    has_epoch = has_epoch || name == epoch;
  }
  if (!has_epoch && !record.values.empty()) places_.push_back(place(scalars_, epoch, record.step));
  return std::ranges::all_of(places_, [&](int64_t at) { return at == record.step; });
}

void TensorBoardSink::write_moved(const ScalarsRecord& record) {
  std::map<int64_t, ScalarsRecord> moved;
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const bool is_epoch = i == record.values.size();
    auto& there = moved.try_emplace(places_[i], ScalarsRecord{places_[i], -1, {}}).first->second;
    there.values.push_back(is_epoch ? std::pair{std::string("epoch"), static_cast<double>(record.epoch)}
                                    : record.values[i]);
  }
  for (auto& [step, values] : moved) append_events(std::move(values));
}

void TensorBoardSink::end_stage(Stage stage, RunStatus status) {
  ++stages_;
  const bool is_last_word = stage == Stage::fit || status != RunStatus::finished;
  if (!has_hparams_ || has_end_ || !is_last_word) return;
  if (!end_ || *end_ == RunStatus::finished) end_ = status;
}

// What became of the run, once.
void TensorBoardSink::write_end() {
  if (!end_) return;
  has_end_ = true;
  append_framed(session_end_event(clock_(), *std::exchange(end_, std::nullopt)));
}

// A new one once more curves than before have a chart.
void TensorBoardSink::write_layout() {
  if (tags_in_layout_ == tags_.size()) return;
  tags_in_layout_ = tags_.size();
  const auto charts = charts_over_stages(tags_);
  std::size_t curves = 0;
  for (const auto& chart : charts) curves += chart.names.size();
  if (curves == std::exchange(curves_in_layout_, curves)) return;
  append_framed(layout_event(clock_(), layouts_++, charts));
}

void TensorBoardSink::append_events(const Record& record) {
  for (const std::string& event : to_events(record, clock_())) append_framed(event);
}

void TensorBoardSink::append_framed(const std::string& event) {
  std::string length = little_endian<uint64_t>(event.size());
  file_.append(length + little_endian(masked_crc32c(length)) + event + little_endian(masked_crc32c(event)));
}

}  // namespace troupe
