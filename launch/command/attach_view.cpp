#include "troupe/launch/command/attach_view.hpp"

#include "troupe/base/text.hpp"
#include "troupe/base/unix_seconds.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

namespace troupe::command {

namespace {

constexpr std::array<const char*, 8> blocks = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
constexpr int widest_sparkline = 60, widest_bar = 24;
constexpr std::size_t most_phases = 6, fewest_metrics = 3;
constexpr int other_lines = 18;  // than metrics, on a full screen
constexpr int indent = 2;
constexpr int width_of_no_terminal = 100;

std::string seconds_text(double seconds) {
  return seconds < 10 ? metric_text(std::round(seconds * 100) / 100) + " s" : duration_text(seconds);
}

std::string metrics_line(const MetricMap& metrics) {
  std::vector<std::string> parts;
  for (const auto& [name, value] : metrics) parts.push_back(single_line(name) + "=" + metric_text(value));
  return joined(parts);
}

/// Lines one below the other.
class Lines {
 public:
  explicit Lines(const Screen& screen) : screen_(screen), width_(screen.width > 0 ? screen.width : 0) {}

  void add(const std::string& text, Style style = Style::plain) {
    const auto line = single_line(text);
    lines_.push_back(screen_.styled(width_ > 0 ? fit_columns(line, width_) : line, style));
  }
  void heading(const std::string& text) {
    add("");
    add(text, Style::strong);
  }
  void rows(const std::vector<Column>& columns, const std::vector<std::vector<Cell>>& rows) {
    Screen narrower = screen_;
    if (width_ > 0) narrower.width = std::max(1, width_ - indent);
    const auto text = table(columns, rows, narrower);
    std::size_t begin = text.find('\n') + 1;  // without the titles
    for (auto end = text.find('\n', begin); end != std::string::npos; begin = end + 1, end = text.find('\n', begin)) {
      lines_.push_back(std::string(indent, ' ') + text.substr(begin, end - begin));
    }
  }
  std::vector<std::string> take(int height) {
    if (height > 0 && lines_.size() > static_cast<std::size_t>(height)) lines_.resize(static_cast<std::size_t>(height));
    return std::move(lines_);
  }

 private:
  Screen screen_;
  int width_;
  std::vector<std::string> lines_;
};

void add_head(Lines& lines, const AttachedRun& run) {
  std::string head = run.hello.run + "   " + run.hello.stage;
  if (!run.state) {
    lines.add(head + ", pid " + std::to_string(run.hello.pid) + ": waiting for its first word", Style::strong);
    return;
  }
  const auto& state = *run.state;
  const bool is_over = state.status != RunStatus::running;
  const double until = is_over ? state.updated : unix_seconds();
  head += std::string(", ") + std::string(name_of(state.status)) + (is_over ? " after " : " for ") +
          duration_text(std::max(0.0, until - state.started)) + " on " + state.host + " (pid " +
          std::to_string(state.pid) + ", " + joined(state.devices) + ", " + std::to_string(state.world_size) +
          (state.world_size == 1 ? " rank)" : " ranks)") + (run.has_control ? "   with control" : "");
  lines.add(head, Style::strong);
}

void add_progress(Lines& lines, const AttachedRun& run, int width) {
  if (run.progress) {
    auto shown = *run.progress;
    shown.metrics.clear();  // they stand below
    lines.add(render_bar(shown, width));
  }
  if (!run.state) return;
  const auto& state = *run.state;
  std::string line =
      "epoch " + std::to_string(state.progress.epoch) + ", step " + std::to_string(state.progress.global_step);
  if (state.total_batches) {
    line += ", batch " + std::to_string(state.progress.total_batches) + " of " + std::to_string(*state.total_batches);
  }
  if (state.seconds_left) line += ", " + duration_text(*state.seconds_left) + " left";
  lines.add(line);
}

void add_metrics(Lines& lines, const live::State& state, int height, int width) {
  std::vector<std::vector<Cell>> rows;
  std::size_t most = state.curves.size() + state.metrics.size();
  if (height > 0) most = std::max(fewest_metrics, static_cast<std::size_t>(std::max(0, height - other_lines)));
  const auto add = [&](const std::string& name, double value, std::span<const double> curve) {
    if (rows.size() < most) {
      rows.push_back({{single_line(name)}, {metric_text(value)}, {sparkline(curve, std::max(8, width / 2))}});
    }
  };
  for (const auto& [name, curve] : state.curves) {
    if (curve.empty()) continue;
    const auto latest = state.metrics.find(name);
    add(name, latest == state.metrics.end() ? curve.back() : latest->second, curve);
  }
  for (const auto& [name, value] : state.metrics) {
    const auto has_curve = [&](const auto& each) { return each.first == name; };
    if (std::ranges::none_of(state.curves, has_curve)) add(name, value, {});
  }
  if (rows.empty()) return;
  lines.heading("metrics");
  lines.rows({{"metric", false, 8}, {"value", true}, {"curve", false, 0, 1}}, rows);
}

void add_phases(Lines& lines, const live::State& state) {
  if (!state.phases || state.phases->seconds <= 0) return;
  const auto& report = *state.phases;
  lines.heading("where the time goes (" + duration_text(report.seconds) + " of the first worker)");
  std::vector<std::vector<Cell>> rows;
  for (const auto& phase : report.phases) {
    if (rows.size() == most_phases) break;
    const double share = std::clamp(phase.seconds / report.seconds, 0.0, 1.0);
    std::string bar;
    for (int i = 0; i < static_cast<int>(std::lround(share * widest_bar)); ++i) bar += blocks.back();
    rows.push_back({{single_line(phase.name)},
                    {std::to_string(std::lround(100 * share)) + " %"},
                    {seconds_text(phase.seconds)},
                    {bar, Style::dim}});
  }
  lines.rows({{"phase", false, 12}, {"share", true}, {"time", true, 0, 2}, {"bar", false, 0, 1}}, rows);
  if (!report.advice.empty()) lines.add("  " + report.advice, Style::warning);
}

void add_ranks(Lines& lines, const live::State& state) {
  const bool has_workers = !state.workers.empty() && state.status == RunStatus::running;
  if (!has_workers && (!state.phases || state.phases->ranks.empty())) return;
  lines.heading("ranks");
  const auto here = static_cast<int64_t>(state.workers.size());
  for (const auto& worker : state.workers) {
    if (has_workers) lines.add("  " + worker);
  }
  if (has_workers && state.world_size > here) {
    lines.add("  and " + std::to_string(state.world_size - here) + " in other processes", Style::dim);
  }
  if (!state.phases) return;
  for (const auto& rank : state.phases->ranks) {
    lines.add("  " + rank.name + ": median " + seconds_text(rank.median) + ", rank " +
              std::to_string(rank.slowest_rank) + " " + seconds_text(rank.slowest));
  }
}

}  // namespace

std::string sparkline(std::span<const double> values, int width) {
  const auto most = static_cast<std::size_t>(std::clamp(width, 0, widest_sparkline));
  if (values.size() > most) values = values.subspan(values.size() - most);
  double least = HUGE_VAL, greatest = -HUGE_VAL;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    least = std::min(least, value);
    greatest = std::max(greatest, value);
  }
  std::string line;
  for (const double value : values) {
    if (!std::isfinite(value)) {
      line += ' ';
      continue;
    }
    const double range = greatest - least;
    const double height = range > 0 ? (value - least) / range : 0.5;  // beyond the largest double it is 0
    const auto level = static_cast<std::size_t>(std::clamp(height * blocks.size(), 0.0, blocks.size() - 1.0));
    line += range > 0 ? blocks[level] : blocks[3];
  }
  return line;
}

