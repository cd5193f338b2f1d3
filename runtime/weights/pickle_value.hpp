// What a pickle makes: values that refer to nodes, and the arena that owns these.
#pragma once

#include <torch/types.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <variant>
#include <vector>

namespace troupe {

struct PickleNode;

/// None, a bool, a whole number, a floating-point number, or something that has a node.
using PickleValue = std::variant<std::monostate, bool, int64_t, double, PickleNode*>;

enum class PickleKind : uint8_t {
  text,
  bytes,
  list,
  tuple,
  set,
  dictionary,
  tensor,
  dtype,    ///< torch.float32
  storage,  ///< of tensors: what a persistent id stands for
  global,   ///< a class or function that the reader knows
  other,    ///< known, harmless, of no use here: devices, complex and very large numbers
};

struct PickleNode {
  PickleKind kind = PickleKind::other;
  torch::ScalarType dtype = torch::ScalarType::Undefined;  ///< of dtype, storage and global; Undefined: untyped
  bool is_ordered_dict = false;
  int64_t count = 0;      ///< elements of a storage; what a global does
  std::string text = {};  ///< of text and bytes; a storage's key, a global's name, what the other ones are
  std::vector<PickleValue> items = {};  ///< of list, tuple and set; a dictionary's keys and values in turn
  torch::Tensor tensor = {};
};

/// Owns the nodes of a pickle. Lists may hold themselves, and may be nested as deep as the file is long: nodes that own
/// each other would leak, or end the process when they go.
class PickleArena {
 public:
  /// Throws UsageError beyond the most nodes that a file may have (4 million; a state_dict has about ten per tensor).
  PickleNode* make(PickleKind kind);
  PickleNode* make(PickleKind kind, std::string text);
  PickleNode* make(PickleKind kind, std::vector<PickleValue> items);
  /// Counts memory that a few opcodes ask for again and again, since they can refer to one value many times: copies of
  /// texts and lists, tensors. Throws UsageError beyond 128 MB.
  void charge(std::size_t bytes);

 private:
  std::size_t charged_ = 0;
  std::deque<PickleNode> nodes_;
};

/// The value's node if it has one and is of that kind, else nullptr.
PickleNode* node_of(const PickleValue& value, PickleKind kind);
/// "None", "a whole number", "a dictionary": for messages.
std::string pickle_text(const PickleValue& value);
std::string pickle_text(const PickleNode& node);

}  // namespace troupe
