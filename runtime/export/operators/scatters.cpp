// Elements put to given places, or summed there: scatters, one-hot vectors, bags of embeddings.
#include "troupe/runtime/export/onnx_call.hpp"
#include "troupe/runtime/export/onnx_sizes.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <limits>

namespace troupe {

namespace {

/// What ONNX calls a reduction of LibTorch's; checks that the version has it.
std::string scatter_reduction(OnnxCall& call, const std::string& name) {
  if (name == "add" || name == "sum" || name == "mean") return "add";
  if (name == "multiply" || name == "prod") return "mul";
  if (call.b.opset_version() < 18) call.refuse("the largest or smallest of several needs opset_version 18");
  return name == "amax" ? "max" : "min";
}

struct Scatter {
  OnnxTensor x, index;
  int64_t axis;

  explicit Scatter(OnnxCall& call) : x(call.tensor("self")), index(call.tensor("index")) {
    if (x.rank() == 0 || index.rank() != x.rank()) call.refuse("its tensors have no dimension");
    axis = call.axis("dim", x.rank());
  }

  /// What is put down, as large as the index: elements of 'src' beyond it are not read.
  std::string updates(OnnxCall& call) const {
    if (!call.takes("src")) return filled(call, call.operand("value", x.dtype));
    const auto src = call.tensor("src");
    auto part = call.b.cast(src, x.dtype);
    for (int64_t d = 0; d < src.rank(); ++d) {
      const auto size = call.b.size_of(index, d);
      if (size.is_fixed() && size.value == src.sizes[d]) continue;
      part = call.b.slice(part, d, {0, ""}, size);
    }
    return part;
  }
  std::string filled(OnnxCall& call, const std::string& value) const {
    return call.b.add("Expand", {value, call.b.ints(call.b.sizes_of(index))});
  }
  std::string into(OnnxCall& call, const std::string& data, const std::string& updates,
                   const std::string& reduction = "none") const {
    OnnxAttributes attributes{{"axis", axis}};
    if (reduction != "none") attributes.emplace_back("reduction", reduction);
    return call.b.add("ScatterElements", {data, index.name, updates}, attributes);
  }
};

void scatter(OnnxCall& call) {
  const Scatter scatter(call);
  const auto reduction = call.takes("reduce") ? scatter_reduction(call, call.text("reduce")) : "none";
  call.returns(scatter.into(call, scatter.x.name, scatter.updates(call), reduction));
}

/// What changes nothing in a reduction.
torch::Scalar neutral_element(OnnxCall& call, const std::string& reduction, torch::ScalarType dtype) {
  if (reduction == "add") return 0;
  if (reduction == "mul") return 1;
  if (!c10::isFloatingType(dtype)) call.refuse("amax and amin of whole numbers have no mapping without include_self");
  const auto infinity = std::numeric_limits<double>::infinity();
  return reduction == "max" ? -infinity : infinity;
}

void scatter_reduce(OnnxCall& call) {
  const Scatter scatter(call);
  const auto dtype = scatter.x.dtype;
  const auto name = call.text("reduce");
  const auto reduction = scatter_reduction(call, name);
  const bool includes_self = call.flag("include_self");
  auto start = scatter.x.name;
  if (!includes_self) {
    const auto neutral = call.b.scalar(neutral_element(call, reduction, dtype), dtype);
    start = scatter.into(call, start, scatter.filled(call, neutral));
  }
  const auto y = scatter.into(call, start, scatter.updates(call), reduction);
  if (name != "mean") return call.returns(y);
  if (!c10::isFloatingType(dtype)) call.refuse("the mean of whole numbers has no mapping");
  const auto one = call.b.scalar(1, dtype);
  auto counts = call.b.add("Expand", {one, call.b.ints(call.b.sizes_of(scatter.x))});
  if (!includes_self) counts = scatter.into(call, counts, scatter.filled(call, call.b.scalar(0, dtype)));
  counts = scatter.into(call, counts, scatter.filled(call, one), "add");
  call.returns(call.b.add("Div", {y, counts}));
}

void one_hot(OnnxCall& call) {
  const auto classes = call.integer("num_classes");
  if (classes < 0) call.refuse("the number of classes depends on values: give num_classes");
  const auto depth = call.b.scalar(classes, torch::kInt64);
  call.returns(call.b.add("OneHot", {call.tensor("self").name, depth, call.b.ints({0, 1})}));
}

/// Bags of rows of `weight`; bag i goes from offset i to the next. With include_last_offset the last offset is where
/// the last bag ends: what comes behind it is in a bag of its own, which is left out in the end.
class EmbeddingBag {
 public:
  explicit EmbeddingBag(OnnxCall& call)
      : call_(call),
        b_(call.b),
        weight_(call.tensor("weight")),
        indices_(call.tensor("indices")),
        mode_(call.integer("mode")) {
    for (std::size_t i = 1; i < 4; ++i) {
      if (call.output_is_used(i)) call.refuse("more than its first output is used");
    }
    if (indices_.rank() != 1) call.refuse("its indices do not have one dimension");
  }

