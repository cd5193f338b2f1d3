// What threads have told a test, and a way to wait for it.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>

namespace troupe {

/// `All`: a container of what was told, in the order or by the rank that a test wants.
template <class All>
class Heard {
 public:
  /// `put(all)` adds one; any thread.
  template <class Put>
  void add(Put put) {
    const std::lock_guard lock(mutex_);
    put(all_);
    changed_.notify_all();
  }
  All wait_for(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return all_.size() >= count; });
    return all_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  All all_;
};

}  // namespace troupe
