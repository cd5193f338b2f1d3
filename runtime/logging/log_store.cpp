#include "troupe/runtime/logging/log_store.hpp"

#include "troupe/base/failure.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <sstream>

namespace troupe {

namespace {

double read_host_scalar(const torch::Tensor& value) {
  if (value.scalar_type() == torch::kFloat32) return *value.const_data_ptr<float>();
  if (value.scalar_type() == torch::kFloat64) return *value.const_data_ptr<double>();
  return value.item().toDouble();
}

double reduced(Reduce how, double total, double value, double weight, bool first) {
  switch (how) {
    case Reduce::mean: return total + value * weight;
    case Reduce::sum: return total + value;
    case Reduce::min: return first ? value : std::min(total, value);
    case Reduce::max: return first ? value : std::max(total, value);
  }
  return total;
}

torch::Tensor reduced(Reduce how, const torch::Tensor& total, const torch::Tensor& value, double weight) {
  if (how == Reduce::mean) return total.defined() ? total.add(value, weight) : value.mul(weight);
  if (!total.defined()) return value.clone();
  if (how == Reduce::sum) return total.add(value);
  return how == Reduce::min ? torch::minimum(total, value) : torch::maximum(total, value);
}

// Replaces the defined tensors' numbers by one transfer of all of them.
std::vector<double> read_packed(const std::vector<torch::Tensor>& scalars) {
  if (scalars.empty()) return {};
  const auto packed = torch::stack(scalars).to(torch::kCPU);
  const auto* data = packed.const_data_ptr<double>();
  return {data, data + packed.numel()};
}

std::string shape_of(const torch::Tensor& value) {
  std::ostringstream text;
  text << value.sizes();
  return text.str();
}

// Totals of one name; those of a mean are weighted already.
void merge_into(EpochReduction& all, const EpochReduction& more) {
  const Reduce how = all.options.reduce_fx;
  if (how != more.options.reduce_fx || all.metric != more.metric) {
    throw UsageError("the metric \"" + all.name + "\" is reduced in two ways by two replicas");
  }
  all.total = how == Reduce::min   ? std::min(all.total, more.total)
              : how == Reduce::max ? std::max(all.total, more.total)
                                   : all.total + more.total;
  all.weight += more.weight;
}

}  // namespace

std::vector<EpochReduction> merged(const std::vector<std::vector<EpochReduction>>& replicas) {
  std::vector<EpochReduction> all;
  std::vector<std::vector<MetricStates>> states;
  for (const auto& replica : replicas) {
    for (const auto& reduction : replica) {
      auto found = std::ranges::find(all, reduction.name, &EpochReduction::name);
      if (found == all.end()) {
        all.push_back(reduction);
        states.push_back({reduction.states});
        continue;
      }
      merge_into(*found, reduction);
      states[static_cast<std::size_t>(found - all.begin())].push_back(reduction.states);
    }
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!all[i].metric.empty()) all[i].states = merged(states[i]);
  }
  return all;
}

void LogStore::refuse_log(std::string_view name, const std::string& why) const {
  throw UsageError("log(\"" + std::string(name) + "\") in " + std::string(origin_.hook) + ": " + why);
}

// What is logged for the first time.
void LogStore::add_entry(std::string_view name, const std::string& suffix, const LogOptions& options, Metric* metric) {
  Entry fresh;
  fresh.name = std::string(name) + suffix;
  fresh.options = options;
  if (!suffix.empty()) fresh.dataloader_idx = origin_.dataloader_idx;
  fresh.on_step = options.on_step.value_or(origin_.on_step);
  fresh.on_epoch = options.on_epoch.value_or(origin_.on_epoch);
  fresh.metric = metric;
  if (name.empty()) refuse_log(name, "a metric needs a name");
  if (fresh.on_step && !origin_.step_allowed) {
    refuse_log(name, "there is no step here; use on_epoch, without on_step");
  }
  if (!fresh.on_step && !fresh.on_epoch) {
    refuse_log(name, "neither on_step nor on_epoch is set, so the value would go nowhere");
  }
  entries_.push_back(std::move(fresh));
}

// What was logged before has to be logged in the same way.
void LogStore::compare_entry(std::string_view name, const Entry& known, const LogOptions& options,
                             const Metric* metric) const {
  if (known.metric != metric) {
    refuse_log(name, "its first call had another " + std::string(known.metric && metric ? "metric" : "kind of value") +
                         "; log it under another name");
  }
  const bool is_same = known.on_step == options.on_step.value_or(origin_.on_step) &&
                       known.on_epoch == options.on_epoch.value_or(origin_.on_epoch) &&
                       known.options.reduce_fx == options.reduce_fx && known.options.prog_bar == options.prog_bar &&
                       known.options.logger == options.logger;
  if (!is_same) refuse_log(name, "its options differ from those of its first call; log it under another name");
}

