// Element by element: arithmetic, functions of one number, comparisons, logic, types.
#include "troupe/runtime/export/onnx_call.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace troupe {

namespace {

bool is_floating(torch::ScalarType dtype) {
  return c10::isFloatingType(dtype);
}

/// other * alpha, in the type of the result.
std::string scaled_other(OnnxCall& call, torch::ScalarType dtype) {
  const auto value = call.operand("other", dtype);
  if (!call.given("alpha") || call.number("alpha") == 1) return value;
  return call.b.add("Mul", {value, call.b.scalar(call.scalar("alpha"), dtype)});
}

/// Logical types have no Add and no Mul in ONNX; LibTorch's are "or" and "and".
void add_or_multiply(OnnxCall& call, const char* op_type, const char* logical) {
  const auto dtype = call.output_type();
  const auto a = call.operand("self", dtype);
  const auto b = scaled_other(call, dtype);
  call.returns(call.b.add(dtype == torch::kBool ? logical : op_type, {a, b}));
}

/// a - floor(a / b) * b for both signs of b, as LibTorch's remainder.
std::string remainder(OnnxCall& call, const std::string& a, const std::string& b, torch::ScalarType dtype) {
  if (!is_floating(dtype)) return call.b.add("Mod", {a, b});
  const auto rest = call.b.add("Mod", {a, b}, {{"fmod", int64_t{1}}});
  const auto signs_differ = call.b.add("Less", {call.b.add("Mul", {rest, b}), call.b.scalar(0, dtype)});
  return call.b.add("Where", {signs_differ, call.b.add("Add", {rest, b}), rest});
}

std::string truncated(OnnxCall& call, const std::string& x, torch::ScalarType dtype) {
  if (!is_floating(dtype)) return x;
  return call.b.add("Mul", {call.b.add("Sign", {x}), call.b.add("Floor", {call.b.add("Abs", {x})})});
}

std::string floor_divided(OnnxCall& call, const std::string& a, const std::string& b, torch::ScalarType dtype) {
  if (is_floating(dtype)) return call.b.add("Floor", {call.b.add("Div", {a, b})});
  return call.b.add("Div", {call.b.add("Sub", {a, remainder(call, a, b, dtype)}), b});
}

void divide(OnnxCall& call) {
  const auto dtype = call.output_type();
  const auto a = call.operand("self", dtype), b = call.operand("other", dtype);
  const auto mode = call.given("rounding_mode") ? call.text("rounding_mode") : "";
  if (mode == "floor") return call.returns(floor_divided(call, a, b, dtype));
  const auto quotient = call.b.add("Div", {a, b});
  call.returns(mode == "trunc" ? truncated(call, quotient, dtype) : quotient);
}

void compare(OnnxCall& call, const char* op_type, bool negated) {
  const auto dtype = call.common_type("self", "other");
  // Equal is the only comparison of logical values that ONNX has.
  const auto type = dtype == torch::kBool && std::string(op_type) != "Equal" ? torch::kInt32 : dtype;
  auto result = call.b.add(op_type, {call.operand("self", type), call.operand("other", type)});
  if (negated) result = call.b.add("Not", {result});
  call.returns_cast(result, torch::kBool);
}

void logical(OnnxCall& call, const char* op_type) {
  const auto result = call.b.add(op_type, {call.operand("self", torch::kBool), call.operand("other", torch::kBool)});
  call.returns_cast(result, torch::kBool);
}

void bitwise(OnnxCall& call, const char* logical_op, const char* op_type) {
  const auto dtype = call.output_type();
  if (dtype != torch::kBool && call.b.opset_version() < 18) call.refuse("it needs opset_version 18 for whole numbers");
  call.returns(call.b.add(dtype == torch::kBool ? logical_op : op_type,
                          {call.operand("self", dtype), call.operand("other", dtype)}));
}

void power(OnnxCall& call) {
  const auto dtype = call.output_type();
  const auto* exponent = call.takes("exponent") ? "exponent" : "other";
  call.returns(call.b.add("Pow", {call.operand("self", dtype), call.operand(exponent, dtype)}));
}

void to_type(OnnxCall& call) {
  const auto x = call.tensor("self");
  call.returns(call.b.cast(x, call.output_type()));
}

/// self + value * a * b, or self + value * a / b.
void add_product(OnnxCall& call, const char* op_type) {
  const auto dtype = call.output_type();
  auto product = call.b.add(op_type, {call.operand("tensor1", dtype), call.operand("tensor2", dtype)});
  if (call.number("value") != 1) product = call.b.add("Mul", {product, call.b.scalar(call.scalar("value"), dtype)});
  call.returns(call.b.add("Add", {call.operand("self", dtype), product}));
}

void lerp(OnnxCall& call) {
  const auto dtype = call.output_type();
  const auto start = call.operand("self", dtype);
  const auto span = call.b.add("Sub", {call.operand("end", dtype), start});
  call.returns(call.b.add("Add", {start, call.b.add("Mul", {span, call.operand("weight", dtype)})}));
}

void add_functions(OnnxOperators& operators) {
  // One number to one number; whole numbers become real ones first, as in LibTorch.
  const std::pair<const char*, const char*> functions[] = {
      {"abs", "Abs"},         {"acos", "Acos"},   {"acosh", "Acosh"}, {"asin", "Asin"},
      {"asinh", "Asinh"},     {"atan", "Atan"},   {"atanh", "Atanh"}, {"ceil", "Ceil"},
      {"cos", "Cos"},         {"cosh", "Cosh"},   {"erf", "Erf"},     {"exp", "Exp"},
      {"floor", "Floor"},     {"isnan", "IsNaN"}, {"log", "Log"},     {"neg", "Neg"},
      {"sigmoid", "Sigmoid"}, {"sign", "Sign"},   {"sin", "Sin"},     {"sinh", "Sinh"},
      {"sqrt", "Sqrt"},       {"tan", "Tan"},     {"tanh", "Tanh"},   {"reciprocal", "Reciprocal"},
      {"isinf", "IsInf"}};
  for (const auto& [name, op_type] : functions) {
    operators[name] = [op_type = std::string(op_type)](OnnxCall& call) {
      const auto x = call.tensor("self");
      const auto dtype = call.output_type();
      if (dtype == torch::kBool) return call.returns(call.b.add(op_type, {x.name}));
      const bool rounds = op_type == "Ceil" || op_type == "Floor";
      call.returns(rounds && !is_floating(dtype) ? x.name : call.b.add(op_type, {call.b.cast(x, dtype)}));
    };
  }
}

void add_logarithms(OnnxOperators& operators) {
  // log and exp to other bases are the natural ones with a factor.
  const auto with_factor = [&](const char* name, const char* op_type, double before, double after) {
    operators[name] = [op_type, before, after](OnnxCall& call) {
      const auto dtype = call.output_type();
      auto x = call.b.cast(call.tensor("self"), dtype);
      if (before != 1) x = call.b.add("Mul", {x, call.b.scalar(before, dtype)});
      x = call.b.add(op_type, {x});
      call.returns(after == 1 ? x : call.b.add("Mul", {x, call.b.scalar(after, dtype)}));
    };
  };
  with_factor("log2", "Log", 1, 1 / std::log(2.0));
  with_factor("log10", "Log", 1, 1 / std::log(10.0));
  with_factor("exp2", "Exp", std::log(2.0), 1);
  operators["log1p"] = [](OnnxCall& call) {
    const auto dtype = call.output_type();
    const auto one = call.b.scalar(1, dtype);
    call.returns(call.b.add("Log", {call.b.add("Add", {call.b.cast(call.tensor("self"), dtype), one})}));
  };
  operators["expm1"] = [](OnnxCall& call) {
    const auto dtype = call.output_type();
    const auto exponential = call.b.add("Exp", {call.b.cast(call.tensor("self"), dtype)});
    call.returns(call.b.add("Sub", {exponential, call.b.scalar(1, dtype)}));
  };
}

void add_roots_and_roundings(OnnxOperators& operators) {
  operators["rsqrt"] = [](OnnxCall& call) {
    const auto root = call.b.add("Sqrt", {call.b.cast(call.tensor("self"), call.output_type())});
    call.returns(call.b.add("Reciprocal", {root}));
  };
  operators["square"] = [](OnnxCall& call) {
    const auto x = call.tensor("self").name;
    call.returns(call.b.add("Mul", {x, x}));
  };
  operators["round"] = [](OnnxCall& call) {
    if (call.takes("decimals") && call.integer("decimals") != 0) call.refuse("it rounds to decimals");
    const auto x = call.tensor("self");
    call.returns(is_floating(x.dtype) ? call.b.add("Round", {x.name}) : x.name);
  };
  operators["trunc"] = [](OnnxCall& call) {
    const auto x = call.tensor("self");
    call.returns(truncated(call, x.name, x.dtype));
  };
  operators["frac"] = [](OnnxCall& call) {
    const auto x = call.tensor("self");
    call.returns(call.b.add("Sub", {x.name, truncated(call, x.name, x.dtype)}));
  };
}

void add_comparisons(OnnxOperators& operators) {
  operators["eq"] = [](OnnxCall& call) { compare(call, "Equal", false); };
  operators["ne"] = [](OnnxCall& call) { compare(call, "Equal", true); };
  operators["lt"] = [](OnnxCall& call) { compare(call, "Less", false); };
  operators["le"] = [](OnnxCall& call) { compare(call, "LessOrEqual", false); };
  operators["gt"] = [](OnnxCall& call) { compare(call, "Greater", false); };
  operators["ge"] = [](OnnxCall& call) { compare(call, "GreaterOrEqual", false); };
  operators["logical_and"] = [](OnnxCall& call) { logical(call, "And"); };
  operators["logical_or"] = [](OnnxCall& call) { logical(call, "Or"); };
  operators["logical_xor"] = [](OnnxCall& call) { logical(call, "Xor"); };
  operators["logical_not"] = [](OnnxCall& call) {
    call.returns_cast(call.b.add("Not", {call.operand("self", torch::kBool)}), torch::kBool);
  };
  operators["bitwise_and"] = [](OnnxCall& call) { bitwise(call, "And", "BitwiseAnd"); };
  operators["bitwise_or"] = [](OnnxCall& call) { bitwise(call, "Or", "BitwiseOr"); };
  operators["bitwise_xor"] = [](OnnxCall& call) { bitwise(call, "Xor", "BitwiseXor"); };
  operators["bitwise_not"] = [](OnnxCall& call) {
    const auto x = call.tensor("self");
    if (x.dtype == torch::kBool) return call.returns(call.b.add("Not", {x.name}));
    if (call.b.opset_version() < 18) call.refuse("it needs opset_version 18 for whole numbers");
    call.returns(call.b.add("BitwiseNot", {x.name}));
  };
}

}  // namespace

