#include "troupe/runtime/weights/torch_objects.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/weights/torch_types.hpp"

#include <ATen/ops/_conj.h>
#include <ATen/ops/_neg_view.h>
#include <c10/core/TensorImpl.h>

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

namespace troupe {

namespace {

enum class Role : int64_t {
  ordered_dict,
  counter,
  set,
  size,
  encode,
  empty_bytes,
  bytearray,
  complex,
  device,
  tensor_v2,
  tensor_v3,
  parameter,
  parameter_with_state,
  from_type,
  tensor_type,
  storage_type,
};

const std::map<std::string, Role, std::less<>>& torch_roles() {
  static const std::map<std::string, Role, std::less<>> roles = {
      {"collections.OrderedDict", Role::ordered_dict},
      {"collections.Counter", Role::counter},
      {"builtins.set", Role::set},
      {"builtins.frozenset", Role::set},
      {"builtins.bytes", Role::empty_bytes},
      {"builtins.bytearray", Role::bytearray},
      {"builtins.complex", Role::complex},
      {"_codecs.encode", Role::encode},
      {"torch.Size", Role::size},
      {"torch.device", Role::device},
      {"torch.Tensor", Role::tensor_type},
      {"torch.nn.parameter.Parameter", Role::tensor_type},
      {"torch._utils._rebuild_tensor_v2", Role::tensor_v2},
      {"torch._utils._rebuild_tensor_v3", Role::tensor_v3},
      {"torch._utils._rebuild_parameter", Role::parameter},
      {"torch._utils._rebuild_parameter_with_state", Role::parameter_with_state},
      {"torch._tensor._rebuild_from_type_v2", Role::from_type},
  };
  return roles;
}

/// What to do about a name that is refused.
std::string advice_about(std::string_view name) {
  const auto has = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
  if (has("qtensor") || has("QInt") || has("QUInt")) {
    return "the tensor is quantized: save tensor.dequantize(), or tensor.int_repr() with its scale";
  }
  if (has("_sparse_")) return "the tensor is sparse: save tensor.to_dense()";
  if (has("_rebuild_meta_tensor")) return "the tensor is on the device 'meta' and has no values";
  if (has("nested")) return "the tensor is nested: save tensor.to_padded_tensor(0)";
  if (name.starts_with("numpy.")) return "save numpy's arrays and numbers as tensors: torch.from_numpy(x), x.item()";
  return "save the weights alone: torch.save(model.state_dict(), path); of a file that you trust, in Python: "
         "x = torch.load(old, weights_only=False); torch.save(x['state_dict'], new), or x.state_dict() if x is the "
         "model itself";
}

const std::vector<PickleValue>& torch_arguments(const PickleNode& global, const PickleNode& tuple, std::size_t least,
                                                std::size_t most) {
  if (tuple.items.size() >= least && tuple.items.size() <= most) return tuple.items;
  throw UsageError("it calls " + global.text + " with " + std::to_string(tuple.items.size()) + " arguments");
}

int64_t torch_integer(const PickleNode& global, const PickleValue& value) {
  if (const auto* number = std::get_if<int64_t>(&value)) return *number;
  throw UsageError("it calls " + global.text + " with " + pickle_text(value) + ", where a whole number belongs");
}

std::vector<int64_t> torch_integers(const PickleNode& global, const PickleValue& value) {
  const auto* node = node_of(value, PickleKind::tuple);
  if (!node) node = node_of(value, PickleKind::list);
  if (!node) throw UsageError("it calls " + global.text + " with " + pickle_text(value) + ", where sizes belong");
  constexpr std::size_t most_dimensions = 64;  // of LibTorch's operators
  if (node->items.size() > most_dimensions) {
    throw UsageError("a tensor has " + std::to_string(node->items.size()) + " dimensions, 64 are the most");
  }
  std::vector<int64_t> out;
  for (const auto& item : node->items) out.push_back(torch_integer(global, item));
  return out;
}

/// The number of elements of a view, which was checked to lie in its storage of `most` elements; one without elements
/// may begin anywhere, as a slice of nothing does.
int64_t elements_of(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides, int64_t offset,
                    int64_t most) {
  const auto refuse = [&](const std::string& why) {
    throw UsageError("a tensor of sizes [" + joined(sizes) + "], strides [" + joined(strides) + "] and offset " +
                     std::to_string(offset) + " " + why);
  };
  if (sizes.size() != strides.size()) refuse("has not one stride for each size");
  const auto outside = "begins outside of its storage of " + std::to_string(most) + " elements";
  if (offset < 0) refuse(outside);
  int64_t elements = 1;
  bool is_empty = false;
  __int128 last = offset;
  constexpr __int128 far = static_cast<__int128>(1) << 100;  // one more product cannot overflow
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] < 0 || strides[i] < 0) refuse("has a negative one");
    if (sizes[i] == 0) is_empty = true;
    if (sizes[i] != 0 && __builtin_mul_overflow(elements, sizes[i], &elements)) refuse("is too large");
    if (sizes[i] > 1) last = std::min(far, last + static_cast<__int128>(sizes[i] - 1) * strides[i]);
  }
  if (is_empty) return 0;
  if (offset > most) refuse(outside);
  if (last >= most) refuse("does not lie in its storage of " + std::to_string(most) + " elements");
  return elements;
}

