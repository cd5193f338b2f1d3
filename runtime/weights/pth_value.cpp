#include "troupe/runtime/weights/pth_value.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/weights/pickle_value.hpp"

#include <unordered_set>

namespace troupe {

namespace {

/// A node that a program made, and what it refers to.
struct MadePthNode {
  PickleNode node;
  std::vector<PthValue> parts;
};

}  // namespace

int64_t PthValue::checked(bool is_negative, uint64_t integer) {
  if (!is_negative && integer > static_cast<uint64_t>(INT64_MAX)) {
    throw UsageError(std::to_string(integer) + " is too large for a value of a .pth file: 2^63 - 1 is the most");
  }
  return static_cast<int64_t>(integer);
}

PthValue PthValue::made(PickleNode node, std::vector<PthValue> parts) {
  auto content = std::make_shared<MadePthNode>(MadePthNode{std::move(node), std::move(parts)});
  for (const auto& part : content->parts) content->node.items.push_back(part.value_);
  auto* const address = &content->node;
  return {std::move(content), address};
}

PthValue::PthValue(std::string text) : PthValue(made({.kind = PickleKind::text, .text = std::move(text)}, {})) {}

PthValue::PthValue(torch::Tensor tensor) {
  if (!tensor.defined()) throw UsageError("an undefined tensor cannot be a value of a .pth file");
  *this = made({.kind = PickleKind::tensor, .tensor = std::move(tensor)}, {});
}

PthValue PthValue::bytes_of(std::string bytes) {
  return made({.kind = PickleKind::bytes, .text = std::move(bytes)}, {});
}

PthValue PthValue::list_of(std::vector<PthValue> items) {
  return made({.kind = PickleKind::list}, std::move(items));
}

PthValue PthValue::tuple_of(std::vector<PthValue> items) {
  return made({.kind = PickleKind::tuple}, std::move(items));
}

PthValue PthValue::dictionary_of(Entries entries) {
  std::vector<PthValue> parts;
  for (auto& [key, value] : entries) {
    parts.push_back(std::move(key));
    parts.push_back(std::move(value));
  }
  return made({.kind = PickleKind::dictionary}, std::move(parts));
}

PthValue PthValue::state_dict_of(std::span<const std::pair<std::string, torch::Tensor>> tensors) {
  std::vector<PthValue> parts;
  std::unordered_set<std::string_view> names;
  for (const auto& [name, tensor] : tensors) {
    if (!names.insert(name).second) throw UsageError("tensor '" + shown(name) + "' is to be stored twice");
    parts.emplace_back(name);
    parts.emplace_back(tensor);
  }
  return made({.kind = PickleKind::dictionary, .is_ordered_dict = true}, std::move(parts));
}

PthValue::Kind PthValue::kind() const {
  if (std::holds_alternative<std::monostate>(value_)) return Kind::none;
  if (std::holds_alternative<bool>(value_)) return Kind::flag;
  if (std::holds_alternative<int64_t>(value_)) return Kind::integer;
  if (std::holds_alternative<double>(value_)) return Kind::number;
  switch (std::get<PickleNode*>(value_)->kind) {
    case PickleKind::text: return Kind::text;
    case PickleKind::bytes: return Kind::bytes;
    case PickleKind::list: return Kind::list;
    case PickleKind::tuple: return Kind::tuple;
    case PickleKind::set: return Kind::set;
    case PickleKind::dictionary: return Kind::dictionary;
    case PickleKind::tensor: return Kind::tensor;
    default: return Kind::other;
  }
}

void PthValue::refuse(const char* wanted) const {
  throw UsageError("the value is " + describe() + ", not " + wanted);
}

const PickleNode& PthValue::node(Kind wanted, const char* name) const {
  if (kind() != wanted) refuse(name);
  return *std::get<PickleNode*>(value_);
}

bool PthValue::flag() const {
  if (kind() != Kind::flag) refuse("True or False");
  return std::get<bool>(value_);
}

int64_t PthValue::integer() const {
  if (kind() != Kind::integer) refuse("a whole number");
  return std::get<int64_t>(value_);
}

double PthValue::number() const {
  if (kind() == Kind::integer) return static_cast<double>(integer());
  if (kind() != Kind::number) refuse("a number");
  return std::get<double>(value_);
}

const std::string& PthValue::text() const {
  return node(Kind::text, "a text").text;
}

const std::string& PthValue::bytes() const {
  return node(Kind::bytes, "bytes").text;
}

const torch::Tensor& PthValue::tensor() const {
  return node(Kind::tensor, "a tensor").tensor;
}

std::size_t PthValue::size() const {
  switch (kind()) {
    case Kind::list:
    case Kind::tuple:
    case Kind::set: return std::get<PickleNode*>(value_)->items.size();
    case Kind::dictionary: return std::get<PickleNode*>(value_)->items.size() / 2;
    default: return 0;
  }
}

std::vector<PthValue> PthValue::items() const {
  const auto is = kind();
  if (is != Kind::list && is != Kind::tuple && is != Kind::set) refuse("a list, a tuple or a set");
  std::vector<PthValue> out;
  for (const auto& item : std::get<PickleNode*>(value_)->items) out.push_back({content_, item});
  return out;
}

std::vector<std::pair<PthValue, PthValue>> PthValue::entries() const {
  const auto& all = node(Kind::dictionary, "a dictionary").items;
  std::vector<std::pair<PthValue, PthValue>> out;
  for (std::size_t i = 0; i + 1 < all.size(); i += 2) {
    out.emplace_back(PthValue(content_, all[i]), PthValue(content_, all[i + 1]));
  }
  return out;
}

std::optional<PthValue> PthValue::find(std::string_view key) const {
  if (kind() != Kind::dictionary) return std::nullopt;
  const auto& all = std::get<PickleNode*>(value_)->items;
  // A key that is given again has its last value, as in Python.
  for (std::size_t i = all.size() / 2; i-- > 0;) {
    const auto* const text = node_of(all[2 * i], PickleKind::text);
    if (text && text->text == key) return PthValue(content_, all[2 * i + 1]);
  }
  return std::nullopt;
}

std::string PthValue::describe() const {
  return pickle_text(value_);
}

}  // namespace troupe
