#include "troupe/runtime/checkpoint/safetensors.hpp"

#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/safetensors_header.hpp"
#include "troupe/runtime/data/files/file_kind.hpp"
#include "troupe/runtime/data/files/mapped_file.hpp"

#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <numeric>
#include <unordered_set>

namespace troupe {
namespace {

std::array<std::byte, 8> little_endian(uint64_t value) {
  std::array<std::byte, 8> bytes;
  for (auto& byte : bytes) {
    byte = static_cast<std::byte>(value & 0xff);
    value >>= 8;
  }
  return bytes;
}

uint64_t from_little_endian(const std::array<std::byte, 8>& bytes) {
  uint64_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) value = value << 8 | std::to_integer<uint64_t>(bytes[i]);
  return value;
}

/// Positions of the tensors in the order in which they lie in the file: larger elements first.
std::vector<std::size_t> layout_of(const NamedTensors& tensors) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return tensors[a].second.element_size() > tensors[b].second.element_size();
  });
  return order;
}

SafetensorsHeader header_of(const NamedTensors& tensors, const std::vector<std::size_t>& order) {
  SafetensorsHeader header;
  for (const auto& [name, tensor] : tensors) {
    const auto dtype = tensor.scalar_type();
    header.entries.push_back({name, dtype, std::string(safetensors_dtype(dtype)), tensor.sizes().vec(), 0, 0});
  }
  uint64_t position = 0;
  for (const auto i : order) {
    header.entries[i].begin = position;
    header.entries[i].end = position += tensors[i].second.nbytes();
  }
  return header;
}

void check_names(const NamedTensors& tensors) {
  std::unordered_set<std::string_view> names = {"__metadata__"};
  for (const auto& [name, tensor] : tensors) {
    if (!names.insert(name).second) throw UsageError("tensor '" + shown(name) + "' is to be stored twice");
  }
}

std::string text_of(const SafetensorsHeader& header) {
  const auto check = [](const char* what, const std::string& name, const std::string& text) {
    if (!is_utf8(text)) throw UsageError(std::string(what) + " '" + shown(name) + "' cannot be stored: not UTF-8");
  };
  for (const auto& entry : header.entries) check("the name of tensor", entry.name, entry.name);
  for (const auto& [key, value] : header.metadata) {
    check("the metadata's key", key, key);
    check("the metadata", key, value);
  }
  return safetensors_header_text(header);
}

std::string read_header(const InputFile& file) {
  std::array<std::byte, 8> length_bytes{};
  if (file.read(0, length_bytes) < length_bytes.size()) {
    throw HeaderError("the file is truncated: it has " + std::to_string(file.size()) + " bytes, fewer than the 8 of " +
                      "the header's length");
  }
  const auto length = from_little_endian(length_bytes);
  if (length > max_safetensors_header) {
    throw HeaderError("bytes 0-7 give a header of " + std::to_string(length) +
                      " bytes, more than 100 MB: this is not a safetensors file");
  }
  if (length > file.size() - 8) {
    throw HeaderError("the file is truncated: its header is to have " + std::to_string(length) + " bytes, the file " +
                      "has " + std::to_string(file.size()));
  }
  std::string text(length, '\0');
  const auto got = file.read(8, std::as_writable_bytes(std::span(text.data(), text.size())));
  if (got < length) throw HeaderError("the file is truncated within its header");
  return text;
}

void check_bytes(const SafetensorsEntry& entry, const std::string& who, const std::string& where) {
  std::optional<uint64_t> bytes;
  try {
    bytes = stored_bytes(entry);
  } catch (const HeaderError& error) {
    throw HeaderError(who + error.what());
  }
  if (!bytes || entry.end - entry.begin == *bytes) return;
  throw HeaderError(who + where + " hold " + std::to_string(entry.end - entry.begin) + " bytes, its shape takes " +
                    std::to_string(*bytes));
}

/// Turns positions after the header into positions in the file, after checking that each tensor has the bytes that its
/// shape takes, and that they follow each other from the header to the end of the file.
void place(std::vector<SafetensorsEntry>& entries, uint64_t data_begin, uint64_t file_size) {
  std::vector<SafetensorsEntry*> order;
  for (auto& entry : entries) {
    const auto who = "tensor '" + shown(entry.name) + "': ";
    const auto where = "data_offsets [" + std::to_string(entry.begin) + ", " + std::to_string(entry.end) + "]";
    if (entry.begin > entry.end) throw HeaderError(who + where + " run backwards");
    check_bytes(entry, who, where);
    if (entry.end > file_size - data_begin) {
      throw HeaderError("the file is truncated: " + who + where + " reach beyond the " +
                        std::to_string(file_size - data_begin) + " bytes of data");
    }
    order.push_back(&entry);
  }
  std::sort(order.begin(), order.end(),
            [](const auto* a, const auto* b) { return std::pair(a->begin, a->end) < std::pair(b->begin, b->end); });
  uint64_t position = 0;
  for (auto* entry : order) {
    if (entry->begin != position) {
      throw HeaderError("tensor '" + shown(entry->name) + "' begins at " + std::to_string(entry->begin) +
                        (entry->begin < position ? ", inside of the one before it that ends at "
                                                 : ", behind a hole that begins at ") +
                        std::to_string(position));
    }
    position = entry->end;
    entry->begin += data_begin;
    entry->end += data_begin;
  }
  if (position != file_size - data_begin) {
    const auto more = file_size - data_begin - position;
    throw HeaderError(std::to_string(more) + (more == 1 ? " byte follows" : " bytes follow") + " the last tensor");
  }
}