  std::string write() {
    const auto offsets = call_.tensor("offsets");
    bags_ = b_.size_of(offsets, 0);
    find_bags(offsets);
    auto rows = b_.add("Gather", {weight_.name, indices_.name});
    if (call_.given("per_sample_weights")) {
      rows = b_.add("Mul", {rows, b_.unsqueeze(call_.operand("per_sample_weights", weight_.dtype), {1})});
    }
    const auto y = mode_ == 2 ? largest(rows) : sum_or_mean(rows);
    return call_.flag("include_last_offset") ? b_.slice(y, 0, {0, ""}, {-1, ""}) : y;
  }

 private:
  std::string number(double value) { return b_.scalar(value, weight_.dtype); }

  /// The bag of each index, as [N, 1]: how many offsets there are up to it, less one.
  void find_bags(const OnnxTensor& offsets) {
    const auto count = b_.size_of(indices_, 0);
    const auto starts = b_.cast(offsets, torch::kInt64);
    const auto one = b_.scalar(1, torch::kInt64);
    // One place more, since empty bags at the end begin behind the last index.
    const auto zeros = b_.add("Expand", {b_.scalar(0, torch::kInt64), b_.ints({sum_of(b_, count, {1, ""})})});
    const auto ones = b_.add("Expand", {one, b_.ints({bags_})});
    const auto marks =
        b_.add("ScatterElements", {zeros, starts, ones}, {{"axis", int64_t{0}}, {"reduction", std::string("add")}});
    const auto so_far = b_.add("CumSum", {marks, b_.scalar(0, torch::kInt64)});
    bag_of_index_ = b_.unsqueeze(b_.add("Sub", {b_.slice(so_far, 0, {0, ""}, {-1, ""}), one}), {1});
  }

  /// Whether an index counts, as [N, 1]; "" if all do.
  std::string counts() {
    if (!call_.given("padding_idx")) return "";
    auto padding = call_.integer("padding_idx");
    if (padding < 0) padding += weight_.sizes[0];
    const auto index = b_.cast(indices_, torch::kInt64);
    const auto is_padding = b_.add("Equal", {index, b_.scalar(padding, torch::kInt64)});
    return b_.unsqueeze(b_.add("Not", {is_padding}), {1});
  }

  /// Rows of `width` elements put together, bag by bag. (ScatterND would do it with fewer indices, but onnxruntime 1.31
  /// loses summands in it when it has several threads.)
  std::string gathered(const std::string& start, const OnnxInt& width, const std::string& rows, const char* reduction) {
    const auto bags = b_.add("Expand", {start, b_.ints({bags_, width})});
    const auto places = b_.add("Expand", {bag_of_index_, b_.ints({b_.size_of(indices_, 0), width})});
    return b_.add("ScatterElements", {bags, places, rows},
                  {{"axis", int64_t{0}}, {"reduction", std::string(reduction)}});
  }

  /// The largest of each bag's rows in versions that have no such reduction: for each bag all rows, in which those of
  /// other bags are `lowest`.
  std::string largest_of_all(const std::string& lowest, const std::string& rows) {
    const auto is_in = b_.add("Equal", {bag_of_index_, steps_of(b_, bags_)});
    const auto all = b_.add("Where", {b_.unsqueeze(is_in, {2}), b_.unsqueeze(rows, {1}), lowest});
    return b_.reduce("ReduceMax", all, {0}, /*keepdim=*/false);
  }

  std::string largest(std::string rows) {
    const auto lowest = number(-std::numeric_limits<double>::infinity());
    if (const auto valid = counts(); !valid.empty()) rows = b_.add("Where", {valid, rows, lowest});
    const auto y =
        b_.opset_version() < 18 ? largest_of_all(lowest, rows) : gathered(lowest, b_.size_of(weight_, 1), rows, "max");
    return b_.add("Where", {b_.add("Equal", {y, lowest}), number(0), y});  // an empty bag gives zeros
  }

  std::string sum_or_mean(std::string rows) {
    const auto valid = counts();
    if (!valid.empty()) rows = b_.add("Where", {valid, rows, number(0)});
    const auto sum = gathered(number(0), b_.size_of(weight_, 1), rows, "add");
    if (mode_ == 0) return sum;
    const auto ones = valid.empty() ? b_.add("Expand", {number(1), b_.ints({b_.size_of(indices_, 0), {1, ""}})})
                                    : b_.cast(valid, torch::kBool, weight_.dtype);
    const auto sizes = gathered(number(0), {1, ""}, ones, "add");
    return b_.add("Div", {sum, b_.add("Max", {sizes, number(1)})});
  }

  OnnxCall& call_;
  OnnxBuilder& b_;
  OnnxTensor weight_, indices_;
  int64_t mode_;  ///< 0: sum, 1: mean, 2: max
  OnnxInt bags_;
  std::string bag_of_index_;
};

}  // namespace

void add_onnx_scatters(OnnxOperators& operators) {
  operators["scatter"] = scatter;
  operators["scatter_add"] = [](OnnxCall& call) {
    const Scatter scatter(call);
    call.returns(scatter.into(call, scatter.x.name, scatter.updates(call), "add"));
  };
  operators["scatter_reduce"] = scatter_reduce;
  operators["one_hot"] = one_hot;
  operators["embedding_bag"] = [](OnnxCall& call) { call.returns(EmbeddingBag(call).write()); };
}

}  // namespace troupe
