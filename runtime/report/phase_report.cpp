#include "troupe/runtime/report/phase_report.hpp"

#include "troupe/base/state_reader.hpp"

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
  report.meanwhile = phase_times_in(reader, "meanwhile");
  for (const auto& rank : reader.objects("ranks")) {
    report.ranks.push_back(
        {rank.text("name"), rank.number("median"), rank.number("slowest"), rank.count("slowest_rank")});
  }
  report.advice = reader.text("advice");
  return report;
}

}  // namespace troupe
