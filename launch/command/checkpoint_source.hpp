// A file of tensors that somebody names: a checkpoint, or weights in any form that read_any_weights reads.
#pragma once

#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/checkpoint/sharded_safetensors.hpp"

#include <torch/types.h>

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace troupe::command {

/// A tensor of the file.
struct SourceEntry {
  std::string name;                   ///< in the file; dots lead to those that a file of torch.save nests
  std::optional<std::string> weight;  ///< in the module; nothing for what is none of its parameters and buffers
  std::string dtype_name;             ///< "F32", "complex32" if safetensors have no such
  std::vector<int64_t> shape;
  uint64_t bytes = 0;  ///< 0 for what is tied to another
  std::string tied_to = {};
  std::optional<std::pair<uint64_t, uint64_t>> place = {};  ///< positions in `file`
  std::string file = {};                                    ///< the shard, if there are several
};

/// Everything throws UsageError, most of it CheckpointError.
class CheckpointSource {
 public:
  /// What find_weights finds there.
  explicit CheckpointSource(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  bool is_checkpoint() const { return checkpoint_.has_value(); }
  bool is_pth() const { return !pth_files_.empty(); }
  int64_t format_version() const { return checkpoint_ ? checkpoint_->format_version() : 0; }
  /// "checkpoint, version 1", "safetensors in 3 files, not of Troupe: no checksums".
  const std::string& format() const { return format_; }
  const std::vector<SourceEntry>& entries() const { return entries_; }
  /// Of a checkpoint; of other safetensors the texts of their header; of a file of torch.save all that is beside the
  /// weights, with the type and the shape of each tensor in place of its values.
  const nlohmann::json& metadata() const { return metadata_; }
  /// The tensor that is the same parameter or buffer as `entry` of another source, or else has its name; or nullptr.
  const SourceEntry* counterpart(const SourceEntry& entry) const;

  /// The tensor on its own, contiguous, verified if it is of a checkpoint.
  torch::Tensor read(const SourceEntry& entry) const;
  /// The tensor as its bytes are, damaged or not.
  torch::Tensor read_unverified(const SourceEntry& entry) const;
  /// What is wrong with the checksums that read() does not verify, a sentence each; the number of those that there are
  /// is added to `compared`.
  std::vector<std::string> damaged_members(std::size_t& compared) const;

 private:
  void open_safetensors();
  void open_pth(bool is_index);
  void add(const torch::Tensor& tensor, std::string name, std::optional<std::string> weight);
  std::size_t position(const SourceEntry& entry) const { return static_cast<std::size_t>(&entry - entries_.data()); }

  std::filesystem::path path_;
  std::string format_;
  std::optional<CheckpointFile> checkpoint_;
  std::shared_ptr<const SafetensorsFile> checkpoint_bytes_;
  std::optional<ShardedSafetensors> safetensors_;
  std::vector<std::filesystem::path> pth_files_;
  std::vector<torch::Tensor> tensors_;  ///< of a file of torch.save, in the order of the entries
  std::vector<SourceEntry> entries_;
  nlohmann::json metadata_ = nlohmann::json::object();
  std::unordered_map<std::string, std::size_t> by_key_, by_memory_;
};

/// Whether a path ends as files of torch.save do: .pth, .pt or .bin.
bool names_pth(const std::filesystem::path& path);

/// "[2, 3]"
std::string shape_text(const std::vector<int64_t>& shape);

/// "F32 [2, 3]"
std::string kind_of(const SourceEntry& entry);

/// Elements of a tensor of that shape.
int64_t element_count(const std::vector<int64_t>& shape);

}  // namespace troupe::command
