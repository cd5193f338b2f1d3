#include "troupe/runtime/weights/pickle_writer.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/weights/torch_types.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <limits>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace troupe {

namespace {

/// Opcodes of Python's pickletools that the writer needs.
namespace pickled {
constexpr std::string_view proto_2 = "\x80\x02", none = "N", newtrue = "\x88", newfalse = "\x89", empty_list = "]",
                           appends = "e", empty_dict = "}", setitems = "u", empty_tuple = ")", tuple = "t", mark = "(",
                           reduce = "R", binpersid = "Q", stop = ".";
constexpr std::string_view tuple_of[] = {empty_tuple, "\x85", "\x86", "\x87"};
}  // namespace pickled

class PickleComposer {
 public:
  explicit PickleComposer(PickledStorages& storages) : storages_(storages) {}

  std::string run(const PickleValue& value) {
    put(pickled::proto_2);
    add(value);
    put(pickled::stop);
    return std::move(out_);
  }

 private:
  void put(std::string_view bytes) { out_ += bytes; }
  /// `bytes` of a number, the lowest first.
  void put_number(uint64_t number, int bytes) {
    for (int i = 0; i < bytes; ++i) out_ += static_cast<char>(number >> (8 * i) & 0xff);
  }
  void put_index(char opcode_of_byte, char opcode, uint32_t index) {
    const bool is_byte = index < 256;
    out_ += is_byte ? opcode_of_byte : opcode;
    put_number(index, is_byte ? 1 : 4);
  }
  void refer_to(uint32_t index) { put_index('h', 'j', index); }
  /// Keeps what was made last, and returns the index that refers to it.
  uint32_t keep() {
    put_index('q', 'r', kept_);
    return kept_++;
  }
  [[noreturn]] void refuse(const std::string& why) const {
    throw UsageError((path_.empty() ? "the value" : "'" + shown(joined(path_, ".")) + "'") + " " + why);
  }

  void add(const PickleValue& value) {
    if (const auto* const node = std::get_if<PickleNode*>(&value)) return add_node(**node);
    if (const auto* const flag = std::get_if<bool>(&value)) return put(*flag ? pickled::newtrue : pickled::newfalse);
    if (const auto* const integer = std::get_if<int64_t>(&value)) return add_integer(*integer);
    if (const auto* const number = std::get_if<double>(&value)) return add_double(*number);
    put(pickled::none);
  }
  void add_integer(int64_t value);
  void add_double(double value);
  void add_text(const std::string& text);
  void add_bytes(const std::string& bytes);
  void add_global(const std::string& module, const std::string& name);
  void add_integers(at::IntArrayRef values);
  void add_node(const PickleNode& node);
  void add_items(const PickleNode& node);
  void add_entries(const PickleNode& node);
  void add_tensor(const torch::Tensor& tensor);
  void add_storage(const PickledStorage& storage, const TorchType& type);
  /// Of what has been added: it is not too deep, and each tuple is looked at once.
  bool is_hashable_in_python(const PickleValue& value);
  void add_within(const std::string& name, const PickleValue& value) {
    constexpr std::size_t most_levels = 100;
    if (path_.size() == most_levels) refuse("is nested deeper than 100 levels");
    path_.push_back(name);
    add(value);
    path_.pop_back();
  }

  PickledStorages& storages_;
  std::string out_;
  uint32_t kept_ = 0;
  std::unordered_map<const PickleNode*, uint32_t> nodes_;
  std::unordered_map<const PickleNode*, bool> hashable_;
  std::unordered_map<std::string, uint32_t> texts_, globals_;
  std::vector<std::string> path_;
};

void PickleComposer::add_integer(int64_t value) {
  if (value >= 0 && value <= 0xff) {
    put("K");
    return put_number(static_cast<uint64_t>(value), 1);
  }
  if (value >= 0 && value <= 0xffff) {
    put("M");
    return put_number(static_cast<uint64_t>(value), 2);
  }
  if (value >= INT32_MIN && value <= INT32_MAX) {
    put("J");
    return put_number(static_cast<uint64_t>(value), 4);
  }
  put("\x8a\x08");
  put_number(static_cast<uint64_t>(value), 8);
}

void PickleComposer::add_double(double value) {
  put("G");
  put_number(__builtin_bswap64(std::bit_cast<uint64_t>(value)), 8);  // the highest byte first
}

void PickleComposer::add_text(const std::string& text) {
  const auto [known, is_new] = texts_.try_emplace(text, kept_);
  if (!is_new) return refer_to(known->second);
  if (!is_utf8(text)) refuse("has the text '" + shown(text) + "', which is not UTF-8");
  if (text.size() > std::numeric_limits<uint32_t>::max()) refuse("is a text of more than 4 GB");
  put("X");
  put_number(text.size(), 4);
  put(text);
  keep();
}

/// Protocol 2 has no bytes: a text of the characters with these numbers, encoded.
void PickleComposer::add_bytes(const std::string& bytes) {
  std::string text;
  for (const auto c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte >= 0x80) text += static_cast<char>(0xc0 | byte >> 6);
    text += byte < 0x80 ? c : static_cast<char>(0x80 | (byte & 0x3f));
  }
  add_global("_codecs", "encode");
  add_text(text);
  add_text("latin1");
  put(pickled::tuple_of[2]);
  put(pickled::reduce);
}

