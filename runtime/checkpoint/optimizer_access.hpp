// The options and states of every optimizer class that a checkpoint knows, out of the optimizer and back.
#pragma once

#include "troupe/runtime/checkpoint/optimizer_fields.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

namespace troupe {

/// One parameter of an optimizer.
struct Slot {
  std::size_t group;
  std::size_t position;  ///< in its group
  std::string name;
  torch::Tensor parameter;
};

/// A LibTorch optimizer's options by group and states by parameter.
template <class OptionsOf, class StateOf>
class LibtorchAccess {
 public:
  using Options = OptionsOf;
  using State = StateOf;
  explicit LibtorchAccess(torch::optim::Optimizer& optimizer) : optimizer_(optimizer) {}

  Options options(std::size_t group) const {
    return static_cast<const Options&>(optimizer_.param_groups()[group].options());
  }
  std::optional<State> state(const Slot& slot) const {
    const auto found = optimizer_.state().find(slot.parameter.unsafeGetTensorImpl());
    if (found == optimizer_.state().end()) return std::nullopt;
    return static_cast<const State&>(*found->second);
  }
  void replace(const std::vector<Options>& options, const std::vector<Slot>& slots,
               std::vector<std::optional<State>> states) {
    std::vector<std::unique_ptr<State>> made(slots.size());
    for (std::size_t i = 0; i < slots.size(); ++i) {
      if (states[i]) made[i] = std::make_unique<State>(std::move(*states[i]));
    }
    for (std::size_t i = 0; i < options.size(); ++i) {
      static_cast<Options&>(optimizer_.param_groups()[i].options()) = options[i];
    }
    optimizer_.state().clear();
    for (std::size_t i = 0; i < slots.size(); ++i) {
      if (made[i]) optimizer_.state()[slots[i].parameter.unsafeGetTensorImpl()] = std::move(made[i]);
    }
  }

 private:
  torch::optim::Optimizer& optimizer_;
};

/// The same for FusedAdam, which has one group and keeps its state by the position of the parameter.
class FusedAccess {
 public:
  using Options = optim::AdamOptions;
  using State = optimizer_fields::FusedAdamParamState;
  explicit FusedAccess(optim::FusedAdam& optimizer) : optimizer_(optimizer) {}

  Options options(std::size_t) const {
    auto options = optimizer_.options();
    options.lr = optimizer_.param_groups()[0].options().get_lr();
    return options;
  }
  std::optional<State> state(const Slot& slot) const {
    const auto& all = optimizer_.state_tensors();
    const auto i = slot.position;
    if (i >= all.step.size() || !all.step[i].defined()) return std::nullopt;
    return State{all.exp_avg[i], all.exp_avg_sq[i],
                 i < all.max_exp_avg_sq.size() ? all.max_exp_avg_sq[i] : torch::Tensor(), all.step[i]};
  }
  void replace(const std::vector<Options>& options, const std::vector<Slot>& slots,
               std::vector<std::optional<State>> states) {
    optim::FusedAdam::State all;
    for (std::size_t i = 0; i < slots.size(); ++i) {
      const auto state = states[i].value_or(State());
      all.exp_avg.push_back(state.exp_avg);
      all.exp_avg_sq.push_back(state.exp_avg_sq);
      if (options[0].amsgrad) all.max_exp_avg_sq.push_back(state.max_exp_avg_sq);
      all.step.push_back(state.step);
    }
    optimizer_.restore(options[0], std::move(all));
  }

 private:
  optim::FusedAdam& optimizer_;
};

/// Whether each group has the options that its optimizer's class reads; LibTorch takes any without a look.
template <class Options>
bool groups_have(torch::optim::Optimizer& optimizer) {
  return std::ranges::all_of(optimizer.param_groups(), [](const auto& group) {
    return group.has_options() && dynamic_cast<const Options*>(&group.options()) != nullptr;
  });
}

/// Calls `use(class name, access)` for a known class and says whether it is one. Classes derived from a known one are
/// not: they can hold more than we know of.
template <class Use>
bool with_access(torch::optim::Optimizer& optimizer, Use use) {
  namespace known = torch::optim;
  const auto& type = typeid(optimizer);
  const auto libtorch = [&]<class Options, class State>(const std::type_info& wanted, const char* name) {
    if (type != wanted || !groups_have<Options>(optimizer)) return false;
    use(name, LibtorchAccess<Options, State>(optimizer));
    return true;
  };
  if (type == typeid(optim::FusedAdam) && optimizer.param_groups().size() == 1) {
    auto& fused = static_cast<optim::FusedAdam&>(optimizer);
    use(fused.decay() == optim::FusedAdam::Decay::l2 ? "FusedAdam" : "FusedAdamW", FusedAccess(fused));
    return true;
  }
  return libtorch.template operator()<known::SGDOptions, known::SGDParamState>(typeid(known::SGD), "SGD") ||
         libtorch.template operator()<known::AdamOptions, known::AdamParamState>(typeid(known::Adam), "Adam") ||
         libtorch.template operator()<known::AdamWOptions, known::AdamWParamState>(typeid(known::AdamW), "AdamW") ||
         libtorch.template operator()<known::RMSpropOptions, known::RMSpropParamState>(typeid(known::RMSprop),
                                                                                       "RMSprop") ||
         libtorch.template operator()<known::AdagradOptions, known::AdagradParamState>(typeid(known::Adagrad),
                                                                                       "Adagrad") ||
         libtorch.template operator()<known::LBFGSOptions, known::LBFGSParamState>(typeid(known::LBFGS), "LBFGS");
}

}  // namespace troupe
