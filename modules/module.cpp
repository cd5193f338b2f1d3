#include "troupe/modules/module.hpp"

#include "troupe/base/text.hpp"
#include "troupe/modules/optim/clip_gradients.hpp"
#include "troupe/modules/optim/drop_gradients.hpp"
#include "troupe/modules/support/module_tensors.hpp"
#include "troupe/modules/support/recorded_scheduler.hpp"
#include "troupe/modules/support/tensor_bytes.hpp"
#include "troupe/modules/support/tensor_part.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <iostream>
#include <unordered_set>
#include <utility>

namespace troupe {

namespace {

[[noreturn]] void throw_not_overridden(const char* step, const char* signature) {
  throw UsageError(std::string(step) + " is not overridden: declare `" + signature + " override` in the module");
}

// One output of several parts: scalars become their mean, all else is joined along the first dimension.
StepOutput joined_outputs(const std::vector<StepOutput>& parts) {
  if (parts.size() == 1) return parts.front();
  StepOutput::Items items;
  for (const auto& [key, first] : parts.empty() ? StepOutput::Items() : parts.front().items()) {
    std::vector<torch::Tensor> tensors;
    for (const auto& part : parts) tensors.push_back(part[key].to(first.device()));
    items.emplace_back(key, first.dim() == 0 ? torch::stack(tensors).mean() : torch::cat(tensors));
  }
  return StepOutput(std::move(items));
}

}  // namespace

torch::Tensor Module::forward(torch::Tensor x) {
  (void)x;
  throw_not_overridden("forward", "torch::Tensor forward(torch::Tensor x)");
}

StepOutput Module::training_step(const Batch&, int64_t) {
  throw_not_overridden("training_step", "StepOutput training_step(const Batch& batch, int64_t batch_idx)");
}
StepOutput Module::training_step(const Batch& part, int64_t batch_idx, const StepOutput&) {
  return training_step(part, batch_idx);
}
StepOutput Module::training_step(const Batch& batch, int64_t batch_idx, int64_t) {
  refuse_several_optimizers("const Batch& batch, int64_t batch_idx, int64_t optimizer_idx");
  return training_step(batch, batch_idx);
}
StepOutput Module::training_step(const Batch& part, int64_t batch_idx, int64_t, const StepOutput& hiddens) {
  refuse_several_optimizers("const Batch& part, int64_t batch_idx, int64_t optimizer_idx, const StepOutput& hiddens");
  return training_step(part, batch_idx, hiddens);
}
void Module::refuse_several_optimizers(const char* signature) const {
  if (!run_ || run_->optimizers().size() < 2 || !automatic_optimization) return;
  throw UsageError("configure_optimizers returned " + std::to_string(run_->optimizers().size()) +
                   " optimizers, but training_step takes no optimizer_idx: override training_step(" + signature +
                   "), or set automatic_optimization = false and step them yourself");
}

StepOutput Module::training_step_end(const std::vector<StepOutput>& batch_parts) {
  return joined_outputs(batch_parts);
}
StepOutput Module::validation_step_end(const std::vector<StepOutput>& batch_parts) {
  return joined_outputs(batch_parts);
}
StepOutput Module::test_step_end(const std::vector<StepOutput>& batch_parts) {
  return joined_outputs(batch_parts);
}

StepOutput Module::validation_step(const Batch&, int64_t) {
  throw_not_overridden("validation_step", "StepOutput validation_step(const Batch& batch, int64_t batch_idx)");
}
StepOutput Module::validation_step(const Batch& batch, int64_t batch_idx, int64_t) {
  return validation_step(batch, batch_idx);
}
StepOutput Module::test_step(const Batch&, int64_t) {
  throw_not_overridden("test_step", "StepOutput test_step(const Batch& batch, int64_t batch_idx)");
}
StepOutput Module::test_step(const Batch& batch, int64_t batch_idx, int64_t) {
  return test_step(batch, batch_idx);
}
StepOutput Module::predict_step(const Batch& batch, int64_t) {
  return {{"prediction", forward(batch[0])}};
}
StepOutput Module::predict_step(const Batch& batch, int64_t batch_idx, int64_t) {
  return predict_step(batch, batch_idx);
}

Batch Module::on_before_batch_transfer(Batch batch, int64_t) {
  return batch;
}
Batch Module::transfer_batch_to_device(Batch batch, torch::Device device, int64_t) {
  return batch.to(device, /*non_blocking=*/true);
}
Batch Module::on_after_batch_transfer(Batch batch, int64_t) {
  return batch;
}

EpochControl Module::on_train_batch_start(const Batch&, int64_t) {
  return EpochControl::proceed;
}
void Module::on_train_batch_end(const StepOutput&, const Batch&, int64_t) {}

void Module::optimizer_zero_grad(int64_t, int64_t, torch::optim::Optimizer& optimizer, int64_t) {
  drop_gradients(optimizer);
}
void Module::backward(const torch::Tensor& loss, torch::optim::Optimizer&, int64_t) {
  loss.backward();
}
void Module::on_before_optimizer_step(torch::optim::Optimizer&, int64_t) {}
void Module::configure_gradient_clipping(torch::optim::Optimizer& optimizer, int64_t,
                                         std::optional<double> gradient_clip_val,
                                         GradientClipAlgorithm gradient_clip_algorithm) {
  clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm);
}
void Module::optimizer_step(int64_t, int64_t, torch::optim::Optimizer& optimizer, int64_t,
                            const OptimizerClosure& closure) {
  optimizer.step(closure);
}
void Module::lr_scheduler_step(LRScheduler& scheduler, int64_t, std::optional<double> metric) {
  metric ? scheduler.step(*metric) : scheduler.step();
}

