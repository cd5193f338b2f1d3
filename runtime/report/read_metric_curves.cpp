#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/report/metric_curves.hpp"
#include "troupe/runtime/report/metric_row.hpp"
#include "troupe/runtime/sinks/csv_line.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <optional>

namespace troupe {

namespace {

constexpr std::size_t kLongestLine = std::size_t{16} << 20;
constexpr std::size_t kMostMetrics = 10'000;

/// The lines of a file, of which no more than one is in memory.
class MetricLines {
 public:
  explicit MetricLines(std::filesystem::path path) : path_(std::move(path)), file_(path_, std::ios::binary) {
    if (!file_) throw UsageError("cannot read " + path_.string() + ": " + std::strerror(errno));
  }

  /// The next one, with its line end if it has one; nothing after the last. Stays until the next call.
  std::optional<std::string_view> next() {
    while (true) {
      const auto end = buffer_.find('\n', searched_);
      if (end != std::string::npos) return taken(end + 1);
      searched_ = buffer_.size();
      if (buffer_.size() - begin_ > kLongestLine) {
        throw UsageError(path_.string() + " is no table of metrics: line " + std::to_string(number_ + 1) +
                         " is longer than 16 MiB");
      }
      if (!fill()) break;
    }
    if (begin_ == buffer_.size()) return std::nullopt;
    return taken(buffer_.size());
  }

  const std::filesystem::path& path() const { return path_; }

 private:
  std::string_view taken(std::size_t end) {
    const auto line = std::string_view(buffer_).substr(begin_, end - begin_);
    begin_ = searched_ = end;
    ++number_;
    return line;
  }

  bool fill() {
    buffer_.erase(0, begin_);
    searched_ -= begin_;
    begin_ = 0;
    constexpr std::size_t block = std::size_t{1} << 18;
    const auto before = buffer_.size();
    buffer_.resize(before + block);
    file_.read(buffer_.data() + before, block);
    const auto got = static_cast<std::size_t>(file_.gcount());
    buffer_.resize(before + got);
    if (file_.bad()) throw UsageError("cannot read " + path_.string());
    return got > 0;
  }

  std::filesystem::path path_;
  std::ifstream file_;
  std::string buffer_;
  std::size_t begin_ = 0, searched_ = 0;
  int64_t number_ = 0;
};

[[noreturn]] void refuse_metrics(const std::filesystem::path& path, const std::string& why) {
  throw UsageError(path.string() + " is no table of metrics: " + why);
}

/// The curves by name, found at once for names that come in the order of the row before.
class CurvesByName {
 public:
  CurvesByName(MetricCurves& curves, const std::filesystem::path& path) : curves_(curves), path_(path) {}

  MetricCurve& at(std::size_t position, std::string_view name) {
    if (position < latest_.size() && latest_[position]->first == name) return latest_[position]->second;
    auto& entry = found(name);
    if (position < latest_.size()) {
      latest_[position] = &entry;
    } else {
      latest_.push_back(&entry);
    }
    return entry.second;
  }

 private:
  using Entry = std::pair<const std::string, MetricCurve>;

  Entry& found(std::string_view name) {
    const auto old = curves_.curves.find(name);
    if (old != curves_.curves.end()) return *old;
    if (curves_.curves.size() == kMostMetrics) refuse_metrics(path_, "it has more than 10,000 metrics");
    return *curves_.curves.emplace(std::string(name), MetricCurve()).first;
  }

