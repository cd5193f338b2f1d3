// What the optimizers on LibTorch's fused and foreach kernels have in common: groups, states, the lists that a kernel
// takes.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/modules/support/step_recorder.hpp"

#include <ATen/core/grad_mode.h>
#include <torch/optim/optimizer.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace troupe::optim {

using Parameters = std::vector<torch::Tensor>;

/// The options of one group as LibTorch's interface wants them, with what schedulers change.
class KernelOptions : public torch::optim::OptimizerOptions {
 public:
  /// Momentum, or the first of Adam's betas; null if the optimizer has none.
  virtual double* momentum() = 0;
};

enum class StateKind {
  like_parameter,  ///< a tensor of the parameter's shape and type
  /// The same, which may be missing.
  optional_like_parameter,
  step,         ///< the count of steps, a float32 number on the parameter's device
  host_number,  ///< a number in host memory, where the optimizer reads it in each step
  shaped,       ///< a tensor of the parameter's type and a shape of its own
};

using Shape = std::vector<int64_t>;

/// One state of a parameter: its name, as PyTorch has it, and what it is.
struct StateName {
  const char* name;
  StateKind kind = StateKind::like_parameter;
  /// Of StateKind::shaped.
  Shape (*shape)(const torch::Tensor& parameter) = nullptr;
};

/// The lists that a kernel works on: parameters that have a gradient, their gradients and their states.
template <std::size_t N>
struct KernelLists {
  const Parameters& parameters;
  const Parameters& gradients;
  std::array<Parameters, N>& states;
};

/// Throws UsageError for a parameter that is undefined or comes twice, in `parameters` or in the groups that are there.
void check_parameters(const char* optimizer, const std::vector<torch::optim::OptimizerParamGroup>& groups,
                      const Parameters& parameters);
/// The kernels run over memory: whether that of both holds the same elements in the same order, without gaps. It does
/// for what backward() makes, unless the parameter itself is a view with gaps.
bool fit_in_memory(const torch::Tensor& parameter, const torch::Tensor& gradient);
/// `tensor` without gaps, or itself if it has none.
torch::Tensor without_gaps(const torch::Tensor& tensor);
/// A copy of `gradient` in the type and the layout of `parameter`, or itself if it has both.
torch::Tensor laid_out_as(const torch::Tensor& parameter, const torch::Tensor& gradient);
/// The two real numbers of each complex one, in the same memory; `tensor` itself if it is real or undefined.
torch::Tensor as_real(const torch::Tensor& tensor);
/// Takes that back if `parameter` is complex.
torch::Tensor as_of(const torch::Tensor& parameter, const torch::Tensor& state);
/// Throws UsageError for a sparse gradient, which the kernels cannot read.
void refuse_sparse(const char* optimizer, const torch::Tensor& gradient, std::size_t group, std::size_t position);

/// Whether `tensor` can be that state of `parameter`: kernels trust shapes and types.
bool state_fits(const StateName& state, const torch::Tensor& tensor, const torch::Tensor& parameter);

/// Whether `parameter` has state number `state`.
template <class Kernel>
bool has_state(const typename Kernel::Options& options, std::size_t state, const torch::Tensor& parameter) {
  if constexpr (requires { Kernel::has_state(options, state, parameter); }) {
    return Kernel::has_state(options, state, parameter);
  } else if constexpr (requires { Kernel::has_state(options, state); }) {
    return Kernel::has_state(options, state);
  } else {
    return true;
  }
}

/// An optimizer of parameter groups whose step is a few calls of a kernel over all parameters of a group. `Kernel` has
///
///     using Options = ...;                              with `lr`
///     static constexpr const char* name;                in messages
///     static constexpr std::array<StateName, N> states;
///     static void check(const Options&);                throws UsageError
///     static double* momentum(Options&);
///     static std::array<torch::Tensor, N> make(const Options&, const torch::Tensor& parameter);
///     static void update(const Options&, KernelLists<N> lists);
///
/// and may have
///
///     static bool has_state(const Options&, std::size_t state);   or, if it depends on the parameter,
///     static bool has_state(const Options&, std::size_t state, const torch::Tensor& parameter);   else it has all
///     static void check_parameter(const Options&, const torch::Tensor& parameter);   throws UsageError
///     static constexpr bool mixes_elements = true;   what becomes of an element depends on others of its parameter
///
/// Parameters without a gradient are left alone; sparse gradients are refused. Groups and parameters may be added
/// between steps. Touched by one thread at a time.
template <class Kernel>
class KernelOptimizer : public torch::optim::Optimizer {
 public:
  using Options = typename Kernel::Options;
  static constexpr std::size_t state_count = Kernel::states.size();
  /// Of one parameter, in the order of Kernel::states; those that the options do not need are undefined.
  using State = std::array<torch::Tensor, state_count>;
  using Group = std::pair<Parameters, Options>;