/// Views that PyTorch makes without a copy: the values are those of the storage, conjugated or negated.
torch::Tensor with_lazy_operators(torch::Tensor tensor, const PickleValue& metadata) {
  const auto* const node = node_of(metadata, PickleKind::dictionary);
  if (!node) throw UsageError("a tensor's metadata are " + pickle_text(metadata));
  for (std::size_t i = 0; i + 1 < node->items.size(); i += 2) {
    const auto* const key = node_of(node->items[i], PickleKind::text);
    const auto* const on = std::get_if<bool>(&node->items[i + 1]);
    if (key && on && key->text == "conj" && (!*on || tensor.is_complex())) {
      if (*on && !tensor.is_conj()) tensor = at::_conj(tensor);
    } else if (key && on && key->text == "neg") {
      if (*on && !tensor.is_neg()) tensor = at::_neg_view(tensor);
    } else {
      throw UsageError("a tensor has the metadata " + pickle_text(node->items[i]) + ", which are not known");
    }
  }
  return tensor;
}

}  // namespace

PickleValue TorchObjects::global(const std::string& module, const std::string& name) {
  // Pickles of protocol 2 carry the names of Python 2.
  const auto full = (module == "__builtin__" ? "builtins" : module) + "." + name;
  const auto make = [&](Role role, torch::ScalarType dtype) {
    auto* const node = arena_.make(PickleKind::global, full);
    node->count = static_cast<int64_t>(role);
    node->dtype = dtype;
    return node;
  };
  const auto role = torch_roles().find(full);
  if (role != torch_roles().end()) return make(role->second, torch::ScalarType::Undefined);
  if (full == "torch.storage.UntypedStorage") return make(Role::storage_type, torch::ScalarType::Undefined);
  for (const auto& type : torch_types()) {
    if (module == "torch" && name == type.name) {
      auto* const node = arena_.make(PickleKind::dtype, full);
      node->dtype = type.dtype;
      return node;
    }
    if ((module == "torch" || module == "torch.cuda") && name == type.storage && !name.empty()) {
      return make(Role::storage_type, type.dtype);
    }
  }
  throw UsageError("the file names " + shown(full) + ", which is no part of a state_dict: nothing of it is run; " +
                   advice_about(full));
}

