// Where the results of a command go.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::command {

/// Whoever read the output has ended: no error, and nothing more to do.
class ReaderGone : public std::exception {};

enum class Style { plain, strong, dim, good, warning, bad };

/// stdout.
struct Screen {
  int width = 0;            ///< columns of the terminal; 0: it is none, and lines may be of any length
  bool has_styles = false;  ///< a terminal, and the environment does not set NO_COLOR (https://no-color.org)

  /// `text` in that style, if there are styles.
  std::string styled(std::string_view text, Style style) const;

  /// Writes all of `text`. Throws ReaderGone, or std::runtime_error with the system's reason.
  void print(std::string_view text) const;
};

/// Of this process.
Screen standard_screen();

struct Cell {
  std::string text;  ///< one line
  Style style = Style::plain;
};

struct Column {
  std::string title;
  bool is_number = false;  ///< to the right
  int narrowest = 0;       ///< columns that it may be cut to if the terminal is too narrow; 0: it is not cut
  int spare = 0;           ///< if that is not enough the column with the greatest number is left out
};

/// Lines of a table. If the terminal is too narrow, the columns that may be cut are, the widest first. If that is not
/// enough whole columns are left out: those with the greatest `spare`, of equal ones the last; the first one stays.
std::string table(const std::vector<Column>& columns, const std::vector<std::vector<Cell>>& rows, const Screen& screen);

/// "1.2 MiB"
std::string bytes_text(double bytes);
/// "0:12", "2:03:04", "3 d 04:05"
std::string duration_text(double seconds);
/// "2026-11-29 20:05", in the time zone of the process
std::string time_text(double seconds_since_1970);
/// At most 6 significant digits.
std::string metric_text(double value);

}  // namespace troupe::command