void add_onnx_arithmetic(OnnxOperators& operators) {
  operators["add"] = [](OnnxCall& call) { add_or_multiply(call, "Add", "Or"); };
  operators["mul"] = [](OnnxCall& call) { add_or_multiply(call, "Mul", "And"); };
  operators["sub"] = [](OnnxCall& call) {
    const auto dtype = call.output_type();
    call.returns(call.b.add("Sub", {call.operand("self", dtype), scaled_other(call, dtype)}));
  };
  operators["div"] = divide;
  operators["floor_divide"] = [](OnnxCall& call) {
    const auto dtype = call.output_type();
    call.returns(floor_divided(call, call.operand("self", dtype), call.operand("other", dtype), dtype));
  };
  operators["remainder"] = [](OnnxCall& call) {
    const auto dtype = call.output_type();
    call.returns(remainder(call, call.operand("self", dtype), call.operand("other", dtype), dtype));
  };
  operators["fmod"] = [](OnnxCall& call) {
    const auto dtype = call.output_type();
    call.returns(
        call.b.add("Mod", {call.operand("self", dtype), call.operand("other", dtype)}, {{"fmod", int64_t{1}}}));
  };
  operators["pow"] = power;
  const auto larger_or_smaller = [&](const char* name, const char* op_type) {
    operators[name] = [op_type](OnnxCall& call) {
      const auto dtype = call.output_type();
      call.returns(call.b.add(op_type, {call.operand("self", dtype), call.operand("other", dtype)}));
    };
  };
  larger_or_smaller("maximum", "Max");
  larger_or_smaller("minimum", "Min");
  operators["addcmul"] = [](OnnxCall& call) { add_product(call, "Mul"); };
  operators["addcdiv"] = [](OnnxCall& call) { add_product(call, "Div"); };
  operators["lerp"] = lerp;
  operators["to"] = to_type;
  operators["type_as"] = to_type;
  for (const auto* name : {"contiguous", "clone", "detach", "alias", "positive"}) {
    operators[name] = [](OnnxCall& call) { call.returns(call.tensor("self").name); };
  }
  for (const auto* name : {"dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"}) {
    operators[name] = [](OnnxCall& call) {
      if (call.flag("train") && call.number("p") > 0) call.refuse("it is in train mode; export is of eval mode");
      call.returns(call.tensor("input").name);
    };
  }
  add_functions(operators);
  add_logarithms(operators);
  add_roots_and_roundings(operators);
  add_comparisons(operators);
}

}  // namespace troupe
