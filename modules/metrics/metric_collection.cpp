#include "troupe/modules/metrics/metric_collection.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"

#include <algorithm>

namespace troupe::metrics {

void MetricCollection::insert(const std::string& name, std::shared_ptr<TargetMetric> metric) {
  if (name.empty()) throw UsageError("MetricCollection: a metric needs a name");
  for (const auto& [taken, other] : members_) {
    if (taken == name) throw UsageError("MetricCollection: " + shown(name) + " is taken by " + other->class_name());
    if (other->update_count() > 0) {
      throw UsageError("MetricCollection: " + shown(name) + " was added after an update; add all metrics first");
    }
  }
  if (metric->update_count() > 0) throw UsageError("MetricCollection: " + shown(name) + " has had an update already");
  const auto key = metric->sharing_key();
  const auto group = std::ranges::find_if(groups_, [&](const Group& g) { return !key.empty() && g.key == key; });
  if (group == groups_.end()) {
    groups_.push_back({key, {members_.size()}});
  } else {
    metric->gathered_ = members_[group->members.front()].second->gathered_;
    group->members.push_back(members_.size());
  }
  members_.emplace_back(name, std::move(metric));
}

std::vector<Metric*> MetricCollection::sharing(const Group& group) const {
  std::vector<Metric*> all;
  for (const auto member : group.members) all.push_back(members_[member].second.get());
  return all;
}

void MetricCollection::update(const torch::Tensor& preds, const torch::Tensor& target) {
  for (const auto& group : groups_) {
    TargetMetric& first = *members_[group.members.front()].second;
    first.check_devices(preds, target);
    first.gather(sharing(group), {preds, target},
                 [&first](const Metric::Inputs& inputs) { first.add(inputs[0], inputs[1]); });
  }
}

MetricCollection::Values MetricCollection::operator()(const torch::Tensor& preds, const torch::Tensor& target) {
  Values values;
  for (const auto& [name, metric] : members_) values.emplace_back(prefix_ + name, torch::Tensor());
  for (const auto& group : groups_) {
    TargetMetric& first = *members_[group.members.front()].second;
    first.check_devices(preds, target);
    const auto own = first.gather_batch(sharing(group), {preds, target},
                                        [&first](const Metric::Inputs& inputs) { first.add(inputs[0], inputs[1]); });
    for (std::size_t i = 0; i < own.size(); ++i) values[group.members[i]].second = own[i];
  }
  return values;
}

MetricCollection::Values MetricCollection::compute() const {
  Values values;
  for (const auto& [name, metric] : members_) values.emplace_back(prefix_ + name, metric->compute());
  return values;
}

void MetricCollection::reset() {
  for (const auto& [name, metric] : members_) metric->reset();
}

Metric& MetricCollection::operator[](const std::string& name) const {
  std::vector<std::string> names;
  for (const auto& [own, metric] : members_) {
    if (own == name) return *metric;
    names.push_back(own);
  }
  const std::string what = "MetricCollection: there is no metric " + shown(name);
  if (names.empty()) throw UsageError(what + "; the collection is empty");
  throw UsageError(what + "; did you mean " + nearest(name, names) + "? There are " + joined(names));
}

NamedMetrics MetricCollection::members() const {
  NamedMetrics all;
  for (const auto& [name, metric] : members_) all.emplace_back(prefix_ + name, metric);
  return all;
}

std::vector<std::pair<std::string, Loggable>> MetricCollection::loggable() const {
  std::vector<std::pair<std::string, Loggable>> all;
  for (const auto& [name, metric] : members_) all.emplace_back(prefix_ + name, *metric);
  return all;
}

}  // namespace troupe::metrics
