#include "troupe/runtime/data/csv_table.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/base/text_encoding.hpp"
#include "troupe/runtime/data/gz_file.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
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
      if (line_number_ == 1) line_.erase(0, size_of_mark(line_, file_.path().string(), "a table"));
      if (state_ != State::quoted) {
        if (line_.find_first_not_of(delimiter_ == ' ' ? " \t" : " ") == std::string::npos) continue;
        row_line_ = line_number_;
        fields.emplace_back();
      } else {
        fields.back() += '\n';
      }
      size += line_.size() + 1;
      if (size > kLongestRow) refuse("is longer than " + std::to_string(kLongestRow) + " characters");
      for (const char c : line_) take(c, fields);
      if (state_ == State::quoted) continue;
      if (delimiter_ == ' ' && state_ == State::start) fields.pop_back();  // blanks at the row's end
      return true;
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
    } else if (c == delimiter_ || (delimiter_ == ' ' && c == '\t')) {
      if (delimiter_ == ' ' && state_ == State::start) return;
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

bool is_blank(std::string_view field) {
  return trimmed(field).empty();
}

std::string unnamed(std::size_t column) {
  return "column_" + std::to_string(column + 1);
}

/// A table in the making.
class TableReader {
 public:
  /// `may_end_with_delimiter`: where the first row ends with a delimiter, that and all others part nothing.
  TableReader(const std::filesystem::path& path, const CsvOptions& options, bool may_end_with_delimiter)
      : path_(path), options_(options), reader_(path, options), ends_with_delimiter_(may_end_with_delimiter) {
    missing_ = options.na_values;
    std::ranges::sort(missing_);
  }

  /// Nothing if a later row shows that the first one's last delimiter begins a column.
  std::optional<CsvTable> read() {
    std::vector<std::string> fields;
    bool has_row = reader_.next(fields);
    if (!has_row) throw UsageError(path_.string() + " is empty; rows of numbers were expected");
    ends_with_delimiter_ = ends_with_delimiter_ && seems_to_end_with_delimiter(fields);
    name_columns(fields, fields.size() - (ends_with_delimiter_ ? 1 : 0));
    CsvTable table{options_.usecols.empty() ? names_ : options_.usecols, {}};
    for (const auto& name : table.columns) chosen_.push_back(position_of(name, names_, path_.string()));
    if (options_.header) has_row = reader_.next(fields);
    for (; has_row; has_row = reader_.next(fields)) {
      const bool has_more = fields.size() == names_.size() + 1;
      if (has_more && is_blank(fields.back())) {
        fields.pop_back();
      } else if (has_more && ends_with_delimiter_) {
        return std::nullopt;
      }
      add_row(fields);
    }
    if (rows_ == 0) throw UsageError(path_.string() + " has no row of numbers");
    auto* owner = values_.release();
    table.values = torch::from_blob(
        owner->data(), {rows_, static_cast<int64_t>(chosen_.size())}, [owner](void*) { delete owner; },
        torch::kFloat64);
    return table;
  }

 private:
  using Missing = CsvOptions::Missing;

  /// Unless the options name a column there.
  bool seems_to_end_with_delimiter(const std::vector<std::string>& first) const {
    return first.size() > 1 && is_blank(first.back()) && options_.names.size() != first.size() &&
           std::ranges::find(options_.usecols, unnamed(first.size() - 1)) == options_.usecols.end();
  }

  /// `first` is the file's first row.
  void name_columns(const std::vector<std::string>& first, std::size_t columns) {
    if (!options_.names.empty() && options_.names.size() != columns) {
      reader_.refuse("has " + std::to_string(columns) + " columns; names has " + std::to_string(options_.names.size()));
    }
    names_ = options_.names;
    for (std::size_t i = names_.size(); i < columns; ++i) {
      const auto name = options_.header ? trimmed(first[i]) : std::string_view();
      names_.push_back(name.empty() ? unnamed(i) : std::string(name));
    }
    std::vector<std::string> sorted = names_;
    std::ranges::sort(sorted);
    const auto twice = std::ranges::adjacent_find(sorted);
    if (twice != sorted.end()) reader_.refuse("has two columns called '" + shown(*twice) + "'");
  }

  void add_row(const std::vector<std::string>& fields) {
    if (fields.size() != names_.size()) {
      reader_.refuse("has " + std::to_string(fields.size()) + " values; " + std::to_string(names_.size()) +
                     " were expected" + (names_.size() == 1 ? delimiter_in(names_.front()) : std::string()));
    }
    const std::size_t before = values_->size();
    for (const std::size_t column : chosen_) {
      const auto text = trimmed(fields[column]);
      if (!std::ranges::binary_search(missing_, text, std::less<std::string_view>())) {
        values_->push_back(number(text, column));
        continue;
      }
      if (options_.on_missing == Missing::drop_row) return values_->resize(before);
      if (options_.on_missing == Missing::refuse) refuse_missing(text, column);
      values_->push_back(std::numeric_limits<double>::quiet_NaN());
    }
    ++rows_;
  }

  double number(std::string_view text, std::size_t column) const {
    std::string with_point;
    if (options_.decimal == ',' && text.find('.') == std::string_view::npos) {
      with_point = text;
      std::ranges::replace(with_point, ',', '.');
    }
    const auto found = number_from_text<double>(options_.decimal == ',' ? with_point : text);
    if (!found || !std::isfinite(*found)) {
      refuse(text, column, "; a finite number was expected" + advice(text));
    }
    return *found;
  }

  /// What may make a number of a field that is none.
  std::string advice(std::string_view text) const {
    if (const auto delimiter = names_.size() == 1 ? delimiter_in(text) : std::string(); !delimiter.empty())
      return delimiter;
    const auto mark = text.find_first_of(",.");
    const bool is_number = mark != std::string_view::npos && text.find_first_of(",.", mark + 1) == text.npos &&
                           text.find_first_not_of("+-0123456789,.eE") == text.npos;
    if (is_number && text[mark] != options_.decimal && text[mark] != options_.delimiter) {
      return std::string("; is decimal = '") + text[mark] + "' meant?";
    }
    return " (usecols chooses columns)";
  }

  /// Of what was taken for one field.
  std::string delimiter_in(std::string_view text) const {
    for (const char other : {';', '\t', ',', '|', ' '}) {
      if (other == options_.delimiter || other == options_.decimal || text.find(other) == text.npos) continue;
      return "; is delimiter = '" + shown(std::string_view(&other, 1)) + "' meant?";
    }
    return "";
  }

  [[noreturn]] void refuse_missing(std::string_view text, std::size_t column) const {
    const bool is_tab = options_.delimiter == '\t' && text.empty();
    refuse(text, column,
           std::string(", a missing value; on_missing says what to do with such rows") +
               (is_tab ? "; delimiter = ' ' takes several tabs for one" : ""));
  }

  [[noreturn]] void refuse(std::string_view text, std::size_t column, const std::string& why) const {
    const std::string name = names_[column] == unnamed(column) ? "" : " (" + shown(names_[column]) + ")";
    reader_.refuse("column " + std::to_string(column + 1) + name + " is '" + shown(text) + "'" + why);
  }

  const std::filesystem::path& path_;
  const CsvOptions& options_;
  RowReader reader_;
  bool ends_with_delimiter_;
  std::vector<std::string> missing_;  // what a missing value looks like, in order
  std::vector<std::string> names_;
  std::vector<std::size_t> chosen_;  // columns, in the order of the table's
  std::unique_ptr<std::vector<double>> values_ = std::make_unique<std::vector<double>>();
  int64_t rows_ = 0;
};

void check(const CsvOptions& options) {
  const auto quoted = [](char c) { return "'" + shown(std::string_view(&c, 1)) + "'"; };
  if (options.delimiter == '"' || options.delimiter == '\n' || options.delimiter == '\r' || options.delimiter == '\0') {
    throw UsageError("read_csv: delimiter = " + quoted(options.delimiter) +
                     " cannot separate fields; use ',', ';', a tab, or ' ' for any number of blanks and tabs");
  }
  if (options.decimal != '.' && options.decimal != ',') {
    throw UsageError("read_csv: decimal = " + quoted(options.decimal) + "; use '.' or ','");
  }
  if (options.decimal == options.delimiter) {
    throw UsageError("read_csv: decimal = " + quoted(options.decimal) +
                     " is the delimiter too; such tables have delimiter = ';' or a tab");
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
  // Whether a delimiter at the end of the first row begins a column is known when all rows are.
  if (auto table = TableReader(path, options, /*may_end_with_delimiter=*/true).read()) return *table;
  return *TableReader(path, options, /*may_end_with_delimiter=*/false).read();
}

}  // namespace troupe
