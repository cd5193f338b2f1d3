// Pooling in one to three dimensions.
#include "troupe/runtime/export/onnx_call.hpp"
#include "troupe/runtime/export/onnx_sizes.hpp"

#include <torch/types.h>

#include <algorithm>

namespace troupe {

namespace {

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

  Window(OnnxCall& call, std::size_t dims)
      : kernel(call.integers("kernel_size", dims)),
        stride(call.integers("stride", dims)),
        dilation(call.takes("dilation") ? call.integers("dilation", dims) : std::vector<int64_t>(dims, 1)),
        pads(call.integers("padding", dims)),
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
  Window window(call, static_cast<std::size_t>(dims));
  if (window.ceil_mode) window.resolve_ceil_mode(x, /*pads_more=*/true);
  auto attributes = window.attributes();
  attributes.emplace_back("dilations", window.dilation);
  call.returns(unbatched(call, call.b.add("MaxPool", {batched(call, x, dims)}, attributes), x, dims));
}

void average_pool(OnnxCall& call, int64_t dims) {
  const auto x = call.tensor("self");
  Window window(call, static_cast<std::size_t>(dims));
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

/// Where the windows of an adaptive pooling from `from` elements to `to` begin and end: [to, 1] each. Window i goes
/// from floor(i * from / to) to ceil((i + 1) * from / to).
struct AdaptiveWindows {
  std::string begins, ends;

  AdaptiveWindows(OnnxBuilder& b, const OnnxInt& from, const OnnxInt& to) {
    const auto number = [&](int64_t value) { return b.scalar(value, torch::kInt64); };
    const auto size = b.scalar(from, torch::kInt64), count = b.scalar(to, torch::kInt64);
    const auto scaled = b.add("Mul", {b.unsqueeze(steps_of(b, to), {1}), size});
    begins = b.add("Div", {scaled, count});
    const auto last = b.add("Sub", {b.add("Add", {scaled, size}), number(1)});
    ends = b.add("Add", {b.add("Div", {last, count}), number(1)});
  }
};

/// The mean of each window along one axis: a product with a matrix of window lengths' reciprocals.
std::string average_of_windows(OnnxCall& call, const std::string& x, int64_t rank, int64_t axis, const OnnxInt& from,
                               const AdaptiveWindows& windows) {
  auto& b = call.b;
  const auto dtype = call.output_type();
  const auto places = steps_of(b, from);
  const auto is_in =
      b.add("And", {b.add("GreaterOrEqual", {places, windows.begins}), b.add("Less", {places, windows.ends})});
  const auto length = b.cast(b.add("Sub", {windows.ends, windows.begins}), torch::kInt64, dtype);
  const auto matrix = b.add("Div", {b.cast(is_in, torch::kBool, dtype), length});
  const auto product = b.add("MatMul", {b.swap_axes(x, rank, axis, rank - 1), b.transpose(matrix, {1, 0})});
  return b.swap_axes(product, rank, axis, rank - 1);
}

/// The largest element of each window along one axis. Windows are taken with one length, the longest; in shorter ones
/// the last element comes again.
std::string maximum_of_windows(OnnxCall& call, const std::string& x, int64_t axis, const OnnxInt& from,
                               const OnnxInt& to, const AdaptiveWindows& windows) {
  auto& b = call.b;
  const auto longest = sum_of(b, quotient_of(b, from, to), {2, ""});
  const auto last = b.add("Sub", {windows.ends, b.scalar(1, torch::kInt64)});
  const auto places = b.add("Min", {b.add("Add", {windows.begins, steps_of(b, longest)}), last});
  return b.reduce("ReduceMax", b.add("Gather", {x, places}, {{"axis", axis}}), {axis + 1}, /*keepdim=*/false);
}

/// To 1 in each dimension, or to sizes that divide the input's: all windows are of one size, and ONNX's pooling does
/// it. Otherwise each dimension is pooled by itself.
void adaptive_pool(OnnxCall& call, int64_t dims, const std::string& kind) {
  refuse_indices(call);
  const auto x = call.tensor("self");
  const auto wanted = call.sizes("output_size", static_cast<std::size_t>(dims));
  if (std::ranges::all_of(wanted, [](const auto& size) { return size.is_fixed() && size.value == 1; })) {
    return call.returns(unbatched(call, call.b.add("Global" + kind, {batched(call, x, dims)}), x, dims));
  }
  std::vector<int64_t> kernel;
  for (int64_t d = 0; d < dims; ++d) {
    const auto from = call.b.size_of(x, x.rank() - dims + d);
    const auto& to = wanted[static_cast<std::size_t>(d)];
    if (from.is_fixed() && to.is_fixed() && to.value > 0 && from.value % to.value == 0) {
      kernel.push_back(from.value / to.value);
    }
  }
  if (static_cast<int64_t>(kernel.size()) == dims) {
    const auto y = call.b.add(kind, {batched(call, x, dims)}, {{"kernel_shape", kernel}, {"strides", kernel}});
    return call.returns(unbatched(call, y, x, dims));
  }
  auto y = x.name;
  for (int64_t d = 0; d < dims; ++d) {
    const auto axis = x.rank() - dims + d;
    const auto from = call.b.size_of(x, axis);
    const auto& to = wanted[static_cast<std::size_t>(d)];
    const AdaptiveWindows windows(call.b, from, to);
    y = kind == "MaxPool" ? maximum_of_windows(call, y, axis, from, to, windows)
                          : average_of_windows(call, y, x.rank(), axis, from, windows);
  }
  call.returns(y);
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
