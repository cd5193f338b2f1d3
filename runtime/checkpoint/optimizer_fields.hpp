// The hyper-parameters and states of every optimizer that a checkpoint knows, each described once: the same function
// serves the writing and the reading visitor, so the two cannot drift apart. Names are PyTorch's.
//
// An options visitor has number(name, value, least, below), count(name, value, least), flag(name, value),
// numbers(name, {&value, ...}), betas(first, second), optional_count(name, value), optional_choice(name, value, only
// choice) and choice(name, value, which is null). A state visitor has count, real (numbers), like_parameter,
// optional_like_parameter, shaped, step_number, host_number, one_number, flat, one_number_list and flat_list (tensors),
// and check(holds, what else is wrong); one that reads has parameter().
#pragma once

#include "troupe/modules/optim/adadelta.hpp"
#include "troupe/modules/optim/adafactor.hpp"
#include "troupe/modules/optim/adagrad.hpp"
#include "troupe/modules/optim/adam.hpp"
#include "troupe/modules/optim/adamax.hpp"
#include "troupe/modules/optim/asgd.hpp"
#include "troupe/modules/optim/lion.hpp"
#include "troupe/modules/optim/muon.hpp"
#include "troupe/modules/optim/nadam.hpp"
#include "troupe/modules/optim/radam.hpp"
#include "troupe/modules/optim/rmsprop.hpp"
#include "troupe/modules/optim/rprop.hpp"
#include "troupe/modules/optim/schedule_free.hpp"
#include "troupe/modules/optim/sgd.hpp"

#include <torch/optim/adagrad.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/lbfgs.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>

#include <cstdint>
#include <limits>
#include <tuple>
#include <type_traits>

