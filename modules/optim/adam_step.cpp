#include "troupe/modules/optim/adam_step.hpp"

#include "troupe/base/fast_loop.hpp"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/record_function.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

namespace troupe::optim {

namespace {

// LibTorch's kernel treats eight numbers at once, and what is left one by one with another order of operations.
constexpr int64_t together = 8;
constexpr float least_bias = 0x1p-20F;
// LibTorch's kernel divides more than these among threads, and then something is left over eight in each part.
constexpr int64_t most_alone = at::internal::GRAIN_SIZE;

// The numbers of a step as LibTorch's kernel rounds them.
struct LoopNumbers {
  float to_gradient, beta2, of_square, bias, one_by_bias, eps, step_size, decay;
};

LoopNumbers loop_numbers(Decay decay, const AdamNumbers& numbers, double step) {
  const auto [beta1, beta2] = numbers.betas;
  LoopNumbers loop;
  loop.to_gradient = static_cast<float>(1 - beta1);
  loop.beta2 = static_cast<float>(beta2);
  loop.of_square = static_cast<float>(1 - beta2);
  loop.bias = static_cast<float>(std::sqrt(1 - std::pow(beta2, step)));
  loop.one_by_bias = static_cast<float>(1 / static_cast<double>(loop.bias));
  loop.eps = static_cast<float>(numbers.eps);
  loop.step_size = static_cast<float>(numbers.lr / (1 - std::pow(beta1, step)));
  loop.decay = static_cast<float>(decay == Decay::l2 ? numbers.weight_decay : 1 - numbers.lr * numbers.weight_decay);
  return loop;
}

// a / b for a >= 0. The remainder of the first quotient is exact, so that the second is the rounded one; infinity has
// no remainder.
TROUPE_INLINE float divided(float a, float b, float one_by_b) {
  const float quotient = a * one_by_b;
  const float corrected = __builtin_fmaf(__builtin_fmaf(-b, quotient, a), one_by_b, quotient);
  return a == std::numeric_limits<float>::infinity() ? a : corrected;
}

enum class DecayOf { nothing, gradient, parameter };

template <DecayOf decay>
TROUPE_INLINE void step_of_one(const LoopNumbers& n, float& w, float g, float& m, float& v, bool is_left) {
  if constexpr (decay == DecayOf::gradient) g = __builtin_fmaf(w, n.decay, g);
  if constexpr (decay == DecayOf::parameter) w = w * n.decay;
  m = __builtin_fmaf(n.to_gradient, g - m, m);
  v = is_left ? __builtin_fmaf(v, n.beta2, g * n.of_square * g) : __builtin_fmaf(g * n.of_square, g, v * n.beta2);
  const float root = divided(__builtin_sqrtf(v), n.bias, n.one_by_bias) + n.eps;
  w = w - n.step_size * m / root;
}

#define TROUPE_ADAM_LOOP(name, decay)                                                                     \
  TROUPE_FAST_LOOP void name(const LoopNumbers& numbers, float* __restrict w, const float* __restrict g,  \
                             float* __restrict m, float* __restrict v, int64_t count) {                   \
    const LoopNumbers n = numbers;                                                                        \
    for (int64_t i = 0; i < count; ++i) step_of_one<decay>(n, w[i], g[i], m[i], v[i], /*is_left=*/false); \
  }                                                                                                       \
  TROUPE_FAST_LOOP void name##_left(const LoopNumbers& n, float* w, const float* g, float* m, float* v,   \
                                    int64_t count) {                                                      \
    for (int64_t i = 0; i < count; ++i) step_of_one<decay>(n, w[i], g[i], m[i], v[i], /*is_left=*/true);  \
  }

TROUPE_ADAM_LOOP(adam_without_decay, DecayOf::nothing)
TROUPE_ADAM_LOOP(adam_with_decay, DecayOf::gradient)
TROUPE_ADAM_LOOP(adamw_with_decay, DecayOf::parameter)
#undef TROUPE_ADAM_LOOP

void loop_over(Decay decay, const LoopNumbers& numbers, float* w, const float* g, float* m, float* v, int64_t count) {
  const int64_t whole = count / together * together, left = count - whole;
  auto loop = adam_without_decay, loop_left = adam_without_decay_left;
  if (decay == Decay::l2 && numbers.decay != 0) {
    loop = adam_with_decay;
    loop_left = adam_with_decay_left;
  } else if (decay == Decay::decoupled) {
    loop = adamw_with_decay;
    loop_left = adamw_with_decay_left;
  }
  loop(numbers, w, g, m, v, whole);
  if (left > 0) loop_left(numbers, w + whole, g + whole, m + whole, v + whole, left);
}

bool is_plain_float(const torch::Tensor& tensor) {
  return tensor.is_cpu() && tensor.scalar_type() == torch::kFloat32 && !tensor.is_neg() && !tensor._is_zerotensor();
}

// Whoever records operators has to see one.
bool is_recorded() {
  return c10::impl::tls_local_dispatch_key_set().included_.has(c10::DispatchKey::Fake);
}

// Whether the loop can stand for the kernel's, but for the machine.
bool fits_loop(const AdamNumbers& numbers, const AdamTensors& tensors) {
  if (numbers.amsgrad || numbers.maximize || 1 - numbers.betas.first >= 0.5 || is_recorded()) return false;
  // The first steps divide by the root of this.
  if (1 - numbers.betas.second < 2 * least_bias * least_bias) return false;
  for (std::size_t i = 0; i < tensors.parameters.size(); ++i) {
    const auto& step = tensors.steps[i];
    if (!is_plain_float(tensors.parameters[i]) || !is_plain_float(tensors.gradients[i]) || !step.is_cpu() ||
        step.scalar_type() != torch::kFloat32) {
      return false;
    }
  }
  return true;
}

void loop_step(Decay decay, const AdamNumbers& numbers, const AdamTensors& tensors) {
  RECORD_FUNCTION("troupe::adam_step", std::vector<c10::IValue>());
  double last = 0;
  LoopNumbers loop{};
  for (std::size_t i = 0; i < tensors.parameters.size(); ++i) {
    const double step = *tensors.steps[i].const_data_ptr<float>();
    if (i == 0 || step != last) loop = loop_numbers(decay, numbers, last = step);
    loop_over(decay, loop, tensors.parameters[i].mutable_data_ptr<float>(),
              tensors.gradients[i].const_data_ptr<float>(), tensors.exp_avg[i].mutable_data_ptr<float>(),
              tensors.exp_avg_sq[i].mutable_data_ptr<float>(), tensors.parameters[i].numel());
    // Autograd looks whether what it saved was changed since.
    tensors.parameters[i].unsafeGetTensorImpl()->bump_version();
    tensors.exp_avg[i].unsafeGetTensorImpl()->bump_version();
    tensors.exp_avg_sq[i].unsafeGetTensorImpl()->bump_version();
  }
}

// Random numbers of all sizes, and those that have rules of their own.
torch::Tensor trial_numbers(std::mt19937& random, int64_t count, float scale, bool is_square) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  constexpr std::array<float, 10> extremes = {
      0.F, -0.F, infinity, std::numeric_limits<float>::quiet_NaN(), 1e-38F, 1e-45F, 3e38F, -1e-30F, 1e30F, 1.F};
  std::normal_distribution<float> normal(0, scale);
  std::uniform_real_distribution<float> exponent(-30, 10);
  auto tensor = torch::empty({count});
  auto* data = tensor.mutable_data_ptr<float>();
  for (int64_t i = 0; i < count; ++i) {
    float number = normal(random);
    if (i % 5 == 1) number *= std::pow(10.F, exponent(random));
    if (i % 31 == 3) number = extremes[random() % extremes.size()];
    data[i] = is_square ? std::abs(number) : number;
  }
  return tensor;
}

