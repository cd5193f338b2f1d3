// The options and states of every optimizer class that a checkpoint knows, out of the optimizer and back.
#pragma once

#include "troupe/runtime/checkpoint/optimizer_fields.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
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
  static constexpr bool mixes_elements = std::is_same_v<Options, torch::optim::LBFGSOptions>;
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

/// The same for the library's own.
template <class Kernel>
class KernelAccess {
 public:
  using Options = typename Kernel::Options;
  using State = optimizer_fields::KernelState<Kernel>;
  /// Whether what becomes of an element depends on others.
  static constexpr bool mixes_elements = requires { Kernel::mixes_elements; };
  explicit KernelAccess(optim::KernelOptimizer<Kernel>& optimizer) : optimizer_(optimizer) {}

  Options options(std::size_t group) const { return optimizer_.options(group); }
  std::optional<State> state(const Slot& slot) const {
    const auto state = optimizer_.state(slot.group, slot.position);
    if (!state) return std::nullopt;
    return State{*state};
  }
  void replace(const std::vector<Options>& options, const std::vector<Slot>& slots,
               std::vector<std::optional<State>> states) {
    std::vector<std::vector<std::optional<typename optim::KernelOptimizer<Kernel>::State>>> all(options.size());
    for (std::size_t i = 0; i < slots.size(); ++i) {
      auto& group = all[slots[i].group];
      group.emplace_back();
      if (states[i]) group.back() = std::move(states[i]->tensors);
    }
    optimizer_.restore(options, all);
  }

 private:
  optim::KernelOptimizer<Kernel>& optimizer_;
};

/// Whether each group has the options that its optimizer's class reads; LibTorch takes any without a look.
template <class Options>
bool groups_have(torch::optim::Optimizer& optimizer) {
  return std::ranges::all_of(optimizer.param_groups(), [](const auto& group) {
    return group.has_options() && dynamic_cast<const Options*>(&group.options()) != nullptr;
  });
}

/// Calls `use(class name, access)` for a known class and says whether it is one. Classes derived from a known one are
/// not: they can hold more than we know of. One line per class.
template <class Use>
bool with_access(torch::optim::Optimizer& optimizer, Use use) {
  namespace known = torch::optim;
  const auto& type = typeid(optimizer);
  const auto libtorch = [&]<class Options, class State>(const std::type_info& wanted, const char* name) {
    if (type != wanted || !groups_have<Options>(optimizer)) return false;
    use(name, LibtorchAccess<Options, State>(optimizer));
    return true;
  };
  const auto own = [&]<class Kernel>(const char* name) {
    if (type != typeid(optim::OptimizerOf<Kernel>)) return false;
    use(name, KernelAccess<Kernel>(static_cast<optim::KernelOptimizer<Kernel>&>(optimizer)));
    return true;
  };
  if (own.template operator()<optim::AdamKernel<optim::Decay::l2>>("FusedAdam") ||
      own.template operator()<optim::AdamKernel<optim::Decay::decoupled>>("FusedAdamW") ||
      own.template operator()<optim::SgdKernel>("FusedSgd") ||
      own.template operator()<optim::AdagradKernel>("FusedAdagrad") ||
      own.template operator()<optim::RmspropKernel>("ForeachRmsprop") ||
      own.template operator()<optim::AdafactorKernel>("ForeachAdafactor") ||
      own.template operator()<optim::MuonKernel>("Muon") ||
      own.template operator()<optim::ScheduleFreeAdamwKernel>("ScheduleFreeAdamw") ||
      own.template operator()<optim::AdadeltaKernel>("ForeachAdadelta") ||
      own.template operator()<optim::AdamaxKernel>("ForeachAdamax") ||
      own.template operator()<optim::AsgdKernel>("ForeachAsgd") ||
      own.template operator()<optim::LionKernel>("ForeachLion") ||
      own.template operator()<optim::NadamKernel>("ForeachNadam") ||
      own.template operator()<optim::RadamKernel>("ForeachRadam") ||
      own.template operator()<optim::RpropKernel>("ForeachRprop")) {
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
