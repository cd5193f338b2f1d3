// What Fabric::save writes, and Fabric::load reads: a checkpoint as a Trainer's (docs/checkpoint-format.md), without
// what only a Trainer needs.
#include "troupe/base/exception_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/modules/support/step_recorder.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"
#include "troupe/runtime/checkpoint/model_state.hpp"
#include "troupe/runtime/checkpoint/optimizer_state.hpp"
#include "troupe/runtime/checkpoint/packed_tensor.hpp"
#include "troupe/runtime/checkpoint/progress_json.hpp"
#include "troupe/runtime/fabric/fabric_rank.hpp"
#include "troupe/runtime/replica/random_states.hpp"
#include "troupe/runtime/sinks/prediction_file.hpp"

#include <torch/types.h>
#include <torch/utils.h>
#include <torch/version.h>

#include <algorithm>
#include <iterator>

namespace troupe {

namespace {

constexpr const char* fabric_key = "fabric";  // in the metadata: what the user saved besides

// "critic." of the module called "critic"; empty of one without a name.
std::string prefix_of(const std::string& name) {
  return name.empty() ? "" : name + ".";
}

// The tensors of one of several modules, under the names that it has for them.
Checkpoint part_of(const Checkpoint& checkpoint, const std::string& module) {
  Checkpoint part;
  const std::string prefix = name_in_checkpoint(prefix_of(module));
  for (const auto& [name, tensor] : checkpoint.tensors) {
    if (name.starts_with(prefix)) part.tensors.emplace_back(name_in_checkpoint(name.substr(prefix.size())), tensor);
  }
  return part;
}

}  // namespace

std::vector<std::pair<std::string, torch::Tensor>> FabricRank::named_parameters() const {
  std::vector<std::pair<std::string, torch::Tensor>> named;
  for (const auto& [name, module] : modules_) {
    for (const auto& item : module->named_parameters()) named.emplace_back(prefix_of(name) + item.key(), item.value());
  }
  return named;
}

// Collective.
void FabricRank::append_random_states(Checkpoint& checkpoint) {
  Checkpoint own;
  own.tensors = random_states(device());
  const auto all =
      core_.peers() ? core_.peers()->all_gather_bytes(packed_checkpoint(own)) : std::vector{packed_checkpoint(own)};
  if (global_rank() != 0) return;
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    for (auto& [name, tensor] : unpacked_checkpoint(all[rank]).tensors) {
      checkpoint.tensors.emplace_back(rank_prefix(static_cast<int64_t>(rank)) + name, std::move(tensor));
    }
  }
}

void FabricRank::save(const std::filesystem::path& path, const nlohmann::json& state) {
  refuse_capture("it saves a checkpoint, which a replay does not");
  if (modules_.empty()) throw UsageError("save(" + shown(path.string()) + "): no module was set up; call setup first");
  Checkpoint checkpoint;
  for (const auto& [name, module] : modules_) {
    for (auto& [key, tensor] : named_model_tensors(*module)) {
      checkpoint.tensors.emplace_back(name_in_checkpoint(prefix_of(name) + key), std::move(tensor));
    }
  }
  const auto named = named_parameters();
  for (std::size_t i = 0; i < core_.optimizers.size(); ++i) {
    if (ShardedOptimizer* sharded = sync_.sharded(i)) {
      sharded->append_state(checkpoint, named);
    } else {
      append_optimizer_state(checkpoint, i, core_.optimizers[i], named);
    }
  }
  append_random_states(checkpoint);
  auto& metadata = checkpoint.metadata;
  metadata[metadata_key::progress] = to_json(core_.progress);
  metadata["versions"] = {{"libtorch", TORCH_VERSION}};
  metadata["seed"] = seed();
  metadata["world_size"] = world_size();
  metadata[fabric_key] = state;
  if (scaling_.is_on()) metadata["grad_scaler"] = scaling_.state_dict();
  // What the file system says to rank zero is the others' failure too.
  std::string problem;
  if (global_rank() == 0) problem = text_thrown_by([&] { write_checkpoint(checkpoint, path); });
  problem = broadcast(problem, 0);
  if (!problem.empty()) throw UsageError(problem);
}

nlohmann::json FabricRank::load(const std::filesystem::path& path) {
  refuse_capture("it loads a checkpoint, which a replay does not");
  const std::string what = "load(" + shown(path.string()) + ")";
  if (modules_.empty()) throw UsageError(what + ": no module was set up that could take it; call setup first");
  const Checkpoint checkpoint = read_checkpoint(path);
  const auto saved = checkpoint.metadata.value(metadata_key::optimizers, nlohmann::json::array());
  if (!saved.empty() && saved.size() != core_.optimizers.size()) {
    throw UsageError(what + ": the file has the state of " + std::to_string(saved.size()) + " optimizers, and " +
                     std::to_string(core_.optimizers.size()) + " were set up");
  }
  for (const auto& [name, tensor] : checkpoint.tensors) {
    const auto of_model = name_in_model(name);
    const auto owns = [&](const auto& module) { return of_model->starts_with(prefix_of(module.first)); };
    if (!of_model || std::ranges::any_of(modules_, owns)) continue;
    throw UsageError(what + ": its tensor " + shown(name) + " belongs to none of the modules " +
                     joined_as(modules_, [](const auto& module) { return shown(module.first); }));
  }
  for (const auto& [name, module] : modules_) {
    (void)load_model_state(name.empty() ? checkpoint : part_of(checkpoint, name), *module, /*strict=*/true);
  }
  const auto named = named_parameters();
  for (std::size_t i = 0; i < saved.size(); ++i) {
    if (ShardedOptimizer* sharded = sync_.sharded(i)) {
      sharded->load_state(checkpoint, named);
    } else {
      load_optimizer_state(checkpoint, i, core_.optimizers[i], named);
    }
  }
  if (checkpoint.metadata.contains("grad_scaler")) scaling_.load_state_dict(checkpoint.metadata["grad_scaler"]);
  if (checkpoint.metadata.contains(metadata_key::progress)) {
    core_.progress = progress_from_json(checkpoint.metadata[metadata_key::progress]);
  }
  Checkpoint own;
  const auto prefix = rank_prefix(global_rank()) + "random.";
  for (const auto& [name, tensor] : checkpoint.tensors) {
    if (name.starts_with(prefix)) own.tensors.emplace_back("random." + name.substr(prefix.size()), tensor);
  }
  restore_random_states(own, device());
  return checkpoint.metadata.value(fabric_key, nlohmann::json());
}

}  // namespace troupe
