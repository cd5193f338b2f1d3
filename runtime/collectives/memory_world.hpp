// The transport between the worker threads of one process, and, over another one, between the workers of many.
#pragma once

#include "troupe/runtime/collectives/collective_backend.hpp"

#include <memory>

namespace troupe {

/// A group whose ranks are threads of this process. Ranks meet in memory: the last one to call an operation carries it
/// out, a small one itself, a large one with the help of threads that the world keeps for that and of all who wait.
/// Values are combined in the order of ranks, so that they do not depend on who came first.
///
///     auto world = MemoryWorld::create(2);
///     std::jthread other([&] { work(world->backend(1)); });
///     work(world->backend(0));
///
/// Where a rank calls another operation than the ranks before it, or the same with another type or shape, all of them
/// get a CollectiveError that names both; a timeout names the ranks that did not come. Any thread may call.
class MemoryWorld : public std::enable_shared_from_this<MemoryWorld> {
 public:
  static std::shared_ptr<MemoryWorld> create(int size, CollectiveOptions options = {});

  /// The group of `local_size` threads in each of `between`'s processes: its rank is between's rank * local_size + the
  /// thread's. Values are combined in memory, then by one call of `between`, then handed out in memory. Every process
  /// has to call this at the same point (it compares local sizes, and throws UsageError on all of them where they
  /// differ), and `between` is used for nothing else from then on.
  static std::shared_ptr<MemoryWorld> create_over(c10::intrusive_ptr<CollectiveBackend> between, int local_size,
                                                  CollectiveOptions options = {});

  ~MemoryWorld();
  MemoryWorld(const MemoryWorld&) = delete;
  MemoryWorld& operator=(const MemoryWorld&) = delete;

  /// The backend of one of this process's threads, 0 to local_size() - 1. It keeps the world.
  c10::intrusive_ptr<CollectiveBackend> backend(int local_rank);
  int local_size() const;
  /// Of all processes.
  int size() const;

  /// Aborts all ranks of this process, and `between`.
  void abort(const std::string& reason);

 private:
  class Rank;
  struct Meeting;
  struct State;
  MemoryWorld(c10::intrusive_ptr<CollectiveBackend> between, int local_size, CollectiveOptions options);

  std::shared_ptr<State> state_;
};

}  // namespace troupe
