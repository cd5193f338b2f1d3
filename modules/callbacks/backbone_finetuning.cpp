#include "troupe/modules/callbacks/backbone_finetuning.hpp"

#include "troupe/modules/module.hpp"
#include "troupe/modules/nearest.hpp"
#include "troupe/modules/number_text.hpp"

#include <torch/nn/modules/batchnorm.h>

namespace troupe {

namespace {

[[noreturn]] void refuse(const std::string& why) {
  throw UsageError("BackboneFinetuning: " + why);
}

bool is_batch_norm(const torch::nn::Module& module) {
  return dynamic_cast<const torch::nn::BatchNorm1dImpl*>(&module) ||
         dynamic_cast<const torch::nn::BatchNorm2dImpl*>(&module) ||
         dynamic_cast<const torch::nn::BatchNorm3dImpl*>(&module);
}

}  // namespace

std::vector<torch::Tensor> trainable(const torch::nn::Module& module) {
  std::vector<torch::Tensor> found;
  for (const auto& parameter : module.parameters()) {
    if (parameter.requires_grad()) found.push_back(parameter);
  }
  return found;
}

BackboneFinetuning::BackboneFinetuning(BackboneFinetuningOptions options) : options_(std::move(options)) {
  if (options_.backbone.empty()) refuse("backbone is empty; name a submodule");
  if (options_.unfreeze_backbone_at_epoch < 0) {
    refuse("unfreeze_backbone_at_epoch = " + std::to_string(options_.unfreeze_backbone_at_epoch) +
           "; epochs count from 0");
  }
  if (!options_.lambda_func) refuse("lambda_func is empty");
  if (!(options_.backbone_initial_ratio_lr > 0)) {
    refuse("backbone_initial_ratio_lr = " + double_to_text(options_.backbone_initial_ratio_lr) + " is not above 0");
  }
}

void BackboneFinetuning::setup(RunContext& run, Module& module, Stage stage) {
  if (stage != Stage::fit) return;
  run_ = &run;
  backbone_ = nullptr;
  is_unfrozen_ = false;
  std::vector<std::string> names;
  for (const auto& item : module.named_modules("", /*include_self=*/false)) {
    names.push_back(item.key());
    if (item.key() == options_.backbone) backbone_ = item.value();
  }
  if (!backbone_) {
    refuse("the module has no submodule '" + shown(options_.backbone) + "'" +
           (names.empty() ? "" : "; did you mean " + nearest(options_.backbone, names) + "?"));
  }
  freeze();
}

void BackboneFinetuning::freeze() {
  backbone_->apply([&](torch::nn::Module& layer) {
    if (options_.train_bn && is_batch_norm(layer)) return;
    for (auto& parameter : layer.parameters(/*recurse=*/false)) parameter.set_requires_grad(false);
  });
}

void BackboneFinetuning::unfreeze(double lr) {
  if (run_->optimizers().empty()) return;
  auto& optimizer = run_->optimizers()[0];
  std::vector<torch::Tensor> added;
  for (auto& parameter : backbone_->parameters()) {
    if (parameter.requires_grad()) continue;
    parameter.set_requires_grad(true);
    added.push_back(parameter);
  }
  optimizer.add_param_group(torch::optim::OptimizerParamGroup(std::move(added)));
  optimizer.param_groups().back().options().set_lr(lr);
  is_unfrozen_ = true;
  lr_ = lr;
}

void BackboneFinetuning::on_train_epoch_start(RunContext& run, Module&) {
  const int64_t epoch = run.progress().epoch;
  if (epoch < options_.unfreeze_backbone_at_epoch || run.optimizers().empty()) return;
  auto& groups = run.optimizers()[0].param_groups();
  const double others = groups.front().options().get_lr();
  if (!is_unfrozen_) {
    return unfreeze(options_.backbone_initial_lr.value_or(others * options_.backbone_initial_ratio_lr));
  }
  if (epoch == options_.unfreeze_backbone_at_epoch) return;
  const double raised = lr_ * options_.lambda_func(epoch + 1);
  lr_ = options_.should_align && raised > others ? others : raised;
  groups.back().options().set_lr(lr_);
}

nlohmann::json BackboneFinetuning::state_dict() const {
  return {{"is_unfrozen", is_unfrozen_}, {"lr", lr_}};
}

// Before the optimizer gets its state back, which has the group already.
void BackboneFinetuning::load_state_dict(const nlohmann::json& state) {
  const bool good = state.is_object() && state.contains("is_unfrozen") && state["is_unfrozen"].is_boolean() &&
                    state.contains("lr") && state["lr"].is_number();
  if (!good) throw UsageError("the checkpoint's state of BackboneFinetuning is damaged");
  if (state["is_unfrozen"].get<bool>()) unfreeze(state["lr"].get<double>());
}

}  // namespace troupe
