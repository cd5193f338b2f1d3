#include "troupe/runtime/report/phase_spread.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <string>

namespace troupe {

namespace {

double median_of(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace

std::vector<PhaseSpread> spread_over(const std::vector<std::vector<PhaseTime>>& by_rank) {
  std::map<std::string, std::vector<double>> seconds;
  for (std::size_t rank = 0; rank < by_rank.size(); ++rank) {
    for (const auto& phase : by_rank[rank]) {
      auto& all = seconds[phase.name];
      all.resize(by_rank.size());
      all[rank] += phase.seconds;
    }
  }
  std::vector<PhaseSpread> spread;
  for (const auto& [name, all] : seconds) {
    const auto slowest = std::ranges::max_element(all);
    spread.push_back({name, median_of(all), *slowest, slowest - all.begin()});
  }
  std::ranges::stable_sort(spread, std::ranges::greater(), &PhaseSpread::slowest);
  return spread;
}

std::vector<PhaseSpread> gather_spread(Peers& peers, const PhaseReport& mine) {
  const auto all = peers.all_gather_bytes(to_json(mine).dump());
  std::vector<std::vector<PhaseTime>> by_rank;
  for (const auto& one : all) {
    by_rank.push_back(phase_report_from_json(nlohmann::json::parse(one), "a rank's report of phases").phases);
  }
  return spread_over(by_rank);
}

}  // namespace troupe
