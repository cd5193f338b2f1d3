#include "troupe/runtime/checkpoint/any_weights.hpp"

#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/checkpoint/sharded_safetensors.hpp"

#include <string_view>

namespace troupe {

NamedTensors read_any_weights(const std::filesystem::path& path) {
  const ShardedSafetensors weights(path);
  if (!CheckpointFile::is_checkpoint(weights)) return weights.read_all();
  constexpr std::string_view prefix = "model.";
  const CheckpointFile checkpoint(weights.path());
  NamedTensors out;
  for (const auto& entry : checkpoint.entries()) {
    if (entry.name.starts_with(prefix)) out.emplace_back(entry.name.substr(prefix.size()), checkpoint.read(entry));
  }
  return out;
}

}  // namespace troupe
