#include "troupe/modules/callbacks/weight_averaging.hpp"

#include "troupe/base/number_text.hpp"
#include "troupe/base/state_reader.hpp"
#include "troupe/base/text.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/modules/optim/evaluation_weights.hpp"
#include "troupe/modules/optim/optimizer_name.hpp"
#include "troupe/modules/support/module_tensors.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <ranges>
#include <utility>

namespace troupe {

namespace {

// Before the names of averages that are not in the model's own tensors: no weight's name begins with a point.
constexpr std::string_view average_prefix = ".average.";

// The type to average in: in 16 bits what a step adds, often a thousandth, is rounded away.
torch::ScalarType wide(torch::ScalarType type) {
  return type == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
}

[[noreturn]] void refuse_averages(const std::string& why) {
  throw UsageError("WeightAveraging: " + why);
}

}  // namespace

WeightAveraging::WeightAveraging(WeightAveragingOptions options) : options_(options) {
  if (options_.decay && !(*options_.decay >= 0 && *options_.decay < 1)) {
    refuse_averages("decay = " + double_to_text(*options_.decay) + " is not in [0, 1)");
  }
  if (options_.update_every_n_steps < 0) {
    refuse_averages("update_every_n_steps = " + std::to_string(options_.update_every_n_steps) +
                    "; use at least 1, or 0 for epochs");
  }
}

// The average begins as a copy; what a checkpoint has comes later.
void WeightAveraging::on_pretrain_routine_start(RunContext& run, Module& module) {
  for (const auto& optimizer : run.optimizers()) {
    if (!dynamic_cast<const optim::EvaluationWeights*>(optimizer.get())) continue;
    refuse_averages("the optimizer " + optim::optimizer_name(*optimizer) +
                    " evaluates an average of its own; use one of the two");
  }
  entries_.clear();
  updates_ = last_step_ = 0;
  is_swapped_ = false;
  const auto add = [&](std::vector<ModuleTensor> tensors) {
    for (auto& [tensor, names] : tensors) {
      if (!tensor.is_floating_point()) continue;
      auto average = tensor.detach().to(wide(tensor.scalar_type()), /*non_blocking=*/false, /*copy=*/true);
      entries_.push_back({std::move(names), std::move(tensor), std::move(average), {}});
    }
  };
  add(distinct_parameters(module));
  if (options_.use_buffers) add(distinct_buffers(module));
}

void WeightAveraging::load_state_dict(const nlohmann::json& state) {
  const StateReader reader(state, "the checkpoint's state of WeightAveraging");
  const auto updates = reader.count("updates"), step = reader.count("step");
  updates_ = updates;
  last_step_ = step;
}

// The weights themselves, since the model in the file is the average; beside them averages of a wider type than its.
std::vector<std::pair<std::string, torch::Tensor>> WeightAveraging::state_tensors() const {
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  if (!is_swapped_) return tensors;  // nothing was averaged: the model in the file is the weights
  for (const auto& entry : entries_) {
    tensors.emplace_back(entry.names.front(), entry.is_narrow() ? entry.kept : entry.average);
  }
  for (const auto& entry : entries_) {
    if (entry.is_narrow()) tensors.emplace_back(std::string(average_prefix) + entry.names.front(), entry.average);
  }
  return tensors;
}

void WeightAveraging::load_state_tensors(const std::vector<std::pair<std::string, torch::Tensor>>& tensors) {
  const auto find = [&](const Entry& entry, std::string_view prefix) -> const torch::Tensor* {
    for (const auto& [name, tensor] : tensors) {
      const bool is_own =
          std::ranges::any_of(entry.names, [&](const std::string& own) { return name == std::string(prefix) + own; });
      if (!is_own) continue;
      if (tensor.sizes() == entry.live.sizes() && tensor.is_floating_point()) return &tensor;
      refuse_averages("the checkpoint has no average that fits '" + shown(entry.names.front()) + "'");
    }
    return nullptr;
  };
  const auto count =
      std::ranges::count_if(tensors, [](const auto& tensor) { return !tensor.first.starts_with(average_prefix); });
  if (count != std::ssize(entries_)) {
    refuse_averages("the checkpoint has " + std::to_string(count) + " averages, the module " +
                    std::to_string(entries_.size()) + " weights");
  }
  std::vector<std::pair<const torch::Tensor*, const torch::Tensor*>> found;
  for (const auto& entry : entries_) {
    found.emplace_back(find(entry, ""), find(entry, average_prefix));
    if (!found.back().first)
      refuse_averages("the checkpoint has no average that fits '" + shown(entry.names.front()) + "'");
  }
  const torch::NoGradGuard no_gradients;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto [weight, average] = found[i];
    entries_[i].average.copy_(average ? *average : entries_[i].live);
    if (updates_ > 0) entries_[i].live.copy_(*weight);
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
  // The first weights replace the copy that the average began as.
  const double weight = updates_ == 0    ? 1
                        : options_.decay ? 1 - *options_.decay
                                         : 1 / static_cast<double>(updates_ + 1);
  std::vector<torch::Tensor> averages, live;
  for (auto& entry : entries_) {
    if (entry.is_narrow()) {  // one after the other, so that one wide copy is there at a time
      entry.average.lerp_(entry.live.detach().to(entry.average.scalar_type()), weight);
      continue;
    }
    averages.push_back(entry.average);
    live.push_back(entry.live);
  }
  if (!averages.empty()) at::_foreach_lerp_(averages, live, weight);
  updates_ += 1;
}

// Values change places, tensors do not: optimizers hold them. Back in the reverse order: of tensors that share memory,
// such as a buffer that is a view of a weight, the last one to be changed has to be the first one to be put back.
void WeightAveraging::swap() {
  const torch::NoGradGuard no_gradients;
  if (is_swapped_) {
    for (auto& entry : std::views::reverse(entries_)) swap(entry, /*back=*/true);
  } else {
    for (auto& entry : entries_) swap(entry, /*back=*/false);
  }
  is_swapped_ = !is_swapped_;
}

// An average of another type than the weights' does not fit into their place and back, so these are kept beside it.
void WeightAveraging::swap(Entry& entry, bool back) {
  if (back && entry.is_narrow()) {
    entry.live.copy_(std::exchange(entry.kept, {}));
    return;
  }
  auto before = entry.live.detach().clone();
  entry.live.copy_(entry.average);
  if (entry.is_narrow()) {
    entry.kept = std::move(before);
  } else {
    entry.average.copy_(before);
  }
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
