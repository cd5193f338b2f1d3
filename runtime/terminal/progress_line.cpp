#include "troupe/runtime/terminal/progress_line.hpp"

#include "troupe/base/text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace troupe {
namespace {

constexpr int kSmallestBar = 4;
constexpr double kLongestSeconds = 1e9;  // beyond 30 years an estimate says nothing

/// %.{digits}g, whatever the program's locale is.
std::string to_digits(double value, std::chars_format format, int digits) {
  std::array<char, 400> text;
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value, format, digits).ptr};
}

/// Three significant digits, padded to five characters so that the line does not shake from step to step.
std::string format_metric(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::string text = to_digits(value, std::chars_format::general, 3);
  if (text.find('e') != std::string::npos) return text;
  if (text.find('.') == std::string::npos) text += '.';
  while (text.size() < 5) text += '0';
  return text;
}

bool is_known(double rate) {
  return std::isfinite(rate) && rate > 0;
}

std::string format_rate(double rate) {
  if (!is_known(rate)) return "?it/s";
  if (rate < 1) {
    double seconds = 1 / rate;
    return seconds < kLongestSeconds ? to_digits(seconds, std::chars_format::fixed, 2) + "s/it" : "?it/s";
  }
  return to_digits(rate, rate < 1e6 ? std::chars_format::fixed : std::chars_format::scientific, 2) + "it/s";
}

/// Done in 0..1, or nothing when the total is unknown.
std::optional<double> fraction_done(const ProgressState& state) {
  if (!state.total_batches || *state.total_batches <= 0) return std::nullopt;
  return std::clamp(static_cast<double>(state.batch) / static_cast<double>(*state.total_batches), 0.0, 1.0);
}

std::string format_percent(double fraction) {
  // 100 % is for what is finished, so 99.6 % does not round up to it.
  auto percent = fraction < 1 ? std::min<int64_t>(99, std::llround(fraction * 100)) : 100;
  std::string text = std::to_string(percent) + "%";
  return std::string(4 - text.size(), ' ') + text;
}

std::string format_count(const ProgressState& state) {
  bool known = state.total_batches && *state.total_batches >= 0;
  return std::to_string(state.batch) + "/" + (known ? std::to_string(*state.total_batches) : "?");
}

bool is_only_epoch(const ProgressState& state) {
  return state.max_epochs == 1;
}

std::string format_times(const ProgressState& state) {
  double remaining = NAN;
  if (fraction_done(state) && is_known(state.batches_per_second)) {
    auto left = std::max<int64_t>(0, *state.total_batches - state.batch);
    remaining = static_cast<double>(left) / state.batches_per_second;
  }
  // An epoch ends with its run, by max_time or max_steps.
  const auto& run = state.run_seconds_left;
  if (run && (remaining > *run || (std::isnan(remaining) && is_only_epoch(state)))) remaining = *run;
  return format_time(state.elapsed) + "<" + format_time(remaining);
}