bool have_equal_bits(const torch::Tensor& a, const torch::Tensor& b) {
  const auto *x = a.const_data_ptr<float>(), *y = b.const_data_ptr<float>();
  for (int64_t i = 0; i < a.numel(); ++i) {
    // Which of two NaNs is passed on is nobody's promise.
    if (std::memcmp(x + i, y + i, sizeof(float)) != 0 && !(std::isnan(x[i]) && std::isnan(y[i]))) return false;
  }
  return true;
}

// A step of both over the same numbers.
bool agrees(Decay decay, double weight_decay) {
  constexpr int64_t count = 2053;  // so that some are left over eight
  std::mt19937 random(42);
  for (const float step : {1.F, 2.F, 1000.F}) {
    const torch::Tensor gradient = trial_numbers(random, count, 1e-2F, false), steps = torch::full({}, step);
    const std::array<torch::Tensor, 3> start = {trial_numbers(random, count, 1, false),
                                                trial_numbers(random, count, 1e-3F, false),
                                                trial_numbers(random, count, 1e-5F, true)};
    const AdamNumbers numbers{.lr = 1e-3, .betas = {0.9, 0.999}, .weight_decay = weight_decay, .eps = 1e-8};
    std::array<torch::Tensor, 3> ours, theirs;
    for (std::size_t i = 0; i < start.size(); ++i) {
      ours[i] = start[i].clone();
      theirs[i] = start[i].clone();
    }
    loop_step(decay, numbers, {ours[0], gradient, ours[1], ours[2], {}, steps});
    libtorch_adam_step(decay, numbers, {theirs[0], gradient, theirs[1], theirs[2], {}, steps});
    for (std::size_t i = 0; i < start.size(); ++i) {
      if (!have_equal_bits(ours[i], theirs[i])) return false;
    }
  }
  return true;
}

