// The newest state of a run that is kept in memory, for a run that goes on after a process is lost.
#pragma once

#include "troupe/runtime/checkpoint/checkpoint.hpp"

#include <memory>
#include <mutex>
#include <utility>

namespace troupe::cast {

/// Written by a worker, read by the Trainer when the cast has ended.
class KeptState {
 public:
  void put(std::shared_ptr<Checkpoint> state) {
    const std::lock_guard lock(mutex_);
    state_ = std::move(state);
  }
  /// Null: none was kept.
  std::shared_ptr<Checkpoint> get() const {
    const std::lock_guard lock(mutex_);
    return state_;
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<Checkpoint> state_;
};

}  // namespace troupe::cast
