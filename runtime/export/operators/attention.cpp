// Scaled dot-product attention (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762).
#include "troupe/runtime/export/onnx_call.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <limits>

namespace troupe {

namespace {

/// True where query i may look at key j: j <= i.
std::string causal_mask(OnnxCall& call, const OnnxTensor& query, const OnnxTensor& key) {
  const auto sizes = call.b.ints({call.b.size_of(query, query.rank() - 2), call.b.size_of(key, key.rank() - 2)});
  const auto ones = call.b.add("Expand", {call.b.scalar(1, torch::kFloat), sizes});
  const auto lower = call.b.add("Trilu", {ones}, {{"upper", int64_t{0}}});
  return call.b.cast(lower, torch::kFloat, torch::kBool);
}

void scaled_dot_product_attention(OnnxCall& call) {
  if (call.takes("dropout_p") && call.number("dropout_p") > 0)
    call.refuse("dropout_p is above 0; export is of eval mode");
  if (call.takes("enable_gqa") && call.flag("enable_gqa"))
    call.refuse("enable_gqa is set: repeat the heads of keys and values");
  const auto query = call.tensor("query"), key = call.tensor("key"), value = call.tensor("value");
  const auto dtype = call.output_type();
  if (!call.given("scale") && query.sizes.back() < 0) call.refuse("the size of a head may not be dynamic");
  const auto scale =
      call.given("scale") ? call.number("scale") : 1 / std::sqrt(static_cast<double>(query.sizes.back()));
  std::vector<int64_t> turned;
  for (int64_t axis = 0; axis < key.rank(); ++axis) turned.push_back(axis);
  std::swap(turned[turned.size() - 1], turned[turned.size() - 2]);
  const auto scaled = call.b.add("Mul", {query.name, call.b.scalar(scale, dtype)});
  auto scores = call.b.add("MatMul", {scaled, call.b.transpose(key.name, turned)});
  const auto nothing = call.b.scalar(-std::numeric_limits<double>::infinity(), dtype);
  const bool is_causal = call.flag("is_causal"), has_mask = call.given("attn_mask");
  if (is_causal) scores = call.b.add("Where", {causal_mask(call, query, key), scores, nothing});
  if (has_mask) {
    const auto mask = call.tensor("attn_mask");
    scores = mask.dtype == torch::kBool ? call.b.add("Where", {mask.name, scores, nothing})
                                        : call.b.add("Add", {scores, call.b.cast(mask, dtype)});
  }
  auto weights = call.b.add("Softmax", {scores}, {{"axis", int64_t{-1}}});
  if (has_mask) {
    // A query that may look at no key gets zeros, not 0 / 0.
    weights = call.b.add("Where", {call.b.add("Equal", {scores, nothing}), call.b.scalar(0, dtype), weights});
  }
  call.returns(call.b.add("MatMul", {weights, value.name}));
}

}  // namespace

void add_onnx_attention(OnnxOperators& operators) {
  operators["scaled_dot_product_attention"] = scaled_dot_product_attention;
}

}  // namespace troupe