std::vector<std::string> view_lines(const AttachedRun& run, const Screen& screen, int height) {
  Lines lines(screen);
  const int width = screen.width > 0 ? screen.width : width_of_no_terminal;
  add_head(lines, run);
  add_progress(lines, run, width);
  if (run.state) {
    const auto& state = *run.state;
    if (!state.message.empty()) lines.add(state.message, Style::bad);
    add_metrics(lines, state, height, width);
    add_phases(lines, state);
    add_ranks(lines, state);
    if (state.checkpoints > 0 || state.warnings > 0) lines.add("");
    if (state.checkpoints > 0) {
      lines.add(std::to_string(state.checkpoints) + (state.checkpoints == 1 ? " checkpoint" : " checkpoints") +
                (state.best_checkpoint.empty() ? "" : ", the best: " + state.best_checkpoint));
    }
    if (state.warnings > 0) {
      lines.add(std::to_string(state.warnings) + (state.warnings == 1 ? " warning: " : " warnings, the latest: ") +
                    state.latest_warning,
                Style::warning);
    }
  }
  if (!run.latest.empty()) lines.add(run.latest, Style::dim);
  if (!run.answer.empty()) lines.add(run.answer, Style::strong);
  return lines.take(height);
}

std::string event_line(const Event& event) {
  if (const auto* ended = std::get_if<ValidationEnded>(&event)) {
    return "validation at step " + std::to_string(ended->progress.global_step) + ": " + metrics_line(ended->metrics);
  }
  if (const auto* ended = std::get_if<TrainEpochEnded>(&event)) {
    return "epoch " + std::to_string(ended->progress.epoch) + " ended at step " +
           std::to_string(ended->progress.global_step) + ": " + metrics_line(ended->metrics);
  }
  if (const auto* saved = std::get_if<CheckpointSaved>(&event)) {
    return "checkpoint: " + single_line(saved->path.string());
  }
  if (const auto* ended = std::get_if<RunEnded>(&event)) {
    return std::string(ended->failed ? "failed" : "ended") + " after " + std::to_string(ended->progress.global_step) +
           " steps" + (ended->reason.empty() ? "" : ": " + single_line(ended->reason));
  }
  return "";
}

}  // namespace troupe::command
