// The passes that are recorded, what becomes of the recordings, and the check of a program against a plain pass.
#include "troupe/base/text.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/modules/support/module_tensors.hpp"
#include "troupe/runtime/capture/agreement.hpp"
#include "troupe/runtime/distributed/gradient_announcement.hpp"
#include "troupe/runtime/replica/step_capture.hpp"
#include "troupe/runtime/terminal/run_summary.hpp"

#include <ATen/Context.h>
#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <stdexcept>

namespace troupe {

bool is_laid_out_like(const torch::Tensor& home, const capture::View& view, std::size_t bytes) {
  return home.defined() && view.type == home.scalar_type() && view.offset == 0 && home.sizes() == view.sizes &&
         home.strides() == view.strides && bytes == home.nbytes();
}

// --- Recording ---

void StepCapture::begin_recording(const Pass& pass) {
  if (!weight_.defined()) {
    weight_ = torch::empty({}, torch::kFloat64);
    weight_.unsafeGetTensorImpl()->set_wrapped_number(true);
  }
  *weight_.mutable_data_ptr<double>() = pass.weight;
  recorder_.emplace();
  for (std::size_t i = 0; i < current_->inputs.size(); ++i) {
    recorder_->give("batch[" + std::to_string(i) + "]", current_->inputs[i]);
  }
  recorder_->give("weight", weight_);
  for (const auto& each : distinct_parameters(*core_.module)) recorder_->give(each.name(), each.tensor);
  for (const auto& each : distinct_buffers(*core_.module)) recorder_->give(each.name(), each.tensor);
  output_views_.clear();
  loss_view_.reset();
  if (kind_ != Kind::evaluation) recorder_->set_bytes_beside(bytes_of_gradients([](std::size_t) { return true; }));
  if (is_manual()) begin_manual();
}

// Of the step before, which are there until they are zeroed.
std::size_t StepCapture::bytes_of_gradients(const std::function<bool(std::size_t)>& is_old) const {
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto& gradient = parameters_[i].grad();
    const bool counts = gradient.defined() && parameters_[i].requires_grad() && gradient.layout() == torch::kStrided;
    if (counts && is_old(i)) bytes += gradient.nbytes();
  }
  return bytes;
}

torch::Tensor StepCapture::weighted(const torch::Tensor& loss, double weight) {
  if (way_ != Way::record) return loss * weight;
  const capture::Recorded recorded(&*recorder_);
  return loss * weight_;
}

void StepCapture::end_forward(const StepOutput& output, const torch::Tensor& loss) {
  if (way_ != Way::record) return;
  if (output.empty()) {
    way_ = Way::plain;
    refuse(current_, "it returned nothing for a batch");
    return;
  }
  keep_output(output);
  end_forward(loss);
}

void StepCapture::end_forward(const torch::Tensor& loss) {
  loss_view_ = recorder_->view_of(loss);
  recorder_->mark();
}

void StepCapture::end_evaluation(const StepOutput& output) {
  if (way_ != Way::record) return;
  keep_output(output);
  recorder_->mark();
  had_gradient_.clear();
  gradient_views_.clear();
  gradient_order_.clear();
  end_recording();
}

void StepCapture::keep_output(const StepOutput& output) {
  current_->output_names.clear();
  for (const auto& [name, tensor] : output.items()) {
    auto view = tensor.defined() ? recorder_->view_of(tensor) : std::nullopt;
    if (!view) recorder_->refuse("it returned " + name + ", which is no tensor in memory");
    output_views_.push_back(view.value_or(capture::View()));
    current_->output_names.push_back(name);
  }
}

// Gradients that are there move to where replays add to them.
void StepCapture::begin_backward() {
  const torch::NoGradGuard no_gradients;
  had_gradient_.assign(parameters_.size(), false);
  originals_.assign(parameters_.size(), {});
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    auto& gradient = parameters_[i].mutable_grad();
    if (!gradient.defined() || !parameters_[i].requires_grad()) continue;
    had_gradient_[i] = true;
    const auto home = home_of(i);
    if (!home.defined() || gradient.layout() != torch::kStrided || gradient.scalar_type() != home.scalar_type()) {
      recorder_->refuse("a gradient is not laid out as its parameter is (sparse, or of another type)");
      continue;
    }
    if (!gradient.is_same(home)) {
      originals_[i] = gradient;
      home.copy_(gradient);
      gradient = home;
    }
    recorder_->give("gradient " + std::to_string(i), home);
  }
  recorder_->set_bytes_beside(bytes_of_gradients([this](std::size_t i) { return had_gradient_[i]; }));
  if (is_checked_) compute_ahead(1, current_->program->stretches());
}

// Undefined if the parameter has gaps.
torch::Tensor StepCapture::home_of(std::size_t parameter, std::size_t which) {
  const auto& like = parameters_[parameter];
  auto& homes = homes_[parameter];
  if (homes.size() <= which) homes.resize(which + 1);
  if (!homes[which].defined() && like.is_non_overlapping_and_dense()) {
    homes[which] = at::empty_strided(like.sizes(), like.strides(), like.options().requires_grad(false));
  }
  return homes[which];
}

