#include "troupe/runtime/replica/step_capture.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/modules/support/module_tensors.hpp"
#include "troupe/runtime/capture/agreement.hpp"
#include "troupe/runtime/distributed/gradient_announcement.hpp"

#include <ATen/Context.h>
#include <ATen/MemoryOverlap.h>
#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <stdexcept>

namespace troupe {

namespace {

// A number is mixed into a sum of numbers (splitmix64's steps, Steele et al. 2014).
uint64_t mixed(uint64_t sum, uint64_t number) {
  sum = (sum ^ number) + 0x9e3779b97f4a7c15U;
  sum = (sum ^ (sum >> 30)) * 0xbf58476d1ce4e5b9U;
  sum = (sum ^ (sum >> 27)) * 0x94d049bb133111ebU;
  return sum ^ (sum >> 31);
}

void collect_tensors(const Batch& batch, std::vector<const torch::Tensor*>& tensors) {
  for (const auto& tensor : batch.tensors()) tensors.push_back(&tensor);
  for (const auto& part : batch.parts()) collect_tensors(part, tensors);
}

bool has_extra(const Batch& batch) {
  return batch.extra.has_value() || std::ranges::any_of(batch.parts(), has_extra);
}

// The same batch in memory of its own.
void move_to_own_memory(torch::Tensor& tensor, std::vector<torch::Tensor>& inputs) {
  if (!tensor.defined()) return;
  auto own = at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options());
  inputs.push_back(own);
  tensor = std::move(own);
}

void move_to_own_memory(Batch& batch, std::vector<torch::Tensor>& inputs) {
  for (auto& tensor : batch.tensors()) move_to_own_memory(tensor, inputs);
  for (auto& part : batch.parts()) move_to_own_memory(part, inputs);
}

std::string bytes_text(std::size_t bytes) {
  char text[32];
  const auto number = static_cast<double>(bytes);
  std::snprintf(text, sizeof text, bytes < 1'000'000 ? "%.1f kB" : "%.1f MB", number / (bytes < 1'000'000 ? 1e3 : 1e6));
  return text;
}

bool is_laid_out_like(const torch::Tensor& home, const capture::View& view, std::size_t bytes) {
  return home.defined() && view.type == home.scalar_type() && view.offset == 0 && home.sizes() == view.sizes &&
         home.strides() == view.strides && bytes == home.nbytes();
}

}  // namespace

// --- Before the first batch ---

std::string StepCapture::reason_against_run() const {
  const auto& options = core_.options();
  if (!core_.setup.device.is_cpu())
    return "the device is " + core_.setup.device.str() + ", and steps are captured on the CPU";
  const bool is_training = kind_ == Kind::training;
  if (is_training && !core_.module->automatic_optimization)
    return "manual optimization makes its steps within training_step";
  if (core_.shards) return "the strategy divides batches among devices (dp)";
  if (core_.peers() && options.sync_batchnorm) return "sync_batchnorm talks with other ranks within the step";
  if (is_training && core_.peers() && options.find_unused_parameters) {
    return "find_unused_parameters looks at autograd's graph, which replays do not have";
  }
  if (is_training && options.detect_anomaly)
    return "detect_anomaly looks at autograd's graph, which replays do not have";
  return "";
}

void StepCapture::configure(std::string_view step, bool keeps_outputs, bool keeps_loss) {
  step_ = step;
  keeps_outputs_ = keeps_outputs;
  keeps_loss_ = keeps_loss;
  is_on_ = core_.options().capture_step != CaptureStep::off;
  if (!is_on_) return;
  if (const auto reason = reason_against_run(); !reason.empty()) {
    is_on_ = false;
    refuse(nullptr, reason);
  }
}

void StepCapture::refresh() {
  if (!is_on_) return;
  std::vector<torch::Tensor> parameters;
  for (const auto& each : distinct_parameters(*core_.module)) parameters.push_back(each.tensor);
  const bool is_same =
      std::ranges::equal(parameters, parameters_, [](const auto& a, const auto& b) { return a.is_same(b); });
  buffers_.clear();
  for (const auto& each : distinct_buffers(*core_.module)) buffers_.push_back(each.tensor);
  modules_.clear();
  for (const auto& module : core_.module->modules(/*include_self=*/false)) modules_.push_back(module.get());
  if (is_same) return;
  parameters_ = std::move(parameters);
  entries_.clear();
  current_ = nullptr;
  homes_.assign(parameters_.size(), {});
}

