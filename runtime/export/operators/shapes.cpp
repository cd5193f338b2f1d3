// The same elements in another shape or order: views, permutations, joins, splits, padding.
#include "troupe/runtime/export/onnx_call.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <limits>

namespace troupe {

namespace {

constexpr int64_t kLast = std::numeric_limits<int64_t>::max();
constexpr auto kNoCircularPadding = "circular padding is none of ONNX 17's: use torch::cat of slices";

void reshape(OnnxCall& call, const char* sizes) {
  call.returns(call.b.reshape(call.tensor("self").name, call.sizes(sizes)));
}

/// The sizes of axes [start, end] of x as one size: -1, unless another axis needs that.
void flatten(OnnxCall& call) {
  const auto x = call.tensor("self");
  const auto start = call.axis("start_dim", x.rank()), end = call.axis("end_dim", x.rank());
  std::vector<OnnxInt> sizes;
  for (int64_t axis = 0; axis < x.rank(); ++axis) {
    if (axis == start) sizes.push_back({-1, ""});
    if (axis < start || axis > end) sizes.push_back(call.b.size_of(x, axis));
  }
  if (x.rank() == 0) sizes.push_back({1, ""});
  // When one axis stays, the copy of its size can be left to ONNX: 0 is "as it was".
  for (std::size_t i = 0; i < sizes.size() && static_cast<int64_t>(i) < start; ++i) {
    if (!sizes[i].is_fixed()) sizes[i] = {0, ""};
  }
  const bool copies = std::ranges::any_of(sizes, [](const auto& s) { return s.is_fixed() && s.value == 0; });
  const bool has_empty = std::ranges::find(x.sizes, 0) != x.sizes.end();
  if (copies && !has_empty) return call.returns(call.b.add("Reshape", {x.name, call.b.ints(sizes)}));
  call.returns(call.b.reshape(x.name, sizes));
}

void unflatten(OnnxCall& call) {
  const auto x = call.tensor("self");
  const auto axis = call.axis("dim", x.rank());
  std::vector<OnnxInt> sizes;
  for (int64_t i = 0; i < x.rank(); ++i) {
    if (i != axis) {
      sizes.push_back(call.b.size_of(x, i));
      continue;
    }
    for (const auto& part : call.sizes("sizes")) sizes.push_back(part);
  }
  call.returns(call.b.reshape(x.name, sizes));
}

void permute(OnnxCall& call) {
  const auto x = call.tensor("self");
  auto order = call.integers("dims");
  for (auto& axis : order) axis = axis < 0 ? axis + x.rank() : axis;
  call.returns(call.b.transpose(x.name, order));
}

void transpose(OnnxCall& call) {
  const auto x = call.tensor("self");
  if (x.rank() == 0) return call.returns(x.name);
  call.returns(call.b.swap_axes(x.name, x.rank(), call.axis("dim0", x.rank()), call.axis("dim1", x.rank())));
}

void swap_last(OnnxCall& call) {
  const auto x = call.tensor("self");
  if (x.rank() < 2) return call.returns(x.name);
  call.returns(call.b.swap_axes(x.name, x.rank(), x.rank() - 2, x.rank() - 1));
}

void move_axes(OnnxCall& call) {
  const auto x = call.tensor("self");
  auto from = call.integers("source"), to = call.integers("destination");
  for (auto& axis : from) axis = axis < 0 ? axis + x.rank() : axis;
  for (auto& axis : to) axis = axis < 0 ? axis + x.rank() : axis;
  std::vector<int64_t> order(static_cast<std::size_t>(x.rank()), -1);
  for (std::size_t i = 0; i < from.size(); ++i) order[to[i]] = from[i];
  int64_t next = 0;
  for (auto& axis : order) {
    if (axis >= 0) continue;
    while (std::ranges::find(from, next) != from.end()) ++next;
    axis = next++;
  }
  call.returns(call.b.transpose(x.name, order));
}

void squeeze(OnnxCall& call) {
  const auto x = call.tensor("self");
  const auto wanted = call.takes("dim") ? call.axes("dim", x.rank()) : counted(x.rank());
  std::vector<int64_t> axes;
  for (const auto axis : wanted) {
    if (axis < x.rank() && x.sizes[axis] == 1) axes.push_back(axis);
  }
  call.returns(call.b.squeeze(x.name, axes));
}

void unsqueeze(OnnxCall& call) {
  const auto x = call.tensor("self");
  call.returns(call.b.unsqueeze(x.name, {call.axis("dim", x.rank() + 1)}));
}

void expand(OnnxCall& call, std::vector<OnnxInt> sizes) {
  for (auto& size : sizes) {
    if (size.is_fixed() && size.value == -1) size.value = 1;  // as it is: ONNX broadcasts both ways
  }
  call.returns(call.b.add("Expand", {call.tensor("self").name, call.b.ints(sizes)}));
}

void repeat(OnnxCall& call, const char* argument) {
  const auto x = call.tensor("self");
  auto repeats = call.sizes(argument);
  while (static_cast<int64_t>(repeats.size()) < x.rank()) repeats.insert(repeats.begin(), {1, ""});
  const auto input = call.b.unsqueeze(x.name, counted(static_cast<int64_t>(repeats.size()) - x.rank()));
  call.returns(call.b.add("Tile", {input, call.b.ints(repeats)}));
}

void concatenate(OnnxCall& call, bool stacked) {
  const auto dtype = call.output_type();
  const auto axis = call.axis("dim", call.output().rank());
  std::vector<std::string> parts;
  for (const auto& tensor : call.tensors("tensors")) {
    const bool is_nothing = !stacked && tensor.has_rank && tensor.sizes == std::vector<int64_t>{0};
    if (is_nothing) continue;  // cat passes over empty tensors of one dimension
    const auto part = call.b.cast(tensor, dtype);
    parts.push_back(stacked ? call.b.unsqueeze(part, {axis}) : part);
  }
  call.returns(parts.size() == 1 ? parts.front() : call.b.add("Concat", parts, {{"axis", axis}}));
}

void split_into(OnnxCall& call, const OnnxTensor& x, int64_t axis, const std::vector<int64_t>& sizes) {
  if (sizes.size() == 1) return call.returns_list({x.name}, x.dtype);
  call.returns_list(call.b.add_many("Split", {x.name, call.b.ints(sizes)}, sizes.size(), {{"axis", axis}}), x.dtype);
}

int64_t fixed_size(OnnxCall& call, const OnnxTensor& x, int64_t axis, const char* what) {
  if (x.sizes[axis] < 0) call.refuse(std::string(what) + " may not have a dynamic size");
  return x.sizes[axis];
}

/// Pieces of one size, and a shorter one at the end.
void split_by(OnnxCall& call, const OnnxTensor& x, int64_t axis, int64_t size) {
  std::vector<int64_t> sizes;
  for (auto rest = fixed_size(call, x, axis, "the axis that it splits"); rest > 0; rest -= size) {
    sizes.push_back(std::min(size, rest));
  }
  split_into(call, x, axis, sizes);
}

void split(OnnxCall& call) {
  const auto x = call.tensor("self");
  const auto axis = call.axis("dim", x.rank());
  if (call.takes("split_sizes")) return split_into(call, x, axis, call.integers("split_sizes"));
  const auto sizes = call.integers("split_size");  // one overload takes a list
  sizes.size() == 1 ? split_by(call, x, axis, sizes.front()) : split_into(call, x, axis, sizes);
}

void chunk(OnnxCall& call) {
  const auto x = call.tensor("self");
  const auto axis = call.axis("dim", x.rank());
  const auto chunks = call.integer("chunks");
  split_by(call, x, axis, (fixed_size(call, x, axis, "the axis that it splits") + chunks - 1) / chunks);
}

void unbind(OnnxCall& call) {
  const auto x = call.tensor("self");
  const auto axis = call.axis("dim", x.rank());
  const auto count = fixed_size(call, x, axis, "the axis that it takes apart");
  std::vector<std::string> parts;
  for (int64_t i = 0; i < count; ++i) {
    parts.push_back(call.b.add("Gather", {x.name, call.b.scalar(i, torch::kInt64)}, {{"axis", axis}}));
  }
  call.returns_list(parts, x.dtype);
}

void flip(OnnxCall& call) {
  const auto x = call.tensor("self");
  auto y = x.name;
  for (const auto axis : call.axes("dims", x.rank())) {
    y = call.b.flip(y, axis);
  }
  call.returns(y);
}

void roll(OnnxCall& call) {
  const auto x = call.tensor("self");
  const auto shifts = call.integers("shifts");
  auto axes = call.integers("dims");
  if (axes.size() != shifts.size()) call.refuse("it rolls the flattened tensor");
  auto y = x.name;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const auto axis = axes[i] < 0 ? axes[i] + x.rank() : axes[i];
    const auto size = fixed_size(call, x, axis, "the axis that it rolls");
    const auto shift = ((shifts[i] % size) + size) % size;
    if (shift == 0) continue;
    const auto tail = call.b.slice(y, axis, {size - shift, ""}, {kLast, ""});
    y = call.b.add("Concat", {tail, call.b.slice(y, axis, {0, ""}, {size - shift, ""})}, {{"axis", axis}});
  }
  call.returns(y);
}

/// LibTorch gives pairs from the last axis on; ONNX all begins, then all ends.
void pad(OnnxCall& call, const std::string& mode) {
  const auto x = call.tensor("self");
  const auto* argument = call.takes("pad") ? "pad" : "padding";
  const auto pairs = call.integers(argument);
  std::vector<int64_t> pads(2 * x.sizes.size(), 0);
  for (std::size_t i = 0; i < pairs.size() / 2; ++i) {
    const auto axis = x.sizes.size() - 1 - i;
    pads[axis] = pairs[2 * i];
    pads[x.sizes.size() + axis] = pairs[2 * i + 1];
  }
  std::vector<std::string> inputs{x.name, call.b.ints(pads)};
  if (mode == "constant" && call.given("value")) inputs.push_back(call.operand("value", x.dtype));
  call.returns(call.b.add("Pad", inputs, {{"mode", mode}}));
}

void pad_by_name(OnnxCall& call) {
  const auto mode = call.text("mode");
  if (mode == "circular") call.refuse(kNoCircularPadding);
  pad(call, mode == "replicate" ? "edge" : mode);
}

/// What LibTorch's functional::pad calls: the mode is a number of at::padding_mode, which no installed header has.
void pad_by_number(OnnxCall& call) {
  static const char* const modes[] = {"reflect", "edge", "circular", "constant"};
  const auto mode = call.integer("mode");
  if (mode == 2) call.refuse(kNoCircularPadding);
  if (mode < 0 || mode > 3) call.refuse("its padding mode is unknown");
  pad(call, modes[mode]);
}

void pixel_shuffle(OnnxCall& call) {
  const auto x = call.tensor("self");
  if (x.rank() != 4) call.refuse("its input does not have 4 dimensions");
  call.returns(call.b.add("DepthToSpace", {x.name},
                          {{"blocksize", call.integer("upscale_factor")}, {"mode", std::string("CRD")}}));
}

void add_views(OnnxOperators& operators) {
  operators["view"] = [](OnnxCall& call) {
    call.takes("size") ? reshape(call, "size") : call.refuse("it reads the bits as another type");
  };
  operators["_unsafe_view"] = operators["view"];
  operators["reshape"] = [](OnnxCall& call) { reshape(call, "shape"); };
  const auto as_other = [](OnnxCall& call) {
    call.returns(call.b.reshape(call.tensor("self").name, call.b.sizes_of(call.tensor("other"))));
  };
  operators["view_as"] = as_other;
  operators["reshape_as"] = as_other;
  operators["flatten"] = flatten;
  operators["ravel"] = [](OnnxCall& call) {
    call.returns(call.b.reshape(call.tensor("self").name, std::vector<int64_t>{-1}));
  };
  operators["unflatten"] = unflatten;
  operators["squeeze"] = squeeze;
  operators["unsqueeze"] = unsqueeze;
  operators["expand"] = [](OnnxCall& call) { expand(call, call.sizes("size")); };
  operators["broadcast_to"] = operators["expand"];
  operators["expand_as"] = [](OnnxCall& call) { expand(call, call.b.sizes_of(call.tensor("other"))); };
}

}  // namespace