  MetricCurves& curves_;
  const std::filesystem::path& path_;
  std::vector<Entry*> latest_;
};

MetricCurves read_json_lines(const std::filesystem::path& path) {
  MetricCurves out;
  MetricLines lines(path);
  CurvesByName curves(out, lines.path());
  MetricRow row;
  std::string first_wrong;
  bool any = false;
  while (const auto line = lines.next()) {
    if (!line->ends_with('\n') || !row.parse(*line)) {
      if (out.damaged_rows++ == 0 && line->ends_with('\n')) first_wrong = shown(line->substr(0, line->size() - 1));
      continue;
    }
    any = true;
    for (std::size_t i = 0; i < row.size(); ++i) {
      curves.at(i, row.name(i)).add({row.step, row.epoch, row.value(i), row.time});
    }
  }
  if (!any && !first_wrong.empty()) refuse_metrics(path, "its first line is '" + first_wrong + "'");
  return out;
}

/// Which of the cells are what.
struct MetricColumns {
  std::vector<std::string> names;
  std::size_t step = 0;
  std::optional<std::size_t> epoch;
};

/// Nothing for an empty file, and for a first line that is cut short.
std::optional<MetricColumns> metric_columns(MetricLines& lines) {
  std::string header;
  while (true) {
    const auto line = lines.next();
    if (!line) break;
    header += *line;
    if (header.size() > kLongestLine) refuse_metrics(lines.path(), "its first line is longer than 16 MiB");
    if (std::ranges::count(header, '"') % 2 == 0) break;  // a name in quotes may hold line ends
  }
  if (header.empty()) return std::nullopt;
  MetricColumns columns;
  columns.names = parse_csv_line(header).cells;
  const auto step = std::ranges::find(columns.names, "step"), epoch = std::ranges::find(columns.names, "epoch");
  if (step == columns.names.end()) {
    if (!header.ends_with('\n')) return std::nullopt;
    refuse_metrics(lines.path(),
                   "its first line is '" + shown(header.substr(0, header.find('\n'))) + "', without a column 'step'");
  }
  if (columns.names.size() > kMostMetrics + 2) refuse_metrics(lines.path(), "it has more than 10,000 metrics");
  columns.step = static_cast<std::size_t>(step - columns.names.begin());
  if (epoch != columns.names.end()) columns.epoch = static_cast<std::size_t>(epoch - columns.names.begin());
  return columns;
}

/// The cells of one line; false unless all are numbers or empty, as many as there are columns.
bool read_metric_cells(std::string_view line, std::vector<std::optional<double>>& cells) {
  if (!line.ends_with('\n')) return false;
  line.remove_suffix(1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const auto end = line.find(',');
    if ((end == std::string_view::npos) != (i + 1 == cells.size())) return false;
    const auto text = line.substr(0, end);
    cells[i] = number_from_text<double>(text);
    if (!cells[i] && !text.empty()) return false;
    line.remove_prefix(end == std::string_view::npos ? line.size() : end + 1);
  }
  return true;
}

MetricCurves read_metrics_table(const std::filesystem::path& path) {
  MetricCurves out;
  MetricLines lines(path);
  const auto columns = metric_columns(lines);
  if (!columns) return out;
  CurvesByName curves(out, lines.path());
  std::vector<std::optional<double>> cells(columns->names.size());
  while (const auto line = lines.next()) {
    if (line->find_first_not_of("\r\n") == std::string_view::npos) continue;
    if (!read_metric_cells(*line, cells) || !cells[columns->step]) {
      ++out.damaged_rows;
      continue;
    }
    const auto step = metric_step(*cells[columns->step]);
    const double epoch = columns->epoch ? cells[*columns->epoch].value_or(-1) : -1;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      if (!cells[i] || i == columns->step || i == columns->epoch) continue;
      curves.at(i, columns->names[i]).add({step, epoch, *cells[i]});
    }
  }
  return out;
}

}  // namespace

MetricCurves read_metric_curves(const std::filesystem::path& folder) {
  const auto lines = folder / "metrics.jsonl", table = folder / "metrics.csv";
  std::error_code ignored;
  if (std::filesystem::exists(lines, ignored)) return read_json_lines(lines);
  if (std::filesystem::exists(table, ignored)) return read_metrics_table(table);
  return {};
}

}  // namespace troupe
