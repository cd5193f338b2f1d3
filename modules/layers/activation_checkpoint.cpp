#include "troupe/modules/layers/activation_checkpoint.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/modules/support/step_recorder.hpp"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <c10/util/DimVector.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/autograd/saved_variable_hooks.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>

// What Frame has as members is in no unnamed namespace, since the header names Frame.
namespace troupe::detail {

using torch::autograd::SavedVariable;
using torch::autograd::SavedVariableHooks;

// What makes the hooks of the operations that this thread records; the innermost one counts.
using MakeHooks = std::function<std::unique_ptr<SavedVariableHooks>()>;
thread_local std::vector<const MakeHooks*> hook_makers;

// LibTorch asks its engine for hooks whenever an operation saves a tensor; in C++ alone it has none to give. Python's
// bindings put an engine of theirs in its place in the same way.
class HookedEngine : public torch::autograd::Engine {
 public:
  static void install() {
    static std::once_flag once;
    std::call_once(once, [] { torch::autograd::set_default_engine_stub(&HookedEngine::get); });
  }
  ~HookedEngine() override { stop(); }

  std::unique_ptr<SavedVariableHooks> get_default_saved_variable_hooks() override {
    return hook_makers.empty() ? nullptr : (*hook_makers.back())();
  }

 private:
  static torch::autograd::Engine& get() {
    static HookedEngine engine;
    return engine;
  }
};

class HookScope {
 public:
  explicit HookScope(const MakeHooks& make) { hook_makers.push_back(&make); }
  ~HookScope() { hook_makers.pop_back(); }
  HookScope(const HookScope&) = delete;
  HookScope& operator=(const HookScope&) = delete;
};

// --- What a call depends on besides its inputs ---

class RandomStates {
 public:
  explicit RandomStates(const std::vector<torch::Device>& devices) : states_(std::make_shared<States>()) {
    do_now_and_in_replays("random state kept", [states = states_, devices] {
      states->clear();
      for (const auto& device : devices) {
        at::Generator generator = at::globalContext().defaultGenerator(device);
        const std::lock_guard lock(generator.mutex());
        states->emplace_back(device, generator.get_state());
      }
    });
  }
  void apply() const {
    do_now_and_in_replays("random state put back", [states = states_] {
      for (const auto& [device, state] : *states) {
        at::Generator generator = at::globalContext().defaultGenerator(device);
        const std::lock_guard lock(generator.mutex());
        generator.set_state(state);
      }
    });
  }

 private:
  using States = std::vector<std::pair<torch::Device, torch::Tensor>>;

  template <class Action>
  static void do_now_and_in_replays(const char* name, Action action) {
    StepRecorder* recorder = StepRecorder::current();
    if (!recorder) return action();
    recorder->call_without_result(
        name, {}, [action = std::move(action)](const std::vector<torch::Tensor>&) { action(); }, /*is_inner=*/true);
  }

  std::shared_ptr<States> states_;  // a replay's next call reads what its last one has kept
};

class AutocastState {
 public:
  AutocastState() : has_cache_(at::autocast::is_autocast_cache_enabled()) {
    for (const auto type : {torch::kCPU, torch::kCUDA}) {
      entries_.push_back({type, at::autocast::is_autocast_enabled(type), at::autocast::get_autocast_dtype(type)});
    }
  }
  void apply() const {
    at::autocast::set_autocast_cache_enabled(has_cache_);
    for (const auto& entry : entries_) {
      at::autocast::set_autocast_enabled(entry.type, entry.is_enabled);
      at::autocast::set_autocast_dtype(entry.type, entry.dtype);
    }
  }

 private:
  struct Entry {
    torch::DeviceType type;
    bool is_enabled;
    torch::ScalarType dtype;
  };
  std::vector<Entry> entries_;
  bool has_cache_;
};

// The CPU, and the devices of the inputs.
std::vector<torch::Device> devices_of(const std::vector<torch::Tensor>& inputs) {
  std::vector<torch::Device> devices = {torch::kCPU};
  for (const auto& input : inputs) {
    if (!input.defined() || !input.is_cuda()) continue;
    if (std::ranges::find(devices, input.device()) == devices.end()) devices.push_back(input.device());
  }
  return devices;
}

struct Shape {
  torch::ScalarType dtype;
  c10::DimVector sizes;

  bool operator==(const Shape&) const = default;
  std::string text() const {
    std::ostringstream text;
    text << c10::toString(dtype) << " " << torch::IntArrayRef(sizes);
    return text.str();
  }
};

Shape shape_of(const torch::Tensor& tensor) {
  return {tensor.scalar_type(), c10::DimVector(tensor.sizes())};
}

// One checkpointed call. The backward pass may ask on other threads, one at a time for each device.
struct ActivationCheckpoint::Frame {
  struct Slot {
    Shape shape;                          // of what the first call saved
    std::optional<torch::Tensor> tensor;  // of the second one, until it was fetched
  };

