// Indexes of models in several safetensors files.
#pragma once

#include "tests/fuzz/target.hpp"
#include "tests/support/file_content.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/checkpoint/sharded_safetensors.hpp"

#include <torch/torch.h>

#include <filesystem>
#include <string>
#include <vector>

namespace troupe::fuzz {

/// The index that is read lies beside one.safetensors (tensors a and b) and more/two.safetensors (c); link.safetensors
/// leads out of the folder.
inline void add_sharded_targets(std::vector<Target>& all, const TempDir& dir) {
  const auto folder = dir / "sharded";
  std::filesystem::create_directories(folder / "more");
  const NamedTensors one = {{"a", torch::ones(2)}, {"b", torch::ones({2, 2}, torch::kBool)}},
                     two = {{"c", torch::arange(3)}};
  write_safetensors(*real_file_system().create(folder / "one.safetensors"), one, {{"format", "pt"}, {"d", "a"}});
  write_safetensors(*real_file_system().create(folder / "more" / "two.safetensors"), two, {});
  write_safetensors(*real_file_system().create(dir / "outside.safetensors"), two, {});
  std::filesystem::create_symlink("../outside.safetensors", folder / "link.safetensors");
  all.push_back({"safetensors index",
                 {R"({"metadata": {"total_size": 36, "tied": "c"}, "weight_map": {"a": "one.safetensors",)"
                  R"( "b": "one.safetensors", "c": "more/two.safetensors"}})",
                  R"({"weight_map":{"c":"more/two.safetensors"}})"},
                 [folder](const std::string& bytes) {
                   put(folder / "model.safetensors.index.json", bytes);
                   const ShardedSafetensors weights(folder);
                   (void)weights.read_all();
                   (void)weights.total_size();
                 }});
}

}  // namespace troupe::fuzz
