// Functions of one or two numbers that ONNX has no operator for: angles, lengths, sums of exponentials.
#include "troupe/runtime/export/onnx_call.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <limits>

namespace troupe {

namespace {

/// The angle of (x, y) in (-pi, pi], with LibTorch's results for zeros of either sign; NaN where both are infinite.
void atan2(OnnxCall& call) {
  const auto dtype = call.output_type();
  const auto y = call.operand("self", dtype), x = call.operand("other", dtype);
  const auto number = [&](double value) { return call.b.scalar(value, dtype); };
  const auto zero = number(0);
  // 1 / -0 is below 0, and -0 is not.
  const auto is_negative = [&](const std::string& value) {
    const auto reciprocal = call.b.add("Reciprocal", {value});
    return call.b.add("Or", {call.b.add("Less", {value, zero}), call.b.add("Less", {reciprocal, zero})});
  };
  const auto is_below = is_negative(y);
  const auto signed_like_y = [&](double value) {
    return call.b.add("Where", {is_below, number(-value), number(value)});
  };
  const auto is_number = call.b.add("Not", {call.b.add("IsNaN", {y})});
  const auto on_axis = call.b.add("And", {call.b.add("Equal", {x, zero}), is_number});
  const auto angle = call.b.add("Atan", {call.b.add("Div", {y, call.b.add("Where", {on_axis, number(1), x})})});
  const auto to_left = call.b.add("Where", {is_negative(x), signed_like_y(M_PI), zero});
  const auto beside_axis = call.b.add("Add", {angle, to_left});
  const auto upright = call.b.add("Where", {call.b.add("Equal", {y, zero}), to_left, signed_like_y(M_PI_2)});
  call.returns(call.b.add("Where", {on_axis, upright, beside_axis}));
}

/// sqrt(x^2 + y^2); the larger one is taken out of the root, since its square may not fit into the type.
void hypot(OnnxCall& call) {
  const auto dtype = call.output_type();
  const auto x = call.b.add("Abs", {call.operand("self", dtype)}),
             y = call.b.add("Abs", {call.operand("other", dtype)});
  const auto large = call.b.add("Max", {x, y}), small = call.b.add("Min", {x, y});
  const auto one = call.b.scalar(1, dtype);
  const auto is_zero = call.b.add("Equal", {large, call.b.scalar(0, dtype)});
  const auto ratio = call.b.add("Div", {small, call.b.add("Where", {is_zero, one, large})});
  const auto root = call.b.add("Sqrt", {call.b.add("Add", {call.b.add("Mul", {ratio, ratio}), one})});
  const auto infinity = call.b.scalar(std::numeric_limits<double>::infinity(), dtype);
  const auto is_infinite = call.b.add("Equal", {large, infinity});  // then the ratio may be NaN
  call.returns(call.b.add("Where", {is_infinite, large, call.b.add("Mul", {large, root})}));
}

/// log(exp(a) + exp(b)) = max(a, b) + log(1 + exp(-|a - b|)); for another base than e, `factor` is its logarithm.
void add_exponentials(OnnxCall& call, double factor) {
  const auto dtype = call.output_type();
  const auto scaled = [&](const std::string& x, double by) {
    return by == 1 ? x : call.b.add("Mul", {x, call.b.scalar(by, dtype)});
  };
  const auto a = scaled(call.operand("self", dtype), factor), b = scaled(call.operand("other", dtype), factor);
  const auto distance = call.b.add("Abs", {call.b.add("Sub", {a, b})});
  // Two equal infinities have the distance NaN.
  const auto apart = call.b.add("Where", {call.b.add("Equal", {a, b}), call.b.scalar(0, dtype), distance});
  const auto rest = call.b.add("Softplus", {call.b.add("Neg", {apart})});
  call.returns(scaled(call.b.add("Add", {call.b.add("Max", {a, b}), rest}), 1 / factor));
}

void erfc(OnnxCall& call) {
  const auto dtype = call.output_type();
  const auto erf = call.b.add("Erf", {call.b.cast(call.tensor("self"), dtype)});
  call.returns(call.b.add("Sub", {call.b.scalar(1, dtype), erf}));
}

/// The largest finite number of the type.
double largest_of(torch::ScalarType dtype) {
  switch (dtype) {
    case torch::kFloat16: return std::numeric_limits<c10::Half>::max();
    case torch::kBFloat16: return std::numeric_limits<c10::BFloat16>::max();
    case torch::kFloat64: return std::numeric_limits<double>::max();
    default: return std::numeric_limits<float>::max();
  }
}

void nan_to_num(OnnxCall& call) {
  const auto x = call.tensor("self");
  if (!c10::isFloatingType(x.dtype)) return call.returns(x.name);
  const auto number_or = [&](const char* argument, double value) {
    return call.b.scalar(call.given(argument) ? call.number(argument) : value, x.dtype);
  };
  const auto infinity = std::numeric_limits<double>::infinity();
  const auto replaced = [&](const std::string& y, double value, const std::string& by) {
    return call.b.add("Where", {call.b.add("Equal", {x.name, call.b.scalar(value, x.dtype)}), by, y});
  };
  auto y = call.b.add("Where", {call.b.add("IsNaN", {x.name}), number_or("nan", 0), x.name});
  y = replaced(y, infinity, number_or("posinf", largest_of(x.dtype)));
  call.returns(replaced(y, -infinity, number_or("neginf", -largest_of(x.dtype))));
}

}  // namespace

void add_onnx_special_functions(OnnxOperators& operators) {
  operators["atan2"] = atan2;
  operators["hypot"] = hypot;
  operators["logaddexp"] = [](OnnxCall& call) { add_exponentials(call, 1); };
  operators["logaddexp2"] = [](OnnxCall& call) { add_exponentials(call, M_LN2); };
  operators["erfc"] = erfc;
  operators["nan_to_num"] = nan_to_num;
}

}  // namespace troupe