void Module::on_validation_batch_start(const Batch&, int64_t, int64_t) {}
void Module::on_validation_batch_end(const StepOutput&, const Batch&, int64_t, int64_t) {}
void Module::on_test_batch_start(const Batch&, int64_t, int64_t) {}
void Module::on_test_batch_end(const StepOutput&, const Batch&, int64_t, int64_t) {}
void Module::on_predict_batch_start(const Batch&, int64_t, int64_t) {}
void Module::on_predict_batch_end(const StepOutput&, const Batch&, int64_t, int64_t) {}

std::vector<Batch> Module::tbptt_split_batch(const Batch& batch, int64_t split_size) {
  if (!batch.parts().empty()) {
    throw UsageError("tbptt_split_batch: a batch of several training loaders has no one time axis; override it");
  }
  int64_t length = -1;
  for (const auto& tensor : batch.tensors()) {
    if (tensor.dim() < 2) continue;
    if (length >= 0 && tensor.size(1) != length) {
      throw UsageError("tbptt_split_batch: dimension 1 is time and must agree, but one tensor has " +
                       std::to_string(length) + " steps and another " + std::to_string(tensor.size(1)));
    }
    length = tensor.size(1);
  }
  if (length < 0) throw UsageError("tbptt_split_batch: no tensor of the batch has a dimension 1 to cut along");
  std::vector<Batch> parts;
  for (int64_t start = 0; start < length; start += split_size) {
    Batch part = batch;
    for (auto& tensor : part.tensors()) {
      if (tensor.dim() >= 2) tensor = tensor_part(tensor, 1, start, std::min(start + split_size, length));
    }
    parts.push_back(std::move(part));
  }
  return parts;
}

void Module::log(std::string_view name, const torch::Tensor& value, const LogOptions& options) {
  if (run_) run_->log(name, value, options);
}
void Module::log(std::string_view name, double value, const LogOptions& options) {
  if (run_) run_->log(name, value, options);
}
void Module::log(std::string_view name, Metric& metric, const LogOptions& options) {
  if (run_) run_->log(name, metric, options);
}
void Module::log_dict(const std::vector<std::pair<std::string, Loggable>>& values, const LogOptions& options) {
  for (const auto& [name, value] : values) {
    if (auto* const* metric = std::get_if<Metric*>(&value.held())) {
      log(name, **metric, options);
    } else if (const auto* number = std::get_if<double>(&value.held())) {
      log(name, *number, options);
    } else {
      log(name, std::get<torch::Tensor>(value.held()), options);
    }
  }
}

void Module::keep_metric(std::string name, std::shared_ptr<Metric> metric) {
  const auto refuse = [&](const std::string& why) {
    throw UsageError("register_metric(\"" + shown(name) + "\"): " + why);
  };
  if (name.empty()) refuse("a metric needs a name");
  if (name.find('.') != std::string::npos) refuse("the name must not have a dot");
  for (const auto& [taken, other] : metrics_) {
    if (taken == name) refuse("the name is taken by " + other->class_name());
  }
  metric->set_name(name);
  metrics_.emplace_back(std::move(name), std::move(metric));
}

