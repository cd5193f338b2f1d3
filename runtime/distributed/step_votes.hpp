// How the workers of a run agree on each training batch (protocol rule P8): does everybody have one, is it the last,
// and does anybody want to stop?
#pragma once

#include "troupe/modules/options/trainer_choices.hpp"
#include "troupe/runtime/distributed/peers.hpp"

#include <cstdint>

namespace troupe {

/// What one worker knows of its next batch.
struct Ballot {
  int64_t samples = 0;  ///< in the batch; 0 if there is none
  bool has_batch = false;
  bool is_last = false;    ///< its own data ends with it, or has ended before
  bool stop = false;       ///< somebody asked this worker for an orderly end,
  bool interrupt = false;  ///< for one at once,
  bool pause = false;      ///< or for a decision
  bool compare = false;    ///< time to compare the ranks' speed
};

/// What all of them said.
struct Tally {
  int64_t samples = 0;
  int64_t batches = 0;
  int64_t lasts = 0;
  bool stop = false, interrupt = false, pause = false, compare = false;
};

/// One vote a batch. It is cast as soon as the next batch is known, one step ahead, and counted while that step
/// computes, so that nobody waits for it. All workers cast and count equally many: whoever leaves an epoch early (a
/// request to stop) casts and drops the vote that others may have begun.
class StepVotes {
 public:
  StepVotes(Peers& peers, UnevenData policy);

  bool is_cast() const { return is_cast_; }
  void cast(const Ballot& ballot);
  /// Waits for the others' votes on the batch. The same until pass().
  const Tally& tally();
  /// The vote is acted on; the next one may be cast.
  void pass();
  /// Leaves the epoch in the middle, between two batches.
  void leave();

  /// Whether nothing is to be trained on any more.
  bool is_over(const Tally& tally) const;
  /// Whether this batch is the last one of the epoch for all.
  bool is_last(const Tally& tally) const;

 private:
  enum Field { samples, batches, lasts, stops, interrupts, pauses, compares, fields };

  Peers& peers_;
  UnevenData policy_;
  torch::Tensor votes_;
  c10::intrusive_ptr<c10d::Work> work_;
  Tally tally_;
  bool is_cast_ = false;
  bool is_counted_ = false;
};

}  // namespace troupe
