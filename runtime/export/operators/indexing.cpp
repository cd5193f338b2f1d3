// Parts of tensors, by place or by condition.
#include "troupe/runtime/export/onnx_call.hpp"
#include "troupe/runtime/export/onnx_sizes.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <limits>
#include <numeric>

namespace troupe {

namespace {

constexpr int64_t kEnd = std::numeric_limits<int64_t>::max();

void slice(OnnxCall& call) {
  const auto x = call.tensor("self");
  const auto start = call.given("start") ? call.size("start") : OnnxInt{0, ""};
  const auto end = call.given("end") ? call.size("end") : OnnxInt{kEnd, ""};
  call.returns(call.b.slice(x.name, call.axis("dim", x.rank()), start, end, call.integer("step")));
}

void select(OnnxCall& call) {
  const auto x = call.tensor("self");
  const auto index = call.b.scalar(call.size("index"), torch::kInt64);
  call.returns(call.b.add("Gather", {x.name, index}, {{"axis", call.axis("dim", x.rank())}}));
}

void narrow(OnnxCall& call) {
  const auto x = call.tensor("self");
  const auto axis = call.axis("dim", x.rank());
  const auto start = call.size("start"), length = call.size("length");
  auto end = sum_of(call.b, start, length);
  if (end.is_fixed() && end.value == 0 && start.is_fixed() && start.value < 0) end.value = kEnd;
  call.returns(call.b.slice(x.name, axis, start, end));
}

/// x[..., index_d, index_d+1, ...]: the indexed axes become the first ones, GatherND takes them, and what it gives goes
/// back to where the indexed axes were, or stays in front if they were not neighbours (as in NumPy).
void index_several(OnnxCall& call, const OnnxTensor& x, const std::vector<int64_t>& axes,
                   const std::vector<OnnxTensor>& indices) {
  auto order = axes;
  for (int64_t axis = 0; axis < x.rank(); ++axis) {
    if (std::find(axes.begin(), axes.end(), axis) == axes.end()) order.push_back(axis);
  }
  std::string sum;  // of all indices has the shape to which they broadcast
  int64_t index_rank = 0;
  for (const auto& index : indices) {
    const auto whole = call.b.cast(index, torch::kInt64);
    sum = sum.empty() ? whole : call.b.add("Add", {sum, whole});
    index_rank = std::max(index_rank, index.rank());
  }
  const auto shape = call.b.add("Shape", {sum});
  std::vector<std::string> columns;
  for (const auto& index : indices) {
    const auto broadcast = call.b.add("Expand", {call.b.cast(index, torch::kInt64), shape});
    columns.push_back(call.b.unsqueeze(broadcast, {-1}));
  }
  const auto places = call.b.add("Concat", columns, {{"axis", int64_t{-1}}});
  const auto gathered = call.b.add("GatherND", {call.b.transpose(x.name, order), places});
  const bool neighbours = axes.back() - axes.front() + 1 == static_cast<int64_t>(axes.size());
  if (!neighbours || axes.front() == 0) return call.returns(gathered);
  std::vector<int64_t> back;
  for (int64_t i = 0; i < axes.front(); ++i) back.push_back(index_rank + i);
  for (int64_t i = 0; i < index_rank; ++i) back.push_back(i);
  const auto rank = index_rank + x.rank() - static_cast<int64_t>(axes.size());
  for (int64_t i = index_rank + axes.front(); i < rank; ++i) back.push_back(i);
  call.returns(call.b.transpose(gathered, back));
}

void index(OnnxCall& call) {
  const auto x = call.tensor("self");
  std::vector<int64_t> axes;
  std::vector<OnnxTensor> indices;
  int64_t axis = 0;
  for (const auto& one : call.optional_tensors("indices")) {
    if (one && (one->dtype == torch::kBool || one->dtype == torch::kUInt8)) {
      call.refuse(
          "it indexes with a mask, so the size of what it gives depends on values; torch::where keeps the size");
    }
    if (one) {
      axes.push_back(axis);
      indices.push_back(*one);
    }
    ++axis;
  }
  if (axes.empty()) return call.returns(x.name);
  if (axes.size() > 1) return index_several(call, x, axes, indices);
  call.returns(call.b.add("Gather", {x.name, indices[0].name}, {{"axis", axes[0]}}));
}

void index_select(OnnxCall& call) {
  const auto x = call.tensor("self");
  call.returns(call.b.add("Gather", {x.name, call.tensor("index").name}, {{"axis", call.axis("dim", x.rank())}}));
}

void gather(OnnxCall& call) {
  const auto x = call.tensor("self");
  call.returns(
      call.b.add("GatherElements", {x.name, call.tensor("index").name}, {{"axis", call.axis("dim", x.rank())}}));
}

void where(OnnxCall& call) {
  const auto dtype = call.output_type();
  call.returns(call.b.add(
      "Where", {call.operand("condition", torch::kBool), call.operand("self", dtype), call.operand("other", dtype)}));
}

void masked_fill(OnnxCall& call) {
  const auto dtype = call.output_type();
  call.returns(call.b.add(
      "Where", {call.operand("mask", torch::kBool), call.operand("value", dtype), call.operand("self", dtype)}));
}

void triangle(OnnxCall& call, bool upper) {
  const auto x = call.tensor("self");
  // onnxruntime knows few types here; a mask goes through float.
  const auto dtype = x.dtype == torch::kFloat64 || x.dtype == torch::kInt64 ? x.dtype : torch::kFloat;
  const auto diagonal = call.b.scalar(call.size("diagonal"), torch::kInt64);
  call.returns_cast(call.b.add("Trilu", {call.b.cast(x, dtype), diagonal}, {{"upper", int64_t{upper}}}), dtype);
}

}  // namespace

void add_onnx_indexing(OnnxOperators& operators) {
  operators["slice"] = slice;
  operators["select"] = select;
  operators["narrow"] = narrow;
  operators["index"] = index;
  operators["index_select"] = index_select;
  operators["gather"] = gather;
  operators["where"] = where;
  operators["masked_fill"] = masked_fill;
  operators["tril"] = [](OnnxCall& call) { triangle(call, false); };
  operators["triu"] = [](OnnxCall& call) { triangle(call, true); };
}

}  // namespace troupe
