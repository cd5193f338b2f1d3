#include "troupe/runtime/replica/step_capture.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/modules/support/module_tensors.hpp"
#include "troupe/runtime/capture/product_choice.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/distributed/gradient_announcement.hpp"

#include <ATen/MemoryOverlap.h>
#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cstring>

namespace troupe {

namespace {

constexpr int64_t least_replays = 4;  // for which it is worth recording a step

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
  const int64_t before = capture::elements_past_vector(tensor);
  auto own = at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options());
  if (before != 0 && tensor.numel() != 0) {
    const auto count = static_cast<int64_t>(own.storage().nbytes() / own.element_size());
    own = at::empty({before + count}, tensor.options()).as_strided(tensor.sizes(), tensor.strides(), before);
  }
  inputs.push_back(own);
  tensor = std::move(own);
}

void move_to_own_memory(Batch& batch, std::vector<torch::Tensor>& inputs) {
  for (auto& tensor : batch.tensors()) move_to_own_memory(tensor, inputs);
  for (auto& part : batch.parts()) move_to_own_memory(part, inputs);
}

}  // namespace

// --- Before the first batch ---

std::string StepCapture::reason_against_run() const {
  const auto& options = core_.options();
  if (!core_.setup.device.is_cpu())
    return "the device is " + core_.setup.device.str() + ", and steps are captured on the CPU";
  const bool is_training = kind_ != Kind::evaluation;
  if (is_manual() && core_.peers())
    return "manual optimization averages gradients of several devices or ranks within training_step";
  if (core_.shards) return "the strategy divides batches among devices (dp)";
  if (core_.peers() && options.sync_batchnorm) return "sync_batchnorm talks with other ranks within the step";
  if (core_.divides_parameters()) return "strategy = fsdp frees parameters between their uses, which replays do not";
  if (is_training && core_.divides_gradients())
    return "strategy = zero2 frees gradients once they are reduced, which replays do not";
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
  if (core_.options().capture_step == CaptureStep::require && kind_ != Kind::evaluation) {
    throw UsageError(text + " (" + option("capture_step") + " = require)");
  }
  if (std::ranges::find(report_.refusals, text) != report_.refusals.end()) return;
  report_.refusals.push_back(text);
  core_.outputs.note(text + " (" + option("capture_step") + ")");
}

std::string StepCapture::option(std::string_view name) const {
  return (kind_ == Kind::function ? "fabric." : "trainer.") + std::string(name);
}

// --- Which way ---