// A table, one case per function that torch.save calls.
PickleValue TorchObjects::call(const PickleNode& global, const PickleValue& arguments) {
  const auto* const tuple = node_of(arguments, PickleKind::tuple);
  if (!tuple) throw UsageError("it calls " + global.text + " with " + pickle_text(arguments));
  const auto arg = [&](std::size_t least, std::size_t most) -> const std::vector<PickleValue>& {
    return torch_arguments(global, *tuple, least, most);
  };
  switch (static_cast<Role>(global.count)) {
    case Role::ordered_dict: {
      (void)arg(0, 0);
      auto* const node = arena_.make(PickleKind::dictionary);
      node->is_ordered_dict = true;
      return node;
    }
    case Role::counter: {
      const auto& items = arg(0, 1);
      if (items.empty()) return arena_.make(PickleKind::dictionary);
      if (node_of(items[0], PickleKind::dictionary)) return items[0];
      throw UsageError("it makes a Counter of " + pickle_text(items[0]));
    }
    case Role::set: {
      const auto& items = arg(1, 1);
      const auto* const list = node_of(items[0], PickleKind::list);
      if (!list) throw UsageError("it makes a set of " + pickle_text(items[0]));
      arena_.charge(list->items.size() * sizeof(PickleValue));
      return arena_.make(PickleKind::set, list->items);
    }
    case Role::size: return (void)torch_integers(global, arg(1, 1)[0]), arg(1, 1)[0];
    case Role::encode: return copied_bytes(arg(1, 2)[0]);
    case Role::empty_bytes: return (void)arg(0, 0), arena_.make(PickleKind::bytes);
    case Role::bytearray: return arg(0, 1).empty() ? arena_.make(PickleKind::bytes) : copied_bytes(arg(1, 1)[0]);
    case Role::complex: return (void)arg(2, 2), arena_.make(PickleKind::other, "a complex number");
    case Role::device: return device(*tuple);
    case Role::tensor_v2: return (void)arg(6, 7), rebuilt_tensor(global, *tuple, false);
    case Role::tensor_v3: return (void)arg(7, 8), rebuilt_tensor(global, *tuple, true);
    case Role::parameter:
    case Role::parameter_with_state: {
      const auto& items = arg(3, 4);
      if (node_of(items[0], PickleKind::tensor)) return items[0];
      throw UsageError("it makes a parameter of " + pickle_text(items[0]));
    }
    case Role::from_type: return (void)arg(4, 4), rebuilt_from_type(*tuple);
    default: throw UsageError("it calls " + global.text + ", which torch.save does not");
  }
}

/// Python writes bytes as text whose characters are the bytes (latin-1).
PickleValue TorchObjects::copied_bytes(const PickleValue& value) {
  if (node_of(value, PickleKind::bytes)) return value;
  const auto* const text = node_of(value, PickleKind::text);
  if (!text) throw UsageError("it makes bytes of " + pickle_text(value));
  arena_.charge(text->text.size());
  std::string bytes;
  for (std::size_t i = 0; i < text->text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text->text[i]);
    if (byte < 0x80) {
      bytes += text->text[i];
    } else if (byte <= 0xc3 && i + 1 < text->text.size()) {
      bytes += static_cast<char>((byte & 3) << 6 | (static_cast<uint8_t>(text->text[++i]) & 0x3f));
    } else {
      throw UsageError("it makes bytes of a text that is not of latin-1");
    }
  }
  return arena_.make(PickleKind::bytes, std::move(bytes));
}

PickleValue TorchObjects::device(const PickleNode& arguments) {
  const auto* const type = arguments.items.empty() ? nullptr : node_of(arguments.items[0], PickleKind::text);
  if (!type) throw UsageError("it makes a device without a name");
  return arena_.make(PickleKind::other, "the device " + shown(type->text));
}

/// A tensor to which Python attributes were given: (function, type, arguments, state).
PickleValue TorchObjects::rebuilt_from_type(const PickleNode& arguments) {
  const auto* const function = node_of(arguments.items[0], PickleKind::global);
  const auto* const type = node_of(arguments.items[1], PickleKind::global);
  const bool is_plain = function && function->count != static_cast<int64_t>(Role::from_type) && type &&
                        type->count == static_cast<int64_t>(Role::tensor_type);
  if (!is_plain) throw UsageError("it makes a tensor by " + pickle_text(arguments.items[0]));
  return call(*function, arguments.items[2]);
}

