#include "troupe/launch/command/checkpoint_source.hpp"

#include "troupe/base/text.hpp"

#include <algorithm>

namespace troupe::command {

CheckpointSource::CheckpointSource(const std::filesystem::path& path) : file_(path) {
  if (CheckpointFile::is_checkpoint(file_)) {
    checkpoint_.emplace(path);
    metadata_ = checkpoint_->take_metadata();
  } else {
    for (const auto& [key, text] : file_.metadata()) metadata_[key] = text;
  }
}

bool CheckpointSource::is_weight(const SafetensorsEntry& entry) const {
  return !is_checkpoint() || entry.name.starts_with("model.");
}

const SafetensorsEntry* CheckpointSource::find(std::string_view name) const {
  const auto found = std::ranges::find(file_.entries(), name, &SafetensorsEntry::name);
  return found == file_.entries().end() ? nullptr : &*found;
}

torch::Tensor CheckpointSource::read(const SafetensorsEntry& entry) const {
  return checkpoint_ ? checkpoint_->read(entry) : file_.read(entry);
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
