#include "troupe/modules/callbacks/metric_sources.hpp"

#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace troupe {

namespace {

constexpr std::size_t most_listed = 20;

bool is_same(double a, double b) {
  return a == b || (std::isnan(a) && std::isnan(b));
}

}  // namespace

void MetricSources::start(const RunInfo& info) {
  *this = MetricSources();
  has_validation_ = info.has_validation;
  validation_is_off_ = info.validation_is_off;
}

void MetricSources::observe(Moment moment, const MetricMap& metrics) {
  if (moment == Moment::sanity_check_end) return;
  auto& source = moment == Moment::validation_end ? from_validation_ : from_training_;
  for (const auto& [name, value] : metrics) {
    const auto before = latest_.find(name);
    const bool is_unchanged = before != latest_.end() && (!before->second || is_same(*before->second, value));
    if (!is_unchanged) source.insert(name);
  }
  latest_ = {metrics.begin(), metrics.end()};
  validated_ = validated_ || moment == Moment::validation_end;
  epoch_ended_ = epoch_ended_ || moment == Moment::train_epoch_end;
}

nlohmann::json MetricSources::state_dict() const {
  auto names = nlohmann::json::array();
  for (const auto& entry : latest_) names.push_back(entry.first);
  return {{"latest", std::move(names)},
          {"from_training", from_training_},
          {"from_validation", from_validation_},
          {"validated", validated_},
          {"epoch_ended", epoch_ended_}};
}

void MetricSources::load_state_dict(const nlohmann::json& state) {
  const auto names = [&](const char* key) {
    const auto found = state.is_object() ? state.find(key) : state.end();
    const bool is_list = found != state.end() && found->is_array() &&
                         std::ranges::all_of(*found, [](const auto& name) { return name.is_string(); });
    if (!is_list) throw UsageError("the checkpoint's sources of metrics are damaged: no list of " + std::string(key));
    return found->get<std::set<std::string, std::less<>>>();
  };
  const auto flag = [&](const char* key) {
    const auto found = state.find(key);
    return found != state.end() && found->is_boolean() && found->get<bool>();
  };
  latest_.clear();
  for (const auto& name : names("latest")) latest_.emplace(name, std::nullopt);
  from_training_ = names("from_training");
  from_validation_ = names("from_validation");
  validated_ = flag("validated");
  epoch_ended_ = flag("epoch_ended");
}

bool MetricSources::is_from_validation(std::string_view name) const {
  return from_validation_.contains(name) && !from_training_.contains(name);
}

UsageError metric_not_logged(const std::string& what, const std::string& name, const MetricMap& metrics) {
  std::vector<std::pair<std::size_t, std::string>> logged;
  for (const auto& entry : metrics) logged.emplace_back(edit_distance(name, entry.first), entry.first);
  std::stable_sort(logged.begin(), logged.end(), [](const auto& a, const auto& b) { return a.first < b.first; });

  std::string list;
  for (std::size_t i = 0; i < std::min(logged.size(), most_listed); ++i) {
    list += (i == 0 ? "" : ", ") + shown(logged[i].second);
  }
  if (logged.size() > most_listed) list += " and " + std::to_string(logged.size() - most_listed) + " more";
  return UsageError(what + ": no metric '" + shown(name) + "' was logged; logged: " + (list.empty() ? "none" : list));
}

void check_monitor_options(const std::string& owner, const std::string& monitor, const std::string& mode) {
  if (!is_utf8(monitor)) throw UsageError(owner + ": monitor = '" + shown(monitor) + "' is not UTF-8 text");
  if (mode != "min" && mode != "max") {
    throw UsageError(owner + ": mode = '" + shown(mode) +
                     "' is neither min nor max; nearest: " + nearest(mode, {"min", "max"}));
  }
}

}  // namespace troupe
