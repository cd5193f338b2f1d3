// Trying again what failed for a reason that may pass: a network file system that was away, a server that was busy.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

namespace troupe {

/// How often something is tried again, and how long is waited before: exponential back-off.
struct RetryPolicy {
  /// Tries after the first one; 0: none.
  int64_t retries = 4;
  /// Seconds before the second try; each further wait is twice as long.
  double first_wait = 0.1;
  /// Seconds that no wait exceeds.
  double longest_wait = 5;
  /// Called before each wait with what failed and the number of the try that comes, 2 for the second.
  std::function<void(const std::string& failure, int64_t next_try)> on_retry = nullptr;
  /// How to wait; empty: the thread sleeps.
  std::function<void(double seconds)> wait = nullptr;
};

/// Whether an error of the operating system may pass: EIO, ESTALE, ETIMEDOUT, EAGAIN, EBUSY, a connection or host that
/// is not there at the moment, and descriptors or memory that have run out.
bool is_transient(const std::error_code& error);

/// Throws UsageError that names the value, if the policy has a negative number, or one that is none.
void check(const RetryPolicy& policy);

/// Keeps count of the tries of one operation.
class Tries {
 public:
  explicit Tries(const RetryPolicy& policy) : policy_(policy) {}
  /// Waits and returns if `error` may pass and there are tries left; else throws it again, as it came after a single
  /// try, or as a std::system_error that says how often it was tried. To be called while `error` is handled.
  void wait_or_throw(const std::system_error& error);

 private:
  const RetryPolicy& policy_;
  int64_t failed_ = 0;
};

/// Calls `action`, and again as the policy says when it throws a std::system_error that may pass (is_transient): for
/// the `next` of a stream that reads from a network, for example. All other errors go through at once. `action` must
/// leave nothing half done behind when it throws.
///
///     return with_retries(policy, [&] { return read_record(position); });
template <class Action>
auto with_retries(const RetryPolicy& policy, Action&& action) -> decltype(action()) {
  Tries tries(policy);
  while (true) {
    try {
      return action();
    } catch (const std::system_error& error) {
      tries.wait_or_throw(error);
    }
  }
}

}  // namespace troupe
