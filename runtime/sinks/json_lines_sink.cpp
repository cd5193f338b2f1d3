#include "troupe/runtime/sinks/json_lines_sink.hpp"

#include "troupe/base/exception_text.hpp"
#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/sinks/json_line.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <string_view>
#include <utility>

namespace troupe {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostBytesWaiting = std::size_t{16} << 20;
// A last line above it was not ours, or holds a text that nobody misses.
constexpr std::uintmax_t kLongestLastLine = std::uintmax_t{16} << 20;
constexpr std::array<std::string_view, 2> kBeginnings{R"({"step":)", R"({"time":)"};

// How each kind of record begins; `line` is empty before.

void append_integer(std::string& line, int64_t value) {
  std::array<char, 24> text;
  line.append(text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr);
}

// Not 1.7e+09.
void append_time(std::string& line, double seconds) {
  std::array<char, 64> text;
  const auto end = std::to_chars(text.data(), text.data() + text.size(), seconds, std::chars_format::fixed, 6).ptr;
  line += R"("time":)";
  line.append(text.data(), end);
}

void begin_line(std::string& line, int64_t step, double time) {
  line += kBeginnings[0];
  append_integer(line, step);
  line += ',';
  append_time(line, time);
}

void begin_line(std::string& line, double time) {
  line += '{';
  append_time(line, time);
}

void append_line(std::string& line, const ScalarsRecord& record, double time) {
  if (record.values.empty()) return;
  line += kBeginnings[0];
  append_integer(line, record.step);
  if (record.epoch >= 0) {
    line += R"(,"epoch":)";
    append_integer(line, record.epoch);
  }
  line += ',';
  append_time(line, time);
  line += R"(,"values":)";
  append_json_metrics(line, record.values);
  line += "}\n";
}

void append_line(std::string& line, const TextRecord& record, double time) {
  begin_line(line, record.step, time);
  line += R"(,"text":{)";
  append_json_text(line, record.tag);
  line += ':';
  append_json_text(line, record.text);
  line += "}}\n";
}

void append_line(std::string& line, const HparamsRecord& record, double time) {
  if (record.hparams.is_null()) return;
  begin_line(line, time);
  line += R"(,"hparams":)";
  line += record.hparams.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  line += "}\n";
}

void append_line(std::string& line, const StageEndedRecord& record, double time) {
  begin_line(line, record.step, time);
  line += R"(,"ended":{"stage":)";
  append_json_text(line, to_string(record.stage));
  line += R"(,"status":)";
  append_json_text(line, name_of(record.status));
  line += R"(,"metrics":)";
  append_json_metrics(line, {record.metrics.begin(), record.metrics.end()});
  line += R"(,"message":)";
  append_json_text(line, record.message);
  line += "}}\n";
}

void append_line(std::string& line, const FileRecord& record, double time) {
  begin_line(line, time);
  line += R"(,"file":)";
  append_json_text(line, record.path.string());
  line += "}\n";
}

// Histograms, images, and whatever else there will be.
template <class Other>
void append_line(std::string&, const Other&, double) {}

bool begins_as_ours(std::string_view text) {
  return std::ranges::any_of(kBeginnings, [&](std::string_view beginning) {
    const auto length = std::min(text.size(), beginning.size());
    return text.substr(0, length) == beginning.substr(0, length);
  });
}

std::string read_range(std::ifstream& file, std::uintmax_t from, std::uintmax_t to) {
  std::string text(to - from, '\0');
  file.seekg(static_cast<std::streamoff>(from));
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  file.clear();
  return text;
}

/// Behind the last line end of the `size` bytes of `file`; 0: it has none.
std::uintmax_t begin_of_last_line(std::ifstream& file, std::uintmax_t size) {
  constexpr std::uintmax_t block = 64 * 1024;
  while (size > 0) {
    const auto from = size > block ? size - block : 0;
    const auto found = read_range(file, from, size).rfind('\n');
    if (found != std::string::npos) return from + found + 1;
    size = from;
  }
  return 0;
}

/// Makes the file at `path` end with a whole line. Throws UsageError if it is none of ours.
void repair_json_lines(const fs::path& path) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  if (error || size == 0 || !fs::is_regular_file(path)) return;
  std::ifstream file(path, std::ios::binary);
  if (!file) throw UsageError("cannot read '" + path.string() + "'");
  const auto beginning = read_range(file, 0, std::min<std::uintmax_t>(size, 60));
  if (!begins_as_ours(beginning)) {
    throw UsageError("'" + path.string() + "' does not hold a run's metrics: it begins with '" +
                     shown(beginning.substr(0, beginning.find('\n'))) +
                     R"(', expected '{"step":' or '{"time":'; move it away or choose another folder)");
  }
  if (read_range(file, size - 1, size) == "\n") return;
  const auto last_line = begin_of_last_line(file, size);
  const bool is_whole =
      size - last_line <= kLongestLastLine && nlohmann::json::accept(read_range(file, last_line, size));
  if (is_whole) {
    AppendFile(path, AppendFile::Existing::keep).append("\n");
  } else {
    fs::resize_file(path, last_line);
  }
}

AppendFile open_json_lines(const fs::path& folder) {
  create_output_folder(folder);
  const auto path = folder / "metrics.jsonl";
  repair_json_lines(path);
  return {path, AppendFile::Existing::keep};
}

}  // namespace

JsonLinesSink::JsonLinesSink(const fs::path& folder, SinkWarning warn, Clock clock)
    : warn_(std::move(warn)), clock_(std::move(clock)), file_(open_json_lines(folder)) {}

JsonLinesSink::~JsonLinesSink() {
  (void)text_thrown_by([&] { file_.flush(); });
  lost_ += file_.buffered_lines();
  if (lost_ == 0) return;
  (void)text_thrown_by(
      [&] { warn_(std::to_string(lost_) + " records were not written to '" + path().string() + "'"); });
}

void JsonLinesSink::write(const Record& record) {
  line_.clear();
  std::visit([&](const auto& held) { append_line(line_, held, clock_()); }, record);
  if (line_.empty()) return;
  if (is_full()) {
    ++lost_;
    return;
  }
  try {
    file_.append(line_);
  } catch (const std::exception& failure) {
    warn_once(failure);
  }
}

void JsonLinesSink::flush() {
  try {
    file_.flush();
  } catch (const std::exception& failure) {
    warn_once(failure);
  }
}

bool JsonLinesSink::is_full() {
  return file_.buffered() > kMostBytesWaiting;
}

void JsonLinesSink::warn_once(const std::exception& failure) {
  if (std::exchange(has_warned_, true)) return;
  warn_(std::string(failure.what()) + "; the run goes on, and its metrics wait in memory");
}

}  // namespace troupe