void Module::print(const std::string& line) const {
  if (run_) {
    run_->print(line);
  } else {
    std::cout << line << '\n';
  }
}

RunContext& Module::trainer() const {
  if (!run_) throw UsageError("trainer() was called outside of a run: the module is attached to one in its hooks");
  return *run_;
}

void Module::attach(RunContext* run) {
  run_ = run;
  for (const auto& inner : modules(/*include_self=*/false)) {
    if (auto* module = dynamic_cast<Module*>(inner.get())) module->run_ = run;
  }
}

std::vector<torch::Tensor> Module::parameters(bool recurse) const {
  std::vector<torch::Tensor> all;
  for (auto& each : distinct_parameters(*this, recurse)) all.push_back(std::move(each.tensor));
  return all;
}

std::vector<torch::Tensor> Module::buffers(bool recurse) const {
  std::vector<torch::Tensor> all;
  for (auto& each : distinct_buffers(*this, recurse)) all.push_back(std::move(each.tensor));
  return all;
}

torch::Device Module::device() const {
  if (run_) return run_->device();
  const auto all = parameters();
  return all.empty() ? torch::Device(torch::kCPU) : all.front().device();
}

double Module::model_size() const {
  int64_t bytes = 0;
  for (const auto& tensor : parameters()) bytes += tensor_bytes(tensor);
  for (const auto& tensor : buffers()) bytes += tensor_bytes(tensor);
  return static_cast<double>(bytes) / 1e6;
}

void Module::write_prediction(std::string_view name, const torch::Tensor& value, const std::string& filename) {
  trainer().write_prediction(name, value, filename);
}
void Module::write_prediction_dict(const std::vector<std::pair<std::string, torch::Tensor>>& values,
                                   const std::string& filename) {
  for (const auto& [name, value] : values) write_prediction(name, value, filename);
}

std::vector<OptimizerHandle> Module::optimizers() const {
  std::vector<OptimizerHandle> handles;
  for (std::size_t i = 0; i < trainer().optimizers().size(); ++i) handles.emplace_back(trainer(), i);
  return handles;
}

OptimizerHandle Module::optimizer(std::size_t index) const {
  const auto count = trainer().optimizers().size();
  if (index < count) return {trainer(), index};
  throw UsageError("there is no optimizer " + std::to_string(index) + ": configure_optimizers returned " +
                   std::to_string(count));
}

void Module::check_optimizer_count(std::size_t wanted) const {
  const auto count = trainer().optimizers().size();
  if (count == wanted) return;
  throw UsageError("optimizers<" + std::to_string(wanted) + ">(): configure_optimizers returned " +
                   std::to_string(count));
}

std::vector<std::shared_ptr<LRScheduler>> Module::lr_schedulers() const {
  std::vector<std::shared_ptr<LRScheduler>> schedulers;
  for (const auto& config : trainer().optimizers().lr_schedulers()) schedulers.push_back(config.scheduler);
  if (StepRecorder::current()) {
    for (auto& scheduler : schedulers) scheduler = std::make_shared<RecordedScheduler>(std::move(scheduler));
  }
  return schedulers;
}

void Module::clip_gradients(torch::optim::Optimizer& optimizer, std::optional<double> gradient_clip_val,
                            GradientClipAlgorithm gradient_clip_algorithm) {
  (void)troupe::clip_gradients(
      optimizer, gradient_clip_val, gradient_clip_algorithm, device(),
      [&](torch::Tensor norm) { return run_ ? run_->whole_gradient_norm(optimizer, std::move(norm)) : norm; });
}

void Module::freeze() {
  for (auto& parameter : parameters()) parameter.set_requires_grad(false);
  eval();
}

void Module::unfreeze() {
  for (auto& parameter : parameters()) parameter.set_requires_grad(true);
  train();
}

void Module::note_modes() {
  modes_ = ModuleModes(*this);
}

void Module::put_back_modes() {
  if (!modes_.empty()) std::exchange(modes_, {}).put_back(*this);
}

void Module::enter_eval_mode() {
  if (modes_.empty()) note_modes();
  eval();
}

void Module::leave_eval_mode() {
  modes_.empty() ? train() : put_back_modes();
}

}  // namespace troupe