void PickleComposer::add_global(const std::string& module, const std::string& name) {
  const auto [known, is_new] = globals_.try_emplace(module + " " + name, kept_);
  if (!is_new) return refer_to(known->second);
  put("c" + module + "\n" + name + "\n");
  keep();
}

void PickleComposer::add_integers(at::IntArrayRef values) {
  if (values.size() > 3) put(pickled::mark);
  for (const auto value : values) add_integer(value);
  put(values.size() > 3 ? pickled::tuple : pickled::tuple_of[values.size()]);
}

void PickleComposer::add_node(const PickleNode& node) {
  if (node.kind == PickleKind::text) return add_text(node.text);
  if (const auto known = nodes_.find(&node); known != nodes_.end()) return refer_to(known->second);
  const auto keep_node = [&] { nodes_.emplace(&node, keep()); };
  switch (node.kind) {
    case PickleKind::bytes: add_bytes(node.text); return keep_node();
    case PickleKind::tensor: add_tensor(node.tensor); return keep_node();
    case PickleKind::list:
      put(pickled::empty_list);
      keep_node();  // before its items, which may refer to it
      put(pickled::mark);
      add_items(node);
      return put(pickled::appends);
    case PickleKind::tuple:
      if (node.items.empty()) return put(pickled::empty_tuple);
      put(pickled::mark);
      add_items(node);
      put(pickled::tuple);
      return keep_node();
    case PickleKind::set:
      add_global("__builtin__", "set");
      put(pickled::empty_list);
      put(pickled::mark);
      add_items(node);
      put(pickled::appends);
      put(pickled::tuple_of[1]);
      put(pickled::reduce);
      return keep_node();
    case PickleKind::dictionary:
      if (node.is_ordered_dict) {
        add_global("collections", "OrderedDict");
        put(pickled::empty_tuple);
        put(pickled::reduce);
      } else {
        put(pickled::empty_dict);
      }
      keep_node();
      put(pickled::mark);
      add_entries(node);
      return put(pickled::setitems);
    default: refuse("is " + pickle_text(node) + ", which cannot be written");
  }
}

void PickleComposer::add_items(const PickleNode& node) {
  for (std::size_t i = 0; i < node.items.size(); ++i) add_within(std::to_string(i), node.items[i]);
}

void PickleComposer::add_entries(const PickleNode& node) {
  for (std::size_t i = 0; i + 1 < node.items.size(); i += 2) {
    const auto& key = node.items[i];
    const auto* const text = node_of(key, PickleKind::text);
    const auto name = text ? text->text : pickle_text(key);
    add_within(name, key);
    if (!is_hashable_in_python(key)) refuse("has " + name + " as a key, which Python cannot hash");
    add_within(name, node.items[i + 1]);
  }
}

bool PickleComposer::is_hashable_in_python(const PickleValue& value) {
  const auto* const found = std::get_if<PickleNode*>(&value);
  if (!found) return true;
  const PickleNode& node = **found;
  if (node.kind != PickleKind::tuple) {
    return node.kind == PickleKind::text || node.kind == PickleKind::bytes || node.kind == PickleKind::tensor;
  }
  if (const auto known = hashable_.find(&node); known != hashable_.end()) return known->second;
  const bool is_hashable =
      std::ranges::all_of(node.items, [&](const auto& item) { return is_hashable_in_python(item); });
  return hashable_[&node] = is_hashable;
}

void PickleComposer::add_tensor(const torch::Tensor& tensor) try {
  const auto storage = storages_.storage_of(tensor);
  const auto& type = *torch_type(storage.dtype);
  add_global("torch._utils", storage.is_typed ? "_rebuild_tensor_v2" : "_rebuild_tensor_v3");
  put(pickled::mark);
  add_storage(storage, type);
  add_integer(tensor.storage_offset());
  add_integers(tensor.sizes());
  add_integers(tensor.strides());
  put(pickled::newfalse);  // no gradient
  add_global("collections", "OrderedDict");
  put(pickled::empty_tuple);  // no hooks
  put(pickled::reduce);
  if (!storage.is_typed) add_global("torch", std::string(type.name));
  if (tensor.is_conj() || tensor.is_neg()) {
    put(pickled::empty_dict);
    put(pickled::mark);
    for (const auto& [name, is_set] : {std::pair("conj", tensor.is_conj()), std::pair("neg", tensor.is_neg())}) {
      if (!is_set) continue;
      add_text(name);
      put(pickled::newtrue);
    }
    put(pickled::setitems);
  }
  put(pickled::tuple);
  put(pickled::reduce);
} catch (const UsageError& error) {
  refuse(error.what());
}

void PickleComposer::add_storage(const PickledStorage& storage, const TorchType& type) {
  put(pickled::mark);
  add_text("storage");
  if (storage.is_typed) {
    add_global("torch", std::string(type.storage));
  } else {
    add_global("torch.storage", "UntypedStorage");
  }
  add_text(storage.key);
  add_text("cpu");
  add_integer(storage.count);
  put(pickled::tuple);
  put(pickled::binpersid);
}

}  // namespace

std::string write_pickle(const PickleValue& value, PickledStorages& storages) {
  return PickleComposer(storages).run(value);
}

}  // namespace troupe