  /// Throws UsageError for an option out of its range, an empty list of parameters, and a parameter that comes twice.
  KernelOptimizer(std::vector<Group> groups, const Options& defaults)
      : Optimizer(std::vector<torch::optim::OptimizerParamGroup>(), std::make_unique<GroupOptions>(defaults)) {
    Kernel::check(defaults);
    bool is_empty = true;
    for (auto& [parameters, options] : groups) {
      is_empty = is_empty && parameters.empty();
      add_group(std::move(parameters), options);
    }
    if (is_empty) throw UsageError(std::string(Kernel::name) + ": there is no parameter to optimize");
  }

  /// A further group, for example of layers that are trained from now on.
  void add_group(Parameters parameters, const Options& options) {
    Kernel::check(options);
    check_parameters(Kernel::name, param_groups(), parameters);
    if constexpr (requires { Kernel::check_parameter(options, parameters.front()); }) {
      for (const auto& parameter : parameters) Kernel::check_parameter(options, parameter);
    }
    try {
      add_param_group({std::move(parameters), std::make_unique<GroupOptions>(options)});
    } catch (const c10::Error& error) {
      throw UsageError(std::string(Kernel::name) + ": " + error.what_without_backtrace());
    }
    // LibTorch 2.15 merges a group's options with the defaults, which it can for its own optimizers alone: others'
    // groups get the defaults.
    group_options(param_groups().size() - 1).values = options;
  }

  /// Calls `closure` first when there is one and returns its loss; gradients are enabled for it.
  torch::Tensor step(LossClosure closure = nullptr) override {
    refuse_capture("it steps an optimizer itself, which a replay does not: call step() of what optimizers() returns");
    torch::Tensor loss;
    if (closure) {
      const torch::AutoGradMode with_gradients(true);
      loss = closure();
    }
    const torch::NoGradGuard no_gradients;
    states_.resize(param_groups().size());
    for (std::size_t group = 0; group < param_groups().size(); ++group) update(group);
    return loss;
  }

  const Options& options(std::size_t group = 0) const { return group_options(group).values; }
  /// The state of a parameter; nothing before its first step.
  std::optional<State> state(std::size_t group, std::size_t position) const {
    if (group >= states_.size() || position >= states_[group].is_made.size() || !states_[group].is_made[position]) {
      return std::nullopt;
    }
    State state;
    for (std::size_t k = 0; k < state_count; ++k) state[k] = states_[group].lists[k][position];
    return state;
  }