/// Of a file that is not a safetensors file.
std::string what_to_do_with(FileKind kind) {
  const auto text = describe(kind);
  return kind == FileKind::zip
             ? text + ": load_weights reads it, troupe checkpoint convert makes a safetensors file of it"
             : text;
}

/// Nothing where the file system has no maps: then tensors are copied.
std::shared_ptr<const MappedFile> map_of(const InputFile& file) try {
  return std::make_shared<const MappedFile>(file, MapOptions{.copy_on_write = true});
} catch (const UsageError&) {
  return nullptr;
}

}  // namespace

void check_storable(const std::string& name, const torch::Tensor& tensor) {
  const auto refuse = [&](const std::string& why) { throw UsageError("tensor '" + shown(name) + "' " + why); };
  if (!tensor.defined()) refuse("is undefined");
  const auto refuse_kind = [&](const std::string& kind) {
    refuse("cannot be stored in a checkpoint: it is " + kind + ", the file format has dense tensors of the types " +
           all_safetensors_dtypes());
  };
  if (tensor.is_meta()) refuse_kind("without values (on the device meta)");
  if (tensor.is_nested()) refuse_kind("nested");
  if (tensor.layout() != torch::kStrided || safetensors_dtype(tensor.scalar_type()).empty()) {
    refuse_kind(tensor.toString());
  }
  if (tensor.scalar_type() == torch::kFloat4_e2m1fn_x2 && tensor.dim() == 0) {
    refuse("has no dimensions: of F4 the last one is stored with twice its size; view it as one of the shape [1]");
  }
}

torch::Tensor as_stored(const std::string& name, const torch::Tensor& tensor) {
  check_storable(name, tensor);
  // Conjugation and negation may be noted down beside the memory.
  return tensor.detach().to(torch::kCPU).resolve_conj().resolve_neg().contiguous();
}

void write_safetensors(OutputFile& file, std::span<const std::pair<std::string, torch::Tensor>> tensors,
                       const SafetensorsMetadata& metadata) {
  NamedTensors stored;
  stored.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) stored.emplace_back(name, as_stored(name, tensor));
  check_names(stored);
  const auto order = layout_of(stored);
  auto header = header_of(stored, order);
  header.metadata = metadata;
  const auto text = text_of(header);
  if (text.size() > max_safetensors_header) {
    throw UsageError("the metadata of the checkpoint take " + std::to_string(text.size()) + " bytes, more than 100 MB");
  }
  file.write(little_endian(text.size()));
  file.write(std::as_bytes(std::span(text.data(), text.size())));
  for (const auto i : order) {
    const auto& tensor = stored[i].second;
    file.write({static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()});
  }
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path, TensorMemory memory) try : file_(path) {
  try {
    const auto text = read_header(file_);
    auto header = parse_safetensors_header(text);
    place(header.entries, 8 + text.size(), file_.size());
    entries_ = std::move(header.entries);
    metadata_ = std::move(header.metadata);
    if (memory == TensorMemory::mapped) map_ = map_of(file_);
  } catch (const HeaderError& error) {
    const auto kind = file_kind(file_);
    if (kind == FileKind::unknown || kind == FileKind::safetensors) throw CheckpointError(path, error.what());
    throw CheckpointError(path, "this is not a safetensors file but " + what_to_do_with(kind));
  }
} catch (const FileError& error) {
  throw CheckpointError(path, error.code().message() + nearest_file_hint(path));
}

void SafetensorsFile::read_bytes(uint64_t offset, std::span<std::byte> into) const {
  std::size_t got = 0;
  try {
    got = file_.read(offset, into);
  } catch (const FileError& error) {
    throw CheckpointError(path(), "byte " + std::to_string(offset) + ": " + error.code().message());
  }
  if (got < into.size()) {
    throw CheckpointError(path(),
                          "it became shorter while it was read: byte " + std::to_string(offset + got) + " is missing");
  }
}

torch::Tensor SafetensorsFile::mapped(const SafetensorsEntry& entry) const {
  auto* const data = const_cast<std::byte*>(map_->bytes().data()) + entry.begin;
  return at::from_blob(
      data, entry.shape, [map = map_](void*) {}, torch::TensorOptions(entry.dtype));
}

torch::Tensor SafetensorsFile::read(const SafetensorsEntry& entry) const {
  if (entry.dtype == torch::ScalarType::Undefined) {
    throw CheckpointError(path(), "tensor '" + shown(entry.name) + "' " + why_unreadable(entry));
  }
  // Compilers take numbers to be aligned: a loop over others may fail.
  const bool is_aligned = entry.begin % c10::elementSize(c10::toRealValueType(entry.dtype)) == 0;
  torch::Tensor tensor;
  if (map_ && is_aligned && entry.begin < entry.end && entry.end <= map_->size()) {
    tensor = mapped(entry);
  } else {
    tensor = torch::empty(entry.shape, torch::TensorOptions(entry.dtype));
    read_bytes(entry.begin, {static_cast<std::byte*>(tensor.mutable_data_ptr()), tensor.nbytes()});
  }
  if (entry.dtype != torch::kBool) return tensor;
  // A bool that is neither 0 nor 1 is undefined behaviour wherever it is used.
  const std::span bytes(static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes());
  if (std::any_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte > std::byte{1}; })) {
    throw CheckpointError(path(), "tensor '" + shown(entry.name) + "' has a boolean that is neither 0 nor 1");
  }
  return tensor;
}

}  // namespace troupe
