#include "troupe/runtime/collectives/threaded_backend.hpp"

#include "troupe/runtime/collectives/collective_error.hpp"
#include "troupe/runtime/collectives/deadline_watch.hpp"
#include "troupe/runtime/process/compute_threads.hpp"

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace troupe {

struct ThreadedBackend::Shared {
  struct Item {
    CollectiveCall call{};
    c10::intrusive_ptr<CollectiveWork> work{};
  };

  void run();
  void carry_out(Item item);
  void fail(std::exception_ptr error);

  Transport transport;
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<Item> queue;
  c10::intrusive_ptr<CollectiveWork> current;  // the work whose call is under way
  bool stop = false;
  std::exception_ptr aborted;
  std::optional<DeadlineWatch> watch;
};

void ThreadedBackend::Shared::run() {
  use_one_compute_thread();
  std::unique_lock lock(mutex);
  while (true) {
    wake.wait(lock, [this] { return stop || !queue.empty(); });
    if (stop) break;
    Item item = std::move(queue.front());
    queue.pop_front();
    current = item.work;
    lock.unlock();
    carry_out(std::move(item));
    lock.lock();
  }
  lock.unlock();
  transport = nullptr;
}

void ThreadedBackend::Shared::carry_out(Item item) {
  std::exception_ptr error;
  try {
    transport(item.call);
  } catch (...) {
    error = std::current_exception();
  }
  if (error) fail(error);
  {
    const std::lock_guard lock(mutex);
    current = nullptr;
  }
  if (error) return;
  try {
    if (item.call.finish) item.call.finish();
    item.call = {};  // its memory goes before the waiting thread goes on
    item.work->succeed();
  } catch (...) {
    item.work->fail(std::current_exception());
  }
}

void ThreadedBackend::Shared::fail(std::exception_ptr error) {
  std::vector<c10::intrusive_ptr<CollectiveWork>> open;
  {
    const std::lock_guard lock(mutex);
    if (aborted) return;
    aborted = error;
    if (current) open.push_back(current);
    for (auto& item : queue) open.push_back(item.work);
    queue.clear();
  }
  for (const auto& work : open) work->fail(error);
}

ThreadedBackend::ThreadedBackend(int rank, int size, std::string name, CollectiveOptions options, Transport transport)
    : CollectiveBackend(rank, size, std::move(name), options), shared_(std::make_shared<Shared>()) {
  shared_->transport = std::move(transport);
  shared_->watch.emplace([shared = std::weak_ptr(shared_), ask = this->options().who_is_missing](CollectiveWork& work) {
    const auto missing =
        ask ? ask() : std::string("a rank did not call it or has ended, or the connection is too slow");
    if (work.isCompleted()) return;  // meanwhile
    const auto error = std::make_exception_ptr(
        CollectiveTimeout(work.what() + " was not finished within " + in_seconds(work.timeout()) + ": " + missing));
    if (const auto held = shared.lock()) held->fail(error);
    work.fail(error);
  });
  thread_ = std::thread([shared = shared_] { shared->run(); });
}

ThreadedBackend::~ThreadedBackend() {
  shared_->fail(std::make_exception_ptr(CollectiveError("the group of ranks has ended")));
  bool leave = thread_.get_id() == std::this_thread::get_id();  // a work's end may drop the last owner
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->stop = true;
    leave = leave || shared_->current;
  }
  shared_->wake.notify_one();
  if (leave) {
    thread_.detach();
  } else {
    thread_.join();
  }
}

void ThreadedBackend::abort(const std::string& reason) {
  shared_->fail(std::make_exception_ptr(CollectiveError(reason)));
}

c10::intrusive_ptr<CollectiveWork> ThreadedBackend::start(CollectiveCall call, std::chrono::milliseconds timeout) {
  c10::intrusive_ptr<CollectiveWork> work;
  {
    const std::lock_guard lock(shared_->mutex);
    if (shared_->aborted) std::rethrow_exception(shared_->aborted);
    work = make_work(call, timeout);
    shared_->queue.push_back({std::move(call), work});
  }
  shared_->wake.notify_one();
  shared_->watch->add(work);
  return work;
}

}  // namespace troupe
