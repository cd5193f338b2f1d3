#include "troupe/modules/metrics/metric.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/type_name.hpp"
#include "troupe/modules/support/step_recorder.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <typeinfo>
#include <utility>

namespace troupe {

namespace {

const char* text_of(Combine combine) {
  switch (combine) {
    case Combine::sum: return "sum";
    case Combine::min: return "min";
    case Combine::max: return "max";
    case Combine::cat: return "cat";
  }
  return "";
}

std::string kind_of(const torch::Tensor& tensor) {
  return c10::str(tensor.scalar_type(), " ", tensor.sizes());
}

// A list takes rows of any shape, and any floating type where it is of one.
bool fits(const torch::Tensor& value, const torch::Tensor& initial, bool is_list) {
  const bool same_type = value.scalar_type() == initial.scalar_type();
  if (is_list) return value.dim() > 0 && (same_type || (value.is_floating_point() && initial.is_floating_point()));
  return same_type && (initial.dim() == 0 || value.sizes() == initial.sizes());
}

torch::Tensor combined(Combine how, const std::vector<torch::Tensor>& values) {
  if (how == Combine::cat) return torch::cat(values);
  torch::Tensor all = values.front().clone();
  for (std::size_t i = 1; i < values.size(); ++i) {
    if (values[i].sizes() != all.sizes()) {
      throw UsageError(
          c10::str("a state of shape ", all.sizes(), " cannot be combined with one of ", values[i].sizes()));
    }
    all = how == Combine::sum   ? all + values[i]
          : how == Combine::min ? torch::minimum(all, values[i])
                                : torch::maximum(all, values[i]);
  }
  return all;
}

}  // namespace

MetricStates merged(const std::vector<MetricStates>& replicas) {
  if (replicas.empty()) throw UsageError("merged: there are no states to merge");
  const auto& first = replicas.front().states;
  MetricStates all{0, first};
  // Replicas without an update add nothing, and their states may lack the shape that the first update gives.
  std::vector<const MetricStates*> updated;
  for (const auto& replica : replicas) {
    if (replica.states.size() != first.size()) {
      throw UsageError(c10::str("merged: one replica has ", first.size(), " states, another ", replica.states.size()));
    }
    all.updates += replica.updates;
    if (replica.updates > 0) updated.push_back(&replica);
  }
  if (updated.empty()) updated.push_back(&replicas.front());
  for (std::size_t i = 0; i < first.size(); ++i) {
    std::vector<torch::Tensor> values;
    for (const auto& replica : replicas) {
      const auto& other = replica.states[i];
      if (other.name == first[i].name && other.combine == first[i].combine) continue;
      throw UsageError(c10::str("merged: state ", i, " is ", first[i].name, " (", text_of(first[i].combine),
                                ") in one replica and ", other.name, " (", text_of(other.combine), ") in another"));
    }
    for (const auto* replica : updated) {
      values.push_back(values.empty() ? replica->states[i].value : replica->states[i].value.to(values[0].device()));
    }
    all.states[i].value = combined(first[i].combine, values);
  }
  return all;
}

std::string Metric::class_name() const {
  return type_name(typeid(*this));
}

torch::Tensor Metric::compute() const {
  if (updates_ == 0) {
    throw UsageError(class_name() + " has nothing to compute: there was no update since it was made or reset");
  }
  const torch::NoGradGuard no_gradients;
  verify();
  return result().clone();  // may be a state, which changes
}

void Metric::reset() {
  clear();
  updates_ = 0;
  batch_value_.reset();
}

void Metric::clear() {
  for (auto& slot : slots_) {
    if (slot.combine != Combine::cat) slot.value = slot.initial.clone();
    slot.parts.clear();
  }
}

torch::Tensor Metric::at(State state) const {
  const Slot& slot = slots_[state.index];
  if (slot.combine != Combine::cat) return slot.value;
  if (slot.parts.empty()) return slot.initial;
  return slot.parts.size() == 1 ? slot.parts.front() : torch::cat(slot.parts);
}

MetricStates Metric::states() const {
  MetricStates all;
  all.updates = updates_;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    State state;
    state.index = i;
    all.states.push_back({slots_[i].name, slots_[i].combine, at(state)});
  }
  return all;
}

void Metric::load_states(const MetricStates& states) {
  const auto refuse = [&](const std::string& why) {
    throw UsageError("the states are not those of " + class_name() + ": " + why);
  };
  if (states.updates < 0) refuse(c10::str("they count ", states.updates, " updates"));
  if (states.states.size() != slots_.size()) {
    refuse(c10::str("there are ", states.states.size(), ", not ", slots_.size()));
  }
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    const auto& [name, combine, value] = states.states[i];
    if (name != slot.name || combine != slot.combine) {
      refuse(c10::str(name, " (", text_of(combine), ") stands where ", slot.name, " (", text_of(slot.combine), ") is"));
    }
    if (!value.defined() || !fits(value, slot.initial, combine == Combine::cat)) {
      refuse(name + " is " + (value.defined() ? kind_of(value) : "undefined") + ", not " + kind_of(slot.initial));
    }
  }
  reset();
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const auto& given = states.states[i].value;
    auto value = given.detach().to(device_, given.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
    if (slots_[i].combine != Combine::cat) {
      slots_[i].value = std::move(value);
    } else if (value.size(0) > 0) {
      slots_[i].parts = {std::move(value)};
    }
  }
  updates_ = states.updates;
}

