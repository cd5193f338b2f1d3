#include "troupe/modules/metrics/metric.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/type_name.hpp"
#include "troupe/modules/support/step_recorder.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cstring>
#include <typeinfo>
#include <utility>

namespace troupe {

namespace {

constexpr int64_t most_room = 1 << 22;  // bytes

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
  if (gathered_->updates == 0) {
    throw UsageError(class_name() + " has nothing to compute: there was no update since it was made or reset");
  }
  const torch::NoGradGuard no_gradients;
  verify();
  return result().clone();  // may be a state, which changes
}

void Metric::reset() {
  clear();
  gathered_->updates = 0;
  batch_value_.reset();
}

void Metric::clear() {
  for (auto& slot : gathered_->slots) {
    if (slot.combine != Combine::cat) slot.value = slot.initial.clone();
    slot.parts.clear();
    slot.filled = 0;
    // What nobody else looks at is room for the next rows.
    if (slot.room.defined() && slot.room.storage().use_count() > 1) slot.room.reset();
  }
}

torch::Tensor Metric::at(State state) const {
  const Slot& slot = gathered_->slots[state.index];
  if (slot.combine != Combine::cat) return slot.value;
  const auto parts = slot.all_parts();
  if (parts.empty()) return slot.initial;
  return parts.size() == 1 ? parts.front() : torch::cat(parts);
}

std::vector<torch::Tensor> Metric::Slot::all_parts() const {
  auto all = parts;
  if (filled > 0) all.push_back(room.narrow(0, 0, filled));
  return all;
}

void Metric::Slot::close() {
  parts = all_parts();
  filled = 0;
  room.reset();
}

void Metric::append(State state, torch::Tensor rows) {
  Slot& slot = gathered_->slots[state.index];
  const auto is_memory_of = [&](const torch::Tensor& input) { return rows.is_alias_of(input); };
  if (gathered_->replayed && std::ranges::any_of(*gathered_->replayed, is_memory_of)) rows = rows.clone();
  slot.close();
  slot.parts.push_back(std::move(rows));
}

void Metric::append_copy(State state, const torch::Tensor& rows) {
  if (rows.numel() == 0 || !rows.is_cpu() || !rows.is_contiguous() || rows.is_neg()) return append(state, rows.clone());
  Slot& slot = gathered_->slots[state.index];
  const auto fits = [&] {
    return slot.room.defined() && slot.room.scalar_type() == rows.scalar_type() && slot.room.dim() == rows.dim() &&
           slot.room.sizes().slice(1) == rows.sizes().slice(1) && slot.filled + rows.size(0) <= slot.room.size(0);
  };
  if (!fits()) {
    // Twice as many rows as before, up to some megabytes.
    const int64_t most = std::max<int64_t>(most_room / static_cast<int64_t>(rows.nbytes() / rows.size(0)), 1);
    const int64_t before = slot.room.defined() ? slot.room.size(0) : 0;
    auto sizes = rows.sizes().vec();
    slot.close();
    sizes[0] = std::max(sizes[0], std::min(2 * before, most));
    slot.room = torch::empty(sizes, rows.options());
  }
  const std::size_t row_bytes = rows.nbytes() / static_cast<std::size_t>(rows.size(0));
  std::memcpy(static_cast<char*>(slot.room.mutable_data_ptr()) + static_cast<std::size_t>(slot.filled) * row_bytes,
              rows.const_data_ptr(), rows.nbytes());
  slot.filled += rows.size(0);
}

MetricStates Metric::states() const {
  MetricStates all;
  all.updates = gathered_->updates;
  for (std::size_t i = 0; i < gathered_->slots.size(); ++i) {
    State state;
    state.index = i;
    all.states.push_back({gathered_->slots[i].name, gathered_->slots[i].combine, at(state)});
  }
  return all;
}

void Metric::load_states(const MetricStates& states) {
  const auto refuse = [&](const std::string& why) {
    throw UsageError("the states are not those of " + class_name() + ": " + why);
  };
  if (states.updates < 0) refuse(c10::str("they count ", states.updates, " updates"));
  if (states.states.size() != gathered_->slots.size()) {
    refuse(c10::str("there are ", states.states.size(), ", not ", gathered_->slots.size()));
  }
  for (std::size_t i = 0; i < gathered_->slots.size(); ++i) {
    const Slot& slot = gathered_->slots[i];
    const auto& [name, combine, value] = states.states[i];
    if (name != slot.name || combine != slot.combine) {
      refuse(c10::str(name, " (", text_of(combine), ") stands where ", slot.name, " (", text_of(slot.combine), ") is"));
    }
    if (!value.defined() || !fits(value, slot.initial, combine == Combine::cat)) {
      refuse(name + " is " + (value.defined() ? kind_of(value) : "undefined") + ", not " + kind_of(slot.initial));
    }
  }
  reset();
  for (std::size_t i = 0; i < gathered_->slots.size(); ++i) {
    const auto& given = states.states[i].value;
    auto value =
        given.detach().to(gathered_->device, given.scalar_type(), /*non_blocking=*/false, /*copy=*/true).contiguous();
    if (gathered_->slots[i].combine != Combine::cat) {
      gathered_->slots[i].value = std::move(value);
    } else if (value.size(0) > 0) {
      gathered_->slots[i].parts = {std::move(value)};
    }
  }
  gathered_->updates = states.updates;
}

void Metric::to(torch::Device device) {
  gathered_->device = device;
  for (auto& slot : gathered_->slots) {
    slot.close();
    slot.initial = slot.initial.to(device);
    if (slot.value.defined()) slot.value = slot.value.to(device);
    for (auto& part : slot.parts) part = part.to(device);
  }
  if (batch_value_.defined()) batch_value_ = batch_value_.to(device);
}

Metric::State Metric::add_state(std::string name, torch::Tensor initial, Combine combine) {
  State state;
  state.index = gathered_->slots.size();
  gathered_->slots.push_back({std::move(name), combine, initial, initial.clone(), {}, {}, 0});
  return state;
}

Metric::State Metric::add_list(std::string name, torch::ScalarType type) {
  State state;
  state.index = gathered_->slots.size();
  gathered_->slots.push_back({std::move(name), Combine::cat, torch::empty({0}, type), {}, {}, {}, 0});
  return state;
}

void Metric::follow(torch::Device device) {
  if (device == gathered_->device) return;
  if (gathered_->updates > 0) {
    throw UsageError(class_name() + " has gathered on " + gathered_->device.str() + " and gets a batch on " +
                     device.str() + ": move it with to(), or reset it");
  }
  to(device);
}

// While it lives, what is appended to a list is copied if it is memory of `inputs`, into which the next replay writes.
class Metric::Replay {
 public:
  Replay(Gathered& gathered, const Inputs& inputs) : gathered_(gathered) { gathered_.replayed = &inputs; }
  Replay(const Replay&) = delete;
  Replay& operator=(const Replay&) = delete;
  ~Replay() { gathered_.replayed = nullptr; }

