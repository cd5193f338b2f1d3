// What a replica says about a training that cannot be, or is not what it seems.
#include "troupe/base/text.hpp"
#include "troupe/modules/support/module_tensors.hpp"
#include "troupe/runtime/replica/replica.hpp"

#include <c10/util/StringUtil.h>
#include <torch/torch.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

namespace troupe {

namespace {

std::string shown_names(std::vector<std::string> names) {
  for (auto& name : names) name = shown(name);
  return brief_list(std::move(names));
}

std::string shapes_of(const StepOutput& output) {
  const auto text = joined_as(output.items(), [](const auto& item) {
    return shown(item.first) + " " + (item.second.defined() ? c10::str(item.second.sizes()) : "undefined");
  });
  return text.empty() ? "none" : text;
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

std::string shapes_of(const Batch& batch) {
  return joined_as(batch.tensors(), [](const torch::Tensor& tensor) { return c10::str(tensor.sizes()); });
}

}  // namespace

// A loss that no parameter leads to: PyTorch's own words for it name neither the module nor what to do.
void Replica::refuse_untrainable(const char* what, const torch::Tensor& loss) const {
  if (loss.requires_grad()) return;
  const auto parameters = module_->parameters();
  const auto is_trained = [](const torch::Tensor& parameter) { return parameter.requires_grad(); };
  if (!parameters.empty() && std::ranges::none_of(parameters, is_trained)) {
    throw UsageError("the module is frozen: none of its " + std::to_string(parameters.size()) +
                     " parameters needs a gradient, so there is nothing to train; call unfreeze() before fit");
  }
  throw UsageError(std::string(what) +
                   " depends on no parameter that is trained: is what it comes from frozen, or was it detached?");
}

// Right for a frozen batch norm, and easy to forget where a part was evaluated by hand.
void Replica::name_layers_in_eval_mode() {
  std::vector<std::string> names;
  add_layers_in_eval_mode(*module_, "", names);
  if (names.empty()) return;
  note("in eval mode when fit begins, and left so: " + shown_names(names) + "; call train() on the module to change that");
}

// Means and windows of accumulation weigh batches by their sizes. Where two readings of a size would weigh them
// differently, the user is to know which one is taken.
int64_t Replica::size_of(const Batch& batch) {
  const int64_t size = batch.size(), rows = batch.first_size();
  if (warned_of_sizes_ || batch.is_size_said() || batch.made_of() == 0 || rows < 0) return size;
  const double rows_per_sample = static_cast<double>(rows) / static_cast<double>(batch.made_of());
  if (rows_per_sample_ < 0) rows_per_sample_ = rows_per_sample;
  if (rows_per_sample_ == rows_per_sample) return size;
  warned_of_sizes_ = true;
  note("warning: the size of batches is not clear: the first tensor of this one has " + std::to_string(rows) +
       " rows, its loader made it of " + std::to_string(batch.made_of()) +
       " samples, and for another batch the quotient was another; it counts as " + std::to_string(size) +
       " (Batch::size) in means and in windows of accumulation; Batch::set_size in the collate function says another");
  return size;
}

// LibTorch's optimizers take a parameter twice, and step it twice. It comes of LibTorch's parameters(), which list one
// that layers share once for each.
void Replica::refuse_repeated_parameters() const {
  for (std::size_t i = 0; i < optimizers_.size(); ++i) {
    std::unordered_set<const void*> seen;
    for (const auto& group : optimizers_[i].param_groups()) {
      for (const auto& parameter : group.params()) {
        if (seen.insert(parameter.unsafeGetTensorImpl()).second) continue;
        std::string name = "a parameter";
        for (const auto& each : distinct_parameters(*module_)) {
          if (each.tensor.is_same(parameter)) name = "the parameter " + shown_names(each.names);
        }
        throw UsageError("optimizer " + std::to_string(i) + " has " + name +
                         " twice, and would step it twice; distinct_parameters(layer) lists what layers share once, as"
                         " parameters() of a troupe::Module does");
      }
    }
  }
}

// Called when the gradients of an optimizer's first step are there.
void Replica::name_unused_parameters(std::size_t optimizer) {
  if (optimizer >= checked_for_unused_.size() || checked_for_unused_[optimizer]) return;
  checked_for_unused_[optimizer] = true;
  std::unordered_map<const void*, std::size_t> owners;
  for (std::size_t i = 0; i < optimizers_.size(); ++i) {
    for (const auto& group : optimizers_[i].param_groups()) {
      for (const auto& parameter : group.params()) owners.emplace(parameter.unsafeGetTensorImpl(), i);
    }
  }
  std::vector<std::string> unused, unowned;
  for (const auto& each : distinct_parameters(*module_)) {
    if (!each.tensor.requires_grad()) continue;  // frozen on purpose
    const auto owner = owners.find(each.tensor.unsafeGetTensorImpl());
    if (owner == owners.end()) {
      unowned.push_back(each.name());
    } else if (owner->second == optimizer && !each.tensor.grad().defined()) {
      unused.push_back(each.name());
    }
  }
  if (!unused.empty()) {
    outputs_.note("warning: parameters without a gradient at the first step of optimizer " + std::to_string(optimizer) +
                  ": " + shown_names(unused) + "; the loss does not depend on them");
  }
  const bool is_first = std::ranges::count(checked_for_unused_, true) == 1;
  if (is_first && !unowned.empty()) {
    outputs_.note("warning: parameters that no optimizer has: " + shown_names(unowned) +
                  "; give them to one in configure_optimizers, or freeze them");
  }
}

// In a part of a sequence the hiddens are the likeliest mistake, and what LibTorch says does not name them.
StepOutput Replica::call_training_step(const TrainStep& step) {
  const auto index = static_cast<int64_t>(step.optimizer);
  if (!step.in_parts) return module_->training_step(*step.batch, step.batch_idx, index);
  const StepOutput& hiddens = sequences_[step.optimizer].hiddens;
  const auto where = [&] {
    return "; this is part " + std::to_string(step.part + 1) + " of " + std::to_string(step.part_count) +
           " of the batch, with tensors " + shapes_of(*step.batch) + " and hiddens " + shapes_of(hiddens);
  };
  StepOutput output;
  try {
    output = module_->training_step(*step.batch, step.batch_idx, index, hiddens);
  } catch (const c10::Error& error) {
    throw UsageError(error.what_without_backtrace() + where());
  } catch (const std::out_of_range& error) {  // a hidden that is not there
    throw UsageError(error.what() + where());
  }
  const auto is_hidden = [](const auto& item) { return item.first.starts_with("hidden"); };
  if (output.empty() || std::ranges::any_of(output.items(), is_hidden)) return output;
  throw UsageError(
      "truncated_bptt_steps = " + std::to_string(module_->truncated_bptt_steps) +
      ", but training_step returned nothing for the next part of the batch: return {{\"loss\", loss}, {\"hidden\", "
      "hidden}}; it returned " +
      shapes_of(output));
}

}  // namespace troupe
