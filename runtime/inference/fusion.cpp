#include "troupe/runtime/inference/fusion.hpp"

#include "troupe/runtime/capture/operators.hpp"
#include "troupe/runtime/inference/packed_convolutions.hpp"
#include "troupe/runtime/inference/packed_linear.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>
#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

namespace troupe::inference {

namespace {

using capture::Action;
using capture::Memory;
using capture::Recording;
using capture::View;

constexpr int64_t most_image_numbers = 65'536;      // of a convolution's input, for the cache's sake
constexpr int64_t most_products_alone = 4'000'000;  // that one thread computes while others could help

/// Operators that become one: `first` computes from `input` what `result` holds after `last`.
struct Group {
  std::size_t first = 0, last = 0;
  View input, result;
  std::vector<std::size_t> absorbed;
  std::string name;
  capture::KernelMaker maker;
};

int64_t numbers_of(const View& view) {
  int64_t all = 1;
  for (const int64_t size : view.sizes) all *= size;
  return all;
}

bool is_plain_memory(const View& view) {
  return view.type == torch::kFloat32 && capture::is_contiguous(view) && numbers_of(view) > 0;
}

const View* argument_view(const Action& action, std::size_t index) {
  return index < action.arguments.size() ? std::get_if<View>(&action.arguments[index]) : nullptr;
}

const c10::IValue* argument_value(const Action& action, std::size_t index) {
  return index < action.arguments.size() ? std::get_if<c10::IValue>(&action.arguments[index]) : nullptr;
}

bool is_number(const Action& action, std::size_t index, double number) {
  const auto* value = argument_value(action, index);
  return value && value->isScalar() && !value->toScalar().isComplex() && value->toScalar().toDouble() == number;
}

/// A pair of sizes; one number stands for both, and none for `otherwise`.
std::optional<std::array<int64_t, 2>> pair_at(const Action& action, std::size_t index,
                                              std::array<int64_t, 2> otherwise) {
  const auto* value = argument_value(action, index);
  if (!value || !value->isIntList()) return std::nullopt;
  const auto list = value->toIntVector();
  if (list.empty()) return otherwise;
  return list.size() == 1 ? std::array{list[0], list[0]} : std::array{list[0], list[1]};
}

class Fusion {
 public:
  Fusion(const Recording& recording, std::size_t inputs, const std::vector<View>& results, PackedWeights& weights)
      : recording_(recording), inputs_(inputs), weights_(weights), uses_(recording.memories.size()) {
    for (const auto& view : results) uses_[view.memory].is_result = true;
    for (std::size_t i = 0; i < recording.actions.size(); ++i) look_at(i);
  }

  Fused run() {
    std::vector<std::optional<Group>> ending(recording_.actions.size());
    std::vector<bool> is_absorbed(recording_.actions.size(), false);
    for (std::size_t i = 0; i < recording_.actions.size(); ++i) {
      if (recording_.actions[i].is_view || is_absorbed[i]) continue;
      auto group = linear_at(i);
      if (!group) group = convolutions_at(i);
      if (!group || is_overwritten(*group)) continue;
      for (const std::size_t each : group->absorbed) is_absorbed[each] = true;
      ending[group->last] = std::move(group);
    }
    Fused fused{recording_, {}};
    fused.recording.actions.clear();
    for (std::size_t i = 0; i < recording_.actions.size(); ++i) {
      if (ending[i]) {
        fused.kernels[fused.recording.actions.size()] = std::move(ending[i]->maker);
        fused.recording.actions.push_back(action_of(*ending[i]));
      } else if (!is_absorbed[i]) {
        fused.recording.actions.push_back(recording_.actions[i]);
      }
    }
    fused.recording.marks = {fused.recording.actions.size()};
    return fused;
  }

 private:
  struct Uses {
    std::vector<std::size_t> readers, writers;  // actions, in order
    bool is_result = false;
  };

  void look_at(std::size_t index) {
    const Action& action = recording_.actions[index];
    if (action.is_view) return;
    for (std::size_t i = 0; i < action.arguments.size(); ++i) {
      capture::for_views(action.arguments[i], [&](const View& view) {
        uses_[view.memory].readers.push_back(index);
        if (action.op && capture::writes(*action.op, i)) uses_[view.memory].writers.push_back(index);
      });
    }
    for (const auto& result : action.results) {
      if (result && (uses_[result->memory].writers.empty() || uses_[result->memory].writers.back() != index)) {
        uses_[result->memory].writers.push_back(index);
      }
    }
  }