 private:
  Gathered& gathered_;
};

void Metric::refuse_number() const {
  StepRecorder* recorder = StepRecorder::current();
  if (!recorder) return;
  recorder->refuse(class_name() + " is given a number of the host, which a replay has no new one of: give it a tensor");
}

void Metric::refuse_text() const {
  if (StepRecorder* recorder = StepRecorder::current()) {
    recorder->refuse(class_name() + " is given text, which a replay has no new one of");
  }
}

void Metric::gather(const Inputs& inputs, const Add& add) {
  if (StepRecorder::current()) return gather({this}, inputs, add);
  gather_now(inputs, add);
  batch_value_.reset();
}

void Metric::gather_now(const Inputs& inputs, const Add& add) {
  const torch::NoGradGuard no_gradients;
  follow(inputs.front().device());
  add(inputs);
  ++gathered_->updates;
}

torch::Tensor Metric::gather_batch(const Inputs& inputs, const Add& add) {
  return gather_batch({this}, inputs, add).front();
}

void Metric::gather(const std::vector<Metric*>& sharing, const Inputs& inputs, const Add& add) {
  if (StepRecorder* recorder = StepRecorder::current()) {
    return recorder->call_without_result("update of " + class_name(), inputs,
                                         [this, sharing, add](const Inputs& replayed) {
                                           const Replay now(*gathered_, replayed);
                                           gather(sharing, replayed, add);
                                         });
  }
  gather_now(inputs, add);
  for (Metric* metric : sharing) metric->batch_value_.reset();
}

Metric::Inputs Metric::gather_batch(const std::vector<Metric*>& sharing, const Inputs& inputs, const Add& add) {
  if (StepRecorder* recorder = StepRecorder::current()) {
    const auto again = [this, sharing, add](const Inputs& replayed) {
      const Replay now(*gathered_, replayed);
      return gather_batch(sharing, replayed, add);
    };
    return recorder->call("call of " + class_name(), inputs, again);
  }
  const torch::NoGradGuard no_gradients;
  follow(inputs.front().device());
  auto earlier = set_aside();
  const int64_t earlier_updates = std::exchange(gathered_->updates, 0);
  Inputs values;
  try {
    add(inputs);
    for (const Metric* metric : sharing) values.push_back(metric->result().clone());
    // What comes first has nothing to be combined with, and may have no shape yet.
    if (earlier_updates > 0) combine_with(earlier);
  } catch (...) {
    gathered_->slots = std::move(earlier);
    gathered_->updates = earlier_updates;
    throw;
  }
  gathered_->updates = earlier_updates + 1;
  for (std::size_t i = 0; i < sharing.size(); ++i) sharing[i]->batch_value_ = values[i];
  return values;
}

// The slots with all that they have gathered; empty ones take their place.
std::vector<Metric::Slot> Metric::set_aside() {
  std::vector<Slot> fresh;
  for (const auto& slot : gathered_->slots) fresh.push_back({slot.name, slot.combine, slot.initial, {}, {}, {}, 0});
  auto full = std::exchange(gathered_->slots, std::move(fresh));
  clear();
  return full;
}

// `earlier` is as it was when this throws.
void Metric::combine_with(std::vector<Slot>& earlier) {
  for (std::size_t i = 0; i < gathered_->slots.size(); ++i) {
    Slot& slot = gathered_->slots[i];
    if (slot.combine != Combine::cat) slot.value = combined(slot.combine, {earlier[i].value, slot.value});
  }
  for (std::size_t i = 0; i < gathered_->slots.size(); ++i) {
    Slot& slot = gathered_->slots[i];
    if (slot.combine != Combine::cat) continue;
    slot.close();
    earlier[i].close();
    auto& parts = earlier[i].parts;
    parts.insert(parts.end(), slot.parts.begin(), slot.parts.end());
    slot.parts = std::move(parts);
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
