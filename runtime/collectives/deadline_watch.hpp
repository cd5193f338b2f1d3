// Ends operations that take too long. Without it those who wait for a future would wait forever: a future has no
// timeout.
#pragma once

#include "troupe/runtime/collectives/collective_work.hpp"

#include <c10/util/intrusive_ptr.h>

#include <functional>
#include <memory>
#include <thread>

namespace troupe {

/// Calls `expired` for each work that has no outcome at its deadline, on a thread that starts with the first work and
/// sleeps until the nearest deadline: adding a work wakes it only where the new deadline is earlier than that. Any
/// thread may call any function. `expired` has to end the work.
class DeadlineWatch {
 public:
  explicit DeadlineWatch(std::function<void(CollectiveWork&)> expired);
  /// Waits for a call of `expired` to end, unless that is where it is called.
  ~DeadlineWatch();
  DeadlineWatch(const DeadlineWatch&) = delete;
  DeadlineWatch& operator=(const DeadlineWatch&) = delete;

  /// Watches the work for as long as somebody holds it.
  void add(const c10::intrusive_ptr<CollectiveWork>& work);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;  // the thread holds it, too
  std::thread thread_;
};

}  // namespace troupe
