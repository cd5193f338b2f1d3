// The arithmetic of a step of Adam.
#pragma once

#include "troupe/modules/optim/kernel_optimizer.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>

namespace troupe::optim {

enum class Decay { l2, decoupled };

/// What a step of Adam or AdamW needs beside tensors; names as in torch.optim.AdamW.
struct AdamNumbers {
  double lr = 0;
  std::pair<double, double> betas;
  double weight_decay = 0, eps = 0;
  bool amsgrad = false, maximize = false;
};

/// The tensors of a step: one of each list per parameter, of one type on one device, in the same layout without gaps.
/// `steps` count this step already; `max_exp_avg_sq` is empty without amsgrad.
struct AdamTensors {
  at::TensorList parameters, gradients, exp_avg, exp_avg_sq, max_exp_avg_sq, steps;
};

/// Some of the tensors of a step without amsgrad, to be stepped by themselves.
struct AdamLists {
  Parameters parameters, gradients, exp_avg, exp_avg_sq, steps;

  /// Takes what `all` has at `position`.
  void add(const AdamTensors& all, std::size_t position);
  AdamTensors tensors() const { return {parameters, gradients, exp_avg, exp_avg_sq, /*max_exp_avg_sq=*/{}, steps}; }
};

/// One step of all of them, with the bits of `at::_fused_adam_` (Decay::l2) or `at::_fused_adamw_`. For float32 on the
/// CPU, and one compute thread or a small tensor, a loop of ours does it, in about half the time of LibTorch's
/// (docs/optimizers.md#adams-loop), once it has been seen on this machine to give the bits of LibTorch's; LibTorch's
/// kernel does everything else.
void adam_step(Decay decay, const AdamNumbers& numbers, const AdamTensors& tensors);

/// The same by LibTorch's kernel alone.
void libtorch_adam_step(Decay decay, const AdamNumbers& numbers, const AdamTensors& tensors);

/// Whether the loop of ours is used on this machine. It is not if a trial step over random and extreme numbers differs
/// from LibTorch's in a bit: another version, or a processor without AVX2 and FMA.
bool has_own_adam_loop(Decay decay);

/// `s[i] / by` for `count` numbers from 0 on, correctly rounded as the processor's division is, by products alone.
/// Requires that `by` is in [2^-20, 1]. Source: Markstein, "Computation of elementary functions on the IBM RISC
/// System/6000 processor", IBM Journal of Research and Development 34 (1990).
void divide_all(const float* s, float by, int64_t count, float* out);

}  // namespace troupe::optim
