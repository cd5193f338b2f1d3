// The worker's end of its training loaders, which together give one epoch of batches.
#pragma once

#include "troupe/actors/feed.hpp"
#include "troupe/runtime/data/combined_epoch.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace troupe::cast {

class TrainFeed : public Feeds {
 public:
  TrainFeed() = default;
  /// A feed for each loader; `names` are those of the parts of a batch, or empty.
  TrainFeed(std::vector<Feed> feeds, std::vector<std::string> names, CombinedEpoch plan)
      : Feeds(std::move(feeds)), names_(std::move(names)), plan_(std::move(plan)) {}

  /// What of its epoch is behind, if there is one loader.
  void set_origin(const EpochOrigin& origin) { origin_ = origin; }
  /// Asks for the batches of an epoch from `position` on; takes numbers for its openings from `tickets`.
  template <class Self>
  void open(Self* self, int64_t& tickets, int64_t epoch, int64_t position) {
    epoch_ = epoch;
    index_ = position;
    is_over_ = false;
    close(self);
    active_.clear();
    for (const auto& opening : plan_.openings_at(epoch, position)) {
      if (active_.empty() || plan_.has_parts()) open_one(self, tickets, opening);
    }
    is_over_ = active_.empty();
  }

  bool has_batch() const {
    return !is_over_ && std::ranges::all_of(active_, [&](std::size_t i) { return feeds_[i].has_batch(); });
  }
  /// Nothing more will come and nothing is left: of one of them, where a batch has a part of each.
  bool is_exhausted() const {
    return is_over_ || std::ranges::any_of(active_, [&](std::size_t i) { return feeds_[i].is_exhausted(); });
  }

  /// Samples of the next batch, if there is one: as Batch::size has it.
  int64_t next_size() const { return feeds_[active_.front()].next_size(); }
  /// Whether no batch follows it.
  bool next_is_last() const {
    if (feeds_.size() == 1) return feeds_.front().next_is_last();
    const bool some_end = std::ranges::any_of(active_, [&](std::size_t i) {
      return feeds_[i].next_is_last() && !plan_.opening_after(i, epoch_, index_ + 1);
    });
    return some_end || (plan_.length() && index_ + 1 >= *plan_.length());
  }

  template <class Self>
  BatchReady pop(Self* self, CopyAhead* copier, int64_t& tickets) {
    BatchReady ready;
    if (feeds_.size() == 1) {  // the usual case
      ready = feeds_.front().pop(self, copier);
      index_ = ready.index + 1;
      is_over_ = ready.last;
      return ready;
    }
    ready.index = index_++;
    bool some_end = false;
    const auto active = active_;  // opening the next one changes it
    for (const std::size_t i : active) {
      BatchReady own = feeds_[i].pop(self, copier);
      bool goes_on = !own.last;
      if (own.last) {
        if (const auto next = plan_.opening_after(i, epoch_, index_)) {
          std::erase(active_, i);
          open_one(self, tickets, *next);
          goes_on = true;
        }
      }
      some_end |= !goes_on;
      if (plan_.has_parts()) {
        ready.batch.append_part(i < names_.size() ? names_[i] : "", std::move(own.batch));
      } else {
        ready.batch = std::move(own.batch);
      }
    }
    ready.last = some_end || (plan_.length() && index_ >= *plan_.length());
    is_over_ = ready.last;
    return ready;
  }

 private:
  template <class Self>
  void open_one(Self* self, int64_t& tickets, const CombinedEpoch::Opening& opening) {
    const bool has_origin = feeds_.size() == 1 && opening.epoch == origin_.epoch;
    feeds_[opening.loader].open(self, tickets++, opening.epoch, opening.position, opening.limit,
                                has_origin ? origin_ : EpochOrigin{});
    active_.push_back(opening.loader);
    std::ranges::sort(active_);
  }

  std::vector<std::string> names_;
  CombinedEpoch plan_;
  EpochOrigin origin_;
  std::vector<std::size_t> active_;  // loaders that serve now, in order
  int64_t epoch_ = 0;
  int64_t index_ = 0;  // of the next batch
  bool is_over_ = true;
};

}  // namespace troupe::cast
