// Steps with manual optimization: backward passes and steps of optimizers within training_step.
//
// They are recorded whole. What an optimizer does and the hooks are calls, which a replay does again, so that rates,
// counts of steps and the scale of 16-mixed are those of its time. In front of each call, the gradients that are others
// than at the call before are noted, as a call that puts them, or none, into the parameters: so a replay need not know
// how they came and went (manual_backward, zero_grad, an assignment).
#include "troupe/base/number_text.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/modules/support/recorded_scheduler.hpp"
#include "troupe/runtime/capture/operators.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/replica/step_capture.hpp"

#include <ATen/Context.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <unordered_set>

namespace troupe {

namespace {

using WeakTensor = c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>;

WeakTensor weak(const torch::Tensor& tensor) {
  return WeakTensor(tensor.getIntrusivePtr());
}

const void* storage_behind(const torch::Tensor& tensor) {
  return tensor.storage().unsafeGetStorageImpl();
}

}  // namespace

struct StepCapture::Manual {
  std::vector<WeakTensor> gradients;                            // of each parameter, as they were seen last
  std::vector<std::optional<std::size_t>> memories;             // in which they lie, if the recording knows it
  std::vector<std::optional<std::size_t>> given;                // of those that were there at the beginning
  std::vector<std::pair<std::size_t, capture::View>> followed;  // gradients of parameters that came up
  std::unordered_set<std::size_t> stepped;                      // optimizers
  std::string host;                                             // see state_of_host
  uint64_t state = 0;                                           // of the module, at the beginning
  std::size_t calls = 0;                                        // so far
  std::size_t actions = 0;                                      // at the call before
  std::unordered_map<const void*, torch::Tensor> replayed;      // what the program has in homes
};

StepCapture::StepCapture(ReplicaCore& core, Kind kind) : core_(core), kind_(kind) {}

StepCapture::~StepCapture() = default;

bool StepCapture::is_manual() const {
  return kind_ == Kind::training && !core_.module->automatic_optimization;
}

std::optional<int64_t> StepCapture::kind_of(const TrainStep& step) const {
  return kind_ == Kind::training ? core_.module->capture_kind(step.batch_idx) : std::nullopt;
}

// Which parameters have gradients, as one number.
uint64_t StepCapture::gradients_there() const {
  uint64_t sum = 0;
  for (const auto& parameter : parameters_) sum = mix(sum, parameter.grad().defined() ? 1 : 2);
  return sum;
}

bool StepCapture::is_home(const torch::Tensor& tensor) const {
  return std::ranges::any_of(homes_, [&](const auto& homes) {
    return std::ranges::any_of(homes, [&](const auto& home) { return home.defined() && home.is_alias_of(tensor); });
  });
}

// --- Recording ---

// Gradients that are there move to where replays have them.
void StepCapture::begin_manual() {
  manual_ = std::make_unique<Manual>();
  manual_->state = current_->state;
  manual_->memories.resize(parameters_.size());
  manual_->given.resize(parameters_.size());
  had_gradient_.assign(parameters_.size(), false);
  const torch::NoGradGuard no_gradients;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    auto& gradient = parameters_[i].mutable_grad();
    if (!gradient.defined()) continue;
    had_gradient_[i] = true;
    const auto home = home_of(i);
    if (!home.defined() || gradient.layout() != torch::kStrided || gradient.scalar_type() != home.scalar_type() ||
        gradient.strides() != home.strides()) {
      recorder_->refuse("a gradient is not laid out as its parameter is (sparse, or of another type)");
      continue;
    }
    if (!gradient.is_alias_of(home)) {
      home.copy_(gradient);
      gradient = home;
    }
    manual_->given[i] = recorder_->give("gradient " + std::to_string(i), home);
  }
  note_state();
}

// What calls have changed is theirs to change in a replay.
void StepCapture::note_state() {
  manual_->gradients.resize(parameters_.size(), weak({}));
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto& gradient = parameters_[i].grad();
    if (gradient.unsafeGetTensorImpl() == manual_->gradients[i]._unsafe_get_target()) continue;
    manual_->gradients[i] = weak(gradient);
    manual_->memories[i].reset();
  }
  manual_->host = state_of_host();
  manual_->actions = recorder_->recording().actions.size();
}

