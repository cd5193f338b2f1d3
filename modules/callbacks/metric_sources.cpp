#include "troupe/modules/callbacks/metric_sources.hpp"

#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace troupe {

namespace {

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

void MetricSources::load_state_dict(const StateReader& state) {
  const auto latest = state.texts("latest"), from_training = state.texts("from_training"),
             from_validation = state.texts("from_validation");
  const bool validated = state.flag("validated"), epoch_ended = state.flag("epoch_ended");
  latest_.clear();
  for (const auto& name : latest) latest_.emplace(name, std::nullopt);
  from_training_ = {from_training.begin(), from_training.end()};
  from_validation_ = {from_validation.begin(), from_validation.end()};
  validated_ = validated;
  epoch_ended_ = epoch_ended;
}

bool MetricSources::is_from_validation(std::string_view name) const {
  return from_validation_.contains(name) && !from_training_.contains(name);
}

UsageError metric_not_logged(const std::string& what, const std::string& name, const MetricMap& metrics) {
  std::vector<std::pair<std::size_t, std::string>> logged;
  for (const auto& entry : metrics) logged.emplace_back(edit_distance(name, entry.first), entry.first);
  std::stable_sort(logged.begin(), logged.end(), [](const auto& a, const auto& b) { return a.first < b.first; });

  std::vector<std::string> names;
  for (const auto& [distance, other] : logged) names.push_back(shown(other));
  return UsageError(what + ": no metric '" + shown(name) +
                    "' was logged; logged: " + (names.empty() ? "none" : brief_list(names)));
}

void check_monitor(const std::string& owner, const std::string& monitor) {
  if (!is_utf8(monitor)) throw UsageError(owner + ": monitor = '" + shown(monitor) + "' is not UTF-8 text");
}

}  // namespace troupe
