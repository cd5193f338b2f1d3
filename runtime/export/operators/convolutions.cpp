// Convolutions in one to three dimensions, and transposed ones.
#include "troupe/runtime/export/onnx_call.hpp"

namespace troupe {

namespace {

struct Convolution {
  OnnxTensor x, weight;
  std::size_t dims;
  bool is_batched;

  explicit Convolution(OnnxCall& call) : x(call.tensor("input")), weight(call.tensor("weight")) {
    if (!weight.has_rank || weight.rank() < 3) call.refuse("its weight has no kernel");
    dims = static_cast<std::size_t>(weight.rank()) - 2;
    is_batched = x.rank() == weight.rank();
  }
  std::vector<int64_t> kernel() const { return {weight.sizes.begin() + 2, weight.sizes.end()}; }

  OnnxAttributes attributes(OnnxCall& call) const {
    return {{"kernel_shape", kernel()},
            {"strides", call.integers("stride", dims)},
            {"dilations", call.integers("dilation", dims)},
            {"group", call.integer("groups")}};
  }

  void write(OnnxCall& call, const char* op_type, const OnnxAttributes& attributes) const {
    const auto input = is_batched ? x.name : call.b.unsqueeze(x.name, {0});
    const auto y = call.b.add(op_type, {input, weight.name, call.optional_name("bias")}, attributes);
    call.returns(is_batched ? y : call.b.squeeze(y, {0}));
  }
};

void convolution(OnnxCall& call) {
  const Convolution convolution(call);
  auto attributes = convolution.attributes(call);
  auto pads = call.integers("padding", convolution.dims);
  pads.insert(pads.end(), pads.begin(), pads.end());  // begins, then ends
  attributes.emplace_back("pads", pads);
  const bool transposed = call.flag("transposed");
  if (transposed) {
    attributes.emplace_back("output_padding", call.integers("output_padding", convolution.dims));
  }
  convolution.write(call, transposed ? "ConvTranspose" : "Conv", attributes);
}

/// Padding by name: "valid" is none; "same" keeps the sizes, with the odd element at the end.
void convolution_mode(OnnxCall& call) {
  const Convolution convolution(call);
  auto attributes = convolution.attributes(call);
  std::vector<int64_t> begins(convolution.dims, 0), ends(convolution.dims, 0);
  if (call.text("padding") == "same") {
    const auto kernel = convolution.kernel();
    const auto dilation = call.integers("dilation", convolution.dims);
    for (std::size_t d = 0; d < convolution.dims; ++d) {
      const auto total = dilation[d] * (kernel[d] - 1);
      begins[d] = total / 2;
      ends[d] = total - begins[d];
    }
  }
  begins.insert(begins.end(), ends.begin(), ends.end());
  attributes.emplace_back("pads", begins);
  convolution.write(call, "Conv", attributes);
}

}  // namespace

void add_onnx_convolutions(OnnxOperators& operators) {
  operators["_convolution"] = convolution;
  operators["_convolution_mode"] = convolution_mode;
}

}  // namespace troupe
