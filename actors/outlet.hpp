// The sending end of a bounded stream of messages (protocol rule P5): CAF's mailboxes have no bound, so the sender
// counts what is on its way.
#pragma once

#include "troupe/actors/caf.hpp"
#include "troupe/runtime/process/pulse.hpp"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

namespace troupe::cast {

/// Messages sent and not yet taken out of the mailbox. Shared by one sender or several and the receiver.
class InFlight {
 public:
  explicit InFlight(int64_t limit) : limit_(limit) {}

  /// Counts one more message; false, and no message may be sent, when there are too many. The loss is counted.
  bool try_add() {
    std::lock_guard lock(mutex_);
    if (count_ >= limit_ || is_closed_) {
      ++refused_;
      return false;
    }
    ++count_;
    return true;
  }
  /// The same, but waits for the receiver. False when that one has closed.
  bool add() {
    std::unique_lock lock(mutex_);
    if (count_ < limit_ || is_closed_) {
      ++count_;
      return !is_closed_;
    }
    const Waiting waiting;
    changed_.wait(lock, [&] { return count_ < limit_ || is_closed_; });
    ++count_;
    return !is_closed_;
  }
  /// The same, and neither waits nor loses: for a sender that sends few and must not wait.
  void add_at_once() {
    std::lock_guard lock(mutex_);
    ++count_;
  }
  /// By the receiver, for each message that it took.
  void remove() {
    {
      std::lock_guard lock(mutex_);
      --count_;
    }
    changed_.notify_all();
  }
  /// By the receiver, when it will take no more: nobody waits for it then.
  void close() {
    {
      std::lock_guard lock(mutex_);
      is_closed_ = true;
    }
    changed_.notify_all();
  }
  int64_t refused() const {
    std::lock_guard lock(mutex_);
    return refused_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  int64_t limit_;
  int64_t count_ = 0;
  int64_t refused_ = 0;
  bool is_closed_ = false;
};

/// Where messages go, and how many may be on their way.
struct Outlet {
  ActorRef to;
  std::shared_ptr<InFlight> in_flight;

  /// Sends unless too many are on their way; then the message is lost and counted.
  template <class Self, class Message>
  void offer(Self* self, Message&& message) const {
    if (in_flight->try_add()) tell(self, to, std::forward<Message>(message));
  }
  /// Sends, however many are on their way.
  template <class Self, class Message>
  void deliver_at_once(Self* self, Message&& message) const {
    in_flight->add_at_once();
    tell(self, to, std::forward<Message>(message));
  }
  /// Sends, and waits first while too many are on their way.
  template <class Self, class Message>
  void deliver(Self* self, Message&& message) const {
    if (in_flight->add()) tell(self, to, std::forward<Message>(message));
  }
};

}  // namespace troupe::cast