LogStore::Entry& LogStore::entry(std::string_view name, const LogOptions& options, Metric* metric) {
  const bool suffixed = origin_.dataloader_idx && options.add_dataloader_idx;
  const std::string suffix = suffixed ? "/dataloader_idx_" + std::to_string(*origin_.dataloader_idx) : "";
  const auto is_it = [&](const Entry& e) {
    return e.name.size() == name.size() + suffix.size() && e.name.starts_with(name) && e.name.ends_with(suffix);
  };
  if (cursor_ >= entries_.size()) cursor_ = 0;
  std::size_t at = cursor_;
  if (entries_.empty() || !is_it(entries_[at])) {
    at = static_cast<std::size_t>(std::find_if(entries_.begin(), entries_.end(), is_it) - entries_.begin());
  }
  const bool is_mean_of_epoch =
      options.on_epoch.value_or(origin_.on_epoch) && !metric && options.reduce_fx == Reduce::mean;
  if (is_mean_of_epoch && !options.batch_size && origin_.batch_size == 0) {
    refuse_log(name,
               "the batch counts as 0 samples (Batch::size), so the value would weigh nothing in the epoch's mean; do"
               " not log it, or give its LogOptions::batch_size");
  }
  if (at == entries_.size()) {
    add_entry(name, suffix, options, metric);
  } else {
    compare_entry(name, entries_[at], options, metric);
  }
  Entry& found = entries_[at];
  found.options.batch_size = options.batch_size;
  if (options.batch_size && *options.batch_size < 1) {
    refuse_log(name, "batch_size = " + std::to_string(*options.batch_size) + " is not 1 or more");
  }
  cursor_ = at + 1;
  return found;
}

// Above 0: what is no mean counts in a batch of no samples too.
double LogStore::weight_of(const Entry& entry) const {
  return static_cast<double>(std::max<int64_t>(1, entry.options.batch_size.value_or(origin_.batch_size)));
}

void LogStore::log(std::string_view name, double value, const LogOptions& options) {
  Entry& e = entry(name, options);
  if (e.on_step) {
    e.step = value;
    e.device_step.reset();
    e.has_step = true;
    e.logged_at = step_;
  }
  if (!e.on_epoch) return;
  const double weight = weight_of(e);
  e.total = reduced(e.options.reduce_fx, e.total, value, weight, e.weight == 0);
  e.weight += weight;
}

void LogStore::log(std::string_view name, const torch::Tensor& value, const LogOptions& options) {
  if (!value.defined() || value.numel() != 1) {
    throw UsageError("log(\"" + std::string(name) + "\") in " + std::string(origin_.hook) +
                     ": the value must be a scalar, it is " +
                     (value.defined() ? "of shape " + shape_of(value) : "undefined"));
  }
  if (value.device().is_cpu()) {
    log(name, read_host_scalar(value), options);
    return;
  }
  Entry& e = entry(name, options);
  const auto scalar = value.detach().reshape({}).to(torch::kFloat64);
  if (e.on_step) set_step(e, scalar);
  if (!e.on_epoch) return;
  const double weight = weight_of(e);
  e.device_total = reduced(e.options.reduce_fx, e.device_total, scalar, weight);
  e.weight += weight;
}

// A float64 scalar, wherever it lies.
void LogStore::set_step(Entry& entry, const torch::Tensor& value) {
  entry.device_step = value.is_cpu() ? torch::Tensor() : value;
  if (value.is_cpu()) entry.step = value.item<double>();
  entry.has_step = true;
  entry.logged_at = step_;
}

void LogStore::log(std::string_view name, Metric& metric, const LogOptions& options) {
  const auto refuse = [&](const std::string& why) {
    throw UsageError("log(\"" + std::string(name) + "\") in " + std::string(origin_.hook) + ": " + why);
  };
  if (!metric.is_scalar()) {
    refuse(
        "the value of " + metric.class_name() +
        " is no scalar: update() it in the steps, compute() it in the hook at the epoch's end, log its entries or hand"
        " it to logger(), and reset() it");
  }
  Entry& e = entry(name, options, &metric);
  if (std::ranges::find(to_reset_, &metric) == to_reset_.end()) to_reset_.push_back(&metric);
  if (e.on_step) {
    const auto& value = metric.batch_value();
    if (!value.defined()) {
      refuse(metric.class_name() +
             " has no value of this batch, which on_step logs: call it, metric(preds, target), instead of update(), or"
             " log it with on_step = false and on_epoch = true");
    }
    if (value.numel() != 1) refuse("the value of " + metric.class_name() + " is of shape " + shape_of(value));
    set_step(e, value.reshape({}).to(torch::kFloat64));
  }
  if (e.on_epoch) e.weight = 1;
}

bool LogStore::holds(const Metric& metric) const {
  return std::ranges::find(to_reset_, &metric) != to_reset_.end();
}

void LogStore::close_loader() {
  std::vector<Metric*> closed;
  for (Entry& e : entries_) {
    if (!e.metric || e.weight == 0 || e.states || !e.dataloader_idx) continue;
    e.states = e.metric->states();
    closed.push_back(e.metric);
  }
  for (Metric* metric : closed) metric->reset();
}

void LogStore::reset_metrics() {
  for (Metric* metric : to_reset_) metric->reset();
  to_reset_.clear();
}

