#include "troupe/runtime/capture/agreement.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <bit>
#include <cstring>

namespace troupe::capture {

namespace {

std::string text_of(const c10::IValue& value) {
  if (value.isTensor() && !value.toTensor().defined()) return "no tensor";
  return c10::str(value);
}

std::string text_of(const Argument& argument) {
  if (const auto* view = std::get_if<View>(&argument)) return to_text(*view);
  if (const auto* list = std::get_if<ViewList>(&argument)) return std::to_string(list->views.size()) + " tensors";
  return text_of(std::get<c10::IValue>(argument));
}

bool is_same(const c10::IValue& a, const c10::IValue& b) {
  if (a.isTensor() || b.isTensor()) {  // undefined ones
    return a.isTensor() == b.isTensor() || a.isNone() || b.isNone();
  }
  if (a.isDouble() && b.isDouble()) {
    return std::bit_cast<uint64_t>(a.toDouble()) == std::bit_cast<uint64_t>(b.toDouble());
  }
  if (a.tagKind() != b.tagKind()) return false;
  if (a.isGenerator()) return a.toGenerator() == b.toGenerator();
  if (a.isNone()) return true;
  if (a.isDevice()) return a.toDevice() == b.toDevice();
  if (a.isComplexDouble()) return a.toComplexDouble() == b.toComplexDouble();
  if (a.isInt()) return a.toInt() == b.toInt();
  if (a.isBool()) return a.toBool() == b.toBool();
  return text_of(a) == text_of(b);
}

// A sentence about two views of memory that is numbered in the order in which it comes up.
std::string difference(const View& a, const View& b) {
  if (a.type != b.type || a.sizes != b.sizes) return to_text(a) + " in one step and " + to_text(b) + " in the next";
  if (a.strides != b.strides || a.offset != b.offset) {
    return c10::str("has strides ", torch::IntArrayRef(a.strides), " at ", a.offset, " in one step and ",
                    torch::IntArrayRef(b.strides), " at ", b.offset, " in the next");
  }
  if (a.memory != b.memory) return "is another tensor in the next step";
  return a == b ? "" : "takes part in the promotion of types in one step alone";
}

std::string difference(const Argument& a, const Argument& b) {
  const auto* view = std::get_if<View>(&a);
  const auto* other = std::get_if<View>(&b);
  if (view && other) return difference(*view, *other);
  const auto* list = std::get_if<ViewList>(&a);
  const auto* other_list = std::get_if<ViewList>(&b);
  if (list && other_list && *list == *other_list) return "";
  const auto* value = std::get_if<c10::IValue>(&a);
  const auto* other_value = std::get_if<c10::IValue>(&b);
  if (value && other_value && is_same(*value, *other_value)) return "";
  return "is " + text_of(a) + " in one step and " + text_of(b) + " in the next";
}

std::string name_of_argument(const Action& action, std::size_t index) {
  return action.op ? action.op->schema().arguments()[index].name() : std::to_string(index);
}

std::string difference(const Action& a, const Action& b, std::size_t number) {
  const std::string at = "operator " + std::to_string(number) + ", " + a.name;
  if (a.name != b.name)
    return "operator " + std::to_string(number) + " is " + a.name + " in one step and " + b.name + " in the next";
  if (a.arguments.size() != b.arguments.size() || a.results.size() != b.results.size()) {
    return at + ": has other arguments in the next step";
  }
  for (std::size_t i = 0; i < a.arguments.size(); ++i) {
    const auto what = difference(a.arguments[i], b.arguments[i]);
    if (!what.empty()) return at + ": its argument " + name_of_argument(a, i) + " " + what;
  }
  for (std::size_t i = 0; i < a.results.size(); ++i) {
    if (a.results[i].has_value() != b.results[i].has_value()) return at + ": has a result in one step alone";
    if (!a.results[i]) continue;
    const auto what = difference(*a.results[i], *b.results[i]);
    if (!what.empty()) return at + ": its result " + what;
  }
  return "";
}

bool is_same_memory(const Memory& a, const Memory& b) {
  return a.identity._unsafe_get_target() == b.identity._unsafe_get_target();
}

// The first action that uses it.
std::string user_of(const Recording& recording, std::size_t memory) {
  for (std::size_t i = 0; i < recording.actions.size(); ++i) {
    for (const auto& argument : recording.actions[i].arguments) {
      const auto* view = std::get_if<View>(&argument);
      if (view && view->memory == memory) {
        return "operator " + std::to_string(i) + ", " + recording.actions[i].name + ": its argument, " + to_text(*view);
      }
    }
  }
  return "a tensor";
}

std::string difference_of_memory(const Recording& first, const Recording& second, std::size_t i) {
  const Memory& a = first.memories[i];
  const Memory& b = second.memories[i];
  if (a.kind != b.kind || a.bytes != b.bytes) return user_of(first, i) + ", lies in other memory in the next step";
  if (a.kind == Memory::Kind::computed) return "";
  if (is_same_memory(a, b)) return "";
  if (a.kind == Memory::Kind::given) return a.name + " lies elsewhere in the next step";
  if (a.is_written || b.is_written) {
    return user_of(first, i) + ", is a tensor that the step keeps for the next one, in other memory each time";
  }
  if (!a.content || !b.content) return user_of(first, i) + ", is a large tensor that is made outside of the step";
  if (*a.content != *b.content) {
    return user_of(first, i) + ", is made of numbers of the host, which differ between two steps";
  }
  return "";
}

}  // namespace

std::string difference(const Recording& first, const Recording& second) {
  const std::size_t common = std::min(first.actions.size(), second.actions.size());
  for (std::size_t i = 0; i < common; ++i) {
    auto what = difference(first.actions[i], second.actions[i], i);
    if (!what.empty()) return what;
  }
  if (first.actions.size() != second.actions.size()) {
    const auto& longer = first.actions.size() > common ? first : second;
    return "one step has " + std::to_string(first.actions.size()) + " operators and the next " +
           std::to_string(second.actions.size()) + ": operator " + std::to_string(common) + ", " +
           longer.actions[common].name + ", is in one of them alone";
  }
  if (first.memories.size() != second.memories.size() || first.marks != second.marks) {
    return "the operators of two steps use other memory";
  }
  for (std::size_t i = 0; i < first.memories.size(); ++i) {
    auto what = difference_of_memory(first, second, i);
    if (!what.empty()) return what;
  }
  return "";
}

bool has_same_bits(const torch::Tensor& a, const torch::Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) return false;
  const auto x = a.detach().contiguous(), y = b.detach().contiguous();
  return x.nbytes() == 0 || std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0;
}

void mark_kept(const Recording& first, Recording& second) {
  for (std::size_t i = 0; i < second.memories.size(); ++i) {
    // What somebody holds after the step is no number of the step, though it was another tensor before.
    second.memories[i].is_kept =
        is_same_memory(first.memories[i], second.memories[i]) || !second.memories[i].identity.expired();
  }
}

}  // namespace troupe::capture
