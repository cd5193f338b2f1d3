#include "troupe/runtime/weights/pth_writer.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/checkpoint/stored_dtype.hpp"
#include "troupe/runtime/weights/pickle_writer.hpp"
#include "troupe/runtime/weights/torch_archive.hpp"
#include "troupe/runtime/weights/torch_types.hpp"

#include <ATen/ops/from_blob.h>
#include <c10/core/Storage.h>

#include <functional>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace troupe {

/// What the writer sees of a value.
struct PthValueContent {
  static const PickleValue& of(const PthValue& value) { return value.value_; }
};

namespace {

/// Throws UsageError for what no storage of a file can hold.
void check_pth_tensor(const torch::Tensor& tensor) {
  if (tensor.is_nested()) throw UsageError("is a nested tensor: write tensor.to_padded_tensor(0)");
  if (tensor.is_quantized()) throw UsageError("is quantized: write tensor.dequantize()");
  if (tensor.layout() != torch::kStrided) throw UsageError("is sparse: write tensor.to_dense()");
  if (tensor.is_meta()) throw UsageError("is on the device 'meta' and has no values");
  const auto* const type = torch_type(tensor.scalar_type());
  if (!type || !type->is_saved) {
    throw UsageError(std::string("has the type ") + c10::toString(tensor.scalar_type()) +
                     ", which torch.load does not know");
  }
  if (!tensor.has_storage() || tensor._is_zerotensor()) {
    throw UsageError("has no memory of its own: write tensor.clone()");
  }
}

/// The storages of a file, each once, in the order in which the pickle names them. The types of all tensors have to be
/// known first: torch.load makes a typed storage of the type that it meets first, for all that refer to it.
class PthStorageList : public PickledStorages {
 public:
  explicit PthStorageList(std::optional<torch::ScalarType> dtype) : dtype_(dtype) {}

  /// Before write_pickle.
  void note(const torch::Tensor& tensor) {
    if (!tensor.has_storage()) return;
    const auto [known, is_new] = types_.try_emplace(identity(tensor), tensor.scalar_type());
    if (!is_new && known->second != tensor.scalar_type()) known->second = torch::ScalarType::Undefined;
  }

  PickledStorage storage_of(const torch::Tensor& tensor) override {
    check_pth_tensor(tensor);
    const auto [known, is_new] = keys_.try_emplace(identity(tensor), stored_.size());
    if (is_new) stored_.push_back(stored(tensor));
    const auto& item = stored_[known->second];
    const auto bytes = static_cast<int64_t>(item.storage.nbytes());
    const bool is_converted = item.from != item.to;
    const auto dtype = is_converted ? item.to : tensor.scalar_type();
    const auto size = static_cast<int64_t>(c10::elementSize(tensor.scalar_type()));
    const bool is_typed =
        item.from != torch::ScalarType::Undefined && bytes % size == 0 && !torch_type(dtype)->storage.empty();
    return {std::to_string(known->second), is_typed ? bytes / size : bytes, dtype, is_typed};
  }

  /// Gives `write` the name and the bytes of each.
  void write(const TorchRecordWriter& write) const {
    for (std::size_t i = 0; i < stored_.size(); ++i) {
      const auto memory = on_cpu(stored_[i]);
      write("data/" + std::to_string(i), {static_cast<const char*>(memory.const_data_ptr()), memory.nbytes()});
    }
  }

 private:
  /// `from` is Undefined for a storage that tensors of several types share.
  struct Stored {
    c10::Storage storage;
    torch::ScalarType from = torch::ScalarType::Undefined, to = torch::ScalarType::Undefined;
  };

  static const void* identity(const torch::Tensor& tensor) { return tensor.storage().unsafeGetStorageImpl(); }

  Stored stored(const torch::Tensor& tensor) const {
    const auto from = types_.at(identity(tensor));
    const bool is_whole = is_plain_float(from) && tensor.storage().nbytes() % c10::elementSize(from) == 0;
    return {tensor.storage(), from, is_whole ? dtype_to_store(from, dtype_) : from};
  }

  static torch::Tensor on_cpu(const Stored& item) {
    const bool is_converted = item.from != item.to;
    const auto type = is_converted ? item.from : torch::kByte;
    const auto count = static_cast<int64_t>(item.storage.nbytes() / c10::elementSize(type));
    auto memory = at::empty({0}, torch::TensorOptions(type).device(item.storage.device()));
    memory.set_(item.storage, 0, {count}, {1});
    return is_converted ? memory.to(torch::kCPU, item.to) : memory.cpu();
  }

  std::optional<torch::ScalarType> dtype_;
  std::unordered_map<const void*, torch::ScalarType> types_;
  std::unordered_map<const void*, std::size_t> keys_;
  std::vector<Stored> stored_;
};

/// Every tensor in `value`.
void note_tensors(const PickleValue& value, PthStorageList& storages) {
  std::vector<const PickleNode*> open;
  std::unordered_set<const PickleNode*> seen;
  const auto add = [&](const PickleValue& each) {
    const auto* const node = std::get_if<PickleNode*>(&each);
    if (node && seen.insert(*node).second) open.push_back(*node);
  };
  add(value);
  while (!open.empty()) {
    const auto* const node = open.back();
    open.pop_back();
    if (node->kind == PickleKind::tensor) storages.note(node->tensor);
    for (const auto& item : node->items) add(item);
  }
}

/// A value ready to be written: what cannot be was refused.
class PthArchiveWriter {
 public:
  PthArchiveWriter(const PthValue& value, const PthWriteOptions& options) : storages_(options.dtype) {
    check_dtype_to_store(options.dtype);
    note_tensors(PthValueContent::of(value), storages_);
    pickle_ = write_pickle(PthValueContent::of(value), storages_);
  }

  /// The archive, piece by piece. Its folder is "archive", as where torch.save writes to a Python file. What `sink`
  /// throws is thrown on.
  void write(const std::function<void(std::span<const std::byte>)>& sink) const {
    write_torch_archive(sink, [&](const TorchRecordWriter& record) {
      record("data.pkl", pickle_);
      record(".format_version", "1");
      record(".storage_alignment", "64");
      record("byteorder", "little");
      storages_.write(record);
    });
  }

 private:
  PthStorageList storages_;
  std::string pickle_;
};

}  // namespace

void write_pth(const PthValue& value, const std::filesystem::path& path, const PthWriteOptions& options,
               FileSystem& files) {
  const PthArchiveWriter archive(value, options);
  write_atomically(
      path, [&](OutputFile& file) { archive.write([&](auto bytes) { file.write(bytes); }); }, files);
}

void write_pth(std::span<const std::pair<std::string, torch::Tensor>> tensors, const std::filesystem::path& path,
               const PthWriteOptions& options, FileSystem& files) {
  write_pth(PthValue::state_dict_of(tensors), path, options, files);
}

std::string pth_bytes(const PthValue& value, const PthWriteOptions& options) {
  std::string out;
  PthArchiveWriter(value, options).write([&](std::span<const std::byte> bytes) {
    out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  });
  return out;
}

}  // namespace troupe
