#include "troupe/runtime/replica/training_problems.hpp"

#include "troupe/base/text.hpp"
#include "troupe/modules/callbacks/weight_averaging.hpp"
#include "troupe/modules/support/module_tensors.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

namespace troupe {

namespace {

std::string shown_names(std::vector<std::string> names) {
  for (auto& name : names) name = shown(name);
  return brief_list(std::move(names));
}

// The topmost layers below `module` that are in eval mode, by their names.
void add_layers_in_eval_mode(const torch::nn::Module& module, const std::string& prefix,
                             std::vector<std::string>& names) {
  for (const auto& child : module.named_children()) {
    if (child.value()->is_training()) {
      add_layers_in_eval_mode(*child.value(), prefix + child.key() + ".", names);
    } else {
      names.push_back(prefix + child.key());
    }
  }
}

}  // namespace

// A loss that no parameter leads to: PyTorch's own words for it name neither the module nor what to do.
void refuse_untrainable(const Module& module, const char* what, const torch::Tensor& loss) {
  if (loss.requires_grad()) return;
  const auto parameters = module.parameters();
  const auto is_trained = [](const torch::Tensor& parameter) { return parameter.requires_grad(); };
  if (!parameters.empty() && std::ranges::none_of(parameters, is_trained)) {
    throw UsageError("the module is frozen: none of its " + std::to_string(parameters.size()) +
                     " parameters needs a gradient, so there is nothing to train; call unfreeze() before fit");
  }
  throw UsageError(std::string(what) +
                   " depends on no parameter that is trained: is what it comes from frozen, or was it detached?");
}

// Right for a frozen batch norm, and easy to forget where a part was evaluated by hand.
void note_layers_in_eval_mode(const ReplicaCore& core) {
  std::vector<std::string> names;
  add_layers_in_eval_mode(*core.module, "", names);
  if (names.empty()) return;
  core.outputs.note("in eval mode when fit begins, and left so: " + shown_names(names) +
                    "; call train() on the module to change that");
}

void check_communication(const ReplicaCore& core) {
  const auto& options = core.options();
  const std::string strategy = "strategy = " + name_of(options.strategy);
  if (!core.peers()) {
    const auto compression = options.gradient_compression;
    const std::string what = trains_locally(options.strategy)               ? strategy
                             : compression == GradientCompression::powersgd ? "gradient_compression = powersgd"
                                                                            : "";
    if (!what.empty()) core.outputs.note("warning: trainer." + what + " does nothing on one rank");
    return;
  }
  if (!core.trains_locally()) return;
  for (const auto& callback : core.callbacks) {
    if (!dynamic_cast<const WeightAveraging*>(callback.get())) continue;
    throw UsageError("WeightAveraging averages the weights that one rank has, and with trainer." + strategy +
                     " each has its own; leave it out, or use strategy = ddp");
  }
}

// LibTorch's optimizers take a parameter twice, and step it twice. It comes of LibTorch's parameters(), which list one
// that layers share once for each.
void refuse_repeated_parameters(const ReplicaCore& core) {
  for (std::size_t i = 0; i < core.optimizers.size(); ++i) {
    std::unordered_set<const void*> seen;
    for (const auto& group : core.optimizers[i].param_groups()) {
      for (const auto& parameter : group.params()) {
        if (seen.insert(parameter.unsafeGetTensorImpl()).second) continue;
        std::string name = "a parameter";
        for (const auto& each : distinct_parameters(*core.module)) {
          if (each.tensor.is_same(parameter)) name = "the parameter " + shown_names(each.names);
        }
        throw UsageError("optimizer " + std::to_string(i) + " has " + name +
                         " twice, and would step it twice; distinct_parameters(layer) lists what layers share once, as"
                         " parameters() of a troupe::Module does");
      }
    }
  }
}

void note_unused_parameters(const ReplicaCore& core, std::size_t optimizer, std::vector<OptimizerTrack>& tracks) {
  if (!core.options().detect_unused_parameters || tracks[optimizer].was_checked_for_unused) return;
  tracks[optimizer].was_checked_for_unused = true;
  std::unordered_map<const void*, std::size_t> owners;
  for (std::size_t i = 0; i < core.optimizers.size(); ++i) {
    for (const auto& group : core.optimizers[i].param_groups()) {
      for (const auto& parameter : group.params()) owners.emplace(parameter.unsafeGetTensorImpl(), i);
    }
  }
  std::vector<std::string> unused, unowned;
  for (const auto& each : distinct_parameters(*core.module)) {
    if (!each.tensor.requires_grad()) continue;  // frozen on purpose
    const auto owner = owners.find(each.tensor.unsafeGetTensorImpl());
    if (owner == owners.end()) {
      unowned.push_back(each.name());
    } else if (owner->second == optimizer && !each.tensor.grad().defined()) {
      unused.push_back(each.name());
    }
  }
  if (!unused.empty()) {
    core.outputs.note("warning: parameters without a gradient at the first step of optimizer " +
                      std::to_string(optimizer) + ": " + shown_names(unused) + "; the loss does not depend on them");
  }
  const bool is_first = std::ranges::count(tracks, true, &OptimizerTrack::was_checked_for_unused) == 1;
  if (is_first && !unowned.empty()) {
    core.outputs.note("warning: parameters that no optimizer has: " + shown_names(unowned) +
                      "; give them to one in configure_optimizers, or freeze them");
  }
}

void refuse_foreign_parameters(const ReplicaCore& core, const GradientSync& sync, std::size_t optimizer,
                               std::size_t& checked) {
  const auto& groups = core.optimizers[optimizer].param_groups();
  std::size_t count = 0;
  for (const auto& group : groups) count += group.params().size();
  if (count == checked) return;
  const ShardedOptimizer* sharded = sync.sharded(optimizer);
  std::unordered_set<const void*> own;
  for (const auto& parameter : core.module->parameters()) own.insert(parameter.unsafeGetTensorImpl());
  for (std::size_t g = 0; g < groups.size(); ++g) {
    for (std::size_t i = 0; i < groups[g].params().size(); ++i) {
      const auto& parameter = groups[g].params()[i];
      const bool is_part = sharded && sharded->holds(parameter);
      if (is_part || own.contains(parameter.unsafeGetTensorImpl())) continue;
      throw UsageError("optimizer " + std::to_string(optimizer) + ": parameter " + std::to_string(i) + " of group " +
                       std::to_string(g) + ", of shape " + c10::str(parameter.sizes()) +
                       ", is not one of the module's, so that no checkpoint would have it and no device would get it:"
                       " register it with register_parameter, or its layer with register_module");
    }
  }
  checked = count;
}

void refuse_options_of_automatic_optimization(const TrainerOptions& options) {
  if (options.gradient_clip_val.value_or(0) != 0) {
    throw UsageError(
        "trainer.gradient_clip_val does nothing with automatic_optimization = false: call clip_gradients in"
        " training_step");
  }
  if (options.accumulate_grad_batches > 1) {
    throw UsageError(
        "trainer.accumulate_grad_batches does nothing with automatic_optimization = false: step the optimizer in every"
        " n-th training_step");
  }
}

}  // namespace troupe