namespace troupe::optimizer_fields {

constexpr double unbounded = std::numeric_limits<double>::infinity();

/// The state of one parameter in one of the library's own optimizers.
template <class Kernel>
struct KernelState {
  typename optim::KernelOptimizer<Kernel>::State tensors;
};

template <class Visitor>
void visit(Visitor& v, torch::optim::SGDOptions& o) {
  v.number("lr", o.lr(), 0, unbounded);
  v.number("momentum", o.momentum(), 0, unbounded);
  v.number("dampening", o.dampening(), -unbounded, unbounded);
  v.number("weight_decay", o.weight_decay(), 0, unbounded);
  v.flag("nesterov", o.nesterov());
}

template <class Visitor, class Options>
void visit_adam(Visitor& v, Options& o) {
  v.number("lr", o.lr, 0, unbounded);
  v.betas(o.betas.first, o.betas.second);
  v.number("eps", o.eps, 0, unbounded);
  v.number("weight_decay", o.weight_decay, 0, unbounded);
  v.flag("amsgrad", o.amsgrad);
  v.flag("maximize", o.maximize);
}
template <class Visitor>
void visit(Visitor& v, optim::AdamOptions& o) {
  visit_adam(v, o);
}
template <class Visitor>
void visit(Visitor& v, optim::AdamWOptions& o) {
  visit_adam(v, o);
}

template <class Visitor>
void visit(Visitor& v, optim::SgdOptions& o) {
  v.number("lr", o.lr, 0, unbounded);
  v.number("momentum", o.momentum, 0, unbounded);
  v.number("dampening", o.dampening, -unbounded, unbounded);
  v.number("weight_decay", o.weight_decay, 0, unbounded);
  v.flag("nesterov", o.nesterov);
  v.flag("maximize", o.maximize);
}

template <class Visitor>
void visit(Visitor& v, optim::AdagradOptions& o) {
  v.number("lr", o.lr, 0, unbounded);
  v.number("lr_decay", o.lr_decay, 0, unbounded);
  v.number("weight_decay", o.weight_decay, 0, unbounded);
  v.number("initial_accumulator_value", o.initial_accumulator_value, 0, unbounded);
  v.number("eps", o.eps, 0, unbounded);
  v.flag("maximize", o.maximize);
}

template <class Visitor>
void visit(Visitor& v, optim::RmspropOptions& o) {
  v.number("lr", o.lr, 0, unbounded);
  v.number("alpha", o.alpha, 0, unbounded);
  v.number("eps", o.eps, 0, unbounded);
  v.number("weight_decay", o.weight_decay, 0, unbounded);
  v.number("momentum", o.momentum, 0, unbounded);
  v.flag("centered", o.centered);
  v.flag("maximize", o.maximize);
}

template <class Visitor>
void visit(Visitor& v, optim::AdadeltaOptions& o) {
  v.number("lr", o.lr, 0, unbounded);
  v.number("rho", o.rho, 0, unbounded);
  v.number("eps", o.eps, 0, unbounded);
  v.number("weight_decay", o.weight_decay, 0, unbounded);
  v.flag("maximize", o.maximize);
}

template <class Visitor>
void visit(Visitor& v, optim::AdamaxOptions& o) {
  v.number("lr", o.lr, 0, unbounded);
  v.betas(o.betas.first, o.betas.second);
  v.number("eps", o.eps, 0, unbounded);
  v.number("weight_decay", o.weight_decay, 0, unbounded);
  v.flag("maximize", o.maximize);
}

template <class Visitor>
void visit(Visitor& v, optim::AsgdOptions& o) {
  v.number("lr", o.lr, 0, unbounded);
  v.number("lambd", o.lambd, 0, unbounded);
  v.number("alpha", o.alpha, 0, unbounded);
  v.number("t0", o.t0, 0, unbounded);
  v.number("weight_decay", o.weight_decay, 0, unbounded);
  v.flag("maximize", o.maximize);
}

template <class Visitor>
void visit(Visitor& v, optim::LionOptions& o) {
  v.number("lr", o.lr, 0, unbounded);
  v.betas(o.betas.first, o.betas.second);
  v.number("weight_decay", o.weight_decay, 0, unbounded);
  v.flag("maximize", o.maximize);
}

template <class Visitor>
void visit(Visitor& v, optim::NadamOptions& o) {
  v.number("lr", o.lr, 0, unbounded);
  v.betas(o.betas.first, o.betas.second);
  v.number("eps", o.eps, 0, unbounded);
  v.number("weight_decay", o.weight_decay, 0, unbounded);
  v.number("momentum_decay", o.momentum_decay, 0, unbounded);
  v.flag("decoupled_weight_decay", o.decoupled_weight_decay);
  v.flag("maximize", o.maximize);
}

template <class Visitor>
void visit(Visitor& v, optim::RadamOptions& o) {
  v.number("lr", o.lr, 0, unbounded);
  v.betas(o.betas.first, o.betas.second);
  v.number("eps", o.eps, 0, unbounded);
  v.number("weight_decay", o.weight_decay, 0, unbounded);
  v.flag("decoupled_weight_decay", o.decoupled_weight_decay);
  v.flag("maximize", o.maximize);
}

template <class Visitor>
void visit(Visitor& v, optim::RpropOptions& o) {
  v.number("lr", o.lr, 0, unbounded);
  v.numbers("etas", {&o.etas.first, &o.etas.second});
  v.numbers("step_sizes", {&o.step_sizes.first, &o.step_sizes.second});
  v.flag("maximize", o.maximize);
}

template <class Visitor>
void visit(Visitor& v, optim::AdafactorOptions& o) {
  v.number("lr", o.lr, 0, unbounded);
  v.number("beta2_decay", o.beta2_decay, -unbounded, unbounded);
  v.number("eps", o.eps, 0, unbounded);
  v.number("d", o.d, 1, unbounded);
  v.number("weight_decay", o.weight_decay, 0, unbounded);
  v.flag("maximize", o.maximize);
}

template <class Visitor>
void visit(Visitor& v, optim::MuonOptions& o) {
  v.number("lr", o.lr, 0, unbounded);
  v.number("weight_decay", o.weight_decay, 0, unbounded);
  v.number("momentum", o.momentum, 0, 1);
  v.flag("nesterov", o.nesterov);
  v.numbers("ns_coefficients", {&o.ns_coefficients[0], &o.ns_coefficients[1], &o.ns_coefficients[2]});
  v.number("eps", o.eps, 0, unbounded);
  v.count("ns_steps", o.ns_steps, 1);
  v.choice("adjust_lr_fn", o.adjust_lr_fn, optim::AdjustLrFn::original);
  v.flag("use_muon", o.use_muon);
  v.numbers("adamw_betas", {&o.adamw_betas.first, &o.adamw_betas.second});
  v.number("adamw_eps", o.adamw_eps, 0, unbounded);
}

template <class Visitor>
void visit(Visitor& v, optim::ScheduleFreeAdamwOptions& o) {
  v.number("lr", o.lr, 0, unbounded);
  v.betas(o.betas.first, o.betas.second);
  v.number("eps", o.eps, 0, unbounded);
  v.number("weight_decay", o.weight_decay, 0, unbounded);
  v.count("warmup_steps", o.warmup_steps, 0);
  v.number("r", o.r, 0, unbounded);
  v.number("weight_lr_power", o.weight_lr_power, 0, unbounded);
}

template <class Visitor, class Options>
void visit_libtorch_adam(Visitor& v, Options& o) {
  v.number("lr", o.lr(), 0, unbounded);
  v.betas(std::get<0>(o.betas()), std::get<1>(o.betas()));
  v.number("eps", o.eps(), 0, unbounded);
  v.number("weight_decay", o.weight_decay(), 0, unbounded);
  v.flag("amsgrad", o.amsgrad());
}
template <class Visitor>
void visit(Visitor& v, torch::optim::AdamOptions& o) {
  visit_libtorch_adam(v, o);
}
template <class Visitor>
void visit(Visitor& v, torch::optim::AdamWOptions& o) {
  visit_libtorch_adam(v, o);
}

template <class Visitor>
void visit(Visitor& v, torch::optim::RMSpropOptions& o) {
  v.number("lr", o.lr(), 0, unbounded);
  v.number("alpha", o.alpha(), 0, unbounded);
  v.number("eps", o.eps(), 0, unbounded);
  v.number("weight_decay", o.weight_decay(), 0, unbounded);
  v.number("momentum", o.momentum(), 0, unbounded);
  v.flag("centered", o.centered());
}

template <class Visitor>
void visit(Visitor& v, torch::optim::AdagradOptions& o) {
  v.number("lr", o.lr(), 0, unbounded);
  v.number("lr_decay", o.lr_decay(), 0, unbounded);
  v.number("weight_decay", o.weight_decay(), 0, unbounded);
  v.number("initial_accumulator_value", o.initial_accumulator_value(), 0, unbounded);
  v.number("eps", o.eps(), 0, unbounded);
}

template <class Visitor>
void visit(Visitor& v, torch::optim::LBFGSOptions& o) {
  v.number("lr", o.lr(), -unbounded, unbounded);
  v.count("max_iter", o.max_iter(), 0);
  v.optional_count("max_eval", o.max_eval());
  v.number("tolerance_grad", o.tolerance_grad(), -unbounded, unbounded);
  v.number("tolerance_change", o.tolerance_change(), -unbounded, unbounded);
  v.count("history_size", o.history_size(), 1);
  v.optional_choice("line_search_fn", o.line_search_fn(), "strong_wolfe");
}

template <class Visitor>
void visit(Visitor& v, torch::optim::SGDParamState& s, const torch::optim::SGDOptions&) {
  v.like_parameter("momentum_buffer", s.momentum_buffer());
}

template <class Visitor, class Kernel>
void visit(Visitor& v, KernelState<Kernel>& s, const typename Kernel::Options& o) {
  for (std::size_t k = 0; k < Kernel::states.size(); ++k) {
    const auto& state = Kernel::states[k];
    if constexpr (requires { v.parameter(); }) {
      if (!optim::has_state<Kernel>(o, k, v.parameter())) continue;
    } else if constexpr (requires { Kernel::has_state(o, k); }) {
      if (!Kernel::has_state(o, k)) continue;
    }
    switch (state.kind) {
      case optim::StateKind::step: v.step_number(state.name, s.tensors[k]); break;
      case optim::StateKind::host_number: v.host_number(state.name, s.tensors[k]); break;
      case optim::StateKind::shaped: v.shaped(state.name, s.tensors[k], state.shape); break;
      case optim::StateKind::optional_like_parameter: v.optional_like_parameter(state.name, s.tensors[k]); break;
      case optim::StateKind::like_parameter: v.like_parameter(state.name, s.tensors[k]); break;
    }
  }
}

template <class Visitor, class State, class Options>
void visit_libtorch_adam(Visitor& v, State& s, const Options& o) {
  v.count("step", s.step());
  v.like_parameter("exp_avg", s.exp_avg());
  v.like_parameter("exp_avg_sq", s.exp_avg_sq());
  if (o.amsgrad()) v.like_parameter("max_exp_avg_sq", s.max_exp_avg_sq());
}
template <class Visitor>
void visit(Visitor& v, torch::optim::AdamParamState& s, const torch::optim::AdamOptions& o) {
  visit_libtorch_adam(v, s, o);
}
template <class Visitor>
void visit(Visitor& v, torch::optim::AdamWParamState& s, const torch::optim::AdamWOptions& o) {
  visit_libtorch_adam(v, s, o);
}

template <class Visitor>
void visit(Visitor& v, torch::optim::RMSpropParamState& s, const torch::optim::RMSpropOptions& o) {
  v.count("step", s.step());
  v.like_parameter("square_avg", s.square_avg());
  if (o.momentum() > 0) v.like_parameter("momentum_buffer", s.momentum_buffer());
  if (o.centered()) v.like_parameter("grad_avg", s.grad_avg());
}

template <class Visitor>
void visit(Visitor& v, torch::optim::AdagradParamState& s, const torch::optim::AdagradOptions&) {
  v.count("step", s.step());
  v.like_parameter("sum", s.sum());
}

/// `al` is left out: LBFGS overwrites it before it reads it.
template <class Visitor>
void visit(Visitor& v, torch::optim::LBFGSParamState& s, const torch::optim::LBFGSOptions& o) {
  v.count("func_evals", s.func_evals());
  v.count("n_iter", s.n_iter());
  v.real("t", s.t());
  v.real("prev_loss", s.prev_loss());
  if (s.n_iter() == 0) return;
  v.flat("d", s.d());
  v.one_number("H_diag", s.H_diag());
  v.flat("prev_flat_grad", s.prev_flat_grad());
  v.flat_list("old_dirs", s.old_dirs());
  v.flat_list("old_stps", s.old_stps());
  v.one_number_list("ro", s.ro());
  // LBFGS indexes all three with one number, and a list of history_size tensors with it.
  const auto steps = s.old_dirs().size();
  v.check(s.old_stps().size() == steps && s.ro().size() == steps && static_cast<int64_t>(steps) <= o.history_size(),
          "old_dirs, old_stps and ro differ in length or are longer than history_size");
}

/// The tensor whose presence in a checkpoint says that a parameter has state.
inline const char* first_of(const torch::optim::SGDParamState*) {
  return "momentum_buffer";
}
template <class Kernel>
const char* first_of(const KernelState<Kernel>*) {
  return Kernel::states[0].name;
}
inline const char* first_of(const torch::optim::LBFGSParamState*) {
  return "func_evals";
}
inline const char* first_of(const void*) {
  return "step";
}

/// Whether every parameter has state from the start, and the optimizer relies on it.
template <class State>
constexpr bool always_there = std::is_same_v<State, torch::optim::AdagradParamState>;

}  // namespace troupe::optimizer_fields
