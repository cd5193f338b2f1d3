#include "troupe/launch/command/checkpoint_source.hpp"

#include "troupe/base/number_json.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/weights/any_weights.hpp"
#include "troupe/runtime/weights/pth_file.hpp"
#include "troupe/runtime/weights/torch_types.hpp"

namespace troupe::command {

namespace {

std::string stored_type_name(torch::ScalarType dtype) {
  const std::string name(safetensors_dtype(dtype));
  const auto* type = torch_type(dtype);
  return name.empty() && type ? std::string(type->name) : name;
}

SourceEntry entry_of(const SafetensorsEntry& entry, std::optional<std::string> weight) {
  return {.name = entry.name,
          .weight = std::move(weight),
          .dtype_name = entry.dtype_name,
          .shape = entry.shape,
          .bytes = entry.end - entry.begin,
          .place = std::pair(entry.begin, entry.end)};
}

/// By which tensors of two sources are the same.
std::string key_of(const SourceEntry& entry) {
  return entry.weight ? "weight " + *entry.weight : "tensor " + entry.name;
}

/// By which two tensors are the same memory; empty for one without elements.
std::string memory_of(const torch::Tensor& tensor) {
  if (tensor.numel() == 0) return "";
  return c10::str(tensor.const_data_ptr(), tensor.sizes(), tensor.strides(), tensor.scalar_type(), tensor.is_conj(),
                  tensor.is_neg());
}

/// Values of a file of torch.save as JSON. They may stand in it many times, so that there is an end to it.
class PthJson {
 public:
  nlohmann::json operator()(const PthValue& value) {
    if (++visits_ > most_visits) return value.describe();
    switch (value.kind()) {
      case PthValue::Kind::none: return nullptr;
      case PthValue::Kind::flag: return value.flag();
      case PthValue::Kind::integer: return value.integer();
      case PthValue::Kind::number: return number_to_json(value.number());
      case PthValue::Kind::text: return value.text();
      case PthValue::Kind::tensor: return kind_text(value.tensor());
      case PthValue::Kind::list:
      case PthValue::Kind::tuple: {
        auto out = nlohmann::json::array();
        for (const auto& each : value.items()) out.push_back((*this)(each));
        return out;
      }
      case PthValue::Kind::dictionary: return entries_of(value, nullptr);
      default: return value.describe();
    }
  }
  nlohmann::json entries_of(const PthValue& value, const std::string* leave_out) {
    auto out = nlohmann::json::object();
    for (const auto& [key, each] : value.entries()) {
      const bool is_text = key.kind() == PthValue::Kind::text;
      if (is_text && leave_out && key.text() == *leave_out) continue;
      const bool is_integer = key.kind() == PthValue::Kind::integer;
      out[is_text ? key.text() : is_integer ? std::to_string(key.integer()) : key.describe()] = (*this)(each);
    }
    return out;
  }

