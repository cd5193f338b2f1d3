// Products of matrices and vectors, embeddings.
#include "troupe/runtime/export/onnx_call.hpp"

namespace troupe {

namespace {

void linear(OnnxCall& call) {
  const auto x = call.tensor("input"), weight = call.tensor("weight");
  const auto bias = call.optional_name("bias");
  if (x.rank() == 2 && weight.rank() == 2) {
    return call.returns(call.b.add("Gemm", {x.name, weight.name, bias}, {{"transB", int64_t{1}}}));
  }
  const auto turned = weight.rank() == 2 ? call.b.transpose(weight.name, {1, 0}) : weight.name;
  const auto product = call.b.add("MatMul", {x.name, turned});
  call.returns(bias.empty() ? product : call.b.add("Add", {product, bias}));
}

/// beta * self + alpha * a @ b
void add_product(OnnxCall& call, const char* a, const char* b) {
  const auto dtype = call.output_type();
  auto product = call.b.add("MatMul", {call.tensor(a).name, call.tensor(b).name});
  if (call.number("alpha") != 1) product = call.b.add("Mul", {product, call.operand("alpha", dtype)});
  if (call.number("beta") == 0) return call.returns(product);
  auto summand = call.tensor("self").name;
  if (call.number("beta") != 1) summand = call.b.add("Mul", {summand, call.operand("beta", dtype)});
  call.returns(call.b.add("Add", {product, summand}));
}

void addmm(OnnxCall& call) {
  call.returns(call.b.add("Gemm", {call.tensor("mat1").name, call.tensor("mat2").name, call.tensor("self").name},
                          {{"alpha", call.number("alpha")}, {"beta", call.number("beta")}}));
}

void embedding(OnnxCall& call) {
  call.returns(call.b.add("Gather", {call.tensor("weight").name, call.tensor("indices").name}));
}

void outer(OnnxCall& call, const char* other) {
  const auto column = call.b.unsqueeze(call.tensor("self").name, {1});
  call.returns(call.b.add("Mul", {column, call.b.unsqueeze(call.tensor(other).name, {0})}));
}

void einsum(OnnxCall& call) {
  const auto dtype = call.output_type();
  std::vector<std::string> inputs;
  for (const auto& tensor : call.tensors("tensors")) inputs.push_back(call.b.cast(tensor, dtype));
  call.returns(call.b.add("Einsum", inputs, {{"equation", call.text("equation")}}));
}

/// The sum over i and j of x1_i W_oij x2_j.
void bilinear(OnnxCall& call) {
  const auto x1 = call.tensor("input1"), x2 = call.tensor("input2"), weight = call.tensor("weight");
  if (weight.sizes[0] < 0 || weight.sizes[2] < 0) call.refuse("its weight may not have a dynamic size");
  // [..., 1, i] by [o, i, j] gives [..., o, 1, j] and, by x2 as [..., 1, j, 1], [..., o, 1, 1].
  const auto left = call.b.add("MatMul", {call.b.unsqueeze(x1.name, {-2, -3}), weight.name});
  const auto product = call.b.add("MatMul", {left, call.b.unsqueeze(x2.name, {-1, -3})});
  const auto y = call.b.squeeze(product, {-1, -2});
  const auto bias = call.optional_name("bias");
  call.returns(bias.empty() ? y : call.b.add("Add", {y, bias}));
}

}  // namespace

void add_onnx_products(OnnxOperators& operators) {
  operators["linear"] = linear;
  operators["addmm"] = addmm;
  operators["addmv"] = [](OnnxCall& call) { add_product(call, "mat", "vec"); };
  operators["baddbmm"] = [](OnnxCall& call) { add_product(call, "batch1", "batch2"); };
  const auto product = [&](const char* name, const char* other) {
    operators[name] = [other](OnnxCall& call) {
      call.returns(call.b.add("MatMul", {call.tensor("self").name, call.tensor(other).name}));
    };
  };
  product("matmul", "other");
  product("mm", "mat2");
  product("bmm", "mat2");
  product("mv", "vec");
  product("dot", "tensor");
  operators["outer"] = [](OnnxCall& call) { outer(call, "vec2"); };
  operators["embedding"] = embedding;
  operators["einsum"] = einsum;
  operators["bilinear"] = bilinear;
}

}  // namespace troupe
