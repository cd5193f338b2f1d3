// Windows that slide over a tensor, and sums of such windows.
#include "troupe/runtime/export/onnx_call.hpp"
#include "troupe/runtime/export/onnx_sizes.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>

namespace troupe {

namespace {

/// How a kernel slides over an image: [height, width] each.
struct SlidingKernel {
  std::vector<int64_t> size, dilation, padding, stride;

  explicit SlidingKernel(OnnxCall& call)
      : size(call.integers("kernel_size", 2)),
        dilation(call.integers("dilation", 2)),
        padding(call.integers("padding", 2)),
        stride(call.integers("stride", 2)) {}

  int64_t reach(std::size_t d) const { return dilation[d] * (size[d] - 1) + 1; }
  int64_t elements() const { return size[0] * size[1]; }
};

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
  auto order = counted(x.rank() + 1);
  std::rotate(order.begin() + axis + 1, order.begin() + axis + 2, order.end());
  call.returns(call.b.transpose(windows, order));
}

/// Where the elements of the kernel lie along a dimension of `padded` elements: [elements, windows].
std::string places_of_kernel(OnnxBuilder& b, const SlidingKernel& kernel, std::size_t d, const OnnxInt& padded) {
  const auto count = window_count(b, padded, kernel.reach(d), kernel.stride[d]);
  return b.transpose(windows_of(b, count, kernel.stride[d], kernel.size[d], kernel.dilation[d]), {1, 0});
}

/// [N, C, H, W] becomes [N, C * kernel elements, places of the kernel].
void im2col(OnnxCall& call) {
  const auto x = call.tensor("self");
  const SlidingKernel kernel(call);
  const auto& pads = kernel.padding;
  const bool is_batched = x.rank() == 4;
  auto y = is_batched ? x.name : call.b.unsqueeze(x.name, {0});
  if (pads[0] > 0 || pads[1] > 0) {
    y = call.b.add("Pad", {y, call.b.ints({0, 0, pads[0], pads[1], 0, 0, pads[0], pads[1]})});
  }
  // An axis becomes two: the elements of the kernel, and its places.
  const auto spread = [&](int64_t axis, std::size_t d) {
    const auto size = sum_of(call.b, call.b.size_of(x, x.rank() - 2 + static_cast<int64_t>(d)), {2 * pads[d], ""});
    y = call.b.add("Gather", {y, places_of_kernel(call.b, kernel, d, size)}, {{"axis", axis}});
  };
  spread(2, 0);
  spread(4, 1);
  const auto rows = product_of(call.b, call.b.size_of(x, x.rank() - 3), {kernel.elements(), ""});
  y = call.b.add("Reshape", {call.b.transpose(y, {0, 1, 2, 4, 3, 5}), call.b.ints({{0, ""}, rows, {-1, ""}})});
  call.returns(is_batched ? y : call.b.squeeze(y, {0}));
}

/// What Col2Im does, which versions before 18 have not, and onnxruntime 1.31 for float32 alone: each element is added
/// to its pixel of a padded image, whose pixels lie in one row for it.
std::string added_windows(OnnxCall& call, const OnnxTensor& x, const std::string& input, const SlidingKernel& kernel,
                          const std::vector<OnnxInt>& size) {
  auto& b = call.b;
  std::vector<OnnxInt> padded;
  for (std::size_t d = 0; d < 2; ++d) padded.push_back(sum_of(b, size[d], {2 * kernel.padding[d], ""}));
  const auto down =
      b.reshape(places_of_kernel(b, kernel, 0, padded[0]), std::vector<int64_t>{kernel.size[0], 1, -1, 1});
  const auto across =
      b.reshape(places_of_kernel(b, kernel, 1, padded[1]), std::vector<int64_t>{1, kernel.size[1], 1, -1});
  const auto row_starts = b.add("Mul", {down, b.scalar(padded[1], torch::kInt64)});
  const auto places = b.reshape(b.add("Add", {row_starts, across}), std::vector<int64_t>{1, -1});
  const auto samples = x.rank() == 3 ? b.size_of(x, 0) : OnnxInt{1, ""};
  const auto channels = quotient_of(b, b.size_of(x, x.rank() - 2), {kernel.elements(), ""});
  const auto images = product_of(b, samples, channels);
  const auto elements = b.add("Reshape", {input, b.ints({images, {-1, ""}})});
  const auto zeros = b.add("Expand", {b.scalar(0, x.dtype), b.ints({images, product_of(b, padded[0], padded[1])})});
  const auto all_places = b.add("Expand", {places, b.add("Shape", {elements})});
  auto y = b.add("ScatterElements", {zeros, all_places, elements},
                 {{"axis", int64_t{1}}, {"reduction", std::string("add")}});
  y = b.add("Reshape", {y, b.ints({samples, channels, padded[0], padded[1]})});
  for (std::size_t d = 0; d < 2; ++d) {
    const OnnxInt start{kernel.padding[d], ""};
    if (start.value > 0) y = b.slice(y, static_cast<int64_t>(d) + 2, start, sum_of(b, size[d], start));
  }
  return y;
}

/// The sum of the windows that im2col gives, at their places.
void col2im(OnnxCall& call) {
  const auto x = call.tensor("self");
  const SlidingKernel kernel(call);
  const auto& pads = kernel.padding;
  const auto size = call.sizes("output_size", 2);
  const bool is_batched = x.rank() == 3;
  const auto input = is_batched ? x.name : call.b.unsqueeze(x.name, {0});
  const bool in_parts = call.b.opset_version() < 18 || x.dtype != torch::kFloat;
  const auto y = in_parts ? added_windows(call, x, input, kernel, size)
                          : call.b.add("Col2Im", {input, call.b.ints(size), call.b.ints(kernel.size)},
                                       {{"dilations", kernel.dilation},
                                        {"pads", std::vector<int64_t>{pads[0], pads[1], pads[0], pads[1]}},
                                        {"strides", kernel.stride}});
  call.returns(is_batched ? y : call.b.squeeze(y, {0}));
}

}  // namespace

void add_onnx_windows(OnnxOperators& operators) {
  operators["unfold"] = unfold;
  operators["im2col"] = im2col;
  operators["col2im"] = col2im;
}

}  // namespace troupe
