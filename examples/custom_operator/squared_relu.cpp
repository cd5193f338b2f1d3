// The operator for LibTorch's dispatcher: what it is called and takes, how the CPU computes it, what its gradient is.
// This file needs LibTorch alone. examples/CMakeLists.txt makes a library of it too, which Python can load.
#include "squared_relu.hpp"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace {

using torch::Tensor;

// --- The CPU's kernels. They run over memory, so tensors whose elements lie in another order are copied first.

// Elements that one thread computes at least.
constexpr int64_t grain = 32768;

bool lie_alike(const Tensor& a, const Tensor& b) {
  return a.is_non_overlapping_and_dense() && a.strides() == b.strides();
}

void check_like(const char* name, const Tensor& tensor, const Tensor& self) {
  TORCH_CHECK(tensor.sizes() == self.sizes() && tensor.scalar_type() == self.scalar_type(), "squared_relu: ", name,
              " is ", tensor.scalar_type(), " ", tensor.sizes(), " and has to be ", self.scalar_type(), " ",
              self.sizes());
}

Tensor& forward_on_cpu_out(const Tensor& self, Tensor& out) {
  check_like("out", out, self);
  const Tensor result = out.is_non_overlapping_and_dense() ? out : at::empty_like(out);
  const Tensor in = lie_alike(self, result) ? self : at::empty_like(result).copy_(self);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, self.scalar_type(), "squared_relu", [&] {
    const auto* x = in.const_data_ptr<scalar_t>();
    auto* y = result.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, in.numel(), grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const scalar_t positive = x[i] < scalar_t(0) ? scalar_t(0) : x[i];  // NaN stays
        y[i] = positive * positive;
      }
    });
  });
  if (!result.is_same(out)) out.copy_(result);
  return out;
}

Tensor& backward_on_cpu_out(const Tensor& gradient, const Tensor& self, Tensor& out) {
  check_like("out", out, self);
  check_like("gradient", gradient, self);
  const Tensor result = out.is_non_overlapping_and_dense() ? out : at::empty_like(out);
  const Tensor in = lie_alike(self, result) ? self : at::empty_like(result).copy_(self);
  const Tensor above = lie_alike(gradient, result) ? gradient : at::empty_like(result).copy_(gradient);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, self.scalar_type(), "squared_relu_backward", [&] {
    const auto* x = in.const_data_ptr<scalar_t>();
    const auto* g = above.const_data_ptr<scalar_t>();
    auto* y = result.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, in.numel(), grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) y[i] = x[i] <= scalar_t(0) ? scalar_t(0) : g[i] * (x[i] + x[i]);
    });
  });
  if (!result.is_same(out)) out.copy_(result);
  return out;
}

Tensor forward_on_cpu(const Tensor& self) {
  Tensor out = at::empty_like(self);
  return forward_on_cpu_out(self, out);
}

Tensor backward_on_cpu(const Tensor& gradient, const Tensor& self) {
  Tensor out = at::empty_like(self);
  return backward_on_cpu_out(gradient, self, out);
}

// --- The gradient. It is an operator as well, so that whoever records operators sees it.

Tensor squared_relu_backward(const Tensor& gradient, const Tensor& x) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("example::squared_relu_backward", "")
                             .typed<Tensor(const Tensor&, const Tensor&)>();
  return op.call(gradient, x);
}

struct SquaredReluFunction : torch::autograd::Function<SquaredReluFunction> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    context->save_for_backward({x});
    return squared_relu(x);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    return {squared_relu_backward(gradients[0], context->get_saved_variables()[0])};
  }
};

Tensor forward_with_gradient(const Tensor& self) {
  return SquaredReluFunction::apply(self);
}

}  // namespace

// Nothing of these is an alias of anything but `out`, and it says so: capture_step trusts it.
TORCH_LIBRARY(example, library) {
  library.def("squared_relu(Tensor self) -> Tensor");
  library.def("squared_relu.out(Tensor self, *, Tensor(a!) out) -> Tensor(a!)");
  library.def("squared_relu_backward(Tensor gradient, Tensor self) -> Tensor");
  library.def("squared_relu_backward.out(Tensor gradient, Tensor self, *, Tensor(a!) out) -> Tensor(a!)");
}

TORCH_LIBRARY_IMPL(example, CPU, library) {
  library.impl("squared_relu", forward_on_cpu);
  library.impl("squared_relu.out", forward_on_cpu_out);
  library.impl("squared_relu_backward", backward_on_cpu);
  library.impl("squared_relu_backward.out", backward_on_cpu_out);
}

TORCH_LIBRARY_IMPL(example, Autograd, library) {
  library.impl("squared_relu", forward_with_gradient);
  // A gradient of the gradient is refused, not wrong.
  library.impl("squared_relu_backward", torch::autograd::autogradNotImplementedFallback());
}

torch::Tensor squared_relu(const torch::Tensor& x) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("example::squared_relu", "").typed<Tensor(const Tensor&)>();
  return op.call(x);
}

torch::Tensor composite_squared_relu(const torch::Tensor& x) {
  return x.relu().square();
}
