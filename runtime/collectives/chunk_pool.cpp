#include "troupe/runtime/collectives/chunk_pool.hpp"

#include "troupe/runtime/process/compute_threads.hpp"

#include <utility>

namespace troupe {

struct ChunkPool::Shared {
  struct Open {
    Job job;
    int64_t next = 0;  // the first chunk that nobody has begun
    int64_t left = 0;  // chunks that are not finished
    std::exception_ptr error;
  };

  bool has_chunk() const { return !jobs.empty() && jobs.front()->next < jobs.front()->job.chunks; }

  // Does one chunk of the first job; the lock is held at the beginning and at the end.
  void do_chunk(std::unique_lock<std::mutex>& lock) {
    auto open = jobs.front();
    const int64_t chunk = open->next++;
    lock.unlock();
    std::exception_ptr error;
    try {
      open->job.run(chunk);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (error && !open->error) open->error = error;
    if (--open->left > 0) return;
    lock.unlock();
    open->job.done(open->error);
    lock.lock();
    jobs.pop_front();
    if (has_chunk()) wake.notify_all();
    lock.unlock();
    open.reset();  // what it holds may end here, and with it this pool
    lock.lock();
  }

  void work() {
    use_one_compute_thread();
    std::unique_lock lock(mutex);
    while (true) {
      wake.wait(lock, [this] { return stop || has_chunk(); });
      if (stop) return;
      do_chunk(lock);
    }
  }

  mutable std::mutex mutex;
  std::condition_variable wake;
  std::deque<std::shared_ptr<Open>> jobs;
  bool stop = false;
  int threads = 1;
};

ChunkPool::ChunkPool(int threads) : shared_(std::make_shared<Shared>()) {
  shared_->threads = threads;
}

ChunkPool::~ChunkPool() {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->stop = true;
  }
  shared_->wake.notify_all();
  for (auto& thread : threads_) {
    // A job's end may drop the last owner of the pool, on one of its own threads.
    if (thread.get_id() == std::this_thread::get_id()) {
      thread.detach();
    } else {
      thread.join();
    }
  }
}

void ChunkPool::add(Job job) {
  auto open = std::make_shared<Shared::Open>();
  open->left = job.chunks;
  open->job = std::move(job);
  const int64_t chunks = open->job.chunks;
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->jobs.push_back(std::move(open));
    while (threads_.size() < static_cast<std::size_t>(shared_->threads)) {
      threads_.emplace_back([shared = shared_] { shared->work(); });
    }
  }
  if (chunks == 1) {
    shared_->wake.notify_one();
  } else {
    shared_->wake.notify_all();
  }
}

bool ChunkPool::idle() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->jobs.empty();
}

void ChunkPool::help() {
  std::unique_lock lock(shared_->mutex);
  while (!shared_->stop && shared_->has_chunk()) shared_->do_chunk(lock);
}

}  // namespace troupe