 private:
  static constexpr std::size_t most_visits = 100'000;
  static std::string kind_text(const torch::Tensor& tensor) {
    return stored_type_name(tensor.scalar_type()) + " " + shape_text(tensor.sizes().vec());
  }
  std::size_t visits_ = 0;
};

}  // namespace

CheckpointSource::CheckpointSource(const std::filesystem::path& path) {
  const auto found = find_weights(path);
  path_ = found.path;
  if (found.is_pth) {
    open_pth(found.is_index);
  } else {
    open_safetensors();
  }
  for (std::size_t i = 0; i < entries_.size(); ++i) by_key_.emplace(key_of(entries_[i]), i);
}

void CheckpointSource::open_safetensors() {
  safetensors_.emplace(path_, TensorMemory::copied);
  if (CheckpointFile::is_checkpoint(*safetensors_)) {
    safetensors_.reset();
    checkpoint_bytes_ = std::make_shared<const SafetensorsFile>(path_);
    checkpoint_.emplace(checkpoint_bytes_);
    metadata_ = checkpoint_->take_metadata();
    format_ = "checkpoint, version " + std::to_string(checkpoint_->format_version());
    for (const auto& entry : checkpoint_->entries()) {
      const auto weight = name_in_model(entry.name);
      entries_.push_back(entry_of(entry, weight ? std::optional(std::string(*weight)) : std::nullopt));
    }
    return;
  }
  const auto shards = safetensors_->shards();
  for (const auto& [key, text] : safetensors_->metadata()) metadata_[key] = text;
  format_ = "safetensors" + (safetensors_->has_index() ? " in " + std::to_string(shards.size()) + " files" : "") +
            ", not of Troupe: no checksums";
  for (const auto& entry : safetensors_->entries()) {
    entries_.push_back(entry_of(entry, entry.name));
    if (safetensors_->has_index()) entries_.back().file = shards[entry.shard].filename().string();
  }
  for (const auto& [name, kept] : safetensors_->tied()) {
    auto entry = entry_of(*safetensors_->find(kept), name);
    entry.name = name, entry.tied_to = kept, entry.bytes = 0;
    entries_.push_back(std::move(entry));
  }
}

void CheckpointSource::open_pth(bool is_index) {
  pth_files_ = files_of({path_, /*is_pth=*/true, is_index});
  if (is_index) {
    format_ = "torch.save in " + std::to_string(pth_files_.size()) + " files";
    for (const auto& [name, tensor] : read_any_weights(path_).tensors) add(tensor, name, name);
    return;
  }
  format_ = "torch.save";
  const auto file = read_pth(path_);
  try {
    const auto tensors = tensors_of(file);
    if (tensors.empty()) throw UsageError("it holds no tensors");
    std::optional<std::string> prefix = "";  // of the weights; nothing: there are several sets
    try {
      const auto key = pth_weights_key(file);
      if (key) prefix = *key + ".";
      if (file.kind() == PthValue::Kind::dictionary) metadata_ = PthJson().entries_of(file, key ? &*key : nullptr);
    } catch (const UsageError&) {
      prefix.reset();
      metadata_ = PthJson().entries_of(file, nullptr);
    }
    for (const auto& [name, tensor] : tensors) {
      const bool is_weight = prefix && name.starts_with(*prefix);
      add(tensor, name, is_weight ? std::optional(name.substr(prefix->size())) : std::nullopt);
      if (prefix && prefix->empty() && metadata_.contains(name)) metadata_.erase(name);
    }
  } catch (const UsageError& error) {
    throw UsageError(path_.string() + ": " + error.what());
  }
}

void CheckpointSource::add(const torch::Tensor& tensor, std::string name, std::optional<std::string> weight) {
  SourceEntry entry{.name = std::move(name),
                    .weight = std::move(weight),
                    .dtype_name = stored_type_name(tensor.scalar_type()),
                    .shape = tensor.sizes().vec(),
                    .bytes = static_cast<uint64_t>(tensor.numel()) * tensor.element_size()};
  entries_.push_back(std::move(entry));
  tensors_.push_back(tensor);
  auto memory = memory_of(tensor);
  if (memory.empty()) return;
  const auto [first, is_new] = by_memory_.emplace(std::move(memory), entries_.size() - 1);
  if (is_new) return;
  entries_.back().tied_to = entries_[first->second].name;
  entries_.back().bytes = 0;
}

const SourceEntry* CheckpointSource::counterpart(const SourceEntry& entry) const {
  const auto found = by_key_.find(key_of(entry));
  return found == by_key_.end() ? nullptr : &entries_[found->second];
}

torch::Tensor CheckpointSource::read(const SourceEntry& entry) const {
  return checkpoint_ ? checkpoint_->read(checkpoint_->entries()[position(entry)]) : read_unverified(entry);
}

torch::Tensor CheckpointSource::read_unverified(const SourceEntry& entry) const {
  if (checkpoint_) return checkpoint_bytes_->read(checkpoint_bytes_->entries()[position(entry)]);
  if (safetensors_) return safetensors_->read(entry.name);
  return tensors_[position(entry)].resolve_conj().resolve_neg().contiguous();
}

std::vector<std::string> CheckpointSource::damaged_members(std::size_t& compared) const {
  std::vector<std::string> out;
  for (const auto& file : pth_files_) {
    auto found = compare_pth_checksums(file);
    compared += found.compared;
    for (auto& sentence : found.damaged) {
      out.push_back((pth_files_.size() > 1 ? file.filename().string() + ": " : "") + std::move(sentence));
    }
  }
  return out;
}

bool names_pth(const std::filesystem::path& path) {
  const auto ending = small_letters(path.extension().string());
  return ending == ".pth" || ending == ".pt" || ending == ".bin";
}

std::string shape_text(const std::vector<int64_t>& shape) {
  return "[" + joined(shape) + "]";
}

std::string kind_of(const SourceEntry& entry) {
  return entry.dtype_name + " " + shape_text(entry.shape);
}

int64_t element_count(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const auto size : shape) count *= size;
  return count;
}

}  // namespace troupe::command
