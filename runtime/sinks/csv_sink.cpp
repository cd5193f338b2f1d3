#include "troupe/runtime/sinks/csv_sink.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/checkpoint/file_system.hpp"
#include "troupe/runtime/sinks/csv_line.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string_view>

namespace troupe {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kFirstColumns{"epoch", "step"};

std::string to_cell(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

std::string to_line(const std::vector<std::string>& cells) {
  std::string line;
  for (std::size_t i = 0; i < cells.size(); ++i) line += (i == 0 ? "" : ",") + quoted_csv_cell(cells[i]);
  return line + '\n';
}

/// The columns of the table at `path`, its last row repaired; nothing when there is no table yet.
std::optional<std::vector<std::string>> open_table(const fs::path& path) {
  if (!fs::is_regular_file(path) || fs::file_size(path) == 0) return std::nullopt;
  std::string content = InputFile(path).read_all();
  CsvLine header = parse_csv_line(content);
  if (header.cells.size() < 2 || !std::equal(kFirstColumns.begin(), kFirstColumns.end(), header.cells.begin())) {
    throw UsageError("'" + path.string() + "' is not a table of metrics: its first line is '" +
                     content.substr(0, std::min<std::size_t>(content.find('\n'), 60)) +
                     "', expected one that begins with 'epoch,step'; move it away or choose another folder");
  }
  if (!header.terminated && content.find('\n') != std::string::npos) {
    throw UsageError("'" + path.string() + "' is damaged: a quote in its first line is never closed; move it away");
  }
  if (!header.terminated) return std::nullopt;
  if (content.back() == '\n') return header.cells;
  std::size_t last_row = content.rfind('\n') + 1;
  bool complete = parse_csv_line(std::string_view(content).substr(last_row)).cells.size() == header.cells.size();
  if (complete) {
    AppendFile(path, AppendFile::Existing::keep).append("\n");
  } else {
    fs::resize_file(path, last_row);
  }
  return header.cells;
}

/// `table` with `header` in place of its own and `added` empty cells at the end of each row.
std::string widened(std::string_view table, const std::vector<std::string>& header, std::size_t added) {
  table.remove_prefix(parse_csv_line(table).length);
  std::string out = to_line(header);
  while (!table.empty()) {
    std::size_t end = table.find('\n');
    std::string_view row = table.substr(0, end);
    if (row.ends_with('\r')) row.remove_suffix(1);
    out += row;
    out.append(added, ',');
    out += '\n';
    table.remove_prefix(std::min(end, table.size() - 1) + 1);
  }
  return out;
}

AppendFile open_file(const fs::path& folder, std::vector<std::string>& columns) {
  create_output_folder(folder);
  fs::path path = folder / "metrics.csv";
  auto existing = open_table(path);
  columns = existing.value_or(kFirstColumns);
  AppendFile file(path, existing ? AppendFile::Existing::keep : AppendFile::Existing::replace);
  if (!existing) file.append(to_line(columns));
  file.flush();
  return file;
}

}  // namespace

CsvSink::CsvSink(const fs::path& folder) : file_(open_file(folder, columns_)) {
  for (std::size_t i = 0; i < columns_.size(); ++i) positions_.emplace(columns_[i], i);
}

void CsvSink::write(const Record& record) {
  if (const auto* scalars = std::get_if<ScalarsRecord>(&record)) write_row(*scalars);
}

void CsvSink::write_row(const ScalarsRecord& record) {
  if (record.values.empty()) return;
  std::vector<std::string> added;
  for (const auto& [name, value] : record.values) {
    if (!positions_.contains(name) && std::ranges::find(added, name) == added.end()) added.push_back(name);
  }
  if (!added.empty()) add_columns(added);
  std::vector<std::string> cells(columns_.size());
  if (record.epoch >= 0) cells[0] = std::to_string(record.epoch);
  cells[1] = std::to_string(record.step);
  for (const auto& [name, value] : record.values) cells[positions_.at(name)] = to_cell(value);
  file_.append(to_line(cells));
}

void CsvSink::add_columns(const std::vector<std::string>& names) {
  file_.flush();
  fs::path path = file_.path();
  auto columns = columns_;
  columns.insert(columns.end(), names.begin(), names.end());
  auto wider = AppendFile::temporary(path.parent_path());
  wider.append(widened(InputFile(path).read_all(), columns, names.size()));
  wider.sync();
  wider.rename_to(path);
  file_ = std::move(wider);
  for (std::size_t i = columns_.size(); i < columns.size(); ++i) positions_.emplace(columns[i], i);
  columns_ = std::move(columns);
}

}  // namespace troupe
