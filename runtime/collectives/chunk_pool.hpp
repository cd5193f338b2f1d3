// A few threads that work through large jobs together, a chunk each.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace troupe {

/// Jobs are done strictly one after the other, the chunks of one by all threads at once, those that help included. Any
/// thread may call any function. The threads start with the first job.
class ChunkPool {
 public:
  struct Job {
    /// At least 1.
    int64_t chunks = 1;
    /// Called once for each chunk, at the same time for several.
    std::function<void(int64_t chunk)> run{};
    /// Called once, after all chunks and before the next job begins, on any of the threads; with the first exception
    /// that a chunk threw. Must not throw.
    std::function<void(std::exception_ptr)> done{};
  };

  explicit ChunkPool(int threads);
  /// Lets the chunks that run come to an end; jobs that have not begun are dropped.
  ~ChunkPool();
  ChunkPool(const ChunkPool&) = delete;
  ChunkPool& operator=(const ChunkPool&) = delete;

  void add(Job job);
  /// No job is there that is not done.
  bool idle() const;
  /// Works on chunks for as long as there are any to begin.
  void help();

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;  // the threads hold it, too
  std::vector<std::thread> threads_;
};

}  // namespace troupe
