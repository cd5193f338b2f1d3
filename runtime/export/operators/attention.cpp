// Scaled dot-product attention (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762).
#include "troupe/runtime/export/onnx_call.hpp"
#include "troupe/runtime/export/onnx_sizes.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <limits>

namespace troupe {

namespace {

/// What goes into one call. Queries are [..., L, E], keys [..., S, E], values [..., S, V], a mask broadcasts to
/// [..., L, S].
class Attention {
 public:
  explicit Attention(OnnxCall& call)
      : call_(call), query_(call.tensor("query")), key_(call.tensor("key")), value_(call.tensor("value")) {
    if (call.takes("dropout_p") && call.number("dropout_p") > 0) {
      call.refuse("dropout_p is above 0; export is of eval mode");
    }
    if (!call.given("scale") && query_.sizes.back() < 0) call.refuse("the size of a head may not be dynamic");
    dtype_ = call.output_type();
    scale_ = call.given("scale") ? call.number("scale") : 1 / std::sqrt(static_cast<double>(query_.sizes.back()));
    is_causal_ = call.flag("is_causal");
    has_mask_ = call.given("attn_mask");
    if (has_mask_) mask_ = call.tensor("attn_mask");
    shares_heads_ = call.takes("enable_gqa") && call.flag("enable_gqa") && heads(query_) != heads(key_);
  }

  void write() { call_.returns(has_operator() ? by_operator() : in_parts()); }

 private:
  static int64_t heads(const OnnxTensor& x) { return x.rank() < 3 ? 1 : x.sizes[x.sizes.size() - 3]; }

  /// ONNX's Attention came with version 23. It takes batches of heads, which must be as many in all three; its scale is
  /// a float32, which is too coarse for float64.
  bool has_operator() const {
    const auto rank = query_.rank();
    if (call_.b.opset_version() < 23 || dtype_ == torch::kFloat64) return false;
    if ((rank != 3 && rank != 4) || key_.rank() != rank || value_.rank() != rank) return false;
    const auto batch_axes = static_cast<std::size_t>(shares_heads_ ? rank - 3 : rank - 2);
    for (std::size_t axis = 0; axis < batch_axes; ++axis) {
      if (query_.sizes[axis] != key_.sizes[axis] || query_.sizes[axis] != value_.sizes[axis]) return false;
    }
    return !shares_heads_ || heads(key_) == heads(value_);
  }

  std::string by_operator() {
    const bool has_heads = query_.rank() == 4;
    const auto with_heads = [&](const std::string& x) { return has_heads ? x : call_.b.unsqueeze(x, {1}); };
    std::vector<std::string> inputs{with_heads(query_.name), with_heads(key_.name), with_heads(value_.name)};
    if (has_mask_) {
      const auto mask = whole_mask();
      inputs.push_back(mask_.rank() == 3 ? with_heads(mask) : mask);
    }
    auto y = call_.b.add("Attention", inputs, {{"scale", scale_}, {"is_causal", int64_t{is_causal_}}});
    if (!has_heads) y = call_.b.squeeze(y, {1});
    if (!has_mask_ || mask_shows_each_query_a_key()) return y;
    return call_.b.add("Where", {sees_a_key(), y, call_.b.scalar(0, dtype_)});
  }

  /// The mask with all of [L, S]; onnxruntime's operator does not broadcast these.
  std::string whole_mask() {
    const auto mask = mask_.dtype == torch::kBool ? mask_.name : call_.b.cast(mask_, dtype_);
    const auto from = query_.sizes[query_.sizes.size() - 2], to = key_.sizes[key_.sizes.size() - 2];
    const auto rank = mask_.sizes.size();  // LibTorch takes none below 2
    const bool is_whole = from >= 0 && to >= 0 && mask_.sizes[rank - 2] == from && mask_.sizes[rank - 1] == to;
    return is_whole ? mask : call_.b.add("Expand", {mask, score_sizes()});
  }

  std::string score_sizes() {
    return call_.b.ints({call_.b.size_of(query_, query_.rank() - 2), call_.b.size_of(key_, key_.rank() - 2)});
  }

  /// Known of a mask that is a weight: no row forbids everything.
  bool mask_shows_each_query_a_key() const {
    const auto mask = call_.known_tensor(call_.value("attn_mask"));
    if (!mask) return false;
    const auto open = mask->scalar_type() == torch::kBool ? *mask : *mask > -std::numeric_limits<double>::infinity();
    return open.any(-1).all().item<bool>();
  }

  /// [..., L or 1, 1]: false for a query that may look at no key. It gets zeros in LibTorch and 0 / 0 in ONNX.
  std::string sees_a_key() {
    const std::vector<int64_t> last{-1};
    if (mask_.dtype == torch::kBool) {
      const auto count = call_.b.reduce("ReduceMax", call_.b.cast(mask_, torch::kInt32), last, true);
      return call_.b.cast(count, torch::kInt32, torch::kBool);
    }
    const auto largest = call_.b.reduce("ReduceMax", call_.b.cast(mask_, dtype_), last, true);
    return call_.b.add("Greater", {largest, nothing()});
  }

  std::string nothing() { return call_.b.scalar(-std::numeric_limits<double>::infinity(), dtype_); }

  std::string in_parts() {
    const auto rank = key_.rank();
    const auto turned = call_.b.swap_axes(for_each_head(key_), rank, rank - 2, rank - 1);
    const auto scaled = call_.b.add("Mul", {query_.name, call_.b.scalar(scale_, dtype_)});
    auto scores = call_.b.add("MatMul", {scaled, turned});
    if (is_causal_) scores = call_.b.add("Where", {causal_mask(), scores, nothing()});
    if (has_mask_) {
      scores = mask_.dtype == torch::kBool ? call_.b.add("Where", {mask_.name, scores, nothing()})
                                           : call_.b.add("Add", {scores, call_.b.cast(mask_, dtype_)});
    }
    auto weights = call_.b.add("Softmax", {scores}, {{"axis", int64_t{-1}}});
    if (has_mask_) {
      // A query that may look at no key gets zeros, not 0 / 0.
      const auto is_hidden = call_.b.add("Equal", {scores, nothing()});
      weights = call_.b.add("Where", {is_hidden, call_.b.scalar(0, dtype_), weights});
    }
    return call_.b.add("MatMul", {weights, for_each_head(value_)});
  }

  /// True where query i may look at key j: j <= i.
  std::string causal_mask() {
    const auto ones = call_.b.add("Expand", {call_.b.scalar(1, torch::kFloat), score_sizes()});
    const auto lower = call_.b.add("Trilu", {ones}, {{"upper", int64_t{0}}});
    return call_.b.cast(lower, torch::kFloat, torch::kBool);
  }

  /// Keys or values with as many heads as the queries have: each comes as often as queries share it.
  std::string for_each_head(const OnnxTensor& x) {
    if (!shares_heads_ || heads(x) == heads(query_)) return x.name;
    if (heads(x) < 1 || heads(query_) < 1) call_.refuse("with enable_gqa the number of heads may not be dynamic");
    return repeated(call_.b, x, x.rank() - 3, {heads(query_) / heads(x), ""});
  }

  OnnxCall& call_;
  OnnxTensor query_, key_, value_, mask_;
  torch::ScalarType dtype_ = torch::kFloat;
  double scale_ = 1;
  bool is_causal_ = false, has_mask_ = false, shares_heads_ = false;
};

}  // namespace

void add_onnx_attention(OnnxOperators& operators) {
  operators["scaled_dot_product_attention"] = [](OnnxCall& call) { Attention(call).write(); };
}

}  // namespace troupe