bool loop_agrees(Decay decay) {
  const auto capability = at::get_cpu_capability();
  if (!TROUPE_HAS_FAST_LOOPS || (capability != "AVX2" && capability != "AVX512")) return false;
  const torch::NoGradGuard no_gradients;
  return agrees(decay, 0) && agrees(decay, 1e-2);
}

}  // namespace

TROUPE_FAST_LOOP void divide_all(const float* __restrict s, float by, int64_t count, float* __restrict out) {
  const auto one_by = static_cast<float>(1 / static_cast<double>(by));
  for (int64_t i = 0; i < count; ++i) out[i] = divided(s[i], by, one_by);
}

void AdamLists::add(const AdamTensors& all, std::size_t position) {
  parameters.push_back(all.parameters[position]);
  gradients.push_back(all.gradients[position]);
  exp_avg.push_back(all.exp_avg[position]);
  exp_avg_sq.push_back(all.exp_avg_sq[position]);
  steps.push_back(all.steps[position]);
}

bool has_own_adam_loop(Decay decay) {
  if (decay == Decay::l2) {
    static const bool l2 = loop_agrees(Decay::l2);
    return l2;
  }
  static const bool decoupled = loop_agrees(Decay::decoupled);
  return decoupled;
}

void libtorch_adam_step(Decay decay, const AdamNumbers& numbers, const AdamTensors& tensors) {
  const auto kernel = decay == Decay::l2 ? &at::_ops::_fused_adam_::call : &at::_ops::_fused_adamw_::call;
  kernel(tensors.parameters, tensors.gradients, tensors.exp_avg, tensors.exp_avg_sq,
         numbers.amsgrad ? tensors.max_exp_avg_sq : at::TensorList(), tensors.steps, numbers.lr, numbers.betas.first,
         numbers.betas.second, numbers.weight_decay, numbers.eps, numbers.amsgrad, numbers.maximize, /*grad_scale=*/{},
         /*found_inf=*/{});
}

void adam_step(Decay decay, const AdamNumbers& numbers, const AdamTensors& tensors) {
  if (!fits_loop(numbers, tensors) || !has_own_adam_loop(decay)) return libtorch_adam_step(decay, numbers, tensors);
  const bool is_alone = at::in_parallel_region() || at::get_num_threads() == 1;
  const auto is_small = [&](const torch::Tensor& tensor) { return is_alone || tensor.numel() <= most_alone; };
  if (std::ranges::all_of(tensors.parameters, is_small)) return loop_step(decay, numbers, tensors);
  AdamLists small, large;
  for (std::size_t i = 0; i < tensors.parameters.size(); ++i) {
    (is_small(tensors.parameters[i]) ? small : large).add(tensors, i);
  }
  if (!small.parameters.empty()) loop_step(decay, numbers, small.tensors());
  libtorch_adam_step(decay, numbers, large.tensors());
}

}  // namespace troupe::optim