void StepCapture::end_backward() {
  if (way_ != Way::record) return;
  note_gradients();
  end_recording();
}

void StepCapture::note_gradients() {
  gradient_views_.clear();
  for (const auto& parameter : parameters_) {
    const auto& gradient = parameter.grad();
    gradient_views_.push_back(gradient.defined() && parameter.requires_grad() ? recorder_->view_of(gradient)
                                                                              : std::nullopt);
  }
  order_gradients(recorder_->recording());
}

void StepCapture::end_function_backward() {
  note_gradients();
  recorder_->mark();
}

// What it computed behind the backward pass could read what a step has changed, or gradients before they are averaged.
void StepCapture::end_function(const StepOutput& output) {
  keep_output(output);
  const auto& recording = recorder_->recording();
  for (std::size_t i = recording.marks.back(); i < recording.actions.size(); ++i) {
    const auto& action = recording.actions[i];
    if (!action.op || action.is_view) continue;
    recorder_->refuse("it computes behind backward (" + action.name +
                      "): do so before that, or outside of the captured function");
    break;
  }
  end_recording();
}

// The first one waits for a second one that agrees.
void StepCapture::end_recording() {
  way_ = Way::plain;
  auto recording = recorder_->take();
  recorder_.reset();
  if (is_checked_) return end_check(recording);
  if (!recording.refusal.empty()) return refuse(current_, recording.refusal);
  // Parameters that are nobody's gather gradients from the second step on.
  if (!current_->first || current_->first_had_gradient != had_gradient_) {
    current_->first = std::move(recording);
    current_->first_had_gradient = had_gradient_;
    return;
  }
  if (const auto what = capture::difference(*current_->first, recording); !what.empty()) {
    return refuse(current_, "two steps differ: " + what);
  }
  capture::mark_kept(*current_->first, recording);
  current_->first.reset();
  try {
    const auto marks = recording.marks;
    is_manual() ? make_manual_program(recording) : make_program(recording);
    recording.marks = marks;
    if (core_.options().capture_step == CaptureStep::check && current_->program->needs_calls()) {
      core_.outputs.note(step_ + " is captured and not checked: it computes with what a metric's call returned");
    } else if (core_.options().capture_step == CaptureStep::check) {
      current_->recording = std::move(recording);
    }
  } catch (const std::exception& error) {
    current_->program.reset();
    refuse(current_, error.what());
  }
}

// --- Check ---

// Stretches of the program, and everything as it was before.
void StepCapture::compute_ahead(std::size_t first, std::size_t last) {
  std::vector<torch::Tensor> before;
  for (const auto& bytes : current_->program->written()) before.push_back(bytes.clone());
  run_ahead(first, last);
  for (std::size_t i = 0; i < before.size(); ++i) current_->program->written()[i].copy_(before[i]);
}

void StepCapture::run_ahead(std::size_t first, std::size_t last) {
  at::Generator generator = at::globalContext().defaultGenerator(torch::kCPU);
  const auto state = generator.get_state();
  const capture::Watch keep = [&](std::size_t number, const std::string&, const std::vector<torch::Tensor>& results) {
    auto& kept = ahead_[number];
    for (const auto& result : results) kept.push_back(result.defined() ? result.clone() : result);
  };
  for (std::size_t stretch = first; stretch < last; ++stretch) current_->program->run_watched(stretch, keep);
  generator.set_state(state);
}

void StepCapture::compare(std::size_t number, const std::string& name,
                          const std::vector<torch::Tensor>& results) const {
  const auto found = ahead_.find(number);
  if (found == ahead_.end()) return;  // a replay does without
  for (std::size_t i = 0; i < std::min(results.size(), found->second.size()); ++i) {
    const auto &plain = results[i], &replayed = found->second[i];
    // What oneDNN keeps for its own backward pass has gaps, in which anything may be.
    const bool is_scratch =
        plain.defined() && plain.scalar_type() == torch::kByte && name.find("mkldnn") != std::string::npos;
    // With other shapes it is another operator, which end_check names.
    if (!plain.defined() || !replayed.defined() || is_scratch || plain.sizes() != replayed.sizes()) continue;
    if (capture::has_same_bits(plain, replayed)) continue;
    const auto a = plain.detach(), b = replayed.detach();
    throw std::runtime_error(
        c10::str("capture_step = check: ", step_, " computes other bits in a replay than the plain way: operator ",
                 number, ", ", name, ", its result ", i, ", ", a.scalar_type(), " ", a.sizes(), ", differs by ",
                 (a.to(torch::kDouble) - b.to(torch::kDouble)).abs().max().item<double>(), " at most"));
  }
}

void StepCapture::end_check(const capture::Recording& recording) {
  const auto what =
      recording.refusal.empty() ? capture::difference(*current_->recording, recording) : recording.refusal;
  if (what.empty()) return;
  throw std::runtime_error("capture_step = check: " + step_ + " does not do what it did when it was captured: " + what);
}

