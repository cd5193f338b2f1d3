#include "troupe/runtime/distributed/step_votes.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <string>
#include <utility>

namespace troupe {

StepVotes::StepVotes(Peers& peers, UnevenData policy)
    : peers_(peers), policy_(policy), votes_(torch::zeros({fields}, torch::kInt64)) {}

void StepVotes::cast(const Ballot& ballot) {
  auto* votes = votes_.mutable_data_ptr<int64_t>();
  votes[samples] = ballot.samples;
  votes[batches] = ballot.has_batch ? 1 : 0;
  votes[lasts] = ballot.is_last || !ballot.has_batch ? 1 : 0;
  votes[stops] = ballot.stop ? 1 : 0;
  votes[interrupts] = ballot.interrupt ? 1 : 0;
  votes[pauses] = ballot.pause ? 1 : 0;
  votes[compares] = ballot.compare ? 1 : 0;
  work_ = peers_.begin_vote(votes_);
  is_cast_ = true;
  is_counted_ = false;
}

const Tally& StepVotes::tally() {
  if (is_counted_) return tally_;
  work_->wait();
  const auto* votes = votes_.const_data_ptr<int64_t>();
  tally_ = {votes[samples],        votes[batches],    votes[lasts],       votes[stops] > 0,
            votes[interrupts] > 0, votes[pauses] > 0, votes[compares] > 0};
  is_counted_ = true;
  return tally_;
}

void StepVotes::pass() {
  is_cast_ = is_counted_ = false;
}

void StepVotes::leave() {
  if (!is_cast_) cast({});
  tally();
  pass();
}

bool StepVotes::is_over(const Tally& tally) const {
  return policy_ == UnevenData::stop ? tally.batches < peers_.place().world_size : tally.batches == 0;
}

bool StepVotes::is_last(const Tally& tally) const {
  return policy_ == UnevenData::stop ? tally.lasts > 0 : tally.lasts == peers_.place().world_size;
}

}  // namespace troupe
