#include "troupe/launch/command/checkpoint_source.hpp"

#include "troupe/base/text.hpp"

namespace troupe::command {

CheckpointSource::CheckpointSource(const std::filesystem::path& path)
    : file_(std::make_shared<const SafetensorsFile>(path)) {
  for (const auto& entry : file_->entries()) by_name_.emplace(entry.name, &entry);
  if (CheckpointFile::is_checkpoint(*file_)) {
    checkpoint_.emplace(file_);
    metadata_ = checkpoint_->take_metadata();
  } else {
    for (const auto& [key, text] : file_->metadata()) metadata_[key] = text;
  }
}

bool CheckpointSource::is_weight(const SafetensorsEntry& entry) const {
  return !is_checkpoint() || name_in_model(entry.name).has_value();
}

const SafetensorsEntry* CheckpointSource::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

torch::Tensor CheckpointSource::read(const SafetensorsEntry& entry) const {
  return checkpoint_ ? checkpoint_->read(entry) : file_->read(entry);
}

std::string shape_text(const std::vector<int64_t>& shape) {
  return "[" + joined(shape) + "]";
}

std::string kind_of(const SafetensorsEntry& entry) {
  return entry.dtype_name + " " + shape_text(entry.shape);
}

int64_t element_count(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const auto size : shape) count *= size;
  return count;
}

}  // namespace troupe::command
