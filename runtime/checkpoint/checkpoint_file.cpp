#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include "troupe/base/text.hpp"
#include "troupe/base/unix_seconds.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/checkpoint/checksum.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"
#include "troupe/runtime/checkpoint/sharded_safetensors.hpp"
#include "troupe/runtime/checkpoint/strict_json.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
#include <vector>

namespace troupe {
namespace {

constexpr int kFormatVersion = 1;
constexpr const char* kEnvelope = "troupe";
constexpr const char* kEnvelopeChecksum = "troupe_xxh3_64";

/// Type and shape count too: they lie in the header, which is not part of the tensor's bytes.
void add_description(Checksum& checksum, torch::ScalarType dtype, torch::IntArrayRef shape) {
  std::string text(safetensors_dtype(dtype));
  for (const auto size : shape) text += " " + std::to_string(size);
  checksum.add(text + "\n");
}

std::string checksum_of(const torch::Tensor& tensor) {
  Checksum checksum;
  add_description(checksum, tensor.scalar_type(), tensor.sizes());
  return checksum.add({static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()}).hex();
}

SafetensorsMetadata file_metadata(const NamedTensors& tensors, nlohmann::json metadata) {
  if (!metadata.is_object()) throw UsageError("the metadata of a checkpoint are not a JSON object");
  if (!metadata.contains(metadata_key::saved_at)) metadata[metadata_key::saved_at] = saved_at_after(0);
  nlohmann::json checksums = nlohmann::json::object();
  for (const auto& [name, tensor] : tensors) checksums[name] = checksum_of(tensor);
  const nlohmann::json envelope = {
      {"format_version", kFormatVersion}, {"metadata", std::move(metadata)}, {"checksums", std::move(checksums)}};
  auto text = strict_json_text(envelope, "the checkpoint");
  auto checksum = Checksum().add(text).hex();
  return {{"format", "pt"}, {kEnvelope, std::move(text)}, {kEnvelopeChecksum, std::move(checksum)}};
}

}  // namespace

CheckpointFile::CheckpointFile(std::shared_ptr<const SafetensorsFile> file) : file_(std::move(file)) {
  const auto& path = file_->path();
  if (!is_checkpoint(*file_)) {
    throw CheckpointError(path, "it is a safetensors file, but not a checkpoint of Troupe: its metadata have no '" +
                                    std::string(kEnvelope) + "'");
  }
  const auto& text = file_->metadata().at(kEnvelope);
  const auto checksum = file_->metadata().find(kEnvelopeChecksum);
  if (checksum == file_->metadata().end() || checksum->second != Checksum().add(text).hex()) {
    throw CheckpointError(path, "its metadata are damaged: the checksum differs");
  }
  try {
    read_envelope(parse_strict_json(text));
  } catch (const CheckpointError&) {
    throw;
  } catch (const UsageError& error) {
    throw CheckpointError(path, std::string("its metadata are damaged: ") + error.what());
  }
}

CheckpointFile::CheckpointFile(const std::filesystem::path& path)
    : CheckpointFile(std::make_shared<const SafetensorsFile>(path)) {}

bool CheckpointFile::is_checkpoint(const SafetensorsFile& file) {
  return file.metadata().contains(kEnvelope);
}

bool CheckpointFile::is_checkpoint(const ShardedSafetensors& file) {
  return !file.has_index() && file.metadata().contains(kEnvelope);
}

void CheckpointFile::read_envelope(nlohmann::json envelope) {
  if (!envelope.is_object()) throw UsageError("they are not an object");
  const auto version = envelope.find("format_version");
  if (version == envelope.end() || !version->is_number_integer()) throw UsageError("they have no 'format_version'");
  if (*version != kFormatVersion) {
    throw CheckpointError(file_->path(), "its format_version is " + version->dump() + ", this library reads " +
                                             std::to_string(kFormatVersion));
  }
  for (const char* key : {"metadata", "checksums"}) {
    if (!envelope.contains(key) || !envelope[key].is_object()) {
      throw UsageError("'" + std::string(key) + "' is missing or no object");
    }
  }
  metadata_ = std::move(envelope["metadata"]);
  checksums_ = std::move(envelope["checksums"]);
  for (const auto& entry : file_->entries()) {
    if (!checksums_.contains(entry.name)) throw UsageError("tensor '" + shown(entry.name) + "' has no checksum");
  }
  if (checksums_.size() != file_->entries().size()) {
    throw UsageError("they list " + std::to_string(checksums_.size()) + " tensors, the file has " +
                     std::to_string(file_->entries().size()));
  }
}

int64_t CheckpointFile::format_version() const {
  return kFormatVersion;
}

torch::Tensor CheckpointFile::read(const SafetensorsEntry& entry) const {
  auto tensor = file_->read(entry);
  if (checksums_.at(entry.name) != checksum_of(tensor)) {
    throw CheckpointError(file_->path(), "tensor '" + shown(entry.name) + "' (bytes " + std::to_string(entry.begin) +
                                             " to " + std::to_string(entry.end) + ") is damaged: its checksum differs");
  }
  return tensor;
}

double saved_at_after(double former) {
  constexpr double greatest = std::numeric_limits<double>::max();  // JSON has no infinity
  return std::max(unix_seconds(), std::nextafter(former, greatest));
}

void write_checkpoint(const Checkpoint& checkpoint, const std::filesystem::path& path, FileSystem& files) {
  NamedTensors tensors;
  tensors.reserve(checkpoint.tensors.size());
  for (const auto& [name, tensor] : checkpoint.tensors) tensors.emplace_back(name, as_stored(name, tensor));
  const auto metadata = file_metadata(tensors, checkpoint.metadata);
  write_atomically(
      path, [&](OutputFile& file) { write_safetensors(file, tensors, metadata); }, files);
}

Checkpoint read_checkpoint(const std::filesystem::path& path) {
  CheckpointFile file(path);
  Checkpoint checkpoint;
  checkpoint.tensors.reserve(file.entries().size());
  for (const auto& entry : file.entries()) checkpoint.tensors.emplace_back(entry.name, file.read(entry));
  checkpoint.metadata = file.take_metadata();
  return checkpoint;
}

nlohmann::json read_checkpoint_metadata(const std::filesystem::path& path) {
  return CheckpointFile(path).take_metadata();
}

}  // namespace troupe