void add_onnx_shapes(OnnxOperators& operators) {
  add_views(operators);
  operators["permute"] = permute;
  operators["transpose"] = transpose;
  for (const auto* name : {"t", "numpy_T", "mT"}) operators[name] = swap_last;
  operators["movedim"] = move_axes;
  operators["repeat"] = [](OnnxCall& call) { repeat(call, "repeats"); };
  operators["tile"] = [](OnnxCall& call) { repeat(call, "dims"); };
  operators["cat"] = [](OnnxCall& call) { concatenate(call, false); };
  operators["stack"] = [](OnnxCall& call) { concatenate(call, true); };
  for (const auto* name : {"split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes"}) {
    operators[name] = split;
  }
  operators["chunk"] = chunk;
  operators["unsafe_chunk"] = chunk;
  operators["unbind"] = unbind;
  operators["flip"] = flip;
  operators["roll"] = roll;
  operators["pad"] = pad_by_name;
  operators["_pad_enum"] = pad_by_number;
  operators["constant_pad_nd"] = [](OnnxCall& call) { pad(call, "constant"); };
  for (const auto* dims : {"1d", "2d", "3d"}) {
    operators[std::string("reflection_pad") + dims] = [](OnnxCall& call) { pad(call, "reflect"); };
    operators[std::string("replication_pad") + dims] = [](OnnxCall& call) { pad(call, "edge"); };
  }
  operators["pixel_shuffle"] = pixel_shuffle;
}

}  // namespace troupe
