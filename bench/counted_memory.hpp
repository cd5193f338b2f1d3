// How many bytes the tensors of the process take on the CPU.
#pragma once

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_map>

namespace troupe::bench {

/// While it lives, what LibTorch allocates on the CPU is counted, on all threads. One at a time; what was allocated in
/// its life may be freed after it.
class CountedMemory {
 public:
  CountedMemory() { c10::SetCPUAllocator(&allocator(), priority); }
  ~CountedMemory() { c10::SetCPUAllocator(c10::GetDefaultCPUAllocator(), priority); }
  CountedMemory(const CountedMemory&) = delete;
  CountedMemory& operator=(const CountedMemory&) = delete;

  /// The most from now on.
  static void begin_again() {
    const std::lock_guard lock(allocator().mutex);
    allocator().most = allocator().now;
  }
  static int64_t most_bytes() {
    const std::lock_guard lock(allocator().mutex);
    return allocator().most;
  }

 private:
  static constexpr uint8_t priority = 1;

  class Counting final : public c10::Allocator {
   public:
    c10::DataPtr allocate(std::size_t bytes) override {
      void* const data = c10::GetDefaultCPUAllocator()->raw_allocate(bytes);
      if (data) {
        const std::lock_guard lock(mutex);
        sizes[data] = static_cast<int64_t>(bytes);
        most = std::max(most, now += static_cast<int64_t>(bytes));
      }
      return {data, data, &Counting::free, c10::Device(c10::DeviceType::CPU)};
    }
    c10::DeleterFnPtr raw_deleter() const override { return &Counting::free; }
    void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }

    std::mutex mutex;
    int64_t now = 0, most = 0;
    std::unordered_map<void*, int64_t> sizes;

   private:
    static void free(void* data) {
      {
        auto& counting = allocator();
        const std::lock_guard lock(counting.mutex);
        const auto found = counting.sizes.find(data);
        if (found != counting.sizes.end()) {
          counting.now -= found->second;
          counting.sizes.erase(found);
        }
      }
      c10::GetDefaultCPUAllocator()->raw_deallocate(data);
    }
  };

  // For the rest of the process: memory that it has counted may be freed at any time.
  static Counting& allocator() {
    static auto* counting = new Counting;
    return *counting;
  }
};

}  // namespace troupe::bench
