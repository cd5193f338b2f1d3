#include "troupe/runtime/collectives/deadline_watch.hpp"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

namespace troupe {
namespace {

using Clock = CollectiveWork::Clock;

}  // namespace

struct DeadlineWatch::Shared {
  struct Watched {
    Clock::time_point deadline;
    c10::weak_intrusive_ptr<CollectiveWork> work;

    bool over() const {
      const auto held = work.lock();
      return !held || held->isCompleted();
    }
  };

  explicit Shared(std::function<void(CollectiveWork&)> function) : expired(std::move(function)) {}

  // The works that are late.
  std::vector<c10::intrusive_ptr<CollectiveWork>> late() const {
    const auto now = Clock::now();
    std::vector<c10::intrusive_ptr<CollectiveWork>> late;
    for (const auto& watched : works) {
      auto work = watched.deadline <= now ? watched.work.lock() : nullptr;
      if (work && !work->isCompleted()) late.push_back(std::move(work));
    }
    return late;
  }

  void run() {
    std::unique_lock lock(mutex);
    while (!stop) {
      std::erase_if(works, [](const Watched& watched) { return watched.over(); });
      if (auto works_to_end = late(); !works_to_end.empty()) {
        lock.unlock();
        for (const auto& work : works_to_end) expired(*work);
        works_to_end.clear();
        lock.lock();
        continue;
      }
      armed = Clock::time_point::max();
      for (const auto& watched : works) armed = std::min(armed, watched.deadline);
      if (works.empty()) {
        wake.wait(lock);
      } else {
        wake.wait_until(lock, armed);
      }
    }
  }

  const std::function<void(CollectiveWork&)> expired;
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<Watched> works;
  Clock::time_point armed = Clock::time_point::max();  // when the thread wakes by itself
  bool stop = false;
};

DeadlineWatch::DeadlineWatch(std::function<void(CollectiveWork&)> expired)
    : shared_(std::make_shared<Shared>(std::move(expired))) {}

DeadlineWatch::~DeadlineWatch() {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->stop = true;
  }
  shared_->wake.notify_one();
  if (!thread_.joinable()) return;
  if (thread_.get_id() == std::this_thread::get_id()) {
    thread_.detach();
  } else {
    thread_.join();
  }
}

void DeadlineWatch::add(const c10::intrusive_ptr<CollectiveWork>& work) {
  const std::lock_guard lock(shared_->mutex);
  auto& works = shared_->works;
  // Operations end in their order, nearly, so that the front holds those that are over.
  while (!works.empty() && works.front().over()) works.pop_front();
  works.push_back({work->deadline(), c10::weak_intrusive_ptr<CollectiveWork>(work)});
  if (!thread_.joinable()) thread_ = std::thread([shared = shared_] { shared->run(); });
  if (work->deadline() < shared_->armed) {
    shared_->armed = work->deadline();
    shared_->wake.notify_one();
  }
}

}  // namespace troupe
