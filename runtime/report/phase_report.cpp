#include "troupe/runtime/report/phase_report.hpp"

#include "troupe/base/state_reader.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace troupe {

namespace {

nlohmann::json phase_times_to_json(const std::vector<PhaseTime>& phases) {
  auto json = nlohmann::json::array();
  for (const auto& phase : phases) {
    json.push_back(
        {{"name", phase.name}, {"seconds", phase.seconds}, {"count", phase.count}, {"longest", phase.longest}});
  }
  return json;
}

std::vector<PhaseTime> phase_times_in(const StateReader& reader, const char* key) {
  std::vector<PhaseTime> phases;
  for (const auto& phase : reader.objects(key)) {
    phases.push_back({phase.text("name"), phase.number("seconds"), phase.count("count"), phase.number("longest")});
  }
  return phases;
}

// --- As text ---

constexpr double small_share = 0.001;
constexpr std::size_t widest_name = 48;

// "12.3 s", "4.56 ms", "789 us"
std::string time_text(double seconds) {
  const auto shown = [](double value, const char* unit) {
    return fmt::format("{:.{}f} {}", value, value < 10 ? 2 : value < 100 ? 1 : 0, unit);
  };
  if (seconds >= 1) return shown(seconds, "s");
  return seconds >= 1e-3 ? shown(seconds * 1e3, "ms") : shown(seconds * 1e6, "us");
}

// A letter is a byte here: names of classes in other letters make a column that is not straight, and nothing else.
std::string short_name(const std::string& name) {
  if (name.size() <= widest_name) return name;
  std::size_t end = widest_name - 3;
  while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xC0U) == 0x80U) --end;  // not within a letter
  return name.substr(0, end) + "...";
}

std::string phase_line(const PhaseTime& phase, double whole, const std::string& indent) {
  const double share = whole > 0 ? 100 * phase.seconds / whole : 0;
  const auto mean = phase.seconds / static_cast<double>(std::max<int64_t>(1, phase.count));
  return fmt::format("{:<50}{:>9} {:>6.1f} % {:>9} {:>9} {:>9}\n", indent + short_name(phase.name),
                     time_text(phase.seconds), share, phase.count, time_text(mean), time_text(phase.longest));
}

std::string phase_lines(const std::vector<PhaseTime>& phases, const PhaseReport& report, PhaseTable table,
                        const std::string& indent) {
  std::string text;
  PhaseTime small{"smaller ones", 0, 0, 0};
  for (const auto& phase : phases) {
    if (table == PhaseTable::large && phase.seconds < small_share * report.seconds) {
      small.add(phase);
      continue;
    }
    text += phase_line(phase, report.seconds, indent);
    if (indent.empty() && phase.name == "validation") {
      text += phase_lines(report.parts_of_validation, report, table, "  ");
    }
  }
  return small.count > 0 ? text + phase_line(small, report.seconds, indent) : text;
}

}  // namespace

nlohmann::json to_json(const PhaseReport& report) {
  auto ranks = nlohmann::json::array();
  for (const auto& rank : report.ranks) {
    ranks.push_back(
        {{"name", rank.name}, {"median", rank.median}, {"slowest", rank.slowest}, {"slowest_rank", rank.slowest_rank}});
  }
  return {{"stage", report.stage},
          {"seconds", report.seconds},
          {"batches", report.batches},
          {"phases", phase_times_to_json(report.phases)},
          {"parts_of_validation", phase_times_to_json(report.parts_of_validation)},
          {"meanwhile", phase_times_to_json(report.meanwhile)},
          {"ranks", std::move(ranks)},
          {"advice", report.advice}};
}

PhaseReport phase_report_from_json(const nlohmann::json& json, const std::string& what) {
  const StateReader reader(json, what);
  PhaseReport report;
  report.stage = reader.text("stage");
  report.seconds = reader.number("seconds");
  report.batches = reader.count("batches");
  report.phases = phase_times_in(reader, "phases");
  if (reader.has("parts_of_validation")) report.parts_of_validation = phase_times_in(reader, "parts_of_validation");
  report.meanwhile = phase_times_in(reader, "meanwhile");
  for (const auto& rank : reader.objects("ranks")) {
    report.ranks.push_back(
        {rank.text("name"), rank.number("median"), rank.number("slowest"), rank.count("slowest_rank")});
  }
  report.advice = reader.text("advice");
  return report;
}

std::string to_text(const PhaseReport& report, PhaseTable table) {
  std::string text = fmt::format("{:<50}{:>9} {:>8} {:>9} {:>9} {:>9}\n",
                                 "phases of " + report.stage + ", " + time_text(report.seconds), "time", "share",
                                 "count", "mean", "longest");
  text += phase_lines(report.phases, report, table, "");
  if (!report.meanwhile.empty()) text += "on other threads at the same time\n";
  for (const auto& phase : report.meanwhile) text += phase_line(phase, report.seconds, "  ");
  if (!report.ranks.empty()) text += fmt::format("{:<50}{:>9} {:>18}\n", "over ranks", "median", "slowest");
  for (const auto& rank : report.ranks) {
    if (table == PhaseTable::large && rank.slowest < small_share * report.seconds) continue;
    text += fmt::format("  {:<48}{:>9} {:>9} rank {}\n", short_name(rank.name), time_text(rank.median),
                        time_text(rank.slowest), rank.slowest_rank);
  }
  if (!report.advice.empty()) text += report.advice + "\n";
  return text;
}

}  // namespace troupe