// The total of an entry with a metric: what that has gathered in the epoch, computed.
void LogStore::compute(Entry& entry) {
  Metric& metric = *entry.metric;
  const auto refuse = [&](const std::string& why) { throw UsageError("log(\"" + entry.name + "\"): " + why); };
  if ((entry.states ? entry.states->updates : metric.update_count()) == 0) {
    refuse(metric.class_name() + " was logged but had no update in this epoch; update() it with each batch");
  }
  // Others may need what the metric itself has gathered, such as that of the last loader.
  MetricStates own;
  if (entry.states) {
    own = metric.states();
    metric.load_states(*entry.states);
  }
  const auto value = metric.compute();
  if (value.numel() != 1) refuse("the value of " + metric.class_name() + " is of shape " + shape_of(value));
  if (auto warning = metric.warning(); !warning.empty()) {
    warning = entry.name + ": " + warning;
    if (warned_of_.insert(warning).second) warnings_.push_back(std::move(warning));
  }
  if (entry.states) metric.load_states(own);
  if (value.is_cpu()) {
    entry.total = value.item().toDouble();
  } else {
    entry.device_total = value.reshape({}).to(torch::kFloat64);
  }
}

std::vector<LoggedValue> LogStore::take_step() {
  std::vector<torch::Tensor> on_device;
  for (const Entry& e : entries_) {
    if (e.has_step && e.device_step.defined()) on_device.push_back(e.device_step);
  }
  const auto read = read_packed(on_device);
  std::vector<LoggedValue> out;
  std::size_t next = 0;
  for (Entry& e : entries_) {
    if (!e.has_step) continue;
    const double value = e.device_step.defined() ? read[next++] : e.step;
    out.push_back({e.on_epoch ? e.name + "_step" : e.name, e.name, value, e.options.prog_bar, e.options.logger,
                   e.logged_at == step_, e.dataloader_idx, e.options.sync_dist.value_or(false)});
    e.has_step = false;
    e.device_step.reset();
  }
  return out;
}

bool LogStore::has_step_values() const {
  return std::any_of(entries_.begin(), entries_.end(), [](const Entry& e) { return e.has_step; });
}

bool LogStore::has_epoch_values() const {
  return std::any_of(entries_.begin(), entries_.end(), [](const Entry& e) { return e.weight > 0; });
}

std::vector<LoggedValue> LogStore::take_epoch() {
  for (Entry& e : entries_) {
    if (e.metric && e.weight > 0) compute(e);
  }
  const auto read = read_packed(device_totals());
  std::vector<LoggedValue> out;
  std::size_t next = 0;
  for (Entry& e : entries_) {
    if (e.weight == 0) continue;
    double total = e.device_total.defined() ? read[next++] : e.total;
    if (e.options.reduce_fx == Reduce::mean && !e.metric) total /= e.weight;
    out.push_back({e.on_step ? e.name + "_epoch" : e.name, e.name, total, e.options.prog_bar, e.options.logger,
                   /*fresh=*/true, e.dataloader_idx});
    e.total = e.weight = 0;
    e.device_total.reset();
    e.states.reset();
  }
  return out;
}

std::vector<torch::Tensor> LogStore::device_totals() const {
  std::vector<torch::Tensor> on_device;
  for (const Entry& e : entries_) {
    if (e.weight > 0 && e.device_total.defined()) on_device.push_back(e.device_total);
  }
  return on_device;
}

std::vector<EpochReduction> LogStore::epoch_reductions() const {
  const auto read = read_packed(device_totals());
  std::vector<EpochReduction> all;
  std::size_t next = 0;
  for (const Entry& e : entries_) {
    if (e.weight == 0) continue;
    EpochReduction reduction{e.name, e.options, e.dataloader_idx, e.on_step, e.total, e.weight};
    if (e.device_total.defined()) reduction.total = read[next++];
    if (e.metric) {
      reduction.metric = e.metric->name();
      reduction.states = e.states ? *e.states : e.metric->states();
    }
    all.push_back(std::move(reduction));
  }
  return all;
}

void LogStore::set_epoch_reductions(const std::vector<EpochReduction>& reductions, const NamedMetrics& metrics) {
  for (const auto& reduction : reductions) {
    const auto named = std::ranges::find(metrics, reduction.metric, &NamedMetrics::value_type::first);
    if (!reduction.metric.empty() && named == metrics.end()) continue;
    auto found = std::ranges::find(entries_, reduction.name, &Entry::name);
    if (found == entries_.end()) {
      Entry entry;
      entry.name = reduction.name;
      entry.options = reduction.options;
      entry.dataloader_idx = reduction.dataloader_idx;
      entry.on_step = reduction.on_step;
      entry.on_epoch = true;
      if (!reduction.metric.empty()) entry.metric = named->second.get();
      found = entries_.insert(entries_.end(), std::move(entry));
    }
    found->total = reduction.total;
    found->weight = reduction.weight;
    found->device_total.reset();
    if (!found->metric) continue;
    found->states.reset();
    if (!reduction.states.states.empty()) found->states = reduction.states;
    if (!holds(*found->metric)) to_reset_.push_back(found->metric);
  }
}

}  // namespace troupe
