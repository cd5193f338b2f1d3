// Pooling in one to three dimensions.
#include "troupe/runtime/export/onnx_call.hpp"

#include <algorithm>

namespace troupe {

namespace {

std::vector<int64_t> for_each_pooled_dim(std::vector<int64_t> values, int64_t dims) {
  if (values.size() == 1) values.resize(static_cast<std::size_t>(dims), values.front());
  return values;
}

/// ONNX pools tensors [N, C, ...]; LibTorch also takes them without N.
std::string batched(OnnxCall& call, const OnnxTensor& x, int64_t dims) {
  return x.rank() == dims + 1 ? call.b.unsqueeze(x.name, {0}) : x.name;
}
std::string unbatched(OnnxCall& call, const std::string& y, const OnnxTensor& x, int64_t dims) {
  return x.rank() == dims + 1 ? call.b.squeeze(y, {0}) : y;
}

struct Window {
  std::vector<int64_t> kernel, stride, dilation, pads;
  bool ceil_mode;

  Window(OnnxCall& call, int64_t dims, std::vector<int64_t> dilation)
      : kernel(for_each_pooled_dim(call.integers("kernel_size"), dims)),
        stride(for_each_pooled_dim(call.integers("stride"), dims)),
        dilation(for_each_pooled_dim(std::move(dilation), dims)),
        pads(for_each_pooled_dim(call.integers("padding"), dims)),
        ceil_mode(call.flag("ceil_mode")) {
    if (stride.empty()) stride = kernel;
    pads.insert(pads.end(), pads.begin(), pads.end());
  }
  OnnxAttributes attributes() const {
    return {{"kernel_shape", kernel}, {"strides", stride}, {"pads", pads}, {"ceil_mode", int64_t{ceil_mode}}};
  }

  int64_t reach(std::size_t d) const { return dilation[d] * (kernel[d] - 1) + 1; }
  /// Windows over `size` elements as LibTorch counts them: with ceil_mode one more for what is left, unless it would
  /// begin in the padding.
  int64_t count(std::size_t d, int64_t size, bool rounds_up) const {
    const int64_t left = size + 2 * pads[d] - reach(d), whole = left / stride[d] + 1;
    const bool has_more = rounds_up && left % stride[d] != 0 && whole * stride[d] < size + pads[d];
    return whole + (has_more ? 1 : 0);
  }

  /// Takes ceil_mode, of which ONNX's older versions and onnxruntime have different notions, out of it where the sizes
  /// are known: a window that goes beyond the input gets padding for it. `pads_more`: whether padding changes no value.
  void resolve_ceil_mode(const OnnxTensor& x, bool pads_more) {
    auto ends = pads;
    for (std::size_t d = 0; d < kernel.size(); ++d) {
      const auto size = x.sizes[x.sizes.size() - kernel.size() + d];
      if (size < 0) return;
      const int64_t windows = count(d, size, true);
      if (windows == count(d, size, false)) continue;
      auto& end = ends[kernel.size() + d];
      end = (windows - 1) * stride[d] + reach(d) - size - pads[d];
      if (!pads_more || end >= kernel[d]) return;  // onnxruntime takes no padding as long as a kernel
    }
    pads = ends;
    ceil_mode = false;
  }
};

void refuse_indices(OnnxCall& call) {
  if (call.output_is_used(1)) call.refuse("its indices are used");
}

void max_pool(OnnxCall& call, int64_t dims) {
  refuse_indices(call);
  const auto x = call.tensor("self");
  Window window(call, dims, call.integers("dilation"));
  if (window.ceil_mode) window.resolve_ceil_mode(x, /*pads_more=*/true);
  auto attributes = window.attributes();
  attributes.emplace_back("dilations", window.dilation);
  call.returns(unbatched(call, call.b.add("MaxPool", {batched(call, x, dims)}, attributes), x, dims));
}

void average_pool(OnnxCall& call, int64_t dims) {
  const auto x = call.tensor("self");
  Window window(call, dims, {1});
  if (window.ceil_mode) window.resolve_ceil_mode(x, /*pads_more=*/false);
  if (window.ceil_mode) call.refuse("with ceil_mode a window goes beyond the input, which ONNX averages otherwise");
  auto attributes = window.attributes();
  const bool has_divisor = call.given("divisor_override");
  attributes.emplace_back("count_include_pad", int64_t{has_divisor || call.flag("count_include_pad")});
  auto y = call.b.add("AveragePool", {batched(call, x, dims)}, attributes);
  if (has_divisor) {
    double elements = 1;
    for (const auto size : window.kernel) elements *= static_cast<double>(size);
    y = call.b.add("Mul", {y, call.b.scalar(elements / call.number("divisor_override"), x.dtype)});
  }
  call.returns(unbatched(call, y, x, dims));
}

/// To 1 in each dimension, or to sizes that divide the input's: then all windows are of one size.
void adaptive_pool(OnnxCall& call, int64_t dims, const std::string& kind) {
  refuse_indices(call);
  const auto x = call.tensor("self");
  const auto wanted = for_each_pooled_dim(call.integers("output_size"), dims);
  const auto input = batched(call, x, dims);
  if (std::ranges::all_of(wanted, [](auto size) { return size == 1; })) {
    return call.returns(unbatched(call, call.b.add("Global" + kind, {input}), x, dims));
  }
  std::vector<int64_t> kernel;
  for (int64_t d = 0; d < dims; ++d) {
    const auto size = x.sizes[static_cast<std::size_t>(x.rank() - dims + d)];
    const auto to = wanted[static_cast<std::size_t>(d)];
    if (size < 0) call.refuse("an axis of a dynamic size is pooled to " + std::to_string(to));
    if (to < 1 || size % to != 0) {
      call.refuse("it pools " + std::to_string(size) + " elements to " + std::to_string(to) +
                  ", in windows of different sizes; pool to 1 or to a divisor of " + std::to_string(size));
    }
    kernel.push_back(size / to);
  }
  const auto y = call.b.add(kind, {input}, {{"kernel_shape", kernel}, {"strides", kernel}});
  call.returns(unbatched(call, y, x, dims));
}

}  // namespace

void add_onnx_pooling(OnnxOperators& operators) {
  for (int64_t dims = 1; dims <= 3; ++dims) {
    const auto suffix = std::to_string(dims) + "d";
    operators["max_pool" + suffix] = [dims](OnnxCall& call) { max_pool(call, dims); };
    operators["max_pool" + suffix + "_with_indices"] = operators["max_pool" + suffix];
    operators["avg_pool" + suffix] = [dims](OnnxCall& call) { average_pool(call, dims); };
    operators["adaptive_avg_pool" + suffix] = [dims](OnnxCall& call) { adaptive_pool(call, dims, "AveragePool"); };
    operators["adaptive_max_pool" + suffix] = [dims](OnnxCall& call) { adaptive_pool(call, dims, "MaxPool"); };
  }
}

}  // namespace troupe