void StepCapture::refuse(Entry* entry, const std::string& reason) {
  if (entry) {
    entry->refusal = reason;
    entry->first.reset();
  }
  const std::string text = step_ + " is not captured: " + reason;
  if (core_.options().capture_step == CaptureStep::require && kind_ == Kind::training) {
    throw UsageError(text + " (trainer.capture_step = require)");
  }
  if (std::ranges::find(report_.refusals, text) != report_.refusals.end()) return;
  report_.refusals.push_back(text);
  core_.outputs.note(text + " (trainer.capture_step)");
}

// --- Which way ---

void StepCapture::collect(const Batch& batch, const StepOutput& hiddens,
                          std::vector<const torch::Tensor*>& tensors) const {
  tensors.clear();
  collect_tensors(batch, tensors);
  for (const auto& [name, tensor] : hiddens.items()) tensors.push_back(&tensor);
}

// What a program depends on and the batch does not show: modes, what is trained, and where parameters lie.
uint64_t StepCapture::state_of_module() const {
  uint64_t sum = core_.module->is_training() ? 1 : 0;
  for (const auto* module : modules_) sum = mixed(sum, module->is_training() ? 1 : 2);
  for (const auto& parameter : parameters_) {
    sum = mixed(sum, reinterpret_cast<uintptr_t>(parameter.storage().unsafeGetStorageImpl()));
    sum = mixed(sum, parameter.requires_grad() ? 1 : 2);
  }
  for (const auto& buffer : buffers_) {
    sum = mixed(sum, reinterpret_cast<uintptr_t>(buffer.storage().unsafeGetStorageImpl()));
  }
  return sum;
}

bool StepCapture::is_for(const Entry& entry, const Pass& pass, const std::vector<const torch::Tensor*>& tensors) const {
  if (entry.optimizer != pass.step.optimizer || entry.opens_window != pass.opens_window ||
      entry.has_weight != (pass.weight != 1) || entry.shapes.size() != tensors.size() ||
      entry.hiddens.items().size() != pass.hiddens.items().size()) {
    return false;
  }
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const Shape& shape = entry.shapes[i];
    if (shape.type != tensors[i]->scalar_type() || tensors[i]->sizes() != shape.sizes ||
        tensors[i]->strides() != shape.strides) {
      return false;
    }
  }
  return true;
}

std::string StepCapture::reason_against(const Pass& pass, const std::vector<const torch::Tensor*>& tensors) const {
  if (has_extra(*pass.step.batch)) return "the batch has something in Batch::extra, which replays cannot see";
  for (const auto* tensor : tensors) {
    if (!tensor->defined()) return "the batch has an undefined tensor";
    if (!tensor->device().is_cpu()) return "a tensor of the batch is on " + tensor->device().str();
    if (tensor->layout() != torch::kStrided) return "a tensor of the batch is sparse";
    if (at::has_internal_overlap(*tensor) == at::MemOverlap::Yes)
      return "a tensor of the batch is expanded: its elements share memory";
  }
  return "";
}

StepCapture::Way StepCapture::begin(const Pass& pass) {
  way_ = Way::plain;
  if (!is_on_) return way_;
  recorder_.reset();
  collect(*pass.step.batch, pass.hiddens, tensors_);
  const auto reason = reason_against(pass, tensors_);
  if (!reason.empty()) {
    refuse(nullptr, reason);
    return way_;
  }
  const uint64_t state = state_of_module();
  const auto found = std::ranges::find_if(
      entries_, [&](const auto& entry) { return entry->state == state && is_for(*entry, pass, tensors_); });
  if (found != entries_.end()) {
    current_ = found->get();
    if (current_->program && !current_->program->is_current()) {  // the module has another tensor in the place of one
      current_->program.reset();
      current_->recording.reset();
      current_->passes = 0;
    }
  } else {
    std::erase_if(entries_, [&](const auto& entry) { return entry->state != state && is_for(*entry, pass, tensors_); });
    const auto of_this_kind = std::ranges::count_if(entries_, [&](const auto& entry) {
      return entry->optimizer == pass.step.optimizer && entry->opens_window == pass.opens_window;
    });
    if (of_this_kind >= core_.options().capture_step_programs) {
      refuse(nullptr, "there are more than " + std::to_string(core_.options().capture_step_programs) +
                          " shapes of batches (trainer.capture_step_programs)");
      return way_;
    }
    current_ = &make_entry(pass, tensors_);
    current_->state = state;
  }
  if (!current_->refusal.empty()) return way_;
  fill(tensors_);
  is_checked_ = current_->recording && current_->passes++ % core_.options().capture_step_check_every == 0;
  way_ = current_->program && !is_checked_ ? Way::replay : Way::record;
  if (way_ == Way::record) begin_recording(pass);
  if (is_checked_) {
    recorder_->set_watch(
        [this](std::size_t number, const std::string& name, const auto& results) { compare(number, name, results); });
    ahead_.clear();
    compute_ahead(0, 1);
  }
  return way_;
}

