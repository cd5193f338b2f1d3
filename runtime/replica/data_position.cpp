#include "troupe/runtime/replica/data_position.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/saved_count.hpp"

namespace troupe {

namespace {

constexpr int64_t most_samples = int64_t{1} << 48;

int64_t position_count_at(const nlohmann::json& position, const char* key, int64_t lowest) {
  const auto value = position.find(key);
  if (value == position.end() || !is_saved_count(*value, lowest, most_samples)) {
    throw UsageError("the checkpoint's data_position." + std::string(key) + " is " +
                     (value == position.end() ? "missing" : value->dump()) + ", not a count");
  }
  return value->get<int64_t>();
}

int64_t data_ranks(const ReplicaCore& core) {
  return core.peers() && core.options().use_distributed_sampler ? core.place().world_size : 1;
}

}  // namespace

nlohmann::json data_position(const ReplicaCore& core, const EpochOrigin& origin) {
  const auto& loaders = core.setup.train_loaders;
  return {{"ranks", data_ranks(core)},
          {"batch_size", loaders.empty() ? 1 : loaders[0].options().batch_size},
          {"epoch", origin.epoch},
          {"batches", origin.batches},
          {"samples", origin.samples}};
}

void restore_data_position(ReplicaCore& core, EpochOrigin& origin) {
  const auto& metadata = core.setup.checkpoint->metadata;
  if (!metadata.contains("data_position")) return;
  const auto& position = metadata["data_position"];
  if (!position.is_object()) throw UsageError("the checkpoint's data_position is not an object");
  const int64_t ranks = position_count_at(position, "ranks", 1),
                batch_size = position_count_at(position, "batch_size", 1);
  const EpochOrigin saved{position_count_at(position, "epoch", -1), position_count_at(position, "batches", 0),
                          position_count_at(position, "samples", 0)};
  const bool is_of_epoch = saved.epoch == core.progress.epoch && core.progress.batch_idx > 0;
  if (is_of_epoch && saved.batches > core.progress.batch_idx) {
    throw UsageError("the checkpoint's data_position.batches is " + std::to_string(saved.batches) +
                     ", more than the epoch's " + std::to_string(core.progress.batch_idx) + " so far");
  }
  if (is_of_epoch) origin = saved;
  const auto& loaders = core.setup.train_loaders;
  if (core.progress.batch_idx == 0 || loaders.empty()) return;
  const int64_t own_size = loaders[0].options().batch_size;
  if (ranks == data_ranks(core) && batch_size == own_size) return;
  if (loaders.size() > 1) {
    core.outputs.note("warning: the checkpoint is of " + std::to_string(ranks) + " ranks with batches of " +
                      std::to_string(batch_size) + ", the run has " + std::to_string(data_ranks(core)) + " and " +
                      std::to_string(own_size) +
                      ": with several train loaders samples of this epoch may be seen twice, or not at all");
    return;
  }
  const int64_t batches_before = is_of_epoch ? saved.batches : 0;
  const int64_t samples_before = is_of_epoch ? saved.samples : 0;
  const double all =
      static_cast<double>(core.progress.batch_idx) * static_cast<double>(batch_size) * static_cast<double>(ranks);
  if (all > static_cast<double>(most_samples))
    throw UsageError("the checkpoint's data_position is of " + double_to_text(all) + " samples");
  const int64_t behind = samples_before + (core.progress.batch_idx - batches_before) * batch_size * ranks;
  origin = {core.progress.epoch, behind / (own_size * data_ranks(core)), behind};
  core.progress.batch_idx = origin.batches;
}

}  // namespace troupe
