// Batch, instance, layer, group and RMS normalization.
#include "troupe/runtime/export/onnx_call.hpp"

#include <torch/types.h>
#include <torch/utils.h>

namespace troupe {

namespace {

std::string filled(OnnxCall& call, const std::vector<int64_t>& sizes, double value, torch::ScalarType dtype) {
  return call.b.constant(torch::full(sizes, value, torch::TensorOptions(dtype)));
}

std::string weight_or(OnnxCall& call, const char* argument, const std::vector<int64_t>& sizes, double value) {
  const auto name = call.optional_name(argument);
  return name.empty() ? filled(call, sizes, value, call.output_type()) : name;
}

int64_t channels_of(OnnxCall& call, const OnnxTensor& x) {
  if (x.rank() < 2 || x.sizes[1] < 0) call.refuse("the number of channels may not be dynamic");
  return x.sizes[1];
}

/// Weight and bias, which go by channel, of what was normalized to `y`.
std::string scaled_by_channel(OnnxCall& call, std::string y, const OnnxTensor& x, int64_t channels) {
  std::vector<int64_t> by_channel(static_cast<std::size_t>(x.rank()) - 1, 1);
  by_channel[0] = channels;
  if (call.given("weight")) y = call.b.add("Mul", {y, call.b.reshape(call.tensor("weight").name, by_channel)});
  if (call.given("bias")) y = call.b.add("Add", {y, call.b.reshape(call.tensor("bias").name, by_channel)});
  return y;
}

void with_running_statistics(OnnxCall& call) {
  const auto x = call.tensor("input");
  const auto channels = channels_of(call, x);
  call.returns(call.b.add("BatchNormalization",
                          {x.name, weight_or(call, "weight", {channels}, 1), weight_or(call, "bias", {channels}, 0),
                           call.tensor("running_mean").name, call.tensor("running_var").name},
                          {{"epsilon", call.number("eps")}}));
}

/// Each channel less its mean over the batch, over its standard deviation there.
void with_statistics_of_the_batch(OnnxCall& call) {
  const auto x = call.tensor("input");
  const auto channels = channels_of(call, x);
  std::vector<int64_t> axes{0};
  for (int64_t axis = 2; axis < x.rank(); ++axis) axes.push_back(axis);
  const auto deviation = call.b.add("Sub", {x.name, call.b.reduce("ReduceMean", x.name, axes, /*keepdim=*/true)});
  const auto square = call.b.add("Mul", {deviation, deviation});
  const auto variance = call.b.reduce("ReduceMean", square, axes, /*keepdim=*/true);
  const auto root = call.b.add("Sqrt", {call.b.add("Add", {variance, call.b.scalar(call.number("eps"), x.dtype)})});
  call.returns(scaled_by_channel(call, call.b.add("Div", {deviation, root}), x, channels));
}

void batch_norm(OnnxCall& call) {
  if (call.flag("training") || !call.given("running_mean")) return with_statistics_of_the_batch(call);
  with_running_statistics(call);
}

void instance_norm(OnnxCall& call) {
  if (!call.flag("use_input_stats")) return with_running_statistics(call);
  const auto x = call.tensor("input");
  const auto channels = channels_of(call, x);
  call.returns(call.b.add("InstanceNormalization",
                          {x.name, weight_or(call, "weight", {channels}, 1), weight_or(call, "bias", {channels}, 0)},
                          {{"epsilon", call.number("eps")}}));
}

void layer_norm(OnnxCall& call) {
  const auto x = call.tensor("input");
  const auto shape = call.integers("normalized_shape");
  call.returns(call.b.add("LayerNormalization",
                          {x.name, weight_or(call, "weight", shape, 1), call.optional_name("bias")},
                          {{"axis", -static_cast<int64_t>(shape.size())}, {"epsilon", call.number("eps")}}));
}

/// An instance normalization of the groups; then weight and bias, which go by channel. (ONNX's GroupNormalization came
/// with version 18 and changed its meaning in 21.)
void group_norm(OnnxCall& call) {
  const auto x = call.tensor("input");
  const auto channels = channels_of(call, x);
  const auto groups = call.integer("num_groups");
  const auto dtype = call.output_type();
  const auto grouped = call.b.add("Reshape", {x.name, call.b.ints({0, groups, -1})});
  const auto normal =
      call.b.add("InstanceNormalization", {grouped, filled(call, {groups}, 1, dtype), filled(call, {groups}, 0, dtype)},
                 {{"epsilon", call.number("eps")}});
  call.returns(scaled_by_channel(call, call.b.reshape(normal, call.b.sizes_of(x)), x, channels));
}

/// x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467).
void rms_norm(OnnxCall& call) {
  const auto x = call.tensor("input");
  const auto shape = call.integers("normalized_shape");
  const auto dims = static_cast<int64_t>(shape.size());
  const bool is_double = x.dtype == torch::kFloat64;
  // Without an epsilon LibTorch takes the smallest step at 1 of the type that it computes in.
  const auto epsilon = call.given("eps") ? call.number("eps")
                       : is_double       ? std::numeric_limits<double>::epsilon()
                                         : std::numeric_limits<float>::epsilon();
  // ONNX's operator computes in float32, as LibTorch does for smaller types; a float64 needs its own.
  if (call.b.opset_version() >= 23 && !is_double) {
    const auto weight = call.given("weight") ? call.operand("weight", x.dtype) : filled(call, shape, 1, x.dtype);
    return call.returns(call.b.add("RMSNormalization", {x.name, weight}, {{"axis", -dims}, {"epsilon", epsilon}}));
  }
  const auto dtype = is_double ? torch::kFloat64 : torch::kFloat;
  const auto wide = call.b.cast(x, dtype);
  std::vector<int64_t> axes;
  for (int64_t axis = -dims; axis < 0; ++axis) axes.push_back(axis);
  const auto mean = call.b.reduce("ReduceMean", call.b.add("Mul", {wide, wide}), axes, true);
  const auto root = call.b.add("Sqrt", {call.b.add("Add", {mean, call.b.scalar(epsilon, dtype)})});
  auto y = call.b.add("Div", {wide, root});
  if (call.given("weight")) y = call.b.add("Mul", {y, call.operand("weight", dtype)});
  call.returns_cast(y, dtype);
}

}  // namespace

void add_onnx_normalizations(OnnxOperators& operators) {
  operators["batch_norm"] = batch_norm;
  operators["instance_norm"] = instance_norm;
  operators["layer_norm"] = layer_norm;
  operators["group_norm"] = group_norm;
  operators["rms_norm"] = rms_norm;
}

}  // namespace troupe
