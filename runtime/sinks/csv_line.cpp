#include "troupe/runtime/sinks/csv_line.hpp"

namespace troupe {

CsvLine parse_csv_line(std::string_view text) {
  CsvLine line;
  line.cells.emplace_back();
  bool in_quotes = false;
  while (line.length < text.size()) {
    char c = text[line.length++];
    bool doubled = in_quotes && c == '"' && line.length < text.size() && text[line.length] == '"';
    if (doubled) {
      line.cells.back() += '"';
      ++line.length;
    } else if (c == '"') {
      in_quotes = !in_quotes;
    } else if (c == ',' && !in_quotes) {
      line.cells.emplace_back();
    } else if (c == '\n' && !in_quotes) {
      line.terminated = true;
      if (line.cells.back().ends_with('\r')) line.cells.back().pop_back();
      return line;
    } else {
      line.cells.back() += c;
    }
  }
  return line;
}

std::string quoted_csv_cell(const std::string& cell) {
  if (cell.find_first_of(",\"\r\n") == std::string::npos) return cell;
  std::string out = "\"";
  for (char c : cell) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + '"';
}

}  // namespace troupe
