#include "troupe/runtime/collectives/collective_work.hpp"

#include "troupe/runtime/collectives/collective_error.hpp"

#include <ATen/core/List.h>

#include <sstream>
#include <utility>

namespace troupe {
namespace {

c10::IValue as_value(const std::vector<at::Tensor>& results) {
  return c10::List<at::Tensor>(results);
}

// A deadline that the clock can hold, whatever the timeout.
CollectiveWork::Clock::time_point from_now(std::chrono::milliseconds timeout) {
  constexpr auto longest = std::chrono::hours(24 * 365);
  return CollectiveWork::Clock::now() + std::min<std::chrono::milliseconds>(timeout, longest);
}

}  // namespace

CollectiveWork::CollectiveWork(c10d::OpType type, int rank, uint64_t sequence, std::function<std::string()> what,
                               std::vector<at::Tensor> results, std::chrono::milliseconds timeout)
    : Work(rank, type),
      sequence_(sequence),
      what_(std::move(what)),
      results_(std::move(results)),
      timeout_(timeout),
      deadline_(from_now(timeout)) {}

bool CollectiveWork::wait(std::chrono::milliseconds timeout) {
  if (assist) assist();
  std::unique_lock lock(mutex_);
  const auto done = [this] { return completed_; };
  if (timeout == kNoTimeout) {
    cv_.wait(lock, done);
  } else if (!cv_.wait_until(lock, from_now(timeout), done)) {
    throw CollectiveTimeout(what() + " was not finished after " + in_seconds(timeout));
  }
  if (exception_) std::rethrow_exception(exception_);
  return true;
}

c10::intrusive_ptr<c10::ivalue::Future> CollectiveWork::getFuture() {
  const std::lock_guard lock(mutex_);
  if (!future_) {
    future_ = c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()));
    if (completed_ && exception_) future_->setError(exception_);
    if (completed_ && !exception_) future_->markCompleted(as_value(results_));
  }
  return future_;
}

bool CollectiveWork::conclude(std::exception_ptr error) {
  c10::intrusive_ptr<c10::ivalue::Future> future;
  {
    const std::lock_guard lock(mutex_);
    if (completed_) return false;
    completed_ = true;
    exception_ = error;
    future = future_;
    in_flight_.end();
  }
  cv_.notify_all();
  // Outside the lock: the future's callbacks run here and may ask this work anything.
  if (future && error) future->setError(error);
  if (future && !error) future->markCompleted(as_value(results_));
  return true;
}

std::string in_seconds(std::chrono::milliseconds time) {
  std::ostringstream text;
  text << std::chrono::duration<double>(time).count() << " s";
  return text.str();
}

}  // namespace troupe
