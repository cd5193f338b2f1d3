// Tables of numbers from CSV files.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// Names are those of pandas' read_csv (https://pandas.pydata.org/docs/reference/api/pandas.read_csv.html).
struct CsvOptions {
  /// What is done with a value that is missing: an error, the whole row left out, or NaN.
  enum class Missing { refuse, drop_row, nan };

  /// What parts fields. ' ' stands for any number of blanks and tabs, as pandas' sep = "\\s+"; those at a row's ends
  /// part nothing. Else a delimiter at the end of every row parts nothing either.
  char delimiter = ',';
  /// '.' or ',': what stands before a number's fraction. Digits are in no groups.
  char decimal = '.';
  /// The first row holds the names of the columns.
  bool header = true;
  /// Names of all columns, in place of those in the header. Without either they are "column_1", "column_2", ...
  std::vector<std::string> names = {};
  /// The columns to read, in this order; empty: all. The others may hold anything.
  std::vector<std::string> usecols = {};
  /// What a missing value looks like, apart from blanks around it: what pandas takes for one, "?" and "-".
  std::vector<std::string> na_values = {"",     "?",        "-",    "NA",     "N/A",     "n/a",     "<NA>",
                                        "NaN",  "nan",      "-NaN", "-nan",   "NULL",    "null",    "None",
                                        "#N/A", "#N/A N/A", "#NA",  "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"};
  Missing on_missing = Missing::refuse;
  /// More text than this, uncompressed, is refused.
  int64_t most_bytes = int64_t{1} << 33;
};

struct CsvTable {
  std::vector<std::string> columns;
  torch::Tensor values;  ///< float64 [rows, columns]

  int64_t rows() const { return values.size(0); }
  /// A view [rows] of one column; throws UsageError naming the nearest.
  torch::Tensor column(std::string_view name) const;
  /// [rows, names], a copy in the order of `names`.
  torch::Tensor select(const std::vector<std::string>& names) const;
};

/// Reads a table of RFC 4180's form, gzipped or not: fields in double quotes may hold delimiters, line ends and quotes
/// (as ""), blanks around a number and empty lines do not count; lines end with "\n", "\r\n" or "\r". A TensorDataset
/// makes samples of it:
///
///     const auto table = read_csv("cars.csv", {.on_missing = CsvOptions::Missing::drop_row});
///     TensorDataset(table.select({"weight", "power"}).to(torch::kFloat), table.column("mpg").to(torch::kFloat))
///
/// Throws UsageError for a file without rows, with the line and the column (both from 1) of what is no finite number or
/// is missing and with the line of a row of another length or an open quote; for a name that stands twice or is not
/// there, naming the nearest.
CsvTable read_csv(const std::filesystem::path& path, const CsvOptions& options = {});

}  // namespace troupe