void StepCapture::follow_gradients() {
  if (!recorder_->recording().refusal.empty()) return;
  const auto& actions = recorder_->recording().actions;
  const bool has_stepped = std::any_of(actions.begin() + static_cast<std::ptrdiff_t>(manual_->actions), actions.end(),
                                       [](const auto& action) { return action.name == scheduler_call; });
  if (!has_stepped && state_of_host() != manual_->host) {
    recorder_->refuse("it sets a learning rate by itself, which a replay does not: step what lr_schedulers() returns");
  }
  recorder_->set_bytes_beside(bytes_of_gradients([this](std::size_t i) {
    return had_gradient_[i] && manual_->given[i] && parameters_[i].grad().is_alias_of(home_of(i));
  }));
  std::string name = "gradients of";
  std::vector<torch::Tensor> parameters, gradients;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto& gradient = parameters_[i].grad();
    if (gradient.unsafeGetTensorImpl() == manual_->gradients[i]._unsafe_get_target()) continue;
    manual_->gradients[i] = weak(gradient);
    manual_->memories[i].reset();
    if (gradient.defined()) {
      const auto view = recorder_->view_of(gradient);
      if (!view) return;
      manual_->memories[i] = view->memory;
      manual_->followed.emplace_back(i, *view);
    }
    name += " " + std::to_string(i);
    parameters.push_back(parameters_[i]);
    gradients.push_back(gradient);
  }
  if (parameters.empty()) return;
  recorder_->call_without_result(name, gradients, [parameters](const std::vector<torch::Tensor>& now) {
    for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i].mutable_grad() = now[i];
  });
}

// Learning rates of all optimizers, and how far their schedulers are.
std::string StepCapture::state_of_host() const {
  std::string state;
  for (const auto& optimizer : core_.optimizers) {
    for (const auto& group : optimizer->param_groups()) {
      if (group.has_options()) state += double_to_text(group.options().get_lr()) + " ";
    }
  }
  for (const auto& config : core_.optimizers.lr_schedulers()) state += config.scheduler->state_dict().dump();
  return state;
}

void StepCapture::call(std::string name, const std::vector<torch::Tensor>& inputs,
                       std::function<void(const std::vector<torch::Tensor>& inputs)> what) {
  if (!is_recording()) return what(inputs);
  follow_gradients();
  recorder_->call_without_result(std::move(name), inputs, std::move(what));
  note_state();
  recorder_->mark();
  ++manual_->calls;
  if (!is_checked_) return;
  recorder_->pause();
  compute_manual_ahead(manual_->calls);
  recorder_->resume();
}

void StepCapture::call_step(std::size_t optimizer, std::function<void()> what) {
  if (!is_recording()) return what();
  manual_->stepped.insert(optimizer);
  call("step of optimizer " + std::to_string(optimizer), {}, [what = std::move(what)](const auto&) { what(); });
}

void StepCapture::end_manual(const StepOutput& output) {
  if (way_ != Way::record) return;
  {
    const capture::Recorded recorded(&*recorder_);
    follow_gradients();
  }
  keep_output(output);
  if (const auto reason = reason_against_manual(recorder_->recording()); !reason.empty()) recorder_->refuse(reason);
  end_recording();
}

std::string StepCapture::reason_against_manual(const capture::Recording& recording) const {
  for (std::size_t i = 0; i < core_.optimizers.size(); ++i) {
    if (current_->kind || manual_->stepped.contains(i)) continue;
    return "it makes no step of optimizer " + std::to_string(i) +
           ", so that other batches have to do something else: say which, by Module::capture_kind";
  }
  if (state_of_module() != manual_->state) {
    return "it leaves a layer in another mode, or a parameter or buffer frozen or in other memory than it was";
  }
  std::unordered_set<const void*> parameters, kept;
  for (const auto& parameter : parameters_) parameters.insert(storage_behind(parameter));
  for (const auto& buffer : buffers_) kept.insert(storage_behind(buffer));
  const auto is_one_of = [&](const capture::View& view, const auto& storages) {
    const auto& memory = recording.memories[view.memory];
    return memory.kind == capture::Memory::Kind::given && storages.contains(memory.storage.unsafeGetStorageImpl());
  };
  for (const auto& action : recording.actions) {
    if (!action.op || action.is_view) continue;
    bool writes_parameter = false, reads_other = false;
    for (std::size_t i = 0; i < action.arguments.size(); ++i) {
      capture::for_views(action.arguments[i], [&](const capture::View& view) {
        const bool is_parameter = is_one_of(view, parameters);
        writes_parameter |= is_parameter && capture::writes(*action.op, i);
        reads_other |=
            !is_parameter && !is_one_of(view, kept) && !view.is_wrapped_number && c10::isFloatingType(view.type);
      });
    }
    if (writes_parameter && reads_other) {
      return "it changes a parameter by what it has computed (" + action.name +
             "), as an optimizer's step does: call OptimizerHandle::step";
    }
  }
  return "";
}