void Metric::to(torch::Device device) {
  device_ = device;
  for (auto& slot : slots_) {
    slot.initial = slot.initial.to(device);
    if (slot.value.defined()) slot.value = slot.value.to(device);
    for (auto& part : slot.parts) part = part.to(device);
  }
  if (batch_value_.defined()) batch_value_ = batch_value_.to(device);
}

Metric::State Metric::add_state(std::string name, torch::Tensor initial, Combine combine) {
  State state;
  state.index = slots_.size();
  slots_.push_back({std::move(name), combine, initial, initial.clone(), {}});
  return state;
}

Metric::State Metric::add_list(std::string name, torch::ScalarType type) {
  State state;
  state.index = slots_.size();
  slots_.push_back({std::move(name), Combine::cat, torch::empty({0}, type), {}, {}});
  return state;
}

void Metric::follow(torch::Device device) {
  if (device == device_) return;
  if (updates_ > 0) {
    throw UsageError(class_name() + " has gathered on " + device_.str() + " and gets a batch on " + device.str() +
                     ": move it with to(), or reset it");
  }
  to(device);
}

// A replay writes into the memory of its tensors again, and lists are not copied.
Metric::Inputs Metric::kept(const Inputs& inputs) const {
  Inputs out = inputs;
  const bool has_list = std::ranges::any_of(slots_, [](const Slot& slot) { return slot.combine == Combine::cat; });
  if (has_list) std::ranges::for_each(out, [](torch::Tensor& each) { each = each.clone(); });
  return out;
}

void Metric::refuse_number() const {
  StepRecorder* recorder = StepRecorder::current();
  if (!recorder) return;
  recorder->refuse(class_name() + " is given a number of the host, which a replay has no new one of: give it a tensor");
}

void Metric::gather(const Inputs& inputs, const Add& add) {
  if (StepRecorder* recorder = StepRecorder::current()) {
    return recorder->call_without_result("update of " + class_name(), inputs,
                                         [this, add](const Inputs& replayed) { gather(kept(replayed), add); });
  }
  const torch::NoGradGuard no_gradients;
  follow(inputs.front().device());
  add(inputs);
  ++updates_;
  batch_value_.reset();
}

torch::Tensor Metric::gather_batch(const Inputs& inputs, const Add& add) {
  if (StepRecorder* recorder = StepRecorder::current()) {
    const auto again = [this, add](const Inputs& replayed) { return Inputs{gather_batch(kept(replayed), add)}; };
    return recorder->call("call of " + class_name(), inputs, again).front();
  }
  const torch::NoGradGuard no_gradients;
  follow(inputs.front().device());
  auto earlier = set_aside();
  const int64_t earlier_updates = std::exchange(updates_, 0);
  torch::Tensor value;
  try {
    add(inputs);
    value = result().clone();
    // What comes first has nothing to be combined with, and may have no shape yet.
    if (earlier_updates > 0) combine_with(earlier);
  } catch (...) {
    slots_ = std::move(earlier);
    updates_ = earlier_updates;
    throw;
  }
  updates_ = earlier_updates + 1;
  batch_value_ = value;
  return value;
}

// The slots with all that they have gathered; empty ones take their place.
std::vector<Metric::Slot> Metric::set_aside() {
  std::vector<Slot> fresh;
  for (const auto& slot : slots_) fresh.push_back({slot.name, slot.combine, slot.initial, {}, {}});
  auto full = std::exchange(slots_, std::move(fresh));
  clear();
  return full;
}

// `earlier` is as it was when this throws.
void Metric::combine_with(std::vector<Slot>& earlier) {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    if (slot.combine != Combine::cat) slot.value = combined(slot.combine, {earlier[i].value, slot.value});
  }
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].combine != Combine::cat) continue;
    auto& parts = earlier[i].parts;
    parts.insert(parts.end(), slots_[i].parts.begin(), slots_[i].parts.end());
    slots_[i].parts = std::move(parts);
  }
}

// --- TargetMetric ---

void TargetMetric::check_devices(const torch::Tensor& preds, const torch::Tensor& target) const {
  if (!preds.defined() || !target.defined()) {
    throw UsageError(class_name() + ": " + (preds.defined() ? "target" : "preds") + " is undefined");
  }
  if (preds.device() == target.device()) return;
  throw UsageError(class_name() + ": preds is on " + preds.device().str() + " and target on " + target.device().str());
}

void TargetMetric::update(const torch::Tensor& preds, const torch::Tensor& target) {
  check_devices(preds, target);
  gather({preds, target}, [this](const Inputs& inputs) { add(inputs[0], inputs[1]); });
}

torch::Tensor TargetMetric::operator()(const torch::Tensor& preds, const torch::Tensor& target) {
  check_devices(preds, target);
  return gather_batch({preds, target}, [this](const Inputs& inputs) { add(inputs[0], inputs[1]); });
}

void throw_empty_metric_holder() {
  throw UsageError("a MetricHolder without a metric was used: give it what register_metric returns");
}

}  // namespace troupe
