// Values in files of torch.save: tensors, numbers, texts, lists and dictionaries.
#pragma once

#include <torch/types.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace troupe {

struct PickleNode;
struct PthOptions;

/// A value that torch.save wrote, or that write_pth is to write:
///
///     PthValue::dictionary_of({{"state_dict", PthValue::state_dict_of(named_model_tensors(*model))}, {"epoch", 3}})
///
/// Copies refer to the same value and keep all that belongs to it; any thread may use them.
class PthValue {
 public:
  using Entries = std::vector<std::pair<PthValue, PthValue>>;

  PthValue() = default;  ///< None
  template <std::same_as<bool> T>
  PthValue(T flag) : value_(flag) {}
  /// Throws UsageError for what does not fit 64 bits and a sign.
  template <std::integral T>
  requires(!std::same_as<T, bool> && !std::same_as<T, char>) PthValue(T integer)
      : value_(checked(integer < 0, static_cast<uint64_t>(integer))) {}
  template <std::floating_point T>
  PthValue(T number) : value_(static_cast<double>(number)) {}
  /// A text.
  PthValue(std::string text);
  PthValue(const char* text) : PthValue(std::string(text)) {}
  PthValue(std::string_view text) : PthValue(std::string(text)) {}
  /// Throws UsageError for an undefined tensor.
  PthValue(torch::Tensor tensor);
  static PthValue bytes_of(std::string bytes);
  static PthValue list_of(std::vector<PthValue> items);
  static PthValue tuple_of(std::vector<PthValue> items);
  /// Keeps the order. Keys are what Python can hash: texts, numbers, bools, None, bytes, tuples of them.
  static PthValue dictionary_of(Entries entries);
  /// An OrderedDict of tensors by their names, as Module.state_dict() gives it; without `_metadata`, which old modules'
  /// versions are in. Throws UsageError for a name that is given twice.
  static PthValue state_dict_of(std::span<const std::pair<std::string, torch::Tensor>> tensors);

  /// `other`: devices, dtypes, complex numbers and whole numbers of more than 64 bits, of which only describe() tells.
  enum class Kind : uint8_t { none, flag, integer, number, text, bytes, tensor, list, tuple, set, dictionary, other };
  Kind kind() const;

  /// The value. Throws UsageError ("the value is a dictionary of 3, not a tensor") for another kind.
  bool flag() const;
  int64_t integer() const;
  double number() const;
  const std::string& text() const;
  const std::string& bytes() const;
  /// Out of a file: on the CPU, without gradient, whatever it was. Tensors that shared a storage share it here.
  const torch::Tensor& tensor() const;
  /// Values in a list, a tuple or a set, entries of a dictionary; 0 for everything else.
  std::size_t size() const;
  /// Of a list, a tuple or a set.
  std::vector<PthValue> items() const;
  /// Of a dictionary, in its order.
  Entries entries() const;
  /// The value at the text `key` of a dictionary. Nothing if it is not there or this is no dictionary.
  std::optional<PthValue> find(std::string_view key) const;
  /// "a dictionary of 3", "the number 5": for messages.
  std::string describe() const;

 private:
  friend struct PthValueContent;
  friend PthValue read_pth(const std::filesystem::path& path, const PthOptions& options);
  using Value = std::variant<std::monostate, bool, int64_t, double, PickleNode*>;
  PthValue(std::shared_ptr<const void> content, Value value) : content_(std::move(content)), value_(value) {}
  static int64_t checked(bool is_negative, uint64_t integer);
  static PthValue made(PickleNode node, std::vector<PthValue> parts);
  const PickleNode& node(Kind wanted, const char* name) const;
  [[noreturn]] void refuse(const char* wanted) const;

  std::shared_ptr<const void> content_;  // owns the nodes
  Value value_;
};

}  // namespace troupe
