#include "troupe/runtime/weights/pth_file.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/data/files/file_kind.hpp"
#include "troupe/runtime/data/files/mapped_file.hpp"
#include "troupe/runtime/weights/pth_storages.hpp"
#include "troupe/runtime/weights/torch_objects.hpp"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace troupe {

namespace {

constexpr std::string_view kPickleMember = "data.pkl";
constexpr uint64_t kMostPickleBytes = 100'000'000;
constexpr std::size_t kMostVisits = 4'000'000;

std::string_view text_of_bytes(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The archive of a file: its folder has the name that the file had when it was saved.
class PthArchive {
 public:
  PthArchive(std::span<const std::byte> bytes, std::string source)
      : source_(std::move(source)), members_(zip_members(bytes, source_)) {
    for (const auto& member : members_) {
      const auto slash = member.name.find('/');
      if (slash == std::string::npos || member.name.substr(slash + 1) != kPickleMember) continue;
      if (pickle_) refuse("it has two members data.pkl");
      pickle_ = &member;
      folder_ = member.name.substr(0, slash + 1);
    }
    if (!pickle_) refuse_other();
    check_program();
    check_byte_order();
  }

  const std::vector<ZipMember>& members() const { return members_; }
  std::string storage_folder() const { return folder_ + "data/"; }
  /// The bytes of the pickle, which `memory` keeps if it was compressed.
  std::span<const std::byte> pickle(torch::Tensor& memory) const {
    if (pickle_->size > kMostPickleBytes) {
      refuse("its data.pkl has " + std::to_string(pickle_->size) + " bytes, 100 MB are the most");
    }
    if (!pickle_->is_deflated) return pickle_->content;
    memory = at::empty({static_cast<int64_t>(pickle_->size)}, torch::kByte);
    const std::span bytes(static_cast<std::byte*>(memory.mutable_data_ptr()), pickle_->size);
    inflate_member(*pickle_, bytes, source_ + ": " + pickle_->text());
    check_crc(*pickle_, bytes, source_ + ": " + pickle_->text());
    return bytes;
  }

 private:
  [[noreturn]] void refuse(const std::string& why) const { throw UsageError(source_ + ": " + why); }
  bool has(std::string_view name) const {
    return std::ranges::any_of(members_,
                               [&](const auto& member) { return member.name == folder_ + std::string(name); });
  }
  [[noreturn]] void refuse_other() const {
    for (const auto& member : members_) {
      if (member.name.ends_with("models/model.json")) {
        refuse("it is an exported program (.pt2), not weights; torch.save(program.state_dict, path) writes these");
      }
      if (member.name.ends_with(".npy")) refuse("it is an archive of numpy's arrays; read_npz reads it");
    }
    refuse("it is a zip archive without data.pkl, not one that torch.save wrote");
  }
  void check_program() const {
    const bool is_script = has("constants.pkl") || std::ranges::any_of(members_, [&](const auto& member) {
                             return member.name.starts_with(folder_ + "code/");
                           });
    if (!is_script) return;
    refuse(
        "it is a TorchScript archive, a program and not weights; in Python, if you trust it: "
        "torch.save(torch.jit.load(path).state_dict(), new)");
  }
  void check_byte_order() const {
    for (const auto& member : members_) {
      if (member.name != folder_ + "byteorder") continue;
      const auto order = byte_order(member);
      if (order == "little") return;
      if (order != "big") refuse("its byteorder is '" + shown(order) + "', neither little nor big");
      refuse("its numbers are big-endian; load and save it again on a little-endian machine");
    }
  }
  /// Another program may have packed it, as everything else in the archive.
  std::string byte_order(const ZipMember& member) const {
    if (!member.is_deflated) return std::string(text_of_bytes(member.content));
    constexpr uint64_t most_letters = 64;
    std::string order(std::min(member.size, most_letters), '\0');
    if (member.size > most_letters) refuse("its byteorder has " + std::to_string(member.size) + " bytes");
    inflate_member(member, std::as_writable_bytes(std::span(order)), source_ + ": " + member.text());
    return order;
  }

  std::string source_;
  std::vector<ZipMember> members_;
  const ZipMember* pickle_ = nullptr;
  std::string folder_;
};

/// As Python's str() has it, but for what only describe() tells of.
std::string key_text(const PthValue& key) {
  const auto in_tuple = [](const PthValue& item) {
    const auto kind = item.kind();
    if (kind == PthValue::Kind::text) return "'" + item.text() + "'";
    return kind == PthValue::Kind::tuple ? item.describe() : key_text(item);
  };
  switch (key.kind()) {
    case PthValue::Kind::text: return key.text();
    case PthValue::Kind::integer: return std::to_string(key.integer());
    case PthValue::Kind::number: return double_to_text(key.number());
    case PthValue::Kind::tuple: return "(" + joined_as(key.items(), in_tuple) + (key.size() == 1 ? ",)" : ")");
    default: return key.describe();  // True, False, None
  }
}

/// Walks over dictionaries and lists, which may hold themselves and each other.
class TensorNames {
 public:
  void add(const PthValue& value, const std::string& name, int depth) {
    constexpr int most_levels = 100;
    constexpr std::size_t most_bytes = std::size_t{1} << 28;
    if (depth > most_levels) throw UsageError("'" + shown(name) + "' is nested deeper than 100 levels");
    bytes_ += name.size();
    visits_ += 1 + value.size();
    if (visits_ > kMostVisits || bytes_ > most_bytes) throw UsageError("it refers to its values too many times");
    switch (value.kind()) {
      case PthValue::Kind::tensor:
        if (!names_.insert(name).second) throw UsageError("it has two tensors called '" + shown(name) + "'");
        tensors_.emplace_back(name, value.tensor());
        return;
      case PthValue::Kind::dictionary:
        for (const auto& [key, each] : value.entries()) add(each, below(name, key_text(key)), depth + 1);
        return;
      case PthValue::Kind::list:
      case PthValue::Kind::tuple: {
        std::size_t i = 0;
        for (const auto& each : value.items()) add(each, below(name, std::to_string(i++)), depth + 1);
        return;
      }
      default: return;
    }
  }
  NamedTensors take() { return std::move(tensors_); }

 private:
  static std::string below(const std::string& name, const std::string& key) {
    return name.empty() ? key : name + "." + key;
  }

  NamedTensors tensors_;
  std::unordered_set<std::string> names_;
  std::size_t visits_ = 0, bytes_ = 0;
};

bool holds_tensors(const PthValue& value) {
  return value.kind() == PthValue::Kind::dictionary && std::ranges::any_of(value.entries(), [](const auto& entry) {
           return entry.second.kind() == PthValue::Kind::tensor;
         });
}

std::vector<std::string> to_show(std::vector<std::string> keys) {
  for (auto& key : keys) key = shown(key);
  return keys;
}

/// The keys at which there is another dictionary.
std::vector<std::string> dictionary_keys(const PthValue& value) {
  std::vector<std::string> out;
  if (value.kind() != PthValue::Kind::dictionary) return out;
  for (const auto& [key, each] : value.entries()) {
    const bool is_dictionary = each.kind() == PthValue::Kind::dictionary;
    if (is_dictionary && key.kind() == PthValue::Kind::text) out.push_back(key.text());
  }
  return out;
}

/// The value at "ema.model"; a key that itself has dots comes first.
PthValue value_at(const PthValue& value, const std::string& key) {
  if (const auto found = value.find(key)) return *found;
  for (std::size_t dot = key.find('.'); dot != std::string::npos; dot = key.find('.', dot + 1)) {
    if (const auto found = value.find(key.substr(0, dot))) return value_at(*found, key.substr(dot + 1));
  }
  const auto keys = dictionary_keys(value);
  if (keys.empty()) {
    throw UsageError("it has no '" + shown(key) + "': it is " + value.describe() +
                     (holds_tensors(value) ? " whose tensors are the weights; leave the key out" : ""));
  }
  throw UsageError("it has no '" + shown(key) + "', did you mean '" + shown(nearest(key, keys)) +
                   "'? Its dictionaries are " + brief_list(to_show(keys)));
}

}  // namespace

std::optional<std::string> pth_weights_key(const PthValue& file) {
  std::vector<std::string> found;
  if (file.kind() == PthValue::Kind::dictionary) {
    std::size_t visits = 0;  // one dictionary may stand at many keys
    for (const auto& [key, each] : file.entries()) {
      visits += each.size();
      if (visits > kMostVisits) throw UsageError("it refers to its values too many times");
      if (key.kind() == PthValue::Kind::text && holds_tensors(each)) found.push_back(key.text());
    }
  }
  if (found.empty()) return std::nullopt;
  if (found.size() == 1 && !holds_tensors(file)) return found.front();
  throw UsageError("it has tensors " + std::string(holds_tensors(file) ? "itself and in " : "in ") +
                   brief_list(to_show(found)) + "; say which dictionary holds the weights (key = \"" +
                   shown(found.front()) + "\")");
}

namespace {

/// The dictionary of weights, if no key says which it is.
PthValue only_weights(const PthValue& file) {
  const auto key = pth_weights_key(file);
  return key ? *file.find(*key) : file;
}

/// What is wrong with the file's values, with the file in front.
template <class F>
auto in_file(const std::filesystem::path& path, F read) {
  try {
    return read();
  } catch (const UsageError& error) {
    throw UsageError(path.string() + ": " + error.what());
  }
}

}  // namespace

PthValue read_pth(const std::filesystem::path& path, const PthOptions& options) {
  const auto source = path.string();
  const auto file = std::make_shared<const MappedFile>(path, MapOptions{.copy_on_write = options.mmap});
  if (file_kind(text_of_bytes(file->bytes()).substr(0, file_kind_bytes)) == FileKind::pickle) {
    throw UsageError(source +
                     ": it is a pickle as PyTorch before 1.6 wrote it, or another program; in Python: "
                     "torch.save(torch.load(old, weights_only=True, map_location='cpu'), new)");
  }
  const PthArchive archive(file->bytes(), source);
  torch::Tensor memory;
  const auto pickle = archive.pickle(memory);
  PthStorages storages(archive.members(), archive.storage_folder(), options.mmap ? file : nullptr, options.most_bytes);
  const auto arena = std::make_shared<PickleArena>();
  TorchObjects objects(storages, *arena, options.most_bytes);
  const auto value = read_pickle(pickle, source + ": data.pkl", *arena, objects);
  return {arena, value};
}

NamedTensors tensors_of(const PthValue& value) {
  TensorNames names;
  names.add(value, "", 0);
  return names.take();
}

NamedTensors pth_weights(const std::filesystem::path& path, const std::string& key, const PthOptions& options) {
  const auto file = read_pth(path, options);
  return in_file(path, [&] {
    const auto weights = key.empty() ? only_weights(file) : value_at(file, key);
    if (weights.kind() != PthValue::Kind::dictionary) {
      throw UsageError((key.empty() ? "it" : "its '" + shown(key) + "'") + " is " + weights.describe() +
                       ", not a dictionary of tensors");
    }
    auto tensors = tensors_of(weights);
    if (tensors.empty()) throw UsageError((key.empty() ? "it" : "its '" + shown(key) + "'") + " holds no tensors");
    return tensors;
  });
}

PthChecksums compare_pth_checksums(const std::filesystem::path& path) {
  const MappedFile file(path, MapOptions{});
  PthChecksums out;
  for (const auto& member : zip_members(file.bytes(), path.string())) {
    if (member.crc == 0 || member.is_deflated) continue;
    ++out.compared;
    try {
      check_crc(member, member.content, member.text());
    } catch (const UsageError& error) {
      out.damaged.emplace_back(error.what());
    }
  }
  return out;
}

bool is_pth(const std::filesystem::path& path) {
  const auto kind = file_kind(path);
  return kind == FileKind::zip || kind == FileKind::pickle;
}

}  // namespace troupe