  torch::Tensor fetch(std::size_t index) {
    const std::lock_guard lock(mutex);
    if (!slots[index].tensor) compute_again();
    if (!slots[index].tensor) throw UsageError("activation_checkpoint: the backward pass asks for what was not saved");
    return *std::exchange(slots[index].tensor, std::nullopt);
  }

  void compute_again();

  // Saved as an operation would: an outer checkpoint does not keep them either.
  std::vector<SavedVariable> inputs;
  std::vector<bool> require_grad;
  Again again;
  std::vector<torch::Device> devices;
  std::optional<RandomStates> random_states;
  AutocastState autocast;
  std::mutex mutex;
  std::vector<Slot> slots;
};

// In place of a tensor of the first call.
class ActivationCheckpoint::Saved : public SavedVariableHooks {
 public:
  explicit Saved(std::shared_ptr<Frame> frame) : frame_(std::move(frame)) {}
  void call_pack_hook(const at::Tensor& tensor) override {
    index_ = frame_->slots.size();
    frame_->slots.push_back({shape_of(tensor), std::nullopt});
  }
  at::Tensor call_unpack_hook() override { return frame_->fetch(index_); }

 private:
  std::shared_ptr<Frame> frame_;
  std::size_t index_ = 0;
};

namespace {

// A tensor of the second call, whose own backward pass nobody makes.
class Kept : public SavedVariableHooks {
 public:
  explicit Kept(std::function<void(const torch::Tensor&)> keep) : keep_(std::move(keep)) {}
  void call_pack_hook(const at::Tensor& tensor) override { keep_(tensor); }
  at::Tensor call_unpack_hook() override { return {}; }

 private:
  std::function<void(const torch::Tensor&)> keep_;
};

}  // namespace

void ActivationCheckpoint::Frame::compute_again() {
  std::vector<torch::Tensor> arguments;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    auto argument = inputs[i].unpack();
    if (argument.defined()) argument = argument.detach().requires_grad_(require_grad[i]);
    arguments.push_back(std::move(argument));
  }
  std::size_t next = 0;
  const auto keep = [&](const torch::Tensor& tensor) {
    const std::size_t index = next++;
    if (index >= slots.size()) return;
    const auto shape = shape_of(tensor);
    if (shape != slots[index].shape) {
      throw UsageError("activation_checkpoint: the second call is not like the first one: tensor " +
                       std::to_string(index) + " that it saves is " + shape.text() + ", and was " +
                       slots[index].shape.text());
    }
    slots[index].tensor = tensor.detach();
  };
  const MakeHooks make = [&] { return std::make_unique<Kept>(keep); };
  const AutocastState autocast_before;
  std::optional<RandomStates> random_states_before;
  if (random_states) random_states_before.emplace(devices);
  const auto put_back = [&](void*) {
    if (random_states_before) random_states_before->apply();
    at::autocast::clear_cache();  // what it holds belongs to the second call's operations
    autocast_before.apply();
  };
  const std::unique_ptr<void, decltype(put_back)> restored(this, put_back);
  if (random_states) random_states->apply();
  autocast.apply();
  {
    const torch::AutoGradMode with_gradients(true);
    const HookScope scope(make);
    again(arguments);
  }
  if (next != slots.size()) {
    throw UsageError("activation_checkpoint: the second call is not like the first one: it saves " +
                     std::to_string(next) + " tensors, and the first one saved " + std::to_string(slots.size()));
  }
}

class ActivationCheckpoint::Hooks {
 public:
  explicit Hooks(const std::shared_ptr<Frame>& frame)
      : make_([frame] { return std::make_unique<Saved>(frame); }), scope_(make_) {}

 private:
  MakeHooks make_;
  HookScope scope_;
};

ActivationCheckpoint::ActivationCheckpoint(const std::vector<torch::Tensor>& inputs, Again again,
                                           const ActivationCheckpointOptions& options)
    : frame_(std::make_shared<Frame>()) {
  HookedEngine::install();
  for (const auto& input : inputs) {
    frame_->require_grad.push_back(input.defined() && input.requires_grad());
    frame_->inputs.emplace_back(input, /*is_output=*/false);
  }
  frame_->again = std::move(again);
  frame_->devices = devices_of(inputs);
  if (options.preserve_random_state) frame_->random_states.emplace(frame_->devices);
  hooks_ = std::make_unique<Hooks>(frame_);
}

ActivationCheckpoint::~ActivationCheckpoint() = default;

}  // namespace troupe::detail