  /// Goes on as the optimizer that these come from: options of each group, and the states of its parameters. The
  /// tensors are kept, not copied. Throws UsageError if they do not fit; nothing has changed then.
  void restore(const std::vector<Options>& options, const std::vector<std::vector<std::optional<State>>>& states) {
    const auto refuse = [](const std::string& why) {
      throw UsageError(std::string(Kernel::name) + ": the state to restore " + why);
    };
    const auto& groups = param_groups();
    if (options.size() != groups.size() || states.size() != groups.size()) refuse("has other groups");
    std::vector<GroupStates> made(groups.size());
    for (std::size_t g = 0; g < groups.size(); ++g) {
      Kernel::check(options[g]);
      const auto& parameters = const_cast<torch::optim::OptimizerParamGroup&>(groups[g]).params();
      if (states[g].size() != parameters.size()) {
        refuse("is not for " + std::to_string(parameters.size()) + " parameters in group " + std::to_string(g));
      }
      made[g].resize(parameters.size());
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        if (!states[g][i]) continue;
        if (!fits(options[g], *states[g][i], parameters[i])) {
          refuse("does not fit parameter " + std::to_string(i) + " of group " + std::to_string(g));
        }
        made[g].put(i, *states[g][i]);
      }
    }
    for (std::size_t g = 0; g < groups.size(); ++g) group_options(g).values = options[g];
    states_ = std::move(made);
    restored();
  }

 protected:
  /// After restore().
  virtual void restored() {}
  /// Calls `f` with the options, the parameter and the states of each parameter that has states.
  template <class F>
  void for_each_state(const F& f) {
    for (std::size_t group = 0; group < states_.size(); ++group) {
      auto& states = states_[group];
      for (std::size_t i = 0; i < states.is_made.size(); ++i) {
        if (!states.is_made[i]) continue;
        State state;
        for (std::size_t k = 0; k < state_count; ++k) state[k] = states.lists[k][i];
        f(options(group), param_groups()[group].params()[i], state);
        for (std::size_t k = 0; k < state_count; ++k) states.lists[k][i] = state[k];
      }
    }
  }

 private:
  struct GroupOptions : KernelOptions {
    explicit GroupOptions(Options values_in) : values(std::move(values_in)) {}
    std::unique_ptr<torch::optim::OptimizerOptions> clone() const override {
      return std::make_unique<GroupOptions>(values);
    }
    double get_lr() const override { return values.lr; }
    void set_lr(const double lr) override { values.lr = lr; }
    double* momentum() override { return Kernel::momentum(values); }
    Options values;
  };

  struct GroupStates {
    std::array<Parameters, state_count> lists;
    std::vector<bool> is_made;
    std::size_t made_count = 0;

    void resize(std::size_t size) {
      for (auto& list : lists) list.resize(size);
      is_made.resize(size, false);
    }
    void put(std::size_t i, const State& state) {
      for (std::size_t k = 0; k < state_count; ++k) lists[k][i] = state[k];
      made_count += is_made[i] ? 0 : 1;
      is_made[i] = true;
    }
  };

  GroupOptions& group_options(std::size_t group) const {
    return static_cast<GroupOptions&>(const_cast<KernelOptimizer*>(this)->param_groups()[group].options());
  }

  void update(std::size_t group) {
    const Options& options = group_options(group).values;
    const auto& parameters = param_groups()[group].params();
    GroupStates& states = states_[group];
    states.resize(parameters.size());
    gradients_.clear();
    bool all_at_once = true;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const auto& parameter = parameters[i];
      const auto& gradient = parameter.grad();
      if (!gradient.defined()) {
        all_at_once = false;
        continue;
      }
      refuse_sparse(Kernel::name, gradient, group, i);
      if (!states.is_made[i]) states.put(i, Kernel::make(options, parameter));
      all_at_once = all_at_once && fit_in_memory(parameter, gradient) && is_like(parameter, parameters.front()) &&
                    !parameter.is_complex();
      gradients_.push_back(gradient);
    }
    if (all_at_once && !gradients_.empty()) {
      Kernel::update(options, KernelLists<state_count>{parameters, gradients_, states.lists});
    } else if (!gradients_.empty()) {
      update_parts(options, parameters, states);
    }
    gradients_.clear();  // their memory is the next backward's
  }

  /// The same if the parameters cannot go to the kernel as they are: those that have a gradient, by type and device,
  /// and copies of what has another layout. Complex ones are two real numbers each, as in PyTorch.
  void update_parts(const Options& options, const Parameters& parameters, GroupStates& states) {
    struct Part {
      std::vector<std::size_t> positions;
      Parameters whole;  // instead of the group's own
      Parameters parameters, gradients;
      std::array<Parameters, state_count> states;
    };
    std::vector<Part> parts;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      if (!parameters[i].grad().defined()) continue;
      auto part = std::ranges::find_if(parts, [&](const Part& p) { return is_like(p.whole[0], parameters[i]); });
      if (part == parts.end()) part = parts.emplace(part);
      part->positions.push_back(i);
      part->whole.push_back(without_gaps(parameters[i]));
      part->parameters.push_back(as_real(part->whole.back()));
      part->gradients.push_back(as_real(laid_out_as(part->whole.back(), parameters[i].grad())));
      for (std::size_t k = 0; k < state_count; ++k) part->states[k].push_back(as_real(states.lists[k][i]));
    }
    for (Part& part : parts) {
      Kernel::update(options, KernelLists<state_count>{part.parameters, part.gradients, part.states});
      for (std::size_t at = 0; at < part.positions.size(); ++at) {
        const auto& parameter = parameters[part.positions[at]];
        if (!parameter.is_same(part.whole[at])) parameter.copy_(part.whole[at]);
        // A kernel may have made states in its lists.
        for (std::size_t k = 0; k < state_count; ++k) {
          const auto& state = part.states[k][at];
          const bool is_number = state.defined() && state.dim() == 0 && parameter.is_complex();
          states.lists[k][part.positions[at]] = is_number ? state : as_of(parameter, state);
        }
      }
    }
  }

  static bool is_like(const torch::Tensor& a, const torch::Tensor& b) {
    return a.scalar_type() == b.scalar_type() && a.device() == b.device();
  }

  // The kernels trust shapes and types.
  static bool fits(const Options& options, const State& state, const torch::Tensor& parameter) {
    for (std::size_t k = 0; k < state_count; ++k) {
      if (!has_state<Kernel>(options, k, parameter)) continue;
      if (!state[k].defined() && Kernel::states[k].kind == StateKind::optional_like_parameter) continue;
      if (!state[k].defined() || !state_fits(Kernel::states[k], state[k], parameter)) return false;
    }
    return true;
  }

  std::vector<GroupStates> states_;
  Parameters gradients_;  // kept for its memory
};

