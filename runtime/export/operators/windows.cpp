// Windows that slide over a tensor, and sums of such windows.
#include "troupe/runtime/export/onnx_call.hpp"
#include "troupe/runtime/export/onnx_sizes.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <array>

namespace troupe {

namespace {

/// One number for both dimensions may stand for each.
std::array<int64_t, 2> two_of(OnnxCall& call, const char* argument) {
  const auto values = call.integers(argument);
  return {values.front(), values.back()};
}

/// How many windows there are along an axis of `size` elements.
OnnxInt window_count(OnnxBuilder& b, const OnnxInt& size, int64_t reach, int64_t step) {
  return sum_of(b, quotient_of(b, sum_of(b, size, {-reach, ""}), {step, ""}), {1, ""});
}

/// [..., size, ...] becomes [..., windows, ..., elements of a window].
void unfold(OnnxCall& call) {
  const auto x = call.tensor("self");
  const auto axis = call.axis("dimension", x.rank());
  const auto size = call.integer("size"), step = call.integer("step");
  if (x.rank() == 0) return call.returns(call.b.reshape(x.name, std::vector<int64_t>{size}));
  const auto count = window_count(call.b, call.b.size_of(x, axis), size, step);
  const auto places = windows_of(call.b, count, step, size);
  const auto windows = call.b.add("Gather", {x.name, places}, {{"axis", axis}});
  std::vector<int64_t> order;
  for (int64_t i = 0; i <= x.rank(); ++i) {
    if (i != axis + 1) order.push_back(i);
  }
  order.push_back(axis + 1);
  call.returns(call.b.transpose(windows, order));
}

/// [N, C, H, W] becomes [N, C * kernel elements, places of the kernel].
void im2col(OnnxCall& call) {
  const auto x = call.tensor("self");
  const auto kernel = two_of(call, "kernel_size"), dilation = two_of(call, "dilation");
  const auto padding = two_of(call, "padding"), stride = two_of(call, "stride");
  const bool is_batched = x.rank() == 4;
  auto y = is_batched ? x.name : call.b.unsqueeze(x.name, {0});
  if (padding[0] > 0 || padding[1] > 0) {
    y = call.b.add("Pad", {y, call.b.ints({0, 0, padding[0], padding[1], 0, 0, padding[0], padding[1]})});
  }
  // An axis becomes two: the elements of the kernel, and its places.
  const auto spread = [&](int64_t axis, std::size_t d) {
    const auto size = sum_of(call.b, call.b.size_of(x, x.rank() - 2 + static_cast<int64_t>(d)), {2 * padding[d], ""});
    const auto count = window_count(call.b, size, dilation[d] * (kernel[d] - 1) + 1, stride[d]);
    const auto places = call.b.transpose(windows_of(call.b, count, stride[d], kernel[d], dilation[d]), {1, 0});
    y = call.b.add("Gather", {y, places}, {{"axis", axis}});
  };
  spread(2, 0);
  spread(4, 1);
  const auto rows = product_of(call.b, call.b.size_of(x, x.rank() - 3), {kernel[0] * kernel[1], ""});
  y = call.b.add("Reshape", {call.b.transpose(y, {0, 1, 2, 4, 3, 5}), call.b.ints({{0, ""}, rows, {-1, ""}})});
  call.returns(is_batched ? y : call.b.squeeze(y, {0}));
}

/// The sum of the windows that im2col gives, at their places.
void col2im(OnnxCall& call) {
  if (call.b.opset_version() < 18) call.refuse("it needs opset_version 18, which has Col2Im");
  const auto x = call.tensor("self");
  const auto kernel = two_of(call, "kernel_size"), dilation = two_of(call, "dilation");
  const auto padding = two_of(call, "padding"), stride = two_of(call, "stride");
  const auto size = call.sizes("output_size");
  const bool is_batched = x.rank() == 3;
  const auto input = is_batched ? x.name : call.b.unsqueeze(x.name, {0});
  const auto y =
      call.b.add("Col2Im", {input, call.b.ints({size.front(), size.back()}), call.b.ints({kernel[0], kernel[1]})},
                 {{"dilations", std::vector<int64_t>(dilation.begin(), dilation.end())},
                  {"pads", std::vector<int64_t>{padding[0], padding[1], padding[0], padding[1]}},
                  {"strides", std::vector<int64_t>(stride.begin(), stride.end())}});
  call.returns(is_batched ? y : call.b.squeeze(y, {0}));
}

}  // namespace

void add_onnx_windows(OnnxOperators& operators) {
  operators["unfold"] = unfold;
  operators["im2col"] = im2col;
  operators["col2im"] = col2im;
}

}  // namespace troupe
