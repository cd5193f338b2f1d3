#include "troupe/runtime/weights/pickle_value.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"

#include <utility>

namespace troupe {

namespace {

constexpr std::size_t kMostNodes = 4'000'000;
constexpr std::size_t kMostCharged = std::size_t{1} << 27;

}  // namespace

std::string pickle_text(const PickleNode& node) {
  switch (node.kind) {
    case PickleKind::text: return "the text '" + shown(node.text) + "'";
    case PickleKind::bytes: return std::to_string(node.text.size()) + " bytes";
    case PickleKind::list: return "a list of " + std::to_string(node.items.size());
    case PickleKind::tuple: return "a tuple of " + std::to_string(node.items.size());
    case PickleKind::set: return "a set of " + std::to_string(node.items.size());
    case PickleKind::dictionary: return "a dictionary of " + std::to_string(node.items.size() / 2);
    case PickleKind::tensor: return "a tensor";
    case PickleKind::storage: return "a storage without a tensor";
    default: return shown(node.text);
  }
}

PickleNode* PickleArena::make(PickleKind kind) {
  if (nodes_.size() == kMostNodes) {
    throw UsageError("it makes more than " + std::to_string(kMostNodes) + " values, which no state_dict does");
  }
  auto& node = nodes_.emplace_back();
  node.kind = kind;
  return &node;
}

PickleNode* PickleArena::make(PickleKind kind, std::string text) {
  auto* const node = make(kind);
  node->text = std::move(text);
  return node;
}

PickleNode* PickleArena::make(PickleKind kind, std::vector<PickleValue> items) {
  auto* const node = make(kind);
  node->items = std::move(items);
  return node;
}

void PickleArena::charge(std::size_t bytes) {
  charged_ += bytes;
  if (charged_ > kMostCharged) throw UsageError("it makes more tensors and copies than a state_dict can have");
}

PickleNode* node_of(const PickleValue& value, PickleKind kind) {
  const auto* const node = std::get_if<PickleNode*>(&value);
  return node && (*node)->kind == kind ? *node : nullptr;
}

std::string pickle_text(const PickleValue& value) {
  if (const auto* node = std::get_if<PickleNode*>(&value)) return pickle_text(**node);
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "True" : "False";
  if (const auto* number = std::get_if<int64_t>(&value)) return "the number " + std::to_string(*number);
  if (const auto* number = std::get_if<double>(&value)) return "the number " + std::to_string(*number);
  return "None";
}

}  // namespace troupe
