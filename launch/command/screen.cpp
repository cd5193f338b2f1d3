#include "troupe/launch/command/screen.hpp"

#include "troupe/base/text.hpp"
#include "troupe/runtime/terminal/progress_bar.hpp"
#include "troupe/runtime/terminal/terminal_style.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <ctime>
#include <optional>
#include <system_error>
#include <utility>

#include <unistd.h>

namespace troupe::command {
namespace {

constexpr int gap = 2;  // between columns

std::string_view escape_of(Style style) {
  switch (style) {
    case Style::plain: return "";
    case Style::strong: return "\x1b[1m";
    case Style::dim: return "\x1b[2m";
    case Style::good: return "\x1b[32m";
    case Style::warning: return "\x1b[33m";
    case Style::bad: return "\x1b[31m";
  }
  return "";
}

/// Columns that are shown, with what lies between them; -1 is the width of one that is left out.
int sum_of(const std::vector<int>& widths) {
  int sum = -gap;
  for (const int width : widths) sum += width < 0 ? 0 : width + gap;
  return sum;
}

std::string cut_to(const std::string& text, int width) {
  return columns(text) <= width ? text : fit_columns(text, width - 1) + "…";
}

/// The widest column that may be cut further; nothing if there is none.
std::optional<std::size_t> widest_to_cut(const std::vector<Column>& columns, const std::vector<int>& widths) {
  std::optional<std::size_t> widest;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const bool can_be_cut = columns[i].narrowest > 0 && widths[i] > columns[i].narrowest;
    if (can_be_cut && (!widest || widths[i] > widths[*widest])) widest = i;
  }
  return widest;
}

/// The column that can be missed most, of those that are shown; 0 if only the first one is.
std::size_t column_to_leave_out(const std::vector<Column>& columns, const std::vector<int>& widths) {
  std::size_t found = 0;
  for (std::size_t i = 1; i < columns.size(); ++i) {
    if (widths[i] >= 0 && (found == 0 || columns[i].spare >= columns[found].spare)) found = i;
  }
  return found;
}

/// Cuts and leaves out columns, whose width is -1 then, until they fit.
std::vector<int> fitted(const std::vector<Column>& columns, std::vector<int> widths, int width) {
  const auto full = widths;
  while (width > 0 && sum_of(widths) > width) {
    if (const auto widest = widest_to_cut(columns, widths)) {
      --widths[*widest];
    } else if (const auto other = column_to_leave_out(columns, widths)) {
      widths[other] = -1;
      for (std::size_t i = 0; i < widths.size(); ++i) widths[i] = widths[i] < 0 ? -1 : full[i];
    } else {
      widths[0] = width;
    }
  }
  return widths;
}

std::string with_digits(double value, int digits) {
  std::array<char, 64> text;
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed, digits).ptr;
  return {text.data(), end};
}

std::string two_digits(int64_t value) {
  return (value < 10 ? "0" : "") + std::to_string(value);
}

}  // namespace

std::string Screen::styled(std::string_view text, Style style) const {
  if (!has_styles || style == Style::plain || text.empty()) return std::string(text);
  return std::string(escape_of(style)) + std::string(text) + "\x1b[0m";
}

void Screen::print(std::string_view text) const {
  while (!text.empty()) {
    const auto written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EPIPE) {
      throw ReaderGone();
    } else if (errno != EINTR) {
      throw std::runtime_error("cannot write the output: " + std::generic_category().message(errno));
    }
  }
}

Screen standard_screen() {
  Screen screen;
  if (isatty(STDOUT_FILENO) == 0) return screen;
  screen.width = terminal_width(STDOUT_FILENO);
  screen.has_styles = terminal_style(/*is_terminal=*/true).colours;
  return screen;
}

std::string table(const std::vector<Column>& titles, const std::vector<std::vector<Cell>>& rows, const Screen& screen) {
  std::vector<int> widths;
  for (std::size_t i = 0; i < titles.size(); ++i) {
    widths.push_back(columns(titles[i].title));
    for (const auto& row : rows) widths[i] = std::max(widths[i], columns(row[i].text));
  }
  widths = fitted(titles, std::move(widths), screen.width);
  std::string out;
  const auto add_line = [&](const std::vector<Cell>& row) {
    std::string line;
    int blanks = 0;
    for (std::size_t i = 0; i < widths.size(); ++i) {
      if (widths[i] < 0) continue;
      const auto text = cut_to(row[i].text, widths[i]);
      const int room = widths[i] - columns(text);
      blanks += (i > 0 ? gap : 0) + (titles[i].is_number ? room : 0);
      if (text.empty()) {
        blanks += titles[i].is_number ? 0 : room;
        continue;
      }
      line += std::string(static_cast<std::size_t>(blanks), ' ') + screen.styled(text, row[i].style);
      blanks = titles[i].is_number ? 0 : room;
    }
    out += line + "\n";
  };
  std::vector<Cell> heads;
  for (const auto& column : titles) heads.push_back({column.title, Style::strong});
  add_line(heads);
  for (const auto& row : rows) add_line(row);
  return out;
}

std::string bytes_text(double bytes) {
  constexpr std::array units = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < units.size(); ++unit) bytes /= 1024;
  return with_digits(bytes, unit == 0 || bytes >= 100 ? 0 : 1) + " " + units[unit];
}

std::string duration_text(double seconds) {
  constexpr double most = 1e15;
  if (!std::isfinite(seconds) || seconds < 0 || seconds > most) return "";
  const auto whole = static_cast<int64_t>(seconds);
  const auto days = whole / 86400, hours = whole % 86400 / 3600, minutes = whole % 3600 / 60;
  if (days > 0) return std::to_string(days) + " d " + two_digits(hours) + ":" + two_digits(minutes);
  if (hours > 0) return std::to_string(hours) + ":" + two_digits(minutes) + ":" + two_digits(whole % 60);
  return std::to_string(minutes) + ":" + two_digits(whole % 60);
}

std::string time_text(double seconds_since_1970) {
  constexpr double most = 253402300799;  // the year 9999
  if (!(seconds_since_1970 > 0 && seconds_since_1970 <= most)) return "";
  const auto whole = static_cast<std::time_t>(seconds_since_1970);
  std::tm parts{};
  if (!localtime_r(&whole, &parts)) return "";
  std::array<char, 32> text;
  const auto length = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M", &parts);
  return {text.data(), length};
}

std::string metric_text(double value) {
  if (!std::isfinite(value)) return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  std::array<char, 64> text;
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value, std::chars_format::general, 6).ptr;
  return {text.data(), end};
}

}  // namespace troupe::command
