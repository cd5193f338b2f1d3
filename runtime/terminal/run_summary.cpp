#include "troupe/runtime/terminal/run_summary.hpp"

#include "troupe/base/text.hpp"
#include "troupe/runtime/terminal/progress_line.hpp"
#include "troupe/runtime/terminal/terminal_style.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <sstream>

namespace troupe {

namespace {

constexpr int kSummaryIndent = 17;     // "best checkpoint: "
constexpr int kNarrowestSummary = 40;  // narrower text is for the terminal to break
constexpr std::size_t kMostSummaryMetrics = 10, kMostSummaryPhases = 5, kMostSummaryPrograms = 4;
constexpr double kLeastPhaseShare = 0.01;

std::string count_of(int64_t count, const std::string& one, const std::string& several) {
  return std::to_string(count) + " " + (count == 1 ? one : several);
}

std::string summary_number(double value) {
  if (!std::isfinite(value)) return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  std::array<char, 32> text;
  constexpr int digits = 4;
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value, std::chars_format::general, digits);
  return {text.data(), end.ptr};
}

/// `items` with `separator` behind each but the last, in lines that end at `width`, all but the first indented.
std::string in_summary_lines(const std::vector<std::string>& items, const std::string& separator, int width) {
  const int room = std::max(width, kNarrowestSummary) - kSummaryIndent;
  std::string text;
  int used = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const std::string item = items[i] + (i + 1 < items.size() ? separator : "");
    const int wide = columns(item);
    if (used > 0 && used + 1 + wide > room) {
      text += "\n" + std::string(kSummaryIndent, ' ');
      used = 0;
    }
    text += (used > 0 ? " " : "") + item;
    used += (used > 0 ? 1 : 0) + wide;
  }
  return text;
}

std::string summary_line(const std::string& label, const std::string& text) {
  return pad_columns(label + ":", kSummaryIndent - 1) + " " + text + "\n";
}

const PhaseReport* phases_of(const RunCard& card) {
  const auto found = std::find_if(card.phases.rbegin(), card.phases.rend(),
                                  [&](const PhaseReport& report) { return report.stage == card.stage; });
  return found == card.phases.rend() ? nullptr : &*found;
}

std::string summary_head(const RunCard& card, const RunSummaryOptions& options) {
  const PhaseReport* phases = phases_of(card);
  double seconds = card.ended.value_or(card.updated) - card.started;
  if (phases) seconds = phases->seconds;
  if (options.seconds) seconds = *options.seconds;
  std::string head = card.stage + " ";
  switch (card.status) {
    case RunStatus::failed: head += emphasized("failed", Emphasis::failure, options.colours) + " after "; break;
    case RunStatus::interrupted:
      head += emphasized("was interrupted", Emphasis::warning, options.colours) + " after ";
      break;
    default: head += "finished in ";
  }
  head += format_time(seconds);
  if (card.stage == "fit") {
    head += ": " + count_of(card.progress.epoch, "epoch", "epochs") + ", " +
            count_of(card.progress.global_step, "step", "steps");
  } else if (phases && phases->batches > 0) {
    head += ": " + count_of(phases->batches, "batch", "batches");
  }
  return head + "\n";
}

std::string summary_metrics(const RunCard& card, const RunSummaryOptions& options) {
  std::vector<std::string> names;
  for (const auto& name : options.first_metrics) {
    if (card.metrics.contains(name)) names.push_back(name);
  }
  for (const auto& [name, value] : card.metrics) {
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  }
  if (names.empty()) return "";
  const std::size_t more = names.size() - std::min(names.size(), kMostSummaryMetrics);
  names.resize(names.size() - more);
  std::vector<std::string> items;
  for (const auto& name : names) items.push_back(single_line(name) + "=" + summary_number(card.metrics.at(name)));
  if (more > 0) items.push_back("and " + std::to_string(more) + " more");
  return summary_line("metrics", in_summary_lines(items, ",", options.width));
}