  Action action_of(const Group& group) const {
    const Action& first = recording_.actions[group.first];
    Action action;
    action.op = first.op;
    action.name = group.name;
    action.arguments = {group.input};
    action.results = {group.result};
    action.modes = first.modes;
    return action;
  }

  bool is_frozen(const View* view) const {
    if (!view || view->memory < inputs_) return false;
    const Memory& memory = recording_.memories[view->memory];
    return memory.kind == Memory::Kind::given && view->type == torch::kFloat32 && memory.storage;
  }

  torch::Tensor frozen_tensor(const View& view) const {
    auto* data = static_cast<char*>(const_cast<void*>(recording_.memories[view.memory].storage.data()));
    return at::from_blob(data + static_cast<std::size_t>(view.offset) * sizeof(float), view.sizes, view.strides,
                         torch::kFloat32);
  }

  std::string key_of(const View& view) const {
    return c10::str(recording_.memories[view.memory].storage.data(), "+", view.offset, torch::IntArrayRef(view.sizes),
                    torch::IntArrayRef(view.strides), " ");
  }

  // The kernel runs where the last operator stood: by then nobody may have written over its input.
  bool is_overwritten(const Group& group) const {
    return std::ranges::any_of(uses_[group.input.memory].writers,
                               [&](std::size_t i) { return i >= group.first && i <= group.last; });
  }

  // The next operator, if it reads all of what the group has computed, and nobody else reads or writes that.
  const Action* next_of(const Group& group, std::size_t& index) const {
    const Uses& uses = uses_[group.result.memory];
    const std::size_t own = group_writers(group, uses);
    std::size_t count = 0;
    for (const std::size_t i : uses.readers) count += i > group.last ? 1 : 0;
    const auto next = std::ranges::upper_bound(uses.readers, group.last);
    if (next == uses.readers.end()) return nullptr;
    index = *next;
    const Action& action = recording_.actions[index];
    const View* read = argument_view(action, 0);
    if (!read || read->memory != group.result.memory || !is_plain_memory(*read) ||
        read->offset != group.result.offset || numbers_of(*read) != numbers_of(group.result)) {
      return nullptr;
    }
    const bool is_in_place = action.name == "aten::relu_";
    if (is_in_place) return uses.writers.size() == own + 1 ? &action : nullptr;
    return uses.writers.size() == own && count == 1 && !uses.is_result ? &action : nullptr;
  }

  // The same, if it reads an image as the group has computed it, and not in another shape.
  const Action* next_image_of(const Group& group, std::size_t& index) const {
    const Action* action = next_of(group, index);
    return action && argument_view(*action, 0)->sizes == group.result.sizes ? action : nullptr;
  }

  static std::size_t group_writers(const Group& group, const Uses& uses) {
    return static_cast<std::size_t>(std::ranges::count_if(
        uses.writers, [&](std::size_t i) { return std::ranges::find(group.absorbed, i) != group.absorbed.end(); }));
  }

  static void absorb(Group& group, std::size_t index, const View& result, const std::string& name) {
    group.absorbed.push_back(index);
    group.last = index;
    group.result = result;
    group.name += (group.name.empty() ? "" : ", ") + name;
  }

  bool absorb_relu(Group& group, std::size_t index, const Action& action) const {
    if (action.name != "aten::relu" && action.name != "aten::relu_") return false;
    const auto& result = action.results.at(0);
    if (!result || !is_plain_memory(*result)) return false;
    absorb(group, index, *result, "relu");
    return true;
  }

  bool is_unread(const std::optional<View>& view) const {
    return !view || (uses_[view->memory].readers.empty() && !uses_[view->memory].is_result);
  }

  // --- Linear layers ---

  std::optional<Group> linear_at(std::size_t index) {
    const Action& action = recording_.actions[index];
    const bool has_bias = action.name == "aten::addmm";
    if (!has_bias && action.name != "aten::mm") return std::nullopt;
    const std::size_t at = has_bias ? 1 : 0;
    const View *bias = has_bias ? argument_view(action, 0) : nullptr, *in = argument_view(action, at);
    const View* weight = argument_view(action, at + 1);
    const auto& result = action.results.at(0);
    if (!in || !result || !is_plain_memory(*in) || !is_plain_memory(*result) || !is_frozen(weight)) return std::nullopt;
    const int64_t inputs = weight->sizes[0], outputs = weight->sizes[1];
    if (has_bias && (!is_frozen(bias) || !is_plain_memory(*bias) || bias->sizes.size() != 1 ||
                     bias->sizes[0] != outputs || !is_number(action, 3, 1) || !is_number(action, 4, 1))) {
      return std::nullopt;
    }
    const int64_t rows = in->sizes[0];
    if (at::get_num_threads() > 1 && rows * inputs * outputs > most_products_alone) return std::nullopt;
    Group group{index, index, *in, *result, {}, "", {}};
    absorb(group, index, *result, "linear");
    std::size_t next = 0;
    const Action* following = next_of(group, next);
    const bool has_relu = following && absorb_relu(group, next, *following);
    group.maker = linear_maker(*weight, bias, rows, has_relu);
    return group;
  }

