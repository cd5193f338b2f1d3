#include "troupe/modules/callbacks/weight_averaging.hpp"

#include "troupe/modules/module.hpp"
#include "troupe/modules/nearest.hpp"
#include "troupe/modules/number_text.hpp"

#include <torch/torch.h>

#include <utility>

namespace troupe {

namespace {

[[noreturn]] void refuse(const std::string& why) {
  throw UsageError("WeightAveraging: " + why);
}

}  // namespace

WeightAveraging::WeightAveraging(WeightAveragingOptions options) : options_(options) {
  if (options_.decay && !(*options_.decay >= 0 && *options_.decay < 1)) {
    refuse("decay = " + double_to_text(*options_.decay) + " is not in [0, 1)");
  }
  if (options_.update_every_n_steps < 0) {
    refuse("update_every_n_steps = " + std::to_string(options_.update_every_n_steps) +
           "; use at least 1, or 0 for epochs");
  }
}

// The average begins as a copy; what a checkpoint has comes later.
void WeightAveraging::on_pretrain_routine_start(RunContext&, Module& module) {
  entries_.clear();
  updates_ = last_step_ = 0;
  is_swapped_ = false;
  const auto add = [&](const std::string& name, const torch::Tensor& tensor) {
    if (tensor.defined() && tensor.is_floating_point()) entries_.push_back({name, tensor, tensor.detach().clone()});
  };
  for (const auto& item : module.named_parameters()) add(item.key(), item.value());
  if (!options_.use_buffers) return;
  for (const auto& item : module.named_buffers()) add(item.key(), item.value());
}

void WeightAveraging::load_state_dict(const nlohmann::json& state) {
  const auto count = [&](const char* key) {
    const bool good = state.is_object() && state.contains(key) && state[key].is_number_integer();
    const int64_t value = good ? state[key].get<int64_t>() : -1;
    if (value < 0) throw UsageError(std::string("the checkpoint's state of WeightAveraging is damaged: ") + key);
    return value;
  };
  const auto updates = count("updates"), step = count("step");
  updates_ = updates;
  last_step_ = step;
}

std::vector<std::pair<std::string, torch::Tensor>> WeightAveraging::state_tensors() const {
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (const auto& entry : entries_) tensors.emplace_back(entry.name, entry.average);
  return tensors;
}

void WeightAveraging::load_state_tensors(const std::vector<std::pair<std::string, torch::Tensor>>& tensors) {
  if (tensors.size() != entries_.size()) {
    refuse("the checkpoint has " + std::to_string(tensors.size()) + " averages, the module " +
           std::to_string(entries_.size()) + " weights");
  }
  std::vector<const torch::Tensor*> found;
  for (const auto& entry : entries_) {
    const auto at = std::ranges::find_if(tensors, [&](const auto& tensor) { return tensor.first == entry.name; });
    if (at == tensors.end() || at->second.sizes() != entry.average.sizes() || !at->second.is_floating_point()) {
      refuse("the checkpoint has no average that fits '" + shown(entry.name) + "'");
    }
    found.push_back(&at->second);
  }
  const torch::NoGradGuard no_gradients;
  for (std::size_t i = 0; i < found.size(); ++i) {
    entries_[i].average.copy_(entries_[i].live);
    if (updates_ > 0) entries_[i].live.copy_(*found[i]);
  }
}

void WeightAveraging::on_snapshot_start(Module&) {
  is_snapshot_ = updates_ > 0 && !is_swapped_;
  if (is_snapshot_) swap();
}

void WeightAveraging::on_snapshot_end(Module&) {
  if (std::exchange(is_snapshot_, false)) swap();
}

void WeightAveraging::on_train_batch_end(RunContext& run, Module&, const StepOutput&, const Batch&, int64_t) {
  const int64_t n = options_.update_every_n_steps, step = run.progress().global_step;
  if (n == 0 || step == last_step_ || step / n == last_step_ / n) return;
  if (step < options_.update_starting_at_step || run.progress().epoch < options_.update_starting_at_epoch) return;
  last_step_ = step;
  update();
}

void WeightAveraging::on_train_epoch_end(RunContext& run, Module&) {
  const bool is_due = options_.update_every_n_steps == 0 && run.progress().epoch >= options_.update_starting_at_epoch &&
                      run.progress().global_step >= options_.update_starting_at_step;
  if (is_due) update();
}

void WeightAveraging::update() {
  const torch::NoGradGuard no_gradients;
  std::vector<torch::Tensor> averages, live;
  for (const auto& entry : entries_) {
    averages.push_back(entry.average);
    live.push_back(entry.live);
  }
  // The first weights replace the copy that the average began as.
  const double weight = updates_ == 0    ? 1
                        : options_.decay ? 1 - *options_.decay
                                         : 1 / static_cast<double>(updates_ + 1);
  if (!averages.empty()) at::_foreach_lerp_(averages, live, weight);
  updates_ += 1;
}

// Values change places, tensors do not: optimizers hold them.
void WeightAveraging::swap() {
  const torch::NoGradGuard no_gradients;
  for (auto& entry : entries_) {
    const auto kept = entry.live.clone();
    entry.live.copy_(entry.average);
    entry.average.copy_(kept);
  }
  is_swapped_ = !is_swapped_;
}

void WeightAveraging::on_validation_start(RunContext& run, Module&) {
  if (run.stage() == Stage::fit && updates_ > 0 && !is_swapped_) swap();
}

void WeightAveraging::on_validation_end(RunContext&, Module&) {
  if (is_swapped_) swap();
}

void WeightAveraging::on_exception(RunContext&, Module&, const Failure&) {
  if (is_swapped_) swap();
}

void WeightAveraging::on_train_end(RunContext&, Module&) {
  if (updates_ == 0) return;
  const torch::NoGradGuard no_gradients;
  for (auto& entry : entries_) entry.live.copy_(entry.average);
}

}  // namespace troupe
