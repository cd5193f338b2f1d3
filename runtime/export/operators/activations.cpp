// Activations (https://pytorch.org/docs/stable/nn.functional.html#non-linear-activation-functions).
#include "troupe/runtime/export/onnx_call.hpp"

#include <cmath>

namespace troupe {

namespace {

std::string multiply(OnnxCall& call, const std::string& x, double factor) {
  return factor == 1 ? x : call.b.add("Mul", {x, call.b.scalar(factor, call.output_type())});
}

void elu(OnnxCall& call) {
  if (call.takes("input_scale") && call.number("input_scale") != 1) call.refuse("it has an input_scale");
  const auto y = call.b.add("Elu", {call.tensor("self").name}, {{"alpha", call.number("alpha")}});
  call.returns(call.takes("scale") ? multiply(call, y, call.number("scale")) : y);
}

/// x * Phi(x); with tanh the approximation of Hendrycks and Gimpel (https://arxiv.org/abs/1606.08415).
void gelu(OnnxCall& call) {
  const auto x = call.tensor("self");
  if (call.b.opset_version() >= 20) {
    return call.returns(call.b.add("Gelu", {x.name}, {{"approximate", call.text("approximate")}}));
  }
  const auto number = [&](double value) { return call.b.scalar(value, x.dtype); };
  std::string inner;
  if (call.text("approximate") == "tanh") {
    const auto square = call.b.add("Mul", {x.name, x.name});
    const auto factor = call.b.add("Add", {call.b.add("Mul", {square, number(0.044715)}), number(1)});
    const auto scaled = call.b.add("Mul", {x.name, number(std::sqrt(2 / M_PI))});
    inner = call.b.add("Tanh", {call.b.add("Mul", {scaled, factor})});
  } else {
    inner = call.b.add("Erf", {call.b.add("Mul", {x.name, number(M_SQRT1_2)})});
  }
  const auto half = call.b.add("Mul", {x.name, number(0.5)});
  call.returns(call.b.add("Mul", {half, call.b.add("Add", {inner, number(1)})}));
}

std::string softplus(OnnxCall& call, const std::string& x) {
  return call.b.add("Softplus", {x});
}

/// log(1 + exp(beta x)) / beta, and x itself where beta x is above the threshold.
void softplus(OnnxCall& call) {
  const auto x = call.tensor("self").name;
  const auto beta = call.number("beta");
  const auto scaled = multiply(call, x, beta);
  const auto smooth = multiply(call, softplus(call, scaled), 1 / beta);
  const auto is_large = call.b.add("Greater", {scaled, call.b.scalar(call.number("threshold"), call.output_type())});
  call.returns(call.b.add("Where", {is_large, x, smooth}));
}

void mish(OnnxCall& call) {
  const auto x = call.tensor("self").name;
  call.returns(call.b.add("Mul", {x, call.b.add("Tanh", {softplus(call, x)})}));
}

void log_sigmoid(OnnxCall& call) {
  const auto negative = call.b.add("Neg", {call.tensor("self").name});
  call.returns(call.b.add("Neg", {softplus(call, negative)}));
}

std::string hard_sigmoid(OnnxCall& call, const std::string& x) {
  return call.b.add("HardSigmoid", {x}, {{"alpha", 1.0 / 6}, {"beta", 0.5}});
}

void prelu(OnnxCall& call) {
  const auto x = call.tensor("self"), weight = call.tensor("weight");
  auto slope = weight.name;
  // One slope a channel: [C] becomes [C, 1, ...] to lie along axis 1.
  if (weight.rank() == 1 && weight.sizes[0] != 1 && x.rank() > 2) {
    std::vector<int64_t> sizes(static_cast<std::size_t>(x.rank()) - 1, 1);
    sizes[0] = weight.sizes[0];
    slope = call.b.reshape(slope, sizes);
  }
  call.returns(call.b.add("PRelu", {x.name, slope}));
}

/// Bounds from below and above, either of which may be missing; numbers or tensors.
std::string clipped(OnnxCall& call, const char* low, const char* high) {
  const auto dtype = call.output_type();
  auto x = call.b.cast(call.tensor("self"), dtype);
  if (low && call.given(low)) x = call.b.add("Max", {x, call.operand(low, dtype)});
  if (high && call.given(high)) x = call.b.add("Min", {x, call.operand(high, dtype)});
  return x;
}

void threshold(OnnxCall& call) {
  const auto x = call.tensor("self");
  const auto is_above = call.b.add("Greater", {x.name, call.operand("threshold", x.dtype)});
  call.returns(call.b.add("Where", {is_above, x.name, call.operand("value", x.dtype)}));
}

void glu(OnnxCall& call) {
  const auto x = call.tensor("self");
  const auto axis = call.axis("dim", x.rank());
  if (x.sizes[axis] < 0) call.refuse("the axis that it halves may not have a dynamic size");
  const auto half = x.sizes[axis] / 2;
  const auto parts = call.b.add_many("Split", {x.name, call.b.ints({half, half})}, 2, {{"axis", axis}});
  call.returns(call.b.add("Mul", {parts[0], call.b.add("Sigmoid", {parts[1]})}));
}

void softmax(OnnxCall& call, const char* op_type) {
  const auto x = call.tensor("self");
  const auto dtype = call.output_type();
  if (x.rank() == 0) return call.returns(call.b.scalar(op_type[0] == 'S' ? 1.0 : 0.0, dtype));
  call.returns(call.b.add(op_type, {call.b.cast(x, dtype)}, {{"axis", call.axis("dim", x.rank())}}));
}

}  // namespace

void add_onnx_activations(OnnxOperators& operators) {
  const auto unary = [&](const char* name, const char* op_type) {
    operators[name] = [op_type](OnnxCall& call) { call.returns(call.b.add(op_type, {call.tensor("self").name})); };
  };
  unary("relu", "Relu");
  unary("selu", "Selu");
  operators["elu"] = elu;
  operators["celu"] = [](OnnxCall& call) {
    // alpha * elu(x / alpha), with an Elu of alpha 1.
    const auto alpha = call.number("alpha");
    const auto y = call.b.add("Elu", {multiply(call, call.tensor("self").name, 1 / alpha)});
    call.returns(multiply(call, y, alpha));
  };
  operators["leaky_relu"] = [](OnnxCall& call) {
    call.returns(call.b.add("LeakyRelu", {call.tensor("self").name}, {{"alpha", call.number("negative_slope")}}));
  };
  operators["rrelu"] = [](OnnxCall& call) {  // without training its slope is the middle of the range
    const auto slope = (call.number("lower") + call.number("upper")) / 2;
    call.returns(call.b.add("LeakyRelu", {call.tensor("self").name}, {{"alpha", slope}}));
  };
  operators["gelu"] = gelu;
  operators["silu"] = [](OnnxCall& call) {
    const auto x = call.tensor("self").name;
    call.returns(call.b.add("Mul", {x, call.b.add("Sigmoid", {x})}));
  };
  operators["mish"] = mish;
  operators["softplus"] = [](OnnxCall& call) { softplus(call); };
  operators["log_sigmoid"] = log_sigmoid;
  operators["hardsigmoid"] = [](OnnxCall& call) { call.returns(hard_sigmoid(call, call.tensor("self").name)); };
  operators["hardswish"] = [](OnnxCall& call) {
    const auto x = call.tensor("self").name;
    call.returns(call.b.add("Mul", {x, hard_sigmoid(call, x)}));
  };
  operators["hardtanh"] = [](OnnxCall& call) { call.returns(clipped(call, "min_val", "max_val")); };
  operators["relu6"] = [](OnnxCall& call) {
    const auto number = [&](double value) { return call.b.scalar(value, call.output_type()); };
    call.returns(call.b.add("Clip", {call.tensor("self").name, number(0), number(6)}));
  };
  operators["clamp"] = [](OnnxCall& call) { call.returns(clipped(call, "min", "max")); };
  operators["clamp_min"] = [](OnnxCall& call) { call.returns(clipped(call, "min", nullptr)); };
  operators["clamp_max"] = [](OnnxCall& call) { call.returns(clipped(call, nullptr, "max")); };
  operators["hardshrink"] = [](OnnxCall& call) {
    call.returns(call.b.add("Shrink", {call.tensor("self").name}, {{"lambd", call.number("lambd")}, {"bias", 0.0}}));
  };
  operators["softshrink"] = [](OnnxCall& call) {
    const auto lambd = call.number("lambd");
    call.returns(call.b.add("Shrink", {call.tensor("self").name}, {{"lambd", lambd}, {"bias", lambd}}));
  };
  operators["threshold"] = threshold;
  operators["prelu"] = prelu;
  operators["glu"] = glu;
  operators["softmax"] = [](OnnxCall& call) { softmax(call, "Softmax"); };
  operators["log_softmax"] = [](OnnxCall& call) { softmax(call, "LogSoftmax"); };
}

}  // namespace troupe
