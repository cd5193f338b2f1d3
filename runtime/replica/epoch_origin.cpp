// Which samples of an epoch are behind, for a run that goes on with another number of ranks.
#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/state_reader.hpp"
#include "troupe/runtime/replica/replica.hpp"

namespace troupe {

namespace {

constexpr int64_t most = int64_t{1} << 48;

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
  const auto position = StateReader(setup_.checkpoint->metadata, "the checkpoint").object("data_position");
  const int64_t ranks = position.count("ranks", 1, most), batch_size = position.count("batch_size", 1, most);
  const EpochOrigin saved{position.count("epoch", -1, most), position.count("batches", 0, most),
                          position.count("samples", 0, most)};
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