PickleValue TorchObjects::persistent(const PickleValue& id) {
  const auto* const tuple = node_of(id, PickleKind::tuple);
  const bool is_whole = tuple && tuple->items.size() == 5;
  const auto* const what = is_whole ? node_of(tuple->items[0], PickleKind::text) : nullptr;
  const auto* const type = is_whole ? node_of(tuple->items[1], PickleKind::global) : nullptr;
  const auto* const key = is_whole ? node_of(tuple->items[2], PickleKind::text) : nullptr;
  const auto* const count = is_whole ? std::get_if<int64_t>(&tuple->items[4]) : nullptr;
  if (!what || what->text != "storage" || !type || type->count != static_cast<int64_t>(Role::storage_type) || !key ||
      !count || *count < 0) {
    throw UsageError("it refers to something outside that is no storage of a tensor");
  }
  const auto size =
      type->dtype == torch::ScalarType::Undefined ? 1 : static_cast<int64_t>(c10::elementSize(type->dtype));
  int64_t bytes = 0;
  if (__builtin_mul_overflow(*count, size, &bytes)) throw UsageError("a storage is too large");
  storages_.check(key->text, static_cast<uint64_t>(bytes));
  arena_.charge(key->text.size());
  auto* const node = arena_.make(PickleKind::storage, key->text);
  node->dtype = type->dtype;
  node->count = *count;
  return node;
}

PickleValue TorchObjects::rebuilt_tensor(const PickleNode& global, const PickleNode& arguments, bool has_dtype) {
  const auto& items = arguments.items;
  const auto* const storage = node_of(items[0], PickleKind::storage);
  if (!storage) throw UsageError("it calls " + global.text + " with " + pickle_text(items[0]) + " for a storage");
  auto dtype = storage->dtype;
  if (has_dtype) {
    const auto* const given = node_of(items[6], PickleKind::dtype);
    if (!given) throw UsageError("it calls " + global.text + " with " + pickle_text(items[6]) + " for a dtype");
    dtype = given->dtype;
  }
  if (dtype == torch::ScalarType::Undefined) throw UsageError("a tensor has no dtype");
  auto tensor = view_of(*storage, dtype, torch_integer(global, items[1]), torch_integers(global, items[2]),
                        torch_integers(global, items[3]));
  const std::size_t metadata = has_dtype ? 7 : 6;
  if (items.size() > metadata && !std::holds_alternative<std::monostate>(items[metadata])) {
    tensor = with_lazy_operators(std::move(tensor), items[metadata]);
  }
  auto* const node = arena_.make(PickleKind::tensor);
  node->tensor = std::move(tensor);
  return node;
}

torch::Tensor TorchObjects::view_of(const PickleNode& storage, torch::ScalarType dtype, int64_t offset,
                                    const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides) {
  const auto size = static_cast<int64_t>(c10::elementSize(dtype));
  const auto storage_size = storage.dtype == torch::ScalarType::Undefined
                                ? int64_t{1}
                                : static_cast<int64_t>(c10::elementSize(storage.dtype));
  const auto most = storage.count * storage_size / size;
  const auto elements = elements_of(sizes, strides, offset, most);
  if (elements > most && elements > most_bytes_ / size) {
    throw UsageError("a tensor of sizes [" + joined(sizes) + "] repeats the " + std::to_string(most) +
                     " elements of its storage to more bytes than are allowed (most_bytes)");
  }
  if (dtype == torch::kBool) storages_.check_bools(storage.text);
  constexpr std::size_t of_a_tensor = 256, of_a_dimension = 16;
  arena_.charge(of_a_tensor + of_a_dimension * sizes.size());
  auto tensor = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(storages_.at(storage.text)),
                                                         c10::DispatchKeySet(c10::DispatchKey::CPU),
                                                         c10::scalarTypeToTypeMeta(dtype));
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides, std::min(offset, most));
  return tensor;
}

}  // namespace troupe
