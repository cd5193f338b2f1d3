// Workers that are threads of the test, without a Trainer.
#pragma once

#include "troupe/runtime/collectives/memory_world.hpp"
#include "troupe/runtime/distributed/peers.hpp"

#include <chrono>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace troupe {

/// Calls `rank` on `count` threads, each with the others as its peers, and waits for all. Throws what one of them
/// threw.
inline void on_ranks(int count, const std::function<void(Peers&)>& rank) {
  CollectiveOptions collective;
  collective.timeout = std::chrono::seconds(60);
  const auto tensors = MemoryWorld::create(count, collective), control = MemoryWorld::create(count, collective),
             votes = MemoryWorld::create(count, collective);
  std::mutex mutex;
  std::exception_ptr thrown;
  std::vector<std::jthread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      Place place;
      place.global_rank = place.local_rank = place.in_process = i;
      place.world_size = count;
      Peers peers(place, c10::DeviceType::CPU, tensors->backend(i), control->backend(i), votes->backend(i));
      try {
        rank(peers);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!thrown) thrown = std::current_exception();
        peers.abort("another rank has failed");
      }
    });
  }
  threads.clear();
  if (thrown) std::rethrow_exception(thrown);
}

}  // namespace troupe
