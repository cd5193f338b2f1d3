// A line of a table of metrics, quoted as RFC 4180 has it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

struct CsvLine {
  std::vector<std::string> cells;
  std::size_t length = 0;   ///< bytes, line end included
  bool terminated = false;  ///< whether it has a line end
};

/// The first line of `text`; a quoted cell may hold line ends.
CsvLine parse_csv_line(std::string_view text);

/// A cell as RFC 4180 quotes it.
std::string quoted_csv_cell(const std::string& cell);

}  // namespace troupe
