#include "troupe/runtime/data/csv_table.hpp"

#include "troupe/modules/failure.hpp"
#include "troupe/modules/nearest.hpp"
#include "troupe/modules/number_text.hpp"
#include "troupe/runtime/data/gz_file.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

namespace troupe {

namespace {

constexpr std::size_t kLongestRow = std::size_t{1} << 20;

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

/// Cuts a file into rows of fields.
class RowReader {
 public:
  RowReader(const std::filesystem::path& path, const CsvOptions& options)
      : file_(path), delimiter_(options.delimiter), most_bytes_(options.most_bytes) {}

  /// The fields of the next row that is not blank; false at the end.
  bool next(std::vector<std::string>& fields) {
    fields.clear();
    state_ = State::start;
    std::size_t size = 0;
    while (file_.read_line(line_, kLongestRow)) {
      ++line_number_;
      if (file_.offset() > most_bytes_) refuse("the file has more than " + std::to_string(most_bytes_) + " bytes");
      if (line_number_ == 1 && line_.starts_with("\xEF\xBB\xBF")) line_.erase(0, 3);  // a byte order mark
      if (state_ != State::quoted) {
        if (line_.find_first_not_of(' ') == std::string::npos) continue;
        row_line_ = line_number_;
        fields.emplace_back();
      } else {
        fields.back() += '\n';
      }
      size += line_.size() + 1;
      if (size > kLongestRow) refuse("is longer than " + std::to_string(kLongestRow) + " characters");
      for (const char c : line_) take(c, fields);
      if (state_ != State::quoted) return true;
    }
    if (state_ == State::quoted) refuse("opens a quote that is never closed");
    return false;
  }

  [[noreturn]] void refuse(const std::string& why) const {
    throw UsageError(file_.path().string() + ": line " + std::to_string(row_line_) + " " + why);
  }

 private:
  enum class State { start, plain, quoted, closed };  // of the field at hand

  void take(char c, std::vector<std::string>& fields) {
    if (state_ == State::quoted) {
      if (c == '"') {
        state_ = State::closed;
      } else {
        fields.back() += c;
      }
    } else if (c == delimiter_) {
      fields.emplace_back();
      state_ = State::start;
    } else if (c == '"' && state_ != State::plain) {
      if (state_ == State::closed) fields.back() += c;
      state_ = State::quoted;
    } else if (state_ == State::closed) {
      if (c != ' ') refuse("column " + std::to_string(fields.size()) + " goes on after its closing quote");
    } else {
      fields.back() += c;
      state_ = State::plain;
    }
  }

  GzFile file_;
  char delimiter_;
  int64_t most_bytes_;
  std::string line_;
  int64_t line_number_ = 0;
  int64_t row_line_ = 1;
  State state_ = State::start;
};

/// `table` is what the message calls it.
std::size_t position_of(std::string_view name, const std::vector<std::string>& columns, const std::string& table) {
  const auto found = std::ranges::find(columns, name);
  if (found != columns.end()) return static_cast<std::size_t>(found - columns.begin());
  throw UsageError(table + " has no column '" + shown(name) + "'; did you mean '" + shown(nearest(name, columns)) +
                   "'?");
}

/// The names of all columns; `first` is the file's first row.
std::vector<std::string> column_names(const std::vector<std::string>& first, const CsvOptions& options,
                                      const RowReader& reader) {
  if (!options.names.empty() && options.names.size() != first.size()) {
    reader.refuse("has " + std::to_string(first.size()) + " columns; names has " +
                  std::to_string(options.names.size()));
  }
  std::vector<std::string> names = options.names;
  for (std::size_t i = names.size(); i < first.size(); ++i) {
    const auto name = options.header ? trimmed(first[i]) : std::string_view();
    names.push_back(name.empty() ? "column_" + std::to_string(i + 1) : std::string(name));
  }
  std::vector<std::string> sorted = names;
  std::ranges::sort(sorted);
  const auto twice = std::ranges::adjacent_find(sorted);
  if (twice != sorted.end()) reader.refuse("has two columns called '" + shown(*twice) + "'");
  return names;
}

/// Reads the chosen columns of a row to the end of `values`; false where one is missing and drops the row.
bool append_row(const std::vector<std::string>& fields, const std::vector<std::string>& names,
                const std::vector<std::size_t>& chosen, const CsvOptions& options, const RowReader& reader,
                std::vector<double>& values) {
  using Missing = CsvOptions::Missing;
  for (const std::size_t column : chosen) {
    const auto text = trimmed(fields[column]);
    const auto refuse = [&](const std::string& why) {
      const std::string name =
          "column_" + std::to_string(column + 1) == names[column] ? "" : " (" + shown(names[column]) + ")";
      reader.refuse("column " + std::to_string(column + 1) + name + " is '" + shown(text) + "'" + why);
    };
    if (std::ranges::find(options.na_values, text) != options.na_values.end()) {
      if (options.on_missing == Missing::drop_row) return false;
      if (options.on_missing == Missing::refuse) refuse(", a missing value; on_missing says what to do with such rows");
      values.push_back(std::numeric_limits<double>::quiet_NaN());
      continue;
    }
    const auto number = number_from_text<double>(text);
    if (!number || !std::isfinite(*number)) refuse("; a finite number was expected (usecols chooses columns)");
    values.push_back(*number);
  }
  return true;
}

void check(const CsvOptions& options) {
  if (options.delimiter == '"' || options.delimiter == '\n' || options.delimiter == '\r' || options.delimiter == '\0') {
    throw UsageError("read_csv: delimiter = '" + shown(std::string_view(&options.delimiter, 1)) +
                     "' cannot separate fields; use ',', ';' or a tab");
  }
}

}  // namespace

torch::Tensor CsvTable::column(std::string_view name) const {
  return values.select(1, static_cast<int64_t>(position_of(name, columns, "the table")));
}

torch::Tensor CsvTable::select(const std::vector<std::string>& names) const {
  std::vector<int64_t> positions;
  for (const auto& name : names) positions.push_back(static_cast<int64_t>(position_of(name, columns, "the table")));
  return values.index_select(1, torch::tensor(positions, torch::kInt64));
}

CsvTable read_csv(const std::filesystem::path& path, const CsvOptions& options) {
  check(options);
  RowReader reader(path, options);
  std::vector<std::string> fields;
  bool has_row = reader.next(fields);
  if (!has_row) throw UsageError(path.string() + " is empty; rows of numbers were expected");
  const auto names = column_names(fields, options, reader);
  CsvTable table{options.usecols.empty() ? names : options.usecols, {}};
  std::vector<std::size_t> chosen;
  for (const auto& name : table.columns) chosen.push_back(position_of(name, names, path.string()));
  if (options.header) has_row = reader.next(fields);
  auto values = std::make_unique<std::vector<double>>();
  int64_t rows = 0;
  for (; has_row; has_row = reader.next(fields)) {
    if (fields.size() != names.size()) {
      reader.refuse("has " + std::to_string(fields.size()) + " values; " + std::to_string(names.size()) +
                    " were expected");
    }
    const std::size_t before = values->size();
    if (append_row(fields, names, chosen, options, reader, *values)) {
      ++rows;
    } else {
      values->resize(before);
    }
  }
  if (rows == 0) throw UsageError(path.string() + " has no row of numbers");
  auto* owner = values.release();
  table.values = torch::from_blob(
      owner->data(), {rows, static_cast<int64_t>(chosen.size())}, [owner](void*) { delete owner; }, torch::kFloat64);
  return table;
}

}  // namespace troupe