StepCapture::Way StepCapture::begin_evaluation(const Batch& batch, int64_t loader) {
  TrainStep step;
  step.batch = &batch;
  step.optimizer = static_cast<std::size_t>(loader);
  return begin({step, {}, /*opens_window=*/true, /*weight=*/1});
}

StepCapture::Entry& StepCapture::make_entry(const Pass& pass, const std::vector<const torch::Tensor*>& tensors) {
  auto entry = std::make_unique<Entry>();
  entry->optimizer = pass.step.optimizer;
  entry->opens_window = pass.opens_window;
  entry->has_weight = pass.weight != 1;
  for (const auto* tensor : tensors) {
    entry->shapes.push_back({tensor->scalar_type(), tensor->sizes().vec(), tensor->strides().vec()});
  }
  entry->batch = *pass.step.batch;
  move_to_own_memory(entry->batch, entry->inputs);
  StepOutput::Items hiddens = pass.hiddens.items();
  for (auto& [name, tensor] : hiddens) move_to_own_memory(tensor, entry->inputs);
  entry->hiddens = StepOutput(std::move(hiddens));
  entries_.push_back(std::move(entry));
  return *entries_.back();
}

// Both have the same strides.
void StepCapture::fill(const std::vector<const torch::Tensor*>& tensors) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i]->is_non_overlapping_and_dense()) {
      std::memcpy(current_->inputs[i].mutable_data_ptr(), tensors[i]->const_data_ptr(), tensors[i]->nbytes());
    } else {
      const torch::NoGradGuard no_gradients;
      current_->inputs[i].copy_(*tensors[i]);
    }
  }
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
  loss_view_ = recorder_->view_of(loss);
  recorder_->mark();
}

void StepCapture::end_evaluation(const StepOutput& output) {
  if (way_ != Way::record) return;
  keep_output(output);
  recorder_->mark();
  had_gradient_.clear();
  gradient_views_.clear();
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
  if (is_checked_) compute_ahead(1, current_->program->stretches());
}

// Undefined if the parameter has gaps.
torch::Tensor StepCapture::home_of(std::size_t parameter) {
  const auto& like = parameters_[parameter];
  if (!homes_[parameter].defined() && like.is_non_overlapping_and_dense()) {
    homes_[parameter] = at::empty_strided(like.sizes(), like.strides(), like.options().requires_grad(false));
  }
  return homes_[parameter];
}

void StepCapture::end_backward() {
  if (way_ != Way::record) return;
  gradient_views_.clear();
  for (const auto& parameter : parameters_) {
    const auto& gradient = parameter.grad();
    gradient_views_.push_back(gradient.defined() && parameter.requires_grad() ? recorder_->view_of(gradient)
                                                                              : std::nullopt);
  }
  end_recording();
}

