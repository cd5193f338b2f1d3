#include "troupe/runtime/replica/data_position.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/state_reader.hpp"

namespace troupe {

namespace {

constexpr int64_t most_samples = int64_t{1} << 48;

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
  const auto position = StateReader(core.setup.checkpoint->metadata, "the checkpoint").object("data_position");
  const int64_t ranks = position.count("ranks", 1, most_samples);
  const int64_t batch_size = position.count("batch_size", 1, most_samples);
  const EpochOrigin saved{position.count("epoch", -1, most_samples), position.count("batches", 0, most_samples),
                          position.count("samples", 0, most_samples)};
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
