#include "troupe/runtime/precision/cpu_autocast.hpp"

#include <ATen/autocast_mode.h>
#include <torch/library.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <array>
#include <exception>
#include <tuple>

namespace troupe {

namespace {

using LayerResult = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

constexpr int64_t lstm_mode = 2;  // of at::native's RNNs

// Whether oneDNN runs the layer in `type`, in training with its backward pass.
bool is_refused(at::ScalarType type, bool train) {
  const torch::AutoGradMode gradients(train);
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  try {
    const auto numbers = [&](at::IntArrayRef sizes) { return torch::zeros(sizes, type); };
    const auto weights = [&](at::IntArrayRef sizes) { return numbers(sizes).requires_grad_(train); };
    const auto output = std::get<0>(at::mkldnn_rnn_layer(
        numbers({1, 1, 1}), weights({4, 1}), weights({4, 1}), weights({4}), weights({4}), numbers({1, 1}),
        numbers({1, 1}), /*reverse=*/false, /*batch_sizes=*/{}, lstm_mode, /*hidden_size=*/1, /*num_layers=*/1,
        /*has_biases=*/true, /*bidirectional=*/false, /*batch_first=*/false, train));
    if (train) output.sum().backward();
    return false;
  } catch (const std::exception&) {
    return true;  // of LibTorch without oneDNN too, which never asks for the layer
  }
}

// [bfloat16, float16][inference, training]
using Refusals = std::array<std::array<bool, 2>, 2>;

const Refusals& refusals() {
  static const Refusals asked = {{{is_refused(at::kBFloat16, false), is_refused(at::kBFloat16, true)},
                                  {is_refused(at::kHalf, false), is_refused(at::kHalf, true)}}};
  return asked;
}

// In place of autocast's own kernel.
LayerResult lstm_layer(const at::Tensor& input, const at::Tensor& weight0, const at::Tensor& weight1,
                       const at::Tensor& weight2, const at::Tensor& weight3, const at::Tensor& hx, const at::Tensor& cx,
                       bool reverse, at::IntArrayRef batch_sizes, int64_t mode, int64_t hidden_size, int64_t num_layers,
                       bool has_biases, bool bidirectional, bool batch_first, bool train) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const auto lower = at::autocast::get_autocast_dtype(at::kCPU);
  // The layer's own `train` is the module's mode; what has gradients is prepared for them in eval mode too.
  const bool wants_gradients = train || at::GradMode::is_enabled();
  const bool is_float32 = refusals()[lower == at::kHalf ? 1 : 0][wants_gradients ? 1 : 0];
  const auto cast = [type = is_float32 ? at::kFloat : lower](const at::Tensor& tensor) {
    return at::autocast::cached_cast(type, tensor, at::kCPU);
  };
  return at::mkldnn_rnn_layer(cast(input), cast(weight0), cast(weight1), cast(weight2), cast(weight3), cast(hx),
                              cast(cx), reverse, batch_sizes, mode, hidden_size, num_layers, has_biases, bidirectional,
                              batch_first, train);
}

// LibTorch warns of kernels that replace another.
class Silence final : public c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

}  // namespace

void mend_cpu_autocast() {
  // Never given back: threads that are left behind may still use it when the process ends.
  static const torch::Library* const registered = []() -> torch::Library* {
    const auto& asked = refusals();
    if (!(asked[0][0] || asked[0][1] || asked[1][0] || asked[1][1])) return nullptr;
    Silence silence;
    const c10::WarningUtils::WarningHandlerGuard quiet(&silence);
    auto* library = new torch::Library(torch::Library::IMPL, "aten", c10::DispatchKey::AutocastCPU, __FILE__, __LINE__);
    library->impl("mkldnn_rnn_layer", TORCH_FN(lstm_layer));
    return library;
  }();
  (void)registered;
}

}  // namespace troupe