// The first one waits for a second one that agrees.
void StepCapture::end_recording() {
  way_ = Way::plain;
  auto recording = recorder_->take();
  recorder_.reset();
  order_gradients(recording);
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
    make_program(recording);
    recording.marks = marks;
    if (core_.options().capture_step == CaptureStep::check && current_->program->needs_calls()) {
      core_.outputs.note(step_ + " is captured and not checked: it computes with what a metric's call returned");
    } else if (core_.options().capture_step == CaptureStep::check) {
      for (auto& memory : recording.memories) memory.storage = {};  // whether somebody holds them is what counts
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
  auto& program = *current_->program;
  at::Generator generator = at::globalContext().defaultGenerator(torch::kCPU);
  std::vector<torch::Tensor> before;
  for (const auto& bytes : program.written()) before.push_back(bytes.clone());
  const auto state = generator.get_state();
  const capture::Watch keep = [&](std::size_t number, const std::string&, const std::vector<torch::Tensor>& results) {
    auto& kept = ahead_[number];
    for (const auto& result : results) kept.push_back(result.defined() ? result.clone() : result);
  };
  for (std::size_t stretch = first; stretch < last; ++stretch) program.run_watched(stretch, keep);
  generator.set_state(state);
  for (std::size_t i = 0; i < before.size(); ++i) program.written()[i].copy_(before[i]);
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
    if (!plain.defined() || !replayed.defined() || is_scratch) continue;
    const auto a = plain.detach().contiguous(), b = replayed.contiguous();
    const bool is_same = a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() &&
                         std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0;
    if (is_same) continue;
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
void StepCapture::make_program(capture::Recording& recording) {
  capture::ProgramRequest request;
  request.results = output_views_;
  if (loss_view_) request.results.push_back(*loss_view_);
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
  current_->program = std::make_unique<capture::Program>(recording, request);
  const auto& results = current_->program->results();
  StepOutput::Items items;
  for (std::size_t i = 0; i < current_->output_names.size(); ++i) {
    items.emplace_back(current_->output_names[i], results[i]);
    if (items.back().first == "loss") current_->unweighted = results[i];
  }
  current_->output = StepOutput(std::move(items));
  std::size_t next = current_->output_names.size();
  if (loss_view_) current_->loss = results[next++];
  for (auto& kept : current_->gradients) kept.gradient = results[next++];
  say_captured(*current_, recording.peak_bytes);
}

void StepCapture::say_captured(Entry& entry, std::size_t plain_bytes) {
  const auto& summary = entry.program->summary();
  CapturedProgram made;
  made.inputs = joined_as(
      entry.shapes, [](const Shape& shape) { return c10::str(shape.type, " ", torch::IntArrayRef(shape.sizes)); });
  made.step = step_;
  made.optimizer = entry.optimizer;
  made.opens_window = entry.opens_window;
  made.operators = summary.operators;
  made.recorded = summary.recorded;
  made.views = summary.views;
  made.constants = summary.constants;
  made.unused = summary.unused;
  made.bytes = summary.bytes;
  made.plain_bytes = plain_bytes;
  entry.in_report = report_.programs.size();
  entry.program->set_timed(!core_.options().capture_step_dump.empty());
  report_.programs.push_back(std::move(made));
  core_.outputs.note("captured " + step_ + ": " + std::to_string(summary.operators) + " operators, was " +
                     std::to_string(summary.recorded) + "; " + bytes_text(summary.bytes) + ", was " +
                     bytes_text(plain_bytes));
}

// --- Replay ---

void StepCapture::replay_forward(TrainStep& step, double weight) {
  *weight_.mutable_data_ptr<double>() = weight;
  current_->program->run(0);
  ++report_.programs[current_->in_report].replays;
  step.output = kept_output();
  step.loss = keeps_loss_ ? current_->loss.clone() : current_->loss;
}

StepOutput StepCapture::replay_evaluation() {
  current_->program->run(0);
  ++report_.programs[current_->in_report].replays;
  way_ = Way::plain;
  return kept_output();
}

StepOutput StepCapture::kept_output() const {
  if (!keeps_outputs_) return current_->output;
  StepOutput::Items items = current_->output.items();
  for (auto& [name, tensor] : items) tensor = tensor.clone();
  return StepOutput(std::move(items));
}

void StepCapture::replay_backward(bool announces) {
  auto& program = *current_->program;
  for (auto& kept : current_->gradients) {
    auto& gradient = kept.parameter.mutable_grad();
    if (gradient.defined() != kept.was_there) {
      throw UsageError(
          "gradients were zeroed in another way than when the step was captured (optimizer_zero_grad): set "
          "trainer.capture_step = off, or always to none or always to zero");
    }
    if (kept.was_there && !gradient.is_same(kept.gradient)) kept.gradient.copy_(gradient);
  }
  std::size_t next = 1;
  for (auto& kept : current_->gradients) {
    for (; next <= kept.stretch; ++next) program.run(next);
    auto& gradient = kept.parameter.mutable_grad();
    const torch::Tensor original = kept.was_there && !gradient.is_same(kept.gradient) ? gradient : torch::Tensor();
    if (!gradient.is_same(kept.gradient)) gradient = kept.gradient;
    if (!announces) continue;
    put_into_bucket(kept.parameter, original);
    announce_gradient(kept.parameter);
  }
  for (; next < program.stretches(); ++next) program.run(next);
  way_ = Way::plain;
}

std::string StepCapture::to_text() const {
  std::string text;
  for (const auto& entry : entries_) {
    if (!entry->program) continue;
    const auto& report = report_.programs[entry->in_report];
    text += "# " + step_ + (kind_ == Kind::training ? ", optimizer " : ", data loader ") +
            std::to_string(entry->optimizer) +
            (kind_ != Kind::training ? ""
             : entry->opens_window   ? ", first batch of a window"
                                     : ", later batch of a window") +
            ", " + report.inputs + ", " + std::to_string(report.replays) + " replays\n" + entry->program->to_text() +
            "\n";
  }
  return text;
}

}  // namespace troupe
