// A worker's part in an epoch of training that several workers go through together: the votes on each batch, and what
// its own data gives.
#pragma once

#include "troupe/actors/train_feed.hpp"
#include "troupe/runtime/distributed/step_votes.hpp"

#include <cstdint>
#include <optional>
#include <utility>

namespace troupe::cast {

/// What somebody wants of the running segment.
struct StopFlags {
  bool stop = false;       ///< an orderly end, once the minima are reached
  bool interrupt = false;  ///< an end at once
  bool pause = false;      ///< the end of the segment: a decision is due
  bool compare = false;    ///< of the ranks' speed
};

class JointEpoch {
 public:
  JointEpoch(Peers& peers, UnevenData policy) : votes_(peers, policy), policy_(policy) {}

  /// `length`: batches of the epoch where all ranks know it. `own_length`: of this rank's own data if it is known.
  template <class Self>
  void open(Self* self, TrainFeed& feed, int64_t& tickets, int64_t epoch, int64_t position,
            std::optional<int64_t> length, std::optional<int64_t> own_length) {
    epoch_ = epoch;
    length_ = length;
    cycle_ = 0;
    has_ended_ = skips_ = has_paused_ = has_compared_ = is_over_ = false;
    if (policy_ == UnevenData::cycle && own_length.value_or(0) > 0) {
      cycle_ = position / *own_length;
      position %= *own_length;
      has_ended_ = cycle_ > 0;
    }
    batches_in_cycle_ = position;
    feed.open(self, tickets, epoch_of_cycle(), position);
  }

  /// Casts the vote on the next batch as soon as it can be told. True when it is cast.
  template <class Self>
  bool vote(Self* self, TrainFeed& feed, int64_t& tickets, StopFlags& asked) {
    if (votes_.is_cast()) return true;
    if (!skips_ && !feed.has_batch()) {
      if (!feed.is_exhausted()) return false;
      has_ended_ = true;
      if (policy_ == UnevenData::cycle && batches_in_cycle_ > 0) {
        ++cycle_;
        batches_in_cycle_ = 0;
        feed.open(self, tickets, epoch_of_cycle(), 0);
        return false;
      }
    }
    Ballot ballot;
    ballot.has_batch = has_batch(feed);
    if (ballot.has_batch) {
      ballot.samples = feed.next_size();
      has_ended_ |= feed.next_is_last();
    }
    ballot.is_last = has_ended_;
    ballot.stop = asked.stop;
    ballot.interrupt = asked.interrupt;
    ballot.pause = std::exchange(asked.pause, false);
    ballot.compare = std::exchange(asked.compare, false);
    votes_.cast(ballot);
    return true;
  }

  bool is_cast() const { return votes_.is_cast(); }
  /// Whether this worker trains on the next batch.
  bool has_batch(const TrainFeed& feed) const { return !skips_ && feed.has_batch(); }
  /// What all said of the next batch; waits for the slowest.
  const Tally& tally() { return votes_.tally(); }
  /// Whether somebody asked for a pause, once.
  bool pauses_now() { return tally().pause && !std::exchange(has_paused_, true); }
  /// Whether the ranks' speed is to be compared, once.
  bool compares_now() { return tally().compare && !std::exchange(has_compared_, true); }
  bool is_over(const Tally& tally) {
    is_over_ |= votes_.is_over(tally);
    return is_over_;
  }
  /// The batch of the vote is taken, by those who have one. Whether it is the epoch's last.
  bool take(int64_t batch_idx) {
    const bool is_last = votes_.is_last(votes_.tally()) || (length_ && batch_idx + 1 >= *length_);
    votes_.pass();
    has_paused_ = has_compared_ = false;
    ++batches_in_cycle_;
    is_over_ |= is_last;
    return is_last;
  }
  /// This rank wants no more of the epoch.
  void skip_rest() { skips_ = true; }
  /// The epoch is closed, here and everywhere.
  void close() {
    if (!is_over_) votes_.leave();
    votes_.pass();
    is_over_ = true;
  }

 private:
  // Each cycle has an order of its own.
  int64_t epoch_of_cycle() const { return epoch_ + (cycle_ << 32); }

  StepVotes votes_;
  UnevenData policy_;
  std::optional<int64_t> length_;
  int64_t epoch_ = 0;
  int64_t cycle_ = 0;
  int64_t batches_in_cycle_ = 0;
  bool has_ended_ = false;
  bool skips_ = false;
  bool has_paused_ = false;
  bool has_compared_ = false;
  bool is_over_ = true;
};

}  // namespace troupe::cast
