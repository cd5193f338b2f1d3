// Which samples of an epoch are behind, for a run that goes on with another number of ranks.
#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/saved_count.hpp"
#include "troupe/runtime/replica/replica.hpp"

namespace troupe {

namespace {

constexpr int64_t most = int64_t{1} << 48;

int64_t count_at(const nlohmann::json& position, const char* key, int64_t lowest) {
  const auto value = position.find(key);
  if (value == position.end() || !is_saved_count(*value, lowest, most)) {
    throw UsageError("the checkpoint's data_position." + std::string(key) + " is " +
                     (value == position.end() ? "missing" : value->dump()) + ", not a count");
  }
  return value->get<int64_t>();
}

}  // namespace

nlohmann::json Replica::data_position() const {
  const auto& loaders = setup_.train_loaders;
  return {{"ranks", data_ranks()},
          {"batch_size", loaders.empty() ? 1 : loaders[0].options().batch_size},
          {"epoch", epoch_origin_.epoch},
          {"batches", epoch_origin_.batches},
          {"samples", epoch_origin_.samples}};
}

// Samples are dealt out in turn, so those that all ranks have seen are the first of the epoch's order, whatever the
// number of ranks: the rest is dealt out anew.
void Replica::restore_data_position() {
  const auto& metadata = setup_.checkpoint->metadata;
  if (!metadata.contains("data_position")) return;
  const auto& position = metadata["data_position"];
  if (!position.is_object()) throw UsageError("the checkpoint's data_position is not an object");
  const int64_t ranks = count_at(position, "ranks", 1), batch_size = count_at(position, "batch_size", 1);
  const EpochOrigin saved{count_at(position, "epoch", -1), count_at(position, "batches", 0),
                          count_at(position, "samples", 0)};
  const bool is_of_epoch = saved.epoch == progress_.epoch && progress_.batch_idx > 0;
  if (is_of_epoch && saved.batches > progress_.batch_idx) {
    throw UsageError("the checkpoint's data_position.batches is " + std::to_string(saved.batches) +
                     ", more than the epoch's " + std::to_string(progress_.batch_idx) + " so far");
  }
  if (is_of_epoch) epoch_origin_ = saved;
  const auto& loaders = setup_.train_loaders;
  if (progress_.batch_idx == 0 || loaders.empty()) return;
  const int64_t own_size = loaders[0].options().batch_size;
  if (ranks == data_ranks() && batch_size == own_size) return;
  if (loaders.size() > 1) {
    note("warning: the checkpoint is of " + std::to_string(ranks) + " ranks with batches of " +
         std::to_string(batch_size) + ", the run has " + std::to_string(data_ranks()) + " and " +
         std::to_string(own_size) +
         ": with several train loaders samples of this epoch may be seen twice, or not at all");
    return;
  }
  const int64_t batches_before = is_of_epoch ? saved.batches : 0;
  const int64_t samples_before = is_of_epoch ? saved.samples : 0;
  const double all =
      static_cast<double>(progress_.batch_idx) * static_cast<double>(batch_size) * static_cast<double>(ranks);
  if (all > static_cast<double>(most))
    throw UsageError("the checkpoint's data_position is of " + double_to_text(all) + " samples");
  const int64_t behind = samples_before + (progress_.batch_idx - batches_before) * batch_size * ranks;
  epoch_origin_ = {progress_.epoch, behind / (own_size * data_ranks()), behind};
  progress_.batch_idx = epoch_origin_.batches;
}

}  // namespace troupe
