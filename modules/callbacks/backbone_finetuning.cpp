#include "troupe/modules/callbacks/backbone_finetuning.hpp"

#include "troupe/base/nearest.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/state_reader.hpp"
#include "troupe/base/text.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/modules/support/module_tensors.hpp"

#include <torch/nn/modules/batchnorm.h>
#include <torch/optim/lbfgs.h>

#include <algorithm>
#include <iterator>
#include <unordered_map>
#include <utility>

namespace troupe {

namespace {

[[noreturn]] void refuse(const std::string& why) {
  throw UsageError("BackboneFinetuning: " + why);
}

// Groups that a checkpoint may tell of: nobody has more, and a stranger's file must not make millions.
constexpr int64_t most_groups = 10'000;

bool keeps_statistics(const torch::nn::Module& layer) {
  return dynamic_cast<const torch::nn::BatchNorm1dImpl*>(&layer) ||
         dynamic_cast<const torch::nn::BatchNorm2dImpl*>(&layer) ||
         dynamic_cast<const torch::nn::BatchNorm3dImpl*>(&layer) ||
         std::ranges::any_of(distinct_buffers(layer, /*recurse=*/false),
                             [](const ModuleTensor& buffer) { return buffer.name() == "running_mean"; });
}

}  // namespace

std::vector<torch::Tensor> trainable(const torch::nn::Module& module) {
  std::vector<torch::Tensor> found;
  for (auto& each : distinct_parameters(module)) {
    if (each.tensor.requires_grad()) found.push_back(std::move(each.tensor));
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
  shares_.clear();
  is_unfrozen_ = false;
  epoch_ = -1;
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
  rest();
}

void BackboneFinetuning::teardown(RunContext&, Module&, Stage stage) {
  if (stage == Stage::fit) wake();
}

void BackboneFinetuning::freeze() {
  backbone_->apply([&](torch::nn::Module& layer) {
    if (options_.train_bn && keeps_statistics(layer)) return;
    for (auto& parameter : layer.parameters(/*recurse=*/false)) parameter.set_requires_grad(false);
  });
}

// Again and again, since whoever calls train() on the module wakes them.
void BackboneFinetuning::rest() {
  if (options_.train_bn) return;
  for (const auto& layer : backbone_->modules()) {
    if (!layer->is_training() || !keeps_statistics(*layer)) continue;
    layer->eval();
    if (std::ranges::find(resting_, layer) == resting_.end()) resting_.push_back(layer);
  }
}

void BackboneFinetuning::wake() {
  for (const auto& layer : std::exchange(resting_, {})) layer->train();
}

void BackboneFinetuning::check_apart(const std::vector<std::shared_ptr<Callback>>& callbacks) {
  std::unordered_map<const void*, std::string> taken;  // by the backbone of that name
  for (const auto& callback : callbacks) {
    const auto* one = dynamic_cast<const BackboneFinetuning*>(callback.get());
    if (!one || !one->backbone_) continue;
    const std::string& name = one->options_.backbone;
    for (const auto& each : distinct_parameters(*one->backbone_)) {
      const auto [there, is_new] = taken.emplace(each.tensor.unsafeGetTensorImpl(), name);
      if (is_new) continue;
      refuse("the backbones '" + shown(there->second) + "' and '" + shown(name) + "' both have the parameter " +
             shown(name + "." + each.names.front()) + ", which can join one group; give each parameter to one of them");
    }
  }
}

// Before an optimizer has a state, which may go by the places in its groups.
void BackboneFinetuning::on_pretrain_routine_start(RunContext& run, Module&) {
  if (run.optimizers().empty()) return;
  std::vector<torch::Tensor> frozen;
  for (auto& each : distinct_parameters(*backbone_)) {
    if (!each.tensor.requires_grad()) frozen.push_back(std::move(each.tensor));
  }
  std::vector<torch::Tensor> of_nobody = frozen;
  const auto is_in = [](const std::vector<torch::Tensor>& list, const torch::Tensor& tensor) {
    return std::ranges::any_of(list, [&](const torch::Tensor& each) { return each.is_same(tensor); });
  };
  for (std::size_t i = 0; i < run.optimizers().size(); ++i) {
    Share share{.optimizer = i};
    for (auto& group : run.optimizers()[i].param_groups()) {
      auto& held = group.params();
      std::ranges::copy_if(held, std::back_inserter(share.parameters),
                           [&](const torch::Tensor& tensor) { return is_in(frozen, tensor); });
      std::erase_if(held, [&](const torch::Tensor& tensor) { return is_in(frozen, tensor); });
    }
    std::erase_if(of_nobody, [&](const torch::Tensor& tensor) { return is_in(share.parameters, tensor); });
    if (i == 0 || !share.parameters.empty()) shares_.push_back(std::move(share));
  }
  auto& first = shares_.front().parameters;
  first.insert(first.end(), of_nobody.begin(), of_nobody.end());
  std::erase_if(shares_, [](const Share& share) { return share.parameters.empty(); });
  for (const Share& share : shares_) {
    if (dynamic_cast<const torch::optim::LBFGS*>(run.optimizers().at(share.optimizer).get())) {
      refuse("LBFGS takes one group of parameters, so that none can join it; use another optimizer");
    }
  }
}

// When others have taken theirs out too. With strategy = zero a group may be empty later on some ranks, and rates must
// be equal on all.
void BackboneFinetuning::on_pretrain_routine_end(RunContext& run, Module&) {
  for (Share& share : shares_) {
    const auto& groups = run.optimizers()[share.optimizer].param_groups();
    const auto has_any = [](const auto& group) { return !group.params().empty(); };
    const auto found = std::ranges::find_if(groups, has_any);
    share.others = found == groups.end() ? 0 : static_cast<std::size_t>(found - groups.begin());
  }
}

double BackboneFinetuning::rate_of_others(const Share& share) const {
  return run_->optimizers()[share.optimizer].param_groups()[share.others].options().get_lr();
}

// Where a run goes on, groups before this one may be those of callbacks that are asked later: empty so far.
void BackboneFinetuning::join(Share& share, std::size_t group, double lr) const {
  auto& optimizer = run_->optimizers()[share.optimizer];
  auto& groups = optimizer.param_groups();
  while (groups.size() <= group)
    optimizer.add_param_group(torch::optim::OptimizerParamGroup(std::vector<torch::Tensor>()));
  for (auto& parameter : share.parameters) parameter.set_requires_grad(true);
  groups[group].params() = share.parameters;
  groups[group].options().set_lr(lr);
  share.group = group;
  share.lr = lr;
}

void BackboneFinetuning::on_train_epoch_start(RunContext& run, Module&) {
  const int64_t epoch = run.progress().epoch;
  if (epoch < options_.unfreeze_backbone_at_epoch) {
    if (!is_unfrozen_) rest();
    return;
  }
  if (std::exchange(epoch_, epoch) == epoch) return;
  if (!std::exchange(is_unfrozen_, true)) {
    wake();
    for (Share& share : shares_) {
      const double lr =
          options_.backbone_initial_lr.value_or(rate_of_others(share) * options_.backbone_initial_ratio_lr);
      join(share, run.optimizers()[share.optimizer].param_groups().size(), lr);
    }
    return;
  }
  for (Share& share : shares_) {
    const double raised = share.lr * options_.lambda_func(epoch + 1), others = rate_of_others(share);
    share.lr = options_.should_align && raised > others ? others : raised;
    run.optimizers()[share.optimizer].param_groups()[share.group].options().set_lr(share.lr);
  }
}

nlohmann::json BackboneFinetuning::state_dict() const {
  auto groups = nlohmann::json::array();
  for (const Share& share : shares_) {
    groups.push_back({{"optimizer", share.optimizer}, {"group", share.group}, {"lr", share.lr}});
  }
  return {{"is_unfrozen", is_unfrozen_}, {"epoch", epoch_}, {"groups", std::move(groups)}};
}

// Before the optimizers get their states back, which have the groups already.
void BackboneFinetuning::load_state_dict(const nlohmann::json& state) {
  const StateReader reader(state, "the checkpoint's state of BackboneFinetuning");
  const bool was_unfrozen = reader.flag("is_unfrozen");
  const int64_t epoch = reader.count("epoch", -1);
  const auto groups = reader.objects("groups");
  if (!was_unfrozen) return;
  if (groups.size() != shares_.size()) {
    refuse("the checkpoint has the backbone in " + std::to_string(groups.size()) + " optimizers, this run in " +
           std::to_string(shares_.size()));
  }
  for (std::size_t i = 0; i < shares_.size(); ++i) {
    Share& share = shares_[i];
    const auto& there = run_->optimizers()[share.optimizer].param_groups();
    const auto optimizer = static_cast<std::size_t>(groups[i].count("optimizer"));
    const auto group = static_cast<std::size_t>(groups[i].count("group", 0, most_groups));
    if (optimizer != share.optimizer) reader.refuse("group " + std::to_string(i) + " is of another optimizer");
    if (group < there.size() && !there[group].params().empty()) {
      reader.refuse("group " + std::to_string(group) + " is taken");
    }
    join(share, group, groups[i].number("lr"));
  }
  wake();
  is_unfrozen_ = true;
  epoch_ = epoch;
}

}  // namespace troupe