  capture::KernelMaker linear_maker(const View& weight, const View* bias, int64_t rows, bool has_relu) {
    auto& entry = weights_["linear " + key_of(weight) + (bias ? key_of(*bias) : "")];
    auto known = std::static_pointer_cast<const PackedLinear>(entry.lock());
    if (!known) {
      const auto rows_of_weights = frozen_tensor(weight).t().contiguous();
      known = std::make_shared<const PackedLinear>(rows_of_weights.const_data_ptr<float>(),
                                                   bias ? frozen_tensor(*bias).const_data_ptr<float>() : nullptr,
                                                   rows_of_weights.size(0), rows_of_weights.size(1));
      entry = known;
    }
    return [packed = std::move(known), rows, has_relu](std::vector<c10::IValue> arguments,
                                                       std::vector<torch::Tensor> results) -> capture::Kernel {
      return [packed, rows, has_relu, in = arguments[0].toTensor(), out = results[0]] {
        packed->run(in.const_data_ptr<float>(), out.mutable_data_ptr<float>(), rows, has_relu);
      };
    };
  }

  // --- Convolutions ---

  /// One of the chain, with weights that batch norm may have changed.
  struct Layer {
    Convolution shape;
    torch::Tensor weight, bias;
  };

  std::optional<Layer> layer_at(const Action& action, const View& in) const {
    if (action.name != "aten::convolution" || in.sizes.size() != 4) return std::nullopt;
    const View *weight = argument_view(action, 1), *bias = argument_view(action, 2);
    const auto stride = pair_at(action, 3, {1, 1}), padding = pair_at(action, 4, {0, 0});
    const auto dilation = pair_at(action, 5, {1, 1});
    const auto* transposed = argument_value(action, 6);
    const auto* groups = argument_value(action, 8);
    if (!is_frozen(weight) || !is_plain_memory(*weight) || (bias && !is_frozen(bias)) || !padding || !dilation ||
        !transposed || transposed->toBool() || !groups || groups->toInt() != 1) {
      return std::nullopt;
    }
    if (stride != std::array<int64_t, 2>{1, 1}) return std::nullopt;
    Layer layer;
    layer.shape.in_channels = in.sizes[1];
    layer.shape.out_channels = weight->sizes[0];
    layer.shape.in = {in.sizes[2], in.sizes[3]};
    layer.shape.kernel = {weight->sizes[2], weight->sizes[3]};
    layer.shape.padding = *padding;
    layer.shape.dilation = *dilation;
    if (layer.shape.in_channels * (in.sizes[2] + 2 * (*padding)[0]) * (in.sizes[3] + 2 * (*padding)[1]) >
        most_image_numbers) {
      return std::nullopt;
    }
    layer.weight = frozen_tensor(*weight);
    layer.bias = bias ? frozen_tensor(*bias) : torch::zeros({layer.shape.out_channels});
    return layer;
  }

  // What batch norm in eval mode does to each channel is a factor and a summand.
  bool absorb_norm(Group& group, Layer& layer, std::size_t index, const Action& action) const {
    if (action.name != "aten::native_batch_norm" || layer.shape.has_relu || layer.shape.has_pool) return false;
    const auto* is_training = argument_value(action, 5);
    if (!is_training || is_training->toBool() || !is_unread(action.results.at(1)) || !is_unread(action.results.at(2)))
      return false;
    for (std::size_t i = 1; i <= 4; ++i) {
      const View* view = argument_view(action, i);
      if (!is_frozen(view) && (i > 2 || view)) return false;
    }
    const auto& result = action.results.at(0);
    if (!result || !is_plain_memory(*result)) return false;
    const auto numbers = [&](std::size_t i) { return frozen_tensor(*argument_view(action, i)).to(torch::kDouble); };
    auto factor = (numbers(4) + argument_value(action, 7)->toDouble()).rsqrt();
    if (argument_view(action, 1)) factor = factor * numbers(1);
    auto bias = (layer.bias.to(torch::kDouble) - numbers(3)) * factor;
    if (argument_view(action, 2)) bias = bias + numbers(2);
    layer.weight = (layer.weight.to(torch::kDouble) * factor.reshape({-1, 1, 1, 1})).to(torch::kFloat32);
    layer.bias = bias.to(torch::kFloat32);
    absorb(group, index, *result, "batch_norm");
    return true;
  }

