#include "troupe/runtime/export/onnx_builder.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cctype>
#include <limits>
#include <numeric>

namespace troupe {

namespace {

constexpr std::size_t kSmall = 256;  // bytes

std::string small_key(const torch::Tensor& value) {
  std::string key = std::to_string(static_cast<int>(value.scalar_type()));
  for (const auto size : value.sizes()) key += "," + std::to_string(size);
  const auto host = value.detach().to(torch::kCPU).contiguous();
  return key + ":" + std::string(static_cast<const char*>(host.data_ptr()), host.nbytes());
}

}  // namespace

std::vector<int64_t> counted(int64_t count) {
  std::vector<int64_t> out(static_cast<std::size_t>(count));
  std::iota(out.begin(), out.end(), 0);
  return out;
}

std::string OnnxBuilder::unique_name(const std::string& wish) {
  auto name = wish;
  for (int64_t number = 1; !names_.insert(name).second; ++number) name = wish + "_" + std::to_string(number);
  return name;
}

std::string OnnxBuilder::add(const std::string& op_type, std::vector<std::string> inputs, OnnxAttributes attributes) {
  return add_many(op_type, std::move(inputs), 1, std::move(attributes)).front();
}

std::vector<std::string> OnnxBuilder::add_many(const std::string& op_type, std::vector<std::string> inputs,
                                               std::size_t count, OnnxAttributes attributes, const OnnxDomain& domain) {
  const auto name = domain.name == "ai.onnx" ? "" : domain.name;
  if (!name.empty()) {
    if (domain.version < 1) {
      throw UsageError("version " + std::to_string(domain.version) + " of the domain '" + shown(name) +
                       "' is none: they are counted from 1");
    }
    const auto version = graph_.domains.try_emplace(name, domain.version).first->second;
    if (version != domain.version) {
      throw UsageError("one file has one version of the domain '" + shown(name) + "', not " + std::to_string(version) +
                       " and " + std::to_string(domain.version));
    }
  }
  std::string wish = op_type;
  std::ranges::transform(wish, wish.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  std::vector<std::string> outputs;
  for (std::size_t i = 0; i < count; ++i) outputs.push_back(unique_name(wish));
  while (!inputs.empty() && inputs.back().empty()) inputs.pop_back();  // those left out at the end are not written
  graph_.nodes.push_back({op_type, std::move(inputs), outputs, std::move(attributes), name});
  return outputs;
}

std::string OnnxBuilder::constant(const torch::Tensor& value, const std::string& name) {
  const bool is_small = value.nbytes() <= kSmall && name == "constant";
  auto& known = is_small ? small_constants_[small_key(value)] : large_constants_[value.unsafeGetTensorImpl()];
  if (known.empty()) {
    known = unique_name(name);
    graph_.initializers.emplace_back(known, value);
  }
  return known;
}

std::string OnnxBuilder::ints(const std::vector<int64_t>& values) {
  return constant(torch::tensor(values, torch::kInt64));
}

std::string OnnxBuilder::ints(const std::vector<OnnxInt>& values) {
  std::vector<std::string> parts;
  std::vector<int64_t> fixed;
  const auto flush = [&] {
    if (!fixed.empty()) parts.push_back(ints(fixed));
    fixed.clear();
  };
  for (const auto& value : values) {
    if (value.is_fixed()) {
      fixed.push_back(value.value);
    } else {
      flush();
      parts.push_back(value.name);
    }
  }
  flush();
  if (parts.empty()) return ints(std::vector<int64_t>());
  return parts.size() == 1 ? parts.front() : add("Concat", parts, {{"axis", int64_t{0}}});
}

std::string OnnxBuilder::scalar(const torch::Scalar& value, torch::ScalarType dtype) {
  return constant(torch::scalar_tensor(value, torch::TensorOptions(dtype)));
}

std::string OnnxBuilder::scalar(const OnnxInt& value, torch::ScalarType dtype) {
  if (value.is_fixed()) return scalar(torch::Scalar(value.value), dtype);
  return cast(squeeze(value.name, {0}), torch::kInt64, dtype);
}

std::string OnnxBuilder::cast(const std::string& name, torch::ScalarType from, torch::ScalarType to) {
  return from == to ? name : add("Cast", {name}, {{"to", int64_t{onnx_type(to)}}});
}

std::string OnnxBuilder::reduce(const std::string& op_type, const std::string& input, const std::vector<int64_t>& axes,
                                bool keepdim) {
  OnnxAttributes attributes{{"keepdims", int64_t{keepdim}}};
  std::vector<std::string> inputs{input};
  if (!axes.empty()) {
    // The axes became an input in version 13 for ReduceSum and in version 18 for the others.
    if (op_type == "ReduceSum" || opset_version_ >= 18) {
      inputs.push_back(ints(axes));
    } else {
      attributes.emplace_back("axes", axes);
    }
  }
  return add(op_type, inputs, attributes);
}

std::string OnnxBuilder::reshape(const std::string& input, const std::vector<OnnxInt>& sizes) {
  auto wanted = sizes;
  // One size may be left to ONNX, which saves computing it.
  const bool has_open = std::ranges::any_of(wanted, [](const auto& s) { return s.is_fixed() && s.value == -1; });
  const auto dynamic = std::ranges::count_if(wanted, [](const auto& s) { return !s.is_fixed(); });
  const bool has_zero = std::ranges::any_of(wanted, [](const auto& s) { return s.is_fixed() && s.value == 0; });
  if (!has_open && !has_zero && dynamic == 1)
    *std::ranges::find_if(wanted, [](auto& s) { return !s.is_fixed(); }) = {-1, ""};
  return add("Reshape", {input, ints(wanted)}, has_zero ? OnnxAttributes{{"allowzero", int64_t{1}}} : OnnxAttributes{});
}

std::string OnnxBuilder::reshape(const std::string& input, const std::vector<int64_t>& sizes) {
  std::vector<OnnxInt> wanted;
  for (const auto size : sizes) wanted.push_back({size, ""});
  return reshape(input, wanted);
}

std::string OnnxBuilder::transpose(const std::string& input, const std::vector<int64_t>& order) {
  if (std::ranges::is_sorted(order)) return input;
  return add("Transpose", {input}, {{"perm", order}});
}

std::string OnnxBuilder::swap_axes(const std::string& input, int64_t rank, int64_t a, int64_t b) {
  auto order = counted(rank);
  std::swap(order.at(static_cast<std::size_t>(a)), order.at(static_cast<std::size_t>(b)));
  return transpose(input, order);
}

std::string OnnxBuilder::flip(const std::string& input, int64_t axis) {
  return slice(input, axis, {-1, ""}, {std::numeric_limits<int64_t>::min(), ""}, -1);
}

std::string OnnxBuilder::unsqueeze(const std::string& input, const std::vector<int64_t>& axes) {
  return axes.empty() ? input : add("Unsqueeze", {input, ints(axes)});
}

std::string OnnxBuilder::squeeze(const std::string& input, const std::vector<int64_t>& axes) {
  return axes.empty() ? input : add("Squeeze", {input, ints(axes)});
}

std::string OnnxBuilder::slice(const std::string& input, int64_t axis, const OnnxInt& start, const OnnxInt& end,
                               int64_t step) {
  const bool is_whole = start.is_fixed() && start.value == 0 && end.is_fixed() && step == 1 &&
                        end.value == std::numeric_limits<int64_t>::max();
  if (is_whole) return input;
  const auto one = [&](int64_t value) { return ints(std::vector<int64_t>{value}); };
  return add("Slice", {input, ints({start}), ints({end}), one(axis), one(step)});
}

OnnxInt OnnxBuilder::size_of(const OnnxTensor& tensor, int64_t axis) {
  if (tensor.has_rank && axis < 0) axis += tensor.rank();
  if (tensor.has_rank && tensor.sizes[axis] >= 0) return {tensor.sizes[axis], ""};
  OnnxAttributes attributes{{"start", axis}};
  if (axis != -1) attributes.emplace_back("end", axis + 1);
  return {0, add("Shape", {tensor.name}, attributes)};
}

std::vector<OnnxInt> OnnxBuilder::sizes_of(const OnnxTensor& tensor) {
  std::vector<OnnxInt> sizes;
  for (int64_t axis = 0; axis < tensor.rank(); ++axis) sizes.push_back(size_of(tensor, axis));
  return sizes;
}

}  // namespace troupe
