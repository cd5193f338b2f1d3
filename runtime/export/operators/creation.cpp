// Tensors out of nothing but sizes and numbers.
#include "troupe/runtime/export/onnx_call.hpp"
#include "troupe/runtime/export/onnx_sizes.hpp"

#include <torch/types.h>
#include <torch/utils.h>

namespace troupe {

namespace {

void full(OnnxCall& call, const std::vector<OnnxInt>& sizes, const std::string& value) {
  call.returns(sizes.empty() ? value : call.b.add("Expand", {value, call.b.ints(sizes)}));
}

void full(OnnxCall& call, const std::vector<OnnxInt>& sizes, const torch::Scalar& value) {
  full(call, sizes, call.b.scalar(value, call.output_type()));
}

void arange(OnnxCall& call) {
  const auto dtype = call.output_type();
  if (dtype == torch::kBFloat16) call.refuse("ONNX's Range takes no bfloat16");  // that of sizes has whole numbers
  const auto start = call.takes("start") ? call.operand("start", dtype) : call.b.scalar(0, dtype);
  const auto step = call.takes("step") ? call.operand("step", dtype) : call.b.scalar(1, dtype);
  call.returns(call.b.add("Range", {start, call.operand("end", dtype), step}));
}

/// Ones where row and column are one number.
void eye(OnnxCall& call) {
  const auto rows = call.size("n"), columns = call.takes("m") ? call.size("m") : rows;
  const auto down = call.b.unsqueeze(steps_of(call.b, rows), {1});
  call.returns_cast(call.b.add("Equal", {down, steps_of(call.b, columns)}), torch::kBool);
}

}  // namespace

void add_onnx_creation(OnnxOperators& operators) {
  const auto filled_with = [&](const std::string& name, int64_t value) {
    operators[name] = [value](OnnxCall& call) { full(call, call.sizes("size"), torch::Scalar(value)); };
    operators["new_" + name] = operators[name];
    operators[name + "_like"] = [value](OnnxCall& call) {
      full(call, call.b.sizes_of(call.tensor("self")), torch::Scalar(value));
    };
  };
  filled_with("zeros", 0);
  filled_with("ones", 1);
  filled_with("empty", 0);  // what is in an empty tensor, nobody may read
  operators["full"] = [](OnnxCall& call) {
    full(call, call.sizes("size"), call.operand("fill_value", call.output_type()));
  };
  operators["new_full"] = operators["full"];
  operators["full_like"] = [](OnnxCall& call) {
    full(call, call.b.sizes_of(call.tensor("self")), call.operand("fill_value", call.output_type()));
  };
  operators["fill"] = [](OnnxCall& call) {
    full(call, call.b.sizes_of(call.tensor("self")), call.operand("value", call.output_type()));
  };
  operators["zero"] = [](OnnxCall& call) { full(call, call.b.sizes_of(call.tensor("self")), torch::Scalar(0)); };
  operators["copy"] = [](OnnxCall& call) {
    full(call, call.b.sizes_of(call.tensor("self")), call.operand("src", call.output_type()));
  };
  operators["arange"] = arange;
  operators["eye"] = eye;
}

}  // namespace troupe
