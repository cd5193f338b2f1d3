// The worker's end of the loaders of an evaluation, which it goes through one after the other.
#pragma once

#include "troupe/actors/feed.hpp"
#include "troupe/runtime/data/epoch_plan.hpp"
#include "troupe/runtime/distributed/peers.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace troupe::cast {

class EvaluationFeed : public Feeds {
 public:
  EvaluationFeed() = default;
  /// A feed for each loader; `lengths` are their batches, of all ranks together, if they are known. `place`: which
  /// share of them is this worker's.
  EvaluationFeed(std::vector<Feed> feeds, std::vector<std::optional<int64_t>> lengths, const Place& place)
      : Feeds(std::move(feeds)), lengths_(std::move(lengths)), place_(place) {}

  /// Asks the first loader for its batches, takes a number for each opening from `tickets`. `limit`: batches of each
  /// loader at most, of all ranks together; -1: no such limit.
  template <class Self>
  void open(Self* self, int64_t& tickets, int64_t epoch, int64_t limit) {
    epoch_ = epoch;
    limit_ = limit;
    loader_ = 0;
    saw_batches_ = false;
    if (!feeds_.empty()) open_loader(self, tickets);
  }
  /// The same of the next loader; false: there is none.
  template <class Self>
  bool open_next(Self* self, int64_t& tickets) {
    if (++loader_ >= feeds_.size()) return false;
    open_loader(self, tickets);
    return true;
  }
  template <class Self>
  void close_loader(Self* self) {
    feeds_[loader_].close(self);
  }

  // Of the loader at hand.

  bool has_batch() const { return feeds_[loader_].has_batch(); }
  bool is_exhausted() const { return feeds_[loader_].is_exhausted(); }
  template <class Self>
  BatchReady pop(Self* self, CopyAhead* copier) {
    BatchReady ready = feeds_[loader_].pop(self, copier);
    batches_done_ = ready.index + 1;
    saw_batches_ = true;
    return ready;
  }
  /// Where a batch of this worker's stands among those of all.
  int64_t batch_idx(int64_t index) const { return place_.global_rank + index * place_.world_size; }
  int64_t loader_idx() const { return static_cast<int64_t>(loader_); }
  int64_t batches_done() const { return batches_done_; }
  /// -1: not known.
  int64_t total_batches() const { return total_; }
  std::chrono::steady_clock::time_point began() const { return began_; }

  /// Whether any loader of this evaluation had a batch.
  bool saw_batches() const { return saw_batches_; }

 private:
  template <class Self>
  void open_loader(Self* self, int64_t& tickets) {
    const auto& known = lengths_[loader_];
    int64_t limit = known.value_or(-1);
    if (limit_ >= 0) limit = std::min(known.value_or(limit_), limit_);
    total_ = limit < 0 ? -1 : share_of(limit, place_.global_rank, place_.world_size);
    batches_done_ = 0;
    feeds_[loader_].open(self, tickets++, epoch_, 0, limit);
    began_ = std::chrono::steady_clock::now();
  }

  std::vector<std::optional<int64_t>> lengths_;
  Place place_;
  int64_t epoch_ = 0;
  int64_t limit_ = -1;
  std::size_t loader_ = 0;  // at hand
  int64_t total_ = -1;
  int64_t batches_done_ = 0;
  bool saw_batches_ = false;
  std::chrono::steady_clock::time_point began_{};
};

}  // namespace troupe::cast
