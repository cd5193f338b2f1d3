// Threads of a test as the ranks of a group.
#pragma once

#include "troupe/runtime/collectives/memory_world.hpp"

#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace troupe {

/// Calls `work` on a thread for each of the world's ranks in this process, and waits for all.
inline void on_every_rank(const std::shared_ptr<MemoryWorld>& world,
                          const std::function<void(CollectiveBackend&)>& work) {
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < world->local_size(); ++rank) {
    threads.emplace_back([&, rank] { work(*world->backend(rank)); });
  }
}

/// The message of the exception that `call` throws; empty if it throws none.
inline std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

}  // namespace troupe
