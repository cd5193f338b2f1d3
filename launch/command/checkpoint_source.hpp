// A file of tensors that somebody names: a checkpoint, or another safetensors file, whose tensors are weights.
#pragma once

#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <torch/types.h>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace troupe::command {

/// Everything throws CheckpointError.
class CheckpointSource {
 public:
  explicit CheckpointSource(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_->path(); }
  bool is_checkpoint() const { return checkpoint_.has_value(); }
  int64_t format_version() const { return checkpoint_ ? checkpoint_->format_version() : 0; }
  const std::vector<SafetensorsEntry>& entries() const { return file_->entries(); }
  /// Of a checkpoint; of another file the texts of its header.
  const nlohmann::json& metadata() const { return metadata_; }
  /// Whether the tensor is a parameter or a buffer of the model.
  bool is_weight(const SafetensorsEntry& entry) const;
  /// The tensor of that name, or nullptr.
  const SafetensorsEntry* find(std::string_view name) const;

  /// The tensor, verified if the file has checksums.
  torch::Tensor read(const SafetensorsEntry& entry) const;
  /// The tensor as its bytes are, damaged or not.
  torch::Tensor read_unverified(const SafetensorsEntry& entry) const { return file_->read(entry); }

 private:
  std::shared_ptr<const SafetensorsFile> file_;
  std::optional<CheckpointFile> checkpoint_;
  nlohmann::json metadata_ = nlohmann::json::object();
  std::unordered_map<std::string_view, const SafetensorsEntry*> by_name_;
};

/// "[2, 3]"
std::string shape_text(const std::vector<int64_t>& shape);

/// "F32 [2, 3]"
std::string kind_of(const SafetensorsEntry& entry);

/// Elements of a tensor of that shape.
int64_t element_count(const std::vector<int64_t>& shape);

}  // namespace troupe::command
