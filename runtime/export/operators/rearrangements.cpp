// The same elements at other places: pixels and channels, turns, repetitions, grids.
#include "troupe/runtime/export/onnx_call.hpp"
#include "troupe/runtime/export/onnx_sizes.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <utility>

namespace troupe {

namespace {

/// [N, C, H * r, W * r] becomes [N, C * r * r, H, W]. (ONNX's SpaceToDepth orders the channels otherwise.)
void pixel_unshuffle(OnnxCall& call) {
  const auto x = call.tensor("self");
  if (x.rank() < 3) call.refuse("its input has less than 3 dimensions");
  const auto factor = call.integer("downscale_factor");
  auto sizes = call.b.sizes_of(x);
  const auto width = sizes.back(), height = sizes[sizes.size() - 2], channels = sizes[sizes.size() - 3];
  sizes.resize(sizes.size() - 3);
  const auto outer = static_cast<int64_t>(sizes.size());
  const OnnxInt r{factor, ""}, h = quotient_of(call.b, height, r), w = quotient_of(call.b, width, r);
  auto apart = sizes, together = sizes;
  apart.insert(apart.end(), {channels, h, r, w, r});
  together.insert(together.end(), {product_of(call.b, channels, {factor * factor, ""}), h, w});
  auto order = counted(outer);
  for (const int64_t axis : {0, 2, 4, 1, 3}) order.push_back(outer + axis);
  call.returns(call.b.reshape(call.b.transpose(call.b.reshape(x.name, apart), order), together));
}

/// Channels in groups become the first of each group, then the second of each, and so on.
void channel_shuffle(OnnxCall& call) {
  const auto x = call.tensor("self");
  const auto sizes = call.b.sizes_of(x);
  const auto groups = call.size("groups");
  std::vector<OnnxInt> apart{sizes[0], groups, quotient_of(call.b, sizes[1], groups)};
  apart.insert(apart.end(), sizes.begin() + 2, sizes.end());
  call.returns(call.b.reshape(call.b.swap_axes(call.b.reshape(x.name, apart), x.rank() + 1, 1, 2), sizes));
}

/// k quarter turns, from the first axis towards the second.
void rot90(OnnxCall& call) {
  const auto x = call.tensor("self");
  auto axes = call.integers("dims");
  for (auto& axis : axes) axis = axis < 0 ? axis + x.rank() : axis;
  const auto turns = ((call.integer("k") % 4) + 4) % 4;
  if (turns == 0) return call.returns(x.name);
  if (turns == 2) return call.returns(call.b.flip(call.b.flip(x.name, axes[0]), axes[1]));
  const auto flipped = call.b.flip(x.name, axes[turns == 1 ? 1 : 0]);
  call.returns(call.b.swap_axes(flipped, x.rank(), axes[0], axes[1]));
}

void repeat_interleave(OnnxCall& call) {
  if (!call.takes("self")) call.refuse("the size of what it gives depends on values");
  auto x = call.tensor("self");
  if (!call.given("dim")) x = flattened(call.b, x);
  const auto axis = call.given("dim") ? call.axis("dim", x.rank()) : 0;
  if (!call.is_tensor("repeats")) return call.returns(repeated(call.b, x, axis, call.size("repeats")));
  const auto repeats = call.known_tensor(call.value("repeats"));
  if (!repeats) call.refuse("the size of what it gives depends on values; 'repeats' may be a number or a weight");
  if (repeats->numel() == 1) {
    return call.returns(repeated(call.b, x, axis, {repeats->item().toLong(), ""}));
  }
  const auto places = torch::repeat_interleave(repeats->to(torch::kCPU, torch::kLong));
  call.returns(call.b.add("Gather", {x.name, call.b.constant(places)}, {{"axis", axis}}));
}

/// A tensor of one dimension for each axis of the grid.
void meshgrid(OnnxCall& call) {
  auto tensors = call.tensors("tensors");
  const bool columns_first = call.takes("indexing") && call.text("indexing") == "xy" && tensors.size() > 1;
  if (columns_first) std::swap(tensors[0], tensors[1]);
  std::vector<OnnxInt> sizes;
  for (const auto& tensor : tensors) {
    sizes.push_back(tensor.rank() == 0 ? OnnxInt{1, ""} : call.b.size_of(tensor, 0));
  }
  const auto shape = call.b.ints(sizes);
  std::vector<std::string> grids;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    std::vector<int64_t> along(tensors.size(), 1);
    along[i] = -1;
    grids.push_back(call.b.add("Expand", {call.b.reshape(tensors[i].name, along), shape}));
  }
  if (columns_first) std::swap(grids[0], grids[1]);
  call.returns_list(grids, tensors.front().dtype);
}

}  // namespace

void add_onnx_rearrangements(OnnxOperators& operators) {
  operators["pixel_unshuffle"] = pixel_unshuffle;
  operators["channel_shuffle"] = channel_shuffle;
  operators["native_channel_shuffle"] = channel_shuffle;
  operators["rot90"] = rot90;
  operators["repeat_interleave"] = repeat_interleave;
  operators["meshgrid"] = meshgrid;
}

}  // namespace troupe
