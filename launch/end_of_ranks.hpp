// The end of a run of several processes: each waits for the others, or hears what has failed on one of them.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/runtime/distributed/peers.hpp"

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace troupe {

/// The first failure that another process tells of. For any thread.
class Told {
 public:
  void tell(const Failure& failure) {
    std::lock_guard lock(mutex_);
    if (!first_) first_ = failure;
  }
  std::optional<Failure> first() const {
    std::lock_guard lock(mutex_);
    return first_;
  }

 private:
  mutable std::mutex mutex_;
  std::optional<Failure> first_;
};

/// How long a process whose run is over waits for the others, in seconds: `collective_timeout`, and half an hour at
/// least, since one of them may have a checkpoint to write.
double patience_with_ranks(double collective_timeout);

/// Waits until all processes have come to the end of the run as this one has, at most `timeout` seconds. What has
/// failed on one of them, which does not come then; else nothing.
std::optional<Failure> failure_of_others(const std::vector<std::shared_ptr<Peers>>& peers, double timeout, Told& told);

}  // namespace troupe