// --- Program ---

// Gradients lie in memory of their own that all programs share. One that is new lies where that was which the step
// began with, unless it reads that.
void StepCapture::make_manual_program(capture::Recording& recording) {
  capture::ProgramRequest request;
  request.way_out = option("capture_step") + " = off";
  request.results = output_views_;
  std::vector<bool> is_read(recording.memories.size(), false);
  for (const auto& action : recording.actions) {
    if (action.is_view) continue;
    for (const auto& argument : action.arguments) {
      capture::for_views(argument, [&](const capture::View& view) { is_read[view.memory] = true; });
    }
  }
  current_->gradients.clear();
  current_->places.clear();
  std::vector<std::size_t> next(parameters_.size(), 0);
  std::unordered_map<std::size_t, std::unordered_set<std::size_t>> users;
  for (const auto& [i, view] : manual_->followed) users[view.memory].insert(i);
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (!had_gradient_[i]) continue;
    const bool is_used = is_read[*manual_->given[i]];
    current_->gradients.push_back({parameters_[i], home_of(i), is_used, 0});
    if (is_used) next[i] = 1;
  }
  for (const auto& [i, view] : manual_->followed) {
    request.results.push_back(view);
    const auto& memory = recording.memories[view.memory];
    if (memory.kind != capture::Memory::Kind::computed || users[view.memory].size() > 1) continue;
    if (request.places.contains(view.memory)) continue;
    const auto home = home_of(i, next[i]);
    if (!is_laid_out_like(home, view, memory.bytes)) continue;
    ++next[i];
    request.places[view.memory] = home;
    current_->places[view.memory] = home;
  }
  if (core_.options().capture_step != CaptureStep::check) recording.marks.clear();
  current_->program = std::make_unique<capture::Program>(recording, request);
  keep_results();
  say_captured(*current_);
}

// --- Replay ---

void StepCapture::replay_manual(TrainStep& step) {
  for (auto& kept : current_->gradients) {
    auto& gradient = kept.parameter.mutable_grad();
    if (gradient.is_alias_of(kept.gradient) || (!kept.was_there && is_home(gradient))) continue;
    const torch::NoGradGuard no_gradients;
    kept.gradient.copy_(gradient);
    gradient = kept.gradient;
  }
  auto& program = *current_->program;
  ++report_.programs[*current_->in_report].replays;
  for (std::size_t stretch = 0; stretch < program.stretches(); ++stretch) program.run(stretch);
  way_ = Way::plain;
  step.output = kept_output();
}

// --- Check ---

// A stretch ends with a call, which is the plain step's. The next one finds gradients, which are the plain step's too,
// where the program has them, and homes otherwise as the program has left them; then everything is as it was before.
void StepCapture::compute_manual_ahead(std::size_t stretch) {
  auto& program = *current_->program;
  if (stretch >= program.stretches() || !recorder_->recording().refusal.empty()) return;
  const torch::NoGradGuard no_gradients;
  std::vector<std::pair<torch::Tensor, torch::Tensor>> live;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto& gradient = parameters_[i].grad();
    if (!gradient.defined()) continue;
    const auto& memory = manual_->memories[i];
    const auto place = memory ? current_->places.find(*memory) : current_->places.end();
    if (place != current_->places.end()) {
      if (place->second.sizes() != gradient.sizes()) return;  // another step, which end_check says
      live.emplace_back(place->second, gradient.clone());
    } else if (!memory && manual_->given[i] && gradient.is_alias_of(home_of(i))) {
      live.emplace_back(home_of(i), gradient.clone());
    }
  }
  std::vector<torch::Tensor> before;
  for (const auto& bytes : program.written()) before.push_back(bytes.clone());
  for (const auto& bytes : program.written()) {
    const auto found = manual_->replayed.find(storage_behind(bytes));
    if (found != manual_->replayed.end()) bytes.copy_(found->second);
  }
  for (const auto& [home, gradient] : live) home.copy_(gradient);
  run_ahead(stretch, stretch + 1);
  for (const auto& bytes : program.written()) {
    if (is_home(bytes)) manual_->replayed[storage_behind(bytes)] = bytes.clone();
  }
  for (std::size_t i = 0; i < before.size(); ++i) program.written()[i].copy_(before[i]);
}

}  // namespace troupe