/// The class of the optimizer with that kernel.
template <class Kernel>
struct OptimizerClass {
  using type = KernelOptimizer<Kernel>;
};
template <class Kernel>
using OptimizerOf = typename OptimizerClass<Kernel>::type;

/// `value` has to lie in the range that `fits` says; `range` is its text.
void require_option(bool fits, const char* optimizer, const char* option, double value, const char* range);
void require_option(bool fits, const char* optimizer, const char* option, int64_t value, const char* range);
/// A tensor of zeros like `parameter`, and a count of steps beside it.
torch::Tensor zero_state(const torch::Tensor& parameter);
torch::Tensor step_state(const torch::Tensor& parameter);
/// A number in host memory: a float32 one, as PyTorch's are, or of 64 bits.
torch::Tensor host_number(double value, torch::ScalarType type = torch::kFloat32);
/// Adds one to each count.
void count_steps(Parameters& steps);
/// The same for counts in host memory, which it returns.
std::vector<double> counted_steps(Parameters& steps);
/// `f` of each number, as foreach calls take them.
template <class F>
std::vector<at::Scalar> scalars_of(const std::vector<double>& numbers, F f) {
  std::vector<at::Scalar> scalars;
  for (const double number : numbers) scalars.emplace_back(f(number));
  return scalars;
}
/// The gradients with what maximize and a weight decay that is added to them make of them; themselves if nothing.
Parameters adjusted_gradients(const Parameters& parameters, const Parameters& gradients, bool maximize,
                              double weight_decay);

/// Throws UsageError unless the number is at least 0, or both betas are in [0, 1).
void require_from_zero(const char* optimizer, const char* option, double value);
void require_betas(const char* optimizer, const std::pair<double, double>& betas);

/// `option` takes what a group says, if it says something.
template <class T>
void take(T& option, const std::optional<T>& of_group) {
  if (of_group) option = *of_group;
}

/// An optimizer of one group.
template <class Optimizer>
std::shared_ptr<Optimizer> of_one_group(Parameters parameters, const typename Optimizer::Options& options) {
  std::vector<typename Optimizer::Group> groups;
  groups.emplace_back(std::move(parameters), options);
  return std::make_shared<Optimizer>(std::move(groups), options);
}

/// An optimizer of groups; `over(group, options)` gives the options of one, from those of the optimizer.
template <class Optimizer, class Group, class Over>
std::shared_ptr<Optimizer> of_groups(std::vector<Group> groups, const typename Optimizer::Options& options,
                                     const Over& over) {
  std::vector<typename Optimizer::Group> all;
  for (auto& group : groups) {
    auto own = over(group, options);
    all.emplace_back(std::move(group.params), std::move(own));
  }
  return std::make_shared<Optimizer>(std::move(all), options);
}

}  // namespace troupe::optim
