// Reductions over axes.
#include "troupe/runtime/export/onnx_call.hpp"
#include "troupe/runtime/export/onnx_sizes.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <limits>

namespace troupe {

namespace {

bool keepdim(OnnxCall& call) {
  return call.given("keepdim") && call.flag("keepdim");
}

/// Axes of a reduction; empty for all, which ONNX takes for all too.
std::vector<int64_t> reduced_axes(OnnxCall& call, const OnnxTensor& x) {
  if (x.rank() == 0) return {};
  return call.axes("dim", x.rank());
}

void reduce(OnnxCall& call, const char* op_type) {
  const auto x = call.tensor("self");
  const auto dtype = call.output_type();
  const auto input = call.b.cast(x, dtype);
  if (x.rank() == 0) return call.returns(input);
  call.returns(call.b.reduce(op_type, input, reduced_axes(call, x), keepdim(call)));
}

/// The values and, where they are asked for, the places of the largest or smallest elements along one axis.
void reduce_with_indices(OnnxCall& call, const char* reduce_op, const char* arg_op) {
  const auto x = call.tensor("self");
  const auto axis = call.axis("dim", x.rank());
  call.returns(call.b.reduce(reduce_op, x.name, {axis}, keepdim(call)), 0);
  if (!call.output_is_used(1)) return;
  call.returns(call.b.add(arg_op, {x.name}, {{"axis", axis}, {"keepdims", int64_t{keepdim(call)}}}), 1);
}

/// max(x), max(x, dim) and max(a, b).
void extreme(OnnxCall& call, const char* reduce_op, const char* arg_op, const char* binary_op) {
  if (call.takes("other")) {
    const auto dtype = call.output_type();
    return call.returns(call.b.add(binary_op, {call.operand("self", dtype), call.operand("other", dtype)}));
  }
  if (call.takes("dim")) return reduce_with_indices(call, reduce_op, arg_op);
  reduce(call, reduce_op);
}

void arg_extreme(OnnxCall& call, const char* op_type) {
  const auto x = call.tensor("self");
  if (call.given("dim")) {
    const auto axis = call.axis("dim", x.rank());
    return call.returns(call.b.add(op_type, {x.name}, {{"axis", axis}, {"keepdims", int64_t{keepdim(call)}}}));
  }
  const auto flat = call.b.reshape(x.name, std::vector<int64_t>{-1});
  auto index = call.b.add(op_type, {flat}, {{"axis", int64_t{0}}, {"keepdims", int64_t{0}}});
  if (keepdim(call)) index = call.b.reshape(index, std::vector<int64_t>(x.sizes.size(), 1));
  call.returns(index);
}

void any_or_all(OnnxCall& call, const char* op_type) {
  const auto x = call.tensor("self");
  const auto truth = call.b.cast(x, torch::kBool);
  const auto number = call.b.cast(truth, torch::kBool, torch::kInt32);
  const auto result = call.b.reduce(op_type, number, reduced_axes(call, x), keepdim(call));
  call.returns(call.b.cast(result, torch::kInt32, torch::kBool));
}

/// The p-norm over axes; all of them if there are none.
std::string length_over(OnnxBuilder& b, const std::string& x, torch::ScalarType dtype, double order,
                        const std::vector<int64_t>& axes, bool keep) {
  if (order == 1) return b.reduce("ReduceL1", x, axes, keep);
  if (order == 2) return b.reduce("ReduceL2", x, axes, keep);
  const auto size = b.add("Abs", {x});
  if (std::isinf(order)) return b.reduce(order > 0 ? "ReduceMax" : "ReduceMin", size, axes, keep);
  if (order == 0) {
    const auto is_zero = b.add("Equal", {size, b.scalar(0, dtype)});
    const auto counted = b.cast(b.add("Not", {is_zero}), torch::kBool, dtype);
    return b.reduce("ReduceSum", counted, axes, keep);
  }
  const auto powers = b.add("Pow", {size, b.scalar(order, dtype)});
  const auto sum = b.reduce("ReduceSum", powers, axes, keep);
  return b.add("Pow", {sum, b.scalar(1 / order, dtype)});
}

void vector_norm(OnnxCall& call, double order) {
  const auto x = call.tensor("self");
  const auto dtype = call.output_type();
  call.returns(length_over(call.b, call.b.cast(x, dtype), dtype, order, reduced_axes(call, x), keepdim(call)));
}

/// The distance of each row of x1 to each of x2.
void cdist(OnnxCall& call) {
  const auto dtype = call.output_type();
  const auto rows = call.b.unsqueeze(call.operand("x1", dtype), {-2});
  const auto columns = call.b.unsqueeze(call.operand("x2", dtype), {-3});
  const auto difference = call.b.add("Sub", {rows, columns});
  call.returns(length_over(call.b, difference, dtype, call.number("p"), {-1}, /*keep=*/false));
}

void norm(OnnxCall& call) {
  const auto* order = call.takes("ord") ? "ord" : "p";
  vector_norm(call, call.given(order) ? call.number(order) : 2);
}

/// How many elements go into one result, less the correction, as a scalar.
std::string divisor(OnnxCall& call, const OnnxTensor& x, const std::vector<int64_t>& axes, double correction) {
  double fixed = 1;
  std::string dynamic;
  for (const auto axis : axes) {
    const auto size = call.b.size_of(x, axis);
    if (size.is_fixed()) {
      fixed *= static_cast<double>(size.value);
    } else {
      const auto count = call.b.scalar(size, x.dtype);
      dynamic = dynamic.empty() ? count : call.b.add("Mul", {dynamic, count});
    }
  }
  if (dynamic.empty()) return call.b.scalar(fixed - correction, x.dtype);
  const auto count = call.b.add("Mul", {dynamic, call.b.scalar(fixed, x.dtype)});
  return call.b.add("Sub", {count, call.b.scalar(correction, x.dtype)});
}

std::string variance(OnnxCall& call) {
  const auto x = call.tensor("self");
  double correction = 1;
  if (call.given("correction")) correction = call.number("correction");
  if (call.given("unbiased")) correction = call.flag("unbiased") ? 1 : 0;
  const auto axes = reduced_axes(call, x);
  const auto mean = call.b.reduce("ReduceMean", x.name, axes, /*keepdim=*/true);
  const auto deviation = call.b.add("Sub", {x.name, mean});
  const auto sum = call.b.reduce("ReduceSumSquare", deviation, axes, keepdim(call));
  return call.b.add("Div", {sum, divisor(call, x, axes, correction)});
}

/// The variance or its root, and the mean.
void with_mean(OnnxCall& call, bool root) {
  const auto x = call.tensor("self");
  const auto spread = variance(call);
  call.returns(root ? call.b.add("Sqrt", {spread}) : spread, 0);
  call.returns(call.b.reduce("ReduceMean", x.name, reduced_axes(call, x), keepdim(call)), 1);
}

/// The product of each element and those before it along one axis, whose size is fixed: after each step twice as many
/// elements are multiplied. (ONNX has an operator for it from version 26 on.)
std::string doubled_products(OnnxBuilder& b, const std::string& start, const OnnxTensor& x, int64_t axis,
                             torch::ScalarType dtype) {
  auto y = start;
  for (int64_t distance = 1; distance < x.sizes[axis]; distance *= 2) {
    std::vector<int64_t> pads(2 * x.sizes.size(), 0);
    pads[axis] = distance;
    const auto shifted =
        b.slice(b.add("Pad", {y, b.ints(pads), b.scalar(1, dtype)}), axis, {0, ""}, {x.sizes[axis], ""});
    y = b.add("Mul", {y, shifted});
  }
  return y;
}

/// The same for any size: for each place a row in which the elements behind it are ones, which takes memory as the
/// square of the size.
std::string products_of_rows(OnnxBuilder& b, const std::string& y, const OnnxTensor& x, int64_t axis,
                             torch::ScalarType dtype) {
  const auto places = steps_of(b, b.size_of(x, axis));
  std::vector<int64_t> column(static_cast<std::size_t>(x.rank() - axis), 1);
  column[0] = -1;
  const auto elements = b.reshape(places, column);
  column.push_back(1);
  const auto is_behind = b.add("Greater", {elements, b.reshape(places, column)});
  const auto rows = b.add("Where", {is_behind, b.scalar(1, dtype), b.unsqueeze(y, {axis})});
  return b.reduce("ReduceProd", rows, {axis + 1}, /*keepdim=*/false);
}

void cumprod(OnnxCall& call) {
  const auto x = call.tensor("self");
  const auto dtype = call.output_type();
  const auto y = call.b.cast(x, dtype);
  if (x.rank() == 0) return call.returns(y);
  const auto axis = call.axis("dim", x.rank());
  call.returns((x.sizes[axis] >= 0 ? doubled_products : products_of_rows)(call.b, y, x, axis, dtype));
}

/// x y / (|x| |y|), where a length below eps counts as eps.
void cosine_similarity(OnnxCall& call) {
  const auto dtype = call.output_type();
  const auto rank = std::max(call.tensor("x1").rank(), call.tensor("x2").rank());
  const std::vector<int64_t> axes{call.axis("dim", rank) - rank};  // from the end: one may have more axes
  const auto of_length_one = [&](const char* argument) {
    const auto x = call.operand(argument, dtype);
    const auto length = call.b.add("Max", {call.b.reduce("ReduceL2", x, axes, true), call.operand("eps", dtype)});
    return call.b.add("Div", {x, length});
  };
  const auto products = call.b.add("Mul", {of_length_one("x1"), of_length_one("x2")});
  call.returns(call.b.reduce("ReduceSum", products, axes, false));
}

/// x with at least one dimension.
OnnxTensor as_vector(OnnxBuilder& b, const OnnxTensor& x) {
  if (x.rank() > 0) return x;
  return {b.unsqueeze(x.name, {0}), x.dtype, true, {1}};
}

/// The k largest or smallest elements along an axis, and their places. Of equal ones ONNX's TopK puts the first before
/// the others, so that all of them sorted are a stable sort.
std::vector<std::string> top_k(OnnxBuilder& b, const OnnxTensor& x, int64_t axis, const OnnxInt& k, bool largest,
                               bool sorted = true) {
  // TopK takes no truth values.
  const auto input = x.dtype == torch::kBool ? b.cast(x, torch::kInt32) : x.name;
  auto results = b.add_many("TopK", {input, b.ints({k})}, 2,
                            {{"axis", axis}, {"largest", int64_t{largest}}, {"sorted", int64_t{sorted}}});
  if (x.dtype == torch::kBool) results[0] = b.cast(results[0], torch::kInt32, torch::kBool);
  return results;
}

void top_k_of(OnnxCall& call) {
  const auto x = call.tensor("self");
  const auto vector = as_vector(call.b, x);
  const auto results =
      top_k(call.b, vector, call.axis("dim", x.rank()), call.size("k"), call.flag("largest"), call.flag("sorted"));
  for (std::size_t i = 0; i < 2; ++i) call.returns(x.rank() > 0 ? results[i] : call.b.squeeze(results[i], {0}), i);
}

/// The k-th smallest element along an axis and its place, k counted from 1.
void return_smallest(OnnxCall& call, const OnnxTensor& x, int64_t axis, const OnnxInt& k, bool keeps_axis) {
  const auto sorted = top_k(call.b, x, axis, k, /*largest=*/false);
  for (std::size_t i = 0; i < call.output_count(); ++i) {
    if (i > 0 && !call.output_is_used(i)) continue;
    const auto last = call.b.slice(sorted[i], axis, {-1, ""}, {std::numeric_limits<int64_t>::max(), ""});
    call.returns(keeps_axis && call.output(i).rank() > 0 ? last : call.b.squeeze(last, {axis}), i);
  }
}

void kth_value(OnnxCall& call) {
  const auto x = call.tensor("self");
  return_smallest(call, as_vector(call.b, x), call.axis("dim", x.rank()), call.size("k"), keepdim(call));
}

/// The element in the middle, of two the smaller one; without an axis that of all elements.
void median(OnnxCall& call) {
  const bool of_all = !call.takes("dim");
  const auto given = call.tensor("self");
  const auto x = of_all ? flattened(call.b, given) : as_vector(call.b, given);
  const auto axis = of_all ? 0 : call.axis("dim", x.rank());
  const auto half = quotient_of(call.b, sum_of(call.b, call.b.size_of(x, axis), {1, ""}), {2, ""});
  return_smallest(call, x, axis, half, !of_all && call.flag("keepdim"));
}

/// All elements along an axis in order, and their places.
std::vector<std::string> sorted_along(OnnxCall& call, int64_t axis, bool descending) {
  const auto x = call.tensor("self");
  const auto vector = as_vector(call.b, x);
  auto results = top_k(call.b, vector, axis, call.b.size_of(vector, axis), descending);
  for (auto& result : results) result = x.rank() > 0 ? result : call.b.squeeze(result, {0});
  return results;
}
std::vector<std::string> sorted_as_asked(OnnxCall& call) {
  return sorted_along(call, call.axis("dim", call.tensor("self").rank()), call.flag("descending"));
}

void sort(OnnxCall& call) {
  const auto results = sorted_as_asked(call);
  call.returns(results[0], 0);
  call.returns(results[1], 1);
}

}  // namespace

void add_onnx_reductions(OnnxOperators& operators) {
  const auto simple = [&](const char* name, const char* op_type) {
    operators[name] = [op_type](OnnxCall& call) { reduce(call, op_type); };
  };
  simple("sum", "ReduceSum");
  simple("mean", "ReduceMean");
  simple("prod", "ReduceProd");
  simple("amax", "ReduceMax");
  simple("amin", "ReduceMin");
  simple("logsumexp", "ReduceLogSumExp");
  operators["max"] = [](OnnxCall& call) { extreme(call, "ReduceMax", "ArgMax", "Max"); };
  operators["min"] = [](OnnxCall& call) { extreme(call, "ReduceMin", "ArgMin", "Min"); };
  operators["argmax"] = [](OnnxCall& call) { arg_extreme(call, "ArgMax"); };
  operators["argmin"] = [](OnnxCall& call) { arg_extreme(call, "ArgMin"); };
  operators["any"] = [](OnnxCall& call) { any_or_all(call, "ReduceMax"); };
  operators["all"] = [](OnnxCall& call) { any_or_all(call, "ReduceMin"); };
  operators["norm"] = norm;
  operators["linalg_vector_norm"] = norm;
  operators["linalg_norm"] = [](OnnxCall& call) {
    if (call.given("ord") && call.tensor("self").rank() > 1) call.refuse("it may be a norm of matrices");
    norm(call);
  };
  operators["frobenius_norm"] = [](OnnxCall& call) { vector_norm(call, 2); };
  operators["var"] = [](OnnxCall& call) { call.returns(variance(call)); };
  operators["std"] = [](OnnxCall& call) { call.returns(call.b.add("Sqrt", {variance(call)})); };
  operators["cumsum"] = [](OnnxCall& call) {
    const auto x = call.tensor("self");
    const auto axis = call.b.scalar(call.axis("dim", x.rank()), torch::kInt64);
    call.returns(call.b.add("CumSum", {call.b.cast(x, call.output_type()), axis}));
  };
  operators["var_mean"] = [](OnnxCall& call) { with_mean(call, /*root=*/false); };
  operators["std_mean"] = [](OnnxCall& call) { with_mean(call, /*root=*/true); };
  operators["cumprod"] = cumprod;
  operators["median"] = median;
  operators["cdist"] = cdist;
  operators["cosine_similarity"] = cosine_similarity;
  operators["topk"] = top_k_of;
  operators["kthvalue"] = kth_value;
  operators["sort"] = sort;
  operators["argsort"] = [](OnnxCall& call) { call.returns(sorted_as_asked(call)[1]); };
  operators["msort"] = [](OnnxCall& call) { call.returns(sorted_along(call, 0, /*descending=*/false)[0]); };
}

}  // namespace troupe