  bool absorb_pool(Group& group, Layer& layer, std::size_t index, const Action& action) const {
    constexpr std::array<int64_t, 2> two = {2, 2}, one = {1, 1}, none = {0, 0};
    if (action.name != "aten::max_pool2d_with_indices" || layer.shape.has_pool) return false;
    const auto* is_ceiled = argument_value(action, 5);
    const auto [height, width] = layer.shape.convolved();
    const auto& result = action.results.at(0);
    if (pair_at(action, 1, none) != two || pair_at(action, 2, two) != two || pair_at(action, 3, none) != none ||
        pair_at(action, 4, one) != one || !is_ceiled || is_ceiled->toBool() || height < 2 || width < 2 ||
        !is_unread(action.results.at(1)) || !result || !is_plain_memory(*result)) {
      return false;
    }
    layer.shape.has_pool = true;
    absorb(group, index, *result, "max_pool2d");
    return true;
  }

  std::optional<Group> convolutions_at(std::size_t index) {
    const View* in = argument_view(recording_.actions[index], 0);
    if (!in || !is_plain_memory(*in)) return std::nullopt;
    auto layer = layer_at(recording_.actions[index], *in);
    const int64_t samples = in->sizes[0];
    Group group{index, index, *in, *in, {}, "", {}};
    std::vector<Layer> layers;
    int64_t products = 0;
    for (std::size_t next = index; layer; layer = continued(group, next)) {
      const Action& action = recording_.actions[next];
      const auto& result = action.results.at(0);
      products += samples * layer->shape.products();
      if (!result || !is_plain_memory(*result)) break;
      if (at::get_num_threads() > 1 && products > most_products_alone) break;
      absorb(group, next, *result, "convolution");
      absorb_what_follows(group, *layer);
      layers.push_back(std::move(*layer));
    }
    if (layers.empty()) return std::nullopt;
    group.maker = convolutions_maker(layers, samples, group);
    return group;
  }

  std::optional<Layer> continued(const Group& group, std::size_t& next) const {
    const Action* action = next_image_of(group, next);
    return action ? layer_at(*action, *argument_view(*action, 0)) : std::nullopt;
  }

  void absorb_what_follows(Group& group, Layer& layer) const {
    for (std::size_t next = 0;;) {
      const Action* action = next_image_of(group, next);
      if (!action || action->results.empty()) return;
      if (absorb_norm(group, layer, next, *action) || absorb_pool(group, layer, next, *action)) continue;
      if (!absorb_relu(group, next, *action)) return;
      layer.shape.has_relu = true;
    }
  }

  capture::KernelMaker convolutions_maker(const std::vector<Layer>& layers, int64_t samples, const Group& group) {
    std::string key = group.name + " ";
    for (const std::size_t index : group.absorbed) {
      for (const auto& argument : recording_.actions[index].arguments) {
        capture::for_views(argument, [&](const View& view) { key += is_frozen(&view) ? key_of(view) : ""; });
      }
    }
    for (const auto& layer : layers) {
      key += c10::str(torch::IntArrayRef(layer.shape.in), torch::IntArrayRef(layer.shape.padding),
                      torch::IntArrayRef(layer.shape.dilation));
    }
    auto& entry = weights_[key];
    auto known = std::static_pointer_cast<const PackedConvolutions>(entry.lock());
    if (!known) {
      auto packed = std::make_shared<PackedConvolutions>();
      for (const auto& layer : layers) {
        packed->append(layer.shape, layer.weight.contiguous().const_data_ptr<float>(),
                       layer.bias.contiguous().const_data_ptr<float>());
      }
      known = std::move(packed);
      entry = known;
    }
    return [packed = std::move(known), samples](std::vector<c10::IValue> arguments,
                                                std::vector<torch::Tensor> results) -> capture::Kernel {
      return [packed, samples, scratch = std::make_shared<AlignedFloats>(packed->scratch()),
              in = arguments[0].toTensor(), out = results[0]] {
        packed->run(in.const_data_ptr<float>(), out.mutable_data_ptr<float>(), samples, *scratch);
      };
    };
  }

  const Recording& recording_;
  const std::size_t inputs_;
  PackedWeights& weights_;
  std::vector<Uses> uses_;
};

}  // namespace

Fused fuse(const Recording& recording, std::size_t inputs, const std::vector<View>& results, PackedWeights& weights) {
  std::erase_if(weights, [](const auto& entry) { return entry.second.expired(); });
  return Fusion(recording, inputs, results, weights).run();
}

}  // namespace troupe::inference
