#include "troupe/runtime/data/files/retry.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <thread>

namespace troupe {

bool is_transient(const std::error_code& error) {
  constexpr std::array passing{EIO,       ESTALE,       ETIMEDOUT, EAGAIN,       EBUSY,      EINTR,
                               ENETDOWN,  ENETUNREACH,  ENETRESET, ECONNABORTED, ECONNRESET, ENOTCONN,
                               EHOSTDOWN, EHOSTUNREACH, EREMOTEIO, ENOLINK,      ECOMM,      ECONNREFUSED,
                               ESHUTDOWN, ENOMEM,       EMFILE,    ENFILE,       ENOBUFS};
  const bool of_system = error.category() == std::generic_category() || error.category() == std::system_category();
  return of_system && std::ranges::find(passing, error.value()) != passing.end();
}

void check(const RetryPolicy& policy) {
  if (policy.retries < 0) {
    throw UsageError("RetryPolicy: retries is " + std::to_string(policy.retries) +
                     "; it must be at least 0 (0: nothing is tried again)");
  }
  for (const auto& [name, seconds] :
       {std::pair("first_wait", policy.first_wait), {"longest_wait", policy.longest_wait}}) {
    if (std::isfinite(seconds) && seconds >= 0) continue;
    throw UsageError(std::string("RetryPolicy: ") + name + " is " + double_to_text(seconds) +
                     "; it must be a number of seconds, at least 0");
  }
}

void Tries::wait_or_throw(const std::system_error& error) {
  failed_ += 1;
  if (!is_transient(error.code()) || policy_.retries == 0) throw;
  if (failed_ > policy_.retries) {
    // system_error puts the error's own text at the end again, so only what stands before it is handed on.
    std::string text = error.what();
    const std::string end = ": " + error.code().message();
    if (text.ends_with(end)) text.resize(text.size() - end.size());
    throw std::system_error(error.code(), text + " (tried " + std::to_string(failed_) + " times)");
  }
  if (policy_.on_retry) policy_.on_retry(error.what(), failed_ + 1);
  // 2^60 would be beyond every wait that is not cut.
  const double doubled = std::ldexp(policy_.first_wait, static_cast<int>(std::min<int64_t>(failed_ - 1, 60)));
  const double seconds = std::min(doubled, policy_.longest_wait);
  if (policy_.wait) return policy_.wait(seconds);
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

}  // namespace troupe
