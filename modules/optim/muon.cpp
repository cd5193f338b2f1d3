#include "troupe/modules/optim/muon.hpp"

#include "troupe/modules/optim/adam_step.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mm.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <utility>

namespace troupe::optim {

namespace {

constexpr int64_t most_ns_steps = 99;  // PyTorch's bound

bool is_orthogonalized(const MuonOptions& options, const torch::Tensor& parameter) {
  return options.use_muon && parameter.dim() == 2;
}

MuonOptions muon_options(const MuonGroup& group, MuonOptions own) {
  take(own.use_muon, group.use_muon);
  // What such a group says of its rate is said of AdamW's.
  const bool is_adamw = !own.use_muon;
  own.adamw_lr = group.adamw_lr ? group.adamw_lr : is_adamw && group.lr ? group.lr : own.adamw_lr;
  own.adamw_weight_decay = group.adamw_weight_decay         ? group.adamw_weight_decay
                           : is_adamw && group.weight_decay ? group.weight_decay
                                                            : own.adamw_weight_decay;
  take(own.lr, group.lr);
  take(own.weight_decay, group.weight_decay);
  take(own.momentum, group.momentum);
  take(own.nesterov, group.nesterov);
  take(own.ns_coefficients, group.ns_coefficients);
  take(own.eps, group.eps);
  take(own.ns_steps, group.ns_steps);
  take(own.adjust_lr_fn, group.adjust_lr_fn);
  take(own.adamw_betas, group.adamw_betas);
  take(own.adamw_eps, group.adamw_eps);
  return own;
}

// The part of a group that AdamW takes, as a group.
MuonOptions options_of_rest(MuonOptions options) {
  options.use_muon = false;
  options.lr = options.adamw_lr.value_or(options.lr);
  options.weight_decay = options.adamw_weight_decay.value_or(options.weight_decay);
  return options;
}

double adjusted_rate(const MuonOptions& options, const torch::Tensor& matrix) {
  const auto rows = static_cast<double>(matrix.size(0)), columns = static_cast<double>(matrix.size(1));
  const double factor = options.adjust_lr_fn == AdjustLrFn::match_rms_adamw ? 0.2 * std::sqrt(std::max(rows, columns))
                                                                            : std::sqrt(std::max(1.0, rows / columns));
  return options.lr * factor;
}

// Small matrices are orthogonalized together, since a call costs as much as their products: as many as stay in a
// processor's cache of the second level, in bfloat16.
constexpr int64_t most_batched_elements = 512 * 1024;
// From so many rows on, and so many multiplications per thread, half of a symmetric product is left out.
constexpr int64_t least_split_rows = 512;
constexpr int64_t least_split_work = least_split_rows * least_split_rows * least_split_rows;
constexpr int64_t row_blocks = 4;

// Of [n, m] or [count, n, m].
torch::Tensor product(const torch::Tensor& a, const torch::Tensor& b) {
  return a.dim() == 2 ? a.mm(b) : a.bmm(b);
}

// beta * added + alpha * a b
torch::Tensor product_added(const torch::Tensor& added, const torch::Tensor& a, const torch::Tensor& b, double beta,
                            double alpha) {
  return a.dim() == 2 ? at::addmm(added, a, b, beta, alpha) : at::baddbmm(added, a, b, beta, alpha);
}

// Whether x times its transpose is computed in blocks.
bool is_split(const torch::Tensor& x) {
  return x.dim() == 2 && x.is_cpu() && x.size(0) >= least_split_rows &&
         x.size(0) * x.size(0) * x.size(1) / at::get_num_threads() >= least_split_work;
}

// A matrix that is known to be symmetric: `compute(from, to, block)` makes the columns [from, to) of the rows from
// `from` on; what lies above is copied from there. With 4 blocks, 5/8 of the multiplications.
template <class Compute>
torch::Tensor symmetric(const torch::Tensor& x, const Compute& compute) {
  const int64_t size = x.size(0), step = (size + row_blocks - 1) / row_blocks;
  auto all = at::empty({size, size}, x.options());
  for (int64_t from = 0; from < size; from += step) {
    const int64_t to = std::min(size, from + step);
    auto lower = all.slice(0, from).slice(1, from, to);
    compute(from, to, lower);
    all.slice(0, from, to).slice(1, to).copy_(lower.slice(0, to - from).t());
  }
  return all;
}

// x times its transpose.
torch::Tensor gram_of(const torch::Tensor& x) {
  if (!is_split(x)) return product(x, x.mT());
  return symmetric(x, [&](int64_t from, int64_t to, torch::Tensor& block) {
    at::mm_out(block, x.slice(0, from), x.slice(0, from, to).t());
  });
}

// b x + c x x of a symmetric x.
torch::Tensor polynomial(const torch::Tensor& x, double b, double c) {
  if (!is_split(x)) return product_added(x, x, x, b, c);
  return symmetric(x, [&](int64_t from, int64_t to, torch::Tensor& block) {
    at::addmm_out(block, x.slice(0, from).slice(1, from, to), x.slice(0, from), x.slice(1, from, to), b, c);
  });
}

// The quintic Newton-Schulz iteration of _zeropower_via_newtonschulz in torch/optim/_muon.py, of a matrix or of several
// in bfloat16, which are overwritten: [rows, columns] or [count, rows, columns]. The layouts are those that it has
// there, so that the bits are.
torch::Tensor orthogonalized(torch::Tensor x, const MuonOptions& options) {
  const auto [a, b, c] = options.ns_coefficients;
  x.div_(at::linalg_vector_norm(x, 2, at::IntArrayRef{-2, -1}, /*keepdim=*/true).clamp_min_(options.eps));
  const bool is_high = x.size(-2) > x.size(-1);
  if (is_high) x = x.mT();
  for (int64_t i = 0; i < options.ns_steps; ++i) {
    const auto update = polynomial(gram_of(x), b, c);
    x = product_added(x, update, x, a, 1);
  }
  return is_high ? x.mT() : x;
}

// Positions of matrices that are orthogonalized at once.
using MatrixBatch = std::vector<std::size_t>;

// Matrices of the same shape. On a CPU alone: elsewhere a product of several is not that of one, to the bit.
std::vector<MatrixBatch> batches_of(const Parameters& parameters, const std::vector<std::size_t>& matrices) {
  std::vector<MatrixBatch> batches;
  std::map<std::pair<int64_t, int64_t>, std::size_t> open;  // by shape
  for (const auto position : matrices) {
    const auto& matrix = parameters[position];
    const int64_t most = matrix.numel() == 0 ? 1 : most_batched_elements / matrix.numel();
    if (most < 2 || !matrix.is_cpu() || !matrix.is_contiguous()) {
      batches.push_back({position});
      continue;
    }
    const auto [place, is_new] = open.try_emplace({matrix.size(0), matrix.size(1)}, batches.size());
    if (!is_new && static_cast<int64_t>(batches[place->second].size()) == most) place->second = batches.size();
    if (place->second == batches.size()) batches.emplace_back();
    batches[place->second].push_back(position);
  }
  return batches;
}

void step_matrices(const MuonOptions& options, const KernelLists<4>& lists, const MatrixBatch& batch) {
  const auto direction_of = [&](std::size_t i) {
    const auto &gradient = lists.gradients[i], &buffer = lists.states[1][i];
    buffer.lerp_(gradient, 1 - options.momentum);
    return options.nesterov ? gradient.lerp(buffer, options.momentum) : buffer;
  };
  const auto apply = [&](std::size_t i, const torch::Tensor& step) {
    const auto& parameter = lists.parameters[i];
    parameter.mul_(1 - options.lr * options.weight_decay);
    parameter.add_(step.contiguous(), -adjusted_rate(options, parameter));  // a sum of two layouts is slow
  };
  const auto first = batch.front();
  if (batch.size() == 1) {
    auto direction = direction_of(first).to(torch::kBFloat16, /*non_blocking=*/false, /*copy=*/true);
    return apply(first, orthogonalized(std::move(direction), options));
  }
  const auto& like = lists.parameters[first];
  auto directions = at::empty({static_cast<int64_t>(batch.size()), like.size(0), like.size(1)},
                              like.options().dtype(torch::kBFloat16));
  for (std::size_t k = 0; k < batch.size(); ++k) directions[static_cast<int64_t>(k)].copy_(direction_of(batch[k]));
  const auto all = orthogonalized(std::move(directions), options);
  for (std::size_t k = 0; k < batch.size(); ++k) apply(batch[k], all[static_cast<int64_t>(k)]);
}

}  // namespace

bool MuonKernel::has_state(const Options& options, std::size_t state, const torch::Tensor& parameter) {
  return state == 0 || (state == 1) == is_orthogonalized(options, parameter);
}

void MuonKernel::check(const Options& options) {
  require_from_zero(name, "lr", options.lr);
  require_from_zero(name, "weight_decay", options.weight_decay);
  require_option(options.momentum >= 0 && options.momentum < 1, name, "momentum", options.momentum, "in [0, 1)");
  for (std::size_t i = 0; i < options.ns_coefficients.size(); ++i) {
    const double coefficient = options.ns_coefficients[i];
    require_option(std::isfinite(coefficient), name, ("ns_coefficients[" + std::to_string(i) + "]").c_str(),
                   coefficient, "a finite number");
  }
  require_from_zero(name, "eps", options.eps);
  require_option(options.ns_steps >= 1 && options.ns_steps <= most_ns_steps, name, "ns_steps", options.ns_steps,
                 "from 1 to 99");
  require_from_zero(name, "adamw_lr", options.adamw_lr.value_or(0));
  require_from_zero(name, "adamw_weight_decay", options.adamw_weight_decay.value_or(0));
  require_betas(name, options.adamw_betas);
  require_from_zero(name, "adamw_eps", options.adamw_eps);
}

void MuonKernel::check_parameter(const Options& options, const torch::Tensor& parameter) {
  if (!parameter.is_complex() || !is_orthogonalized(options, parameter)) return;
  throw UsageError("muon: a matrix of " + std::string(c10::toString(parameter.scalar_type())) +
                   " cannot be made orthogonal in bfloat16; put it into a group with use_muon = false");
}

double* MuonKernel::momentum(Options& options) {
  return options.use_muon ? &options.momentum : &options.adamw_betas.first;
}

std::array<torch::Tensor, 4> MuonKernel::make(const Options& options, const torch::Tensor& parameter) {
  if (is_orthogonalized(options, parameter)) return {step_state(parameter), zero_state(parameter), {}, {}};
  return {step_state(parameter), {}, zero_state(parameter), zero_state(parameter)};
}

void MuonKernel::update(const Options& options, KernelLists<4> lists) {
  auto& [steps, buffers, exp_avg, exp_avg_sq] = lists.states;
  count_steps(steps);
  const AdamTensors all{lists.parameters, lists.gradients, exp_avg, exp_avg_sq, /*max_exp_avg_sq=*/{}, steps};
  AdamLists rest;
  std::vector<std::size_t> matrices;
  for (std::size_t i = 0; i < lists.parameters.size(); ++i) {
    if (is_orthogonalized(options, lists.parameters[i])) {
      matrices.push_back(i);
    } else {
      rest.add(all, i);
    }
  }
  for (const auto& batch : batches_of(lists.parameters, matrices)) step_matrices(options, lists, batch);
  if (rest.parameters.empty()) return;
  adam_step(
      Decay::decoupled,
      {.lr = options.lr, .betas = options.adamw_betas, .weight_decay = options.weight_decay, .eps = options.adamw_eps},
      rest.tensors());
}

std::shared_ptr<Muon> muon(Parameters parameters, MuonOptions options) {
  std::vector<MuonGroup> groups(1);
  groups.front().params = std::move(parameters);
  return muon(std::move(groups), std::move(options));
}

std::shared_ptr<Muon> muon(std::vector<MuonGroup> groups, MuonOptions options) {
  options = muon_options({}, std::move(options));
  std::vector<Muon::Group> all;
  for (const auto& group : groups) {
    const auto own = muon_options(group, options);
    Parameters matrices, rest;
    for (const auto& parameter : group.params) {
      const bool is_matrix = parameter.defined() && is_orthogonalized(own, parameter);
      (is_matrix ? matrices : rest).push_back(parameter);
    }
    if (!matrices.empty()) all.emplace_back(std::move(matrices), own);
    if (!rest.empty()) all.emplace_back(std::move(rest), options_of_rest(own));
  }
  return std::make_shared<Muon>(std::move(all), options);
}

std::shared_ptr<Muon> muon(torch::nn::Module& module, NamedGroups<MuonGroup> groups, MuonOptions options) {
  return muon(groups_by_name("muon", module, std::move(groups)), std::move(options));
}

}  // namespace troupe::optim