/// Eight steps a cell.
std::string bar_cells(double fraction, int cells) {
  constexpr std::array<const char*, 8> kPart{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  auto eighths = static_cast<int>(fraction * cells * 8);
  std::string bar;
  for (int i = 0; i < eighths / 8; ++i) bar += "█";
  bar += kPart[eighths % 8];
  return pad_columns(bar, cells);
}

/// The line in the pieces that are fitted to the width; what is empty is not shown.
struct Pieces {
  std::string head;                  ///< "Epoch 3/9:"
  std::string percent;               ///< " 45%"
  std::string count;                 ///< "56/125"
  std::string times;                 ///< "00:12<00:15"
  std::string run;                   ///< "run<03:05"
  std::string rate;                  ///< "4.61it/s"
  std::vector<std::string> metrics;  ///< "train_loss=0.231"
  bool cut = false;                  ///< whether metrics were left out

  std::string right() const {
    std::vector<std::string> items{times, run, rate};
    items.insert(items.end(), metrics.begin(), metrics.end());
    if (cut) items.emplace_back("…");
    std::erase(items, "");
    return count + (count.empty() || items.empty() ? "" : " ") + (items.empty() ? "" : "[" + joined(items) + "]");
  }
  std::string without_bar() const {
    const std::string text = right();
    return head + (percent.empty() ? "" : " " + percent) + (text.empty() ? "" : " " + text);
  }
};

Pieces split(const ProgressState& state) {
  Pieces pieces;
  pieces.head = describe(state) + ":";
  if (const auto fraction = fraction_done(state)) pieces.percent = format_percent(*fraction);
  pieces.count = format_count(state);
  pieces.times = format_times(state);
  if (state.run_seconds_left && !is_only_epoch(state)) pieces.run = "run<" + format_time(*state.run_seconds_left);
  pieces.rate = format_rate(state.batches_per_second);
  for (const auto& [name, value] : state.metrics) {
    pieces.metrics.push_back(single_line(name) + "=" + format_metric(value));
  }
  return pieces;
}

/// The pieces of `all` that fit, the important ones first.
std::string fitted(const Pieces& all, int width) {
  Pieces line;
  line.head = all.head;
  const auto keep_if_it_fits = [&](auto change) {
    Pieces more = line;
    change(more);
    const bool fits = columns(more.without_bar()) <= width;
    if (fits) line = std::move(more);
    return fits;
  };
  const auto add = [&](std::string Pieces::*piece) {
    keep_if_it_fits([&](Pieces& more) { more.*piece = all.*piece; });
  };
  const auto add_metric = [&](std::size_t i) {
    return keep_if_it_fits([&](Pieces& more) { more.metrics.push_back(all.metrics[i]); });
  };
  add(all.percent.empty() ? &Pieces::count : &Pieces::percent);
  add(all.run.empty() ? &Pieces::times : &Pieces::run);
  bool has_room = all.metrics.empty() || add_metric(0);
  add(&Pieces::count);
  add(&Pieces::times);
  add(&Pieces::rate);
  for (std::size_t i = 1; has_room && i < all.metrics.size(); ++i) has_room = add_metric(i);
  const bool has_items = line.right().size() > line.count.size();
  if (has_items && line.metrics.size() < all.metrics.size()) keep_if_it_fits([](Pieces& more) { more.cut = true; });
  return fit_columns(line.without_bar(), std::max(0, width));
}

}  // namespace

std::string format_time(double seconds) {
  if (!(seconds >= 0 && seconds < kLongestSeconds)) return "?";
  auto whole = static_cast<int64_t>(seconds);
  auto two_digits = [](int64_t n) { return (n < 10 ? "0" : "") + std::to_string(n); };
  std::string hours = whole >= 3600 ? std::to_string(whole / 3600) + ":" : "";
  return hours + two_digits(whole / 60 % 60) + ":" + two_digits(whole % 60);
}

std::string describe(const ProgressState& state) {
  switch (state.activity) {
    case Activity::sanity_check: return "Sanity Checking";
    case Activity::train: break;
    case Activity::validate: return "Validation";
    case Activity::test: return "Testing";
    case Activity::predict: return "Predicting";
  }
  std::string limit = state.max_epochs && *state.max_epochs > 0 ? "/" + std::to_string(*state.max_epochs - 1) : "";
  return "Epoch " + std::to_string(state.epoch) + limit;
}

std::string render_plain(const ProgressState& state) {
  return split(state).without_bar();
}

std::string render_bar(const ProgressState& state, int width) {
  const Pieces pieces = split(state);
  if (const auto fraction = fraction_done(state)) {
    const std::string left = pieces.head + " " + pieces.percent + "|", right = "| " + pieces.right();
    const int room = width - columns(left) - columns(right);
    if (room >= kSmallestBar) return left + bar_cells(*fraction, room) + right;
  }
  return fitted(pieces, width);
}

}  // namespace troupe
