#include "troupe/runtime/sinks/metric_charts.hpp"

#include "troupe/base/text.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <utility>

namespace troupe {
namespace {

struct StageWord {
  std::string_view word, stage;
};
constexpr std::array<StageWord, 7> kStageWords{
    StageWord{"train", "train"}, {"training", "train"}, {"val", "val"},  {"valid", "val"},
    {"validation", "val"},       {"eval", "val"},       {"test", "test"}};

std::string_view stage_of_word(std::string_view word) {
  const auto found = std::ranges::find(kStageWords, small_letters(std::string(word)), &StageWord::word);
  return found == kStageWords.end() ? "" : found->stage;
}

// log() adds it if there are several loaders.
void remove_loader(std::string_view& name) {
  constexpr std::string_view loader = "/dataloader_idx_";
  const auto at = name.rfind(loader);
  if (at == std::string_view::npos || at == 0) return;
  const auto number = name.substr(at + loader.size());
  if (!number.empty() && std::ranges::all_of(number, [](char c) { return c >= '0' && c <= '9'; })) {
    name = name.substr(0, at);
  }
}

struct StagedName {
  std::string_view measured, stage;
};

StagedName split_name(std::string_view name) {
  remove_loader(name);
  for (const std::string_view ending : {"_step", "_epoch"}) {
    if (name.size() > ending.size() && name.ends_with(ending)) {
      name.remove_suffix(ending.size());
      break;
    }
  }
  const auto first = name.find_first_of("_/.-"), last = name.rfind('/');
  if (first == std::string_view::npos || first == 0) return {name, ""};
  const auto before = stage_of_word(name.substr(0, first));
  if (!before.empty() && first + 1 < name.size()) return {name.substr(first + 1), before};
  const auto after = last == std::string_view::npos || last == 0 ? "" : stage_of_word(name.substr(last + 1));
  return after.empty() ? StagedName{name, ""} : StagedName{name.substr(0, last), after};
}

}  // namespace

std::vector<MetricChart> charts_over_stages(const std::vector<std::string>& names) {
  struct Group {
    std::set<std::string_view> stages;
    std::vector<std::string> names;
  };
  std::map<std::string_view, Group> groups;
  for (const auto& name : names) {
    const auto parts = split_name(name);
    auto& group = groups[parts.measured];
    group.stages.insert(parts.stage);
    group.names.push_back(name);
  }
  std::vector<MetricChart> charts;
  for (auto& [measured, group] : groups) {
    if (group.stages.size() > 1) charts.push_back({std::string(measured), std::move(group.names)});
  }
  return charts;
}

}  // namespace troupe