// By the last operator that has to do with each, which is that of autograd's node that adds to it.
void StepCapture::order_gradients(const capture::Recording& recording) {
  std::vector<std::size_t> last(recording.memories.size(), 0);
  for (std::size_t i = 0; i < recording.actions.size(); ++i) {
    for (const auto& result : recording.actions[i].results) {
      if (result) last[result->memory] = i;
    }
  }
  gradient_order_.clear();
  for (std::size_t i = 0; i < gradient_views_.size(); ++i) {
    if (gradient_views_[i]) gradient_order_.emplace_back(last[gradient_views_[i]->memory], i);
  }
  std::ranges::sort(gradient_order_);
}

void StepCapture::announce_recorded() {
  for (const auto& [action, i] : gradient_order_) {
    put_into_bucket(parameters_[i], originals_[i]);
    announce_gradient(parameters_[i]);
  }
  originals_.clear();
}

// Where its gradient was before, if it was somewhere.
void StepCapture::put_into_bucket(const torch::Tensor& parameter, const torch::Tensor& original) {
  if (!original.defined()) return;
  const torch::NoGradGuard no_gradients;
  auto& gradient = parameter.mutable_grad();
  original.copy_(gradient);
  gradient = original;
}

// Gradients that have memory of their own lie where those of other programs lie; others where this one has them.
void StepCapture::place_gradients(capture::Recording& recording, capture::ProgramRequest& request) {
  std::vector<std::size_t> users(recording.memories.size(), 0);
  for (const auto& view : gradient_views_) {
    if (view) ++users[view->memory];
  }
  current_->gradients.clear();
  for (const auto& [action, i] : gradient_order_) {
    const auto& view = gradient_views_[i];
    const auto& memory = recording.memories[view->memory];
    const bool is_unchanged = memory.kind == capture::Memory::Kind::given && !memory.is_written;
    if (is_unchanged && had_gradient_[i]) continue;  // another loss's
    const auto home = home_of(i);
    const bool is_own = users[view->memory] == 1 && is_laid_out_like(home, *view, memory.bytes) &&
                        memory.kind != capture::Memory::Kind::found;
    if (had_gradient_[i] && (!is_own || memory.kind != capture::Memory::Kind::given)) {
      throw std::runtime_error("the gradients of a window's first batch are not added to in place");
    }
    if (is_own) request.places[view->memory] = home;
    request.results.push_back(*view);
    const std::size_t end = std::max(action + 1, recording.marks.front());
    if (core_.peers() && recording.marks.back() != end) recording.marks.push_back(end);
    current_->gradients.push_back({parameters_[i], torch::Tensor(), had_gradient_[i], recording.marks.size() - 1});
  }
}

void StepCapture::make_program(capture::Recording& recording) {
  capture::ProgramRequest request;
  request.way_out = option("capture_step") + " = off";
  request.results = output_views_;
  if (loss_view_) request.results.push_back(*loss_view_);
  std::optional<std::size_t> end_of_backward;
  if (kind_ == Kind::function && recording.marks.size() > 1) {
    end_of_backward = recording.marks.back();
    recording.marks.pop_back();
  }
  place_gradients(recording, request);
  // Until the backward pass they are undefined; those that are there already are given to the program.
  if (loss_view_) request.places_are_free_from = recording.marks.front();
  if (end_of_backward) recording.marks.push_back(*end_of_backward);
  current_->program = std::make_unique<capture::Program>(recording, request);
  keep_results();
  const auto& results = current_->program->results();
  std::size_t next = current_->output_names.size();
  if (loss_view_) current_->loss = results[next++];
  for (auto& kept : current_->gradients) kept.gradient = results[next++];
  say_captured(*current_);
}

// The outputs come first among them.
void StepCapture::keep_results() {
  const auto& results = current_->program->results();
  StepOutput::Items items;
  for (std::size_t i = 0; i < current_->output_names.size(); ++i) {
    items.emplace_back(current_->output_names[i], results[i]);
    if (items.back().first == "loss") current_->unweighted = results[i];
  }
  current_->output = StepOutput(std::move(items));
}

void StepCapture::say_captured(Entry& entry) {
  const CapturedProgram& summary = entry.program->summary();
  CapturedProgram made = summary;
  made.inputs = joined_as(
      entry.shapes, [](const Shape& shape) { return c10::str(shape.type, " ", torch::IntArrayRef(shape.sizes)); });
  made.step = step_;
  made.optimizer = entry.optimizer;
  made.opens_window = entry.opens_window;
  entry.program->set_timed(!core_.options().capture_step_dump.empty());
  if (entry.in_report) {  // recorded anew, since a tensor was replaced
    made.replays = entry.replays_before = report_.programs[*entry.in_report].replays;
    report_.programs[*entry.in_report] = std::move(made);
    return;
  }
  entry.in_report = report_.programs.size();
  core_.outputs.note("captured " + step_ + ": " + captured_text(made));
  report_.programs.push_back(std::move(made));
}

}  // namespace troupe