/// The words of `sentence`, in lines that end at `width`.
std::string in_summary_lines(const std::string& sentence, int width) {
  std::istringstream words(single_line(sentence));
  return in_summary_lines(std::vector<std::string>{std::istream_iterator<std::string>(words), {}}, "", width);
}

std::string bytes_text(std::size_t bytes) {
  char text[32];
  const auto number = static_cast<double>(bytes);
  std::snprintf(text, sizeof text, bytes < 1'000'000 ? "%.1f kB" : "%.1f MB", number / (bytes < 1'000'000 ? 1e3 : 1e6));
  return text;
}

std::string summary_captured(const RunSummaryOptions& options) {
  std::string text;
  for (std::size_t i = 0; i < std::min(options.captured.size(), kMostSummaryPrograms); ++i) {
    const auto& program = options.captured[i];
    const std::string said =
        program.step + ": " + captured_text(program) + "; " + count_of(program.replays, "replay", "replays");
    text += summary_line("captured", in_summary_lines(said, options.width));
  }
  const std::size_t more = options.captured.size() - std::min(options.captured.size(), kMostSummaryPrograms);
  if (more > 0) text += summary_line("captured", "and " + std::to_string(more) + " more");
  return text;
}

std::string summary_time(const PhaseReport& report, int width) {
  std::vector<std::string> items;
  auto phases = report.phases;
  std::ranges::stable_sort(phases, std::ranges::greater(), &PhaseTime::seconds);
  for (const auto& phase : phases) {
    const double share = report.seconds > 0 ? phase.seconds / report.seconds : 0;
    if (items.size() == kMostSummaryPhases || share < kLeastPhaseShare) break;
    items.push_back(single_line(phase.name) + " " + std::to_string(std::lround(share * 100)) + " %");
  }
  std::string text;
  if (!items.empty()) text += summary_line("time", in_summary_lines(items, ",", width));
  if (report.advice.empty()) return text;
  const std::string advice = in_summary_lines(report.advice, width);
  return text + (text.empty() ? summary_line("time", advice) : std::string(kSummaryIndent, ' ') + advice + "\n");
}

std::string summary_checkpoint(const RunCard& card, const RunSummaryOptions& options) {
  if (card.best_checkpoint.empty()) return "";
  std::string text;
  if (!options.monitor.empty() && options.monitor_value) {
    text += summary_line("best " + single_line(options.monitor), summary_number(*options.monitor_value));
  }
  return text + summary_line("best checkpoint", single_line(card.best_checkpoint.string()));
}

std::string summary_files(const RunCard& card, const std::filesystem::path& folder) {
  if (folder.empty()) return "";
  std::string text = summary_line("run", single_line(folder.string()));
  const auto add = [&](const std::string& label, const char* name) {
    std::error_code ignored;
    const auto path = folder / name;
    if (std::filesystem::exists(path, ignored)) text += summary_line(label, single_line(path.string()));
  };
  add("page", "report.html");
  if (card.status == RunStatus::failed) add("failure", "failure.json");
  return text;
}

}  // namespace

std::string captured_text(const CapturedProgram& program) {
  return c10::str(program.operators, " operators, was ", program.recorded, " (left out: ", program.views,
                  " of views and memory, ", program.constants, " constant, ", program.unused, " unused); ",
                  bytes_text(program.bytes), ", was ", bytes_text(program.plain_bytes));
}

std::string run_summary(const RunCard& card, const RunSummaryOptions& options) {
  std::string text = summary_head(card, options);
  const bool is_fit = card.stage == "fit";
  if (is_fit) text += summary_metrics(card, options);
  if (const PhaseReport* phases = phases_of(card)) text += summary_time(*phases, options.width);
  text += summary_captured(options);
  if (is_fit) text += summary_checkpoint(card, options);
  return text + summary_files(card, options.folder);
}

}  // namespace troupe