// What a program depends on and the batch does not show: modes, what is trained, and where parameters lie.
uint64_t StepCapture::state_of_module() const {
  uint64_t sum = core_.module->is_training() ? 1 : 0;
  for (const auto* module : modules_) sum = mix(sum, module->is_training() ? 1 : 2);
  for (const auto& parameter : parameters_) {
    sum = mix(sum, reinterpret_cast<uintptr_t>(parameter.storage().unsafeGetStorageImpl()));
    sum = mix(sum, parameter.requires_grad() ? 1 : 2);
  }
  for (const auto& buffer : buffers_) {
    sum = mix(sum, reinterpret_cast<uintptr_t>(buffer.storage().unsafeGetStorageImpl()));
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
        tensors[i]->strides() != shape.strides ||
        capture::elements_past_vector(*tensors[i]) != capture::elements_past_vector(entry.inputs[i])) {
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
  current_ = nullptr;
  tensors_.clear();
  collect_tensors(*pass.step.batch, tensors_);
  for (const auto& [name, tensor] : pass.hiddens.items()) tensors_.push_back(&tensor);
  const auto reason = reason_against(pass, tensors_);
  if (!reason.empty()) {
    refuse(nullptr, reason);
    return way_;
  }
  const uint64_t state = state_of_module();
  const uint64_t begins_with = is_manual() ? gradients_there() : 0;
  const auto kind = kind_of(pass.step);
  const auto is_of_kind = [&](const auto& entry) {
    return entry->kind == kind && entry->begins_with == begins_with && is_for(*entry, pass, tensors_);
  };
  const auto found =
      std::ranges::find_if(entries_, [&](const auto& entry) { return entry->state == state && is_of_kind(entry); });
  if (found != entries_.end()) {
    current_ = found->get();
    if (current_->program && !current_->program->is_current()) forget_program(*current_);
  } else {
    std::erase_if(entries_, [&](const auto& entry) { return entry->state != state && is_of_kind(entry); });
    if (!has_room_for(pass, kind, begins_with)) return way_;
    current_ = &make_entry(pass, tensors_);
    current_->state = state;
    current_->kind = kind;
    current_->begins_with = begins_with;
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
    is_manual() ? compute_manual_ahead(0) : compute_ahead(0, 1);
  }
  return way_;
}

// For one more shape of its batches; the refusal is said.
bool StepCapture::has_room_for(const Pass& pass, std::optional<int64_t> kind, uint64_t begins_with) {
  const auto of_this_kind = std::ranges::count_if(entries_, [&](const auto& entry) {
    return entry->optimizer == pass.step.optimizer && entry->opens_window == pass.opens_window && entry->kind == kind &&
           entry->begins_with == begins_with;
  });
  if (of_this_kind < core_.options().capture_step_programs) return true;
  refuse(nullptr, "there are more than " + std::to_string(core_.options().capture_step_programs) +
                      " shapes of batches (" + option("capture_step_programs") + ")");
  return false;
}

// The module has another tensor in the place of one that the program reads.
void StepCapture::forget_program(Entry& entry) {
  entry.program.reset();
  entry.recording.reset();
  entry.passes = 0;
  const bool was_of_use = report_.programs[*entry.in_report].replays >= entry.replays_before + least_replays;
  entry.replaced = was_of_use ? 0 : entry.replaced + 1;
  if (entry.replaced == 3) {
    refuse(&entry,
           "the module has another tensor in the place of one that it reads, again and again: write it in place");
  }
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

// --- Replay ---

void StepCapture::replay_forward(TrainStep& step, double weight) {
  *weight_.mutable_data_ptr<double>() = weight;
  current_->program->run(0);
  ++report_.programs[*current_->in_report].replays;
  step.output = kept_output();
  step.loss = keeps_loss_ ? current_->loss.clone() : current_->loss;
}

StepOutput StepCapture::replay_evaluation() {
  current_->program->run(0);
  ++report_.programs[*current_->in_report].replays;
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
          "gradients were zeroed in another way than when the step was captured (optimizer_zero_grad): set " +
          option("capture_step") + " = off, or always to none or always to zero");
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
  const std::size_t end = program.stretches() - (kind_ == Kind::function ? 1 : 0);
  for (; next < end; ++next) program.run(next);
  if (kind_ != Kind::function) way_ = Way::plain;
}

void StepCapture::replay_rest() {
  current_->program->run(current_->program->stretches() - 1);
  way_ = Way::plain;
}

std::string StepCapture::to_text() const {
  std::string text;
  for (const auto& entry : entries_) {
    if (!entry->program) continue;
    const auto& report = report_.programs[*entry->in_report];
    text += "# " + step_ +
            (is_manual()
                 ? ", manual optimization"
                 : (kind_ == Kind::evaluation ? ", data loader " : ", optimizer ") + std::to_string(entry->optimizer)) +
            (entry->kind ? ", kind " + std::to_string(*entry->kind) : "") +
            (kind_ == Kind::evaluation || is_manual() ? ""
             : entry->opens_window                    ? ", first batch of a window"
                                                      : ", later batch of a window") +
            ", " + report.inputs + ", " + std::to_string(report.replays) + " replays\n" + entry->program->to_text() +
            "\n";
  }
  return text;
}

}  // namespace troupe
