// Functions of Fabric::capture.
#include "troupe/modules/support/module_tensors.hpp"
#include "troupe/runtime/fabric/fabric_recording.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <limits>
#include <optional>

namespace troupe {

struct FabricFunction::State {
  State(FabricRank& rank_in, Function function_in, std::string name_in)
      : rank(rank_in),
        function(std::move(function_in)),
        name(std::move(name_in)),
        capture(rank.core_, StepCapture::Kind::function) {}

  FabricRank& rank;
  Function function;
  std::string name;
  StepCapture capture;
  bool is_configured = false;
  uint64_t changes = std::numeric_limits<uint64_t>::max();  // of the rank that are known here
  std::vector<torch::Tensor> parameters;
  std::optional<std::vector<std::size_t>> optimizers;  // that backward names
};

FabricFunction::FabricFunction(FabricRank& rank, Function function, std::string name) {
  if (!function) throw UsageError("capture was given no function");
  state_ = std::make_unique<State>(rank, std::move(function), std::move(name));
}

FabricFunction::~FabricFunction() = default;

const CapturedSteps& FabricFunction::report() const {
  return state_->capture.report();
}

StepOutput FabricFunction::call(const Batch& batch) {
  State& state = *state_;
  if (state.rank.recording_) {
    throw UsageError("a captured function calls another one, " + state.name + "; call what is in it instead");
  }
  if (!state.is_configured) {
    state.capture.configure(state.name, /*keeps_outputs=*/true, /*keeps_loss=*/false);
    state.is_configured = true;
  }
  if (state.changes != state.rank.changes_) {
    state.capture.refresh();
    state.parameters.clear();
    for (const auto& each : distinct_parameters(*state.rank.core_.module)) state.parameters.push_back(each.tensor);
    state.changes = state.rank.changes_;
  }
  TrainStep step;
  step.batch = &batch;
  const bool has_gradients =
      std::ranges::any_of(state.parameters, [](const auto& parameter) { return parameter.grad().defined(); });
  const StepOutput no_hiddens;
  switch (state.capture.begin({step, no_hiddens, /*opens_window=*/!has_gradients, /*weight=*/1})) {
    case StepCapture::Way::plain: return state.function(batch).detach();
    case StepCapture::Way::record: return record();
    case StepCapture::Way::replay: break;
  }
  if (!state.capture.has_backward()) return state.capture.replay_evaluation();
  state.capture.replay_forward(step, /*weight=*/1);
  state.rank.replay_backward(state.capture, *state.optimizers);
  state.capture.replay_rest();
  return std::move(step.output);
}

StepOutput FabricFunction::record() {
  State& state = *state_;
  // What says of a gradient that somebody has added to it.
  const auto marks = [&] {
    std::vector<int64_t> all;
    for (const auto& parameter : state.parameters) {
      all.push_back(parameter.grad().defined() ? static_cast<int64_t>(parameter.grad()._version()) : -1);
    }
    return all;
  };
  const auto before = marks();
  struct Now {
    FabricRank& rank;
    FabricRank::Recording recording;
    ~Now() { rank.recording_ = nullptr; }
  } now{state.rank, {state.capture}};
  state.rank.recording_ = &now.recording;
  StepOutput output;
  {
    const capture::Recorded recorded(state.capture.recorder());
    output = state.function(state.capture.batch());
  }
  auto& recorder = *state.capture.recorder();
  if (now.recording.has_backward) {
    if (state.optimizers.value_or(now.recording.optimizers) != now.recording.optimizers) {
      recorder.refuse("backward names other optimizers than in the call before");
    }
    state.optimizers = now.recording.optimizers;
    state.capture.end_function(output);
  } else {
    if (marks() != before) recorder.refuse("it calls backward of a tensor itself: call Fabric::backward");
    state.capture.end_evaluation(output);
  }
  return output.detach();
}

}  // namespace troupe
