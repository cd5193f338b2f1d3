// How many bytes the tensors of the process take on the CPU.
#pragma once

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

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
  static void begin_again() { allocator().most = allocator().now.load(); }
  static int64_t most_bytes() { return allocator().most; }

 private:
  static constexpr uint8_t priority = 1;

  class Counting final : public c10::Allocator {
   public:
    c10::DataPtr allocate(std::size_t bytes) override {
      const auto size = static_cast<int64_t>(bytes);
      auto* memory = new Memory{c10::GetDefaultCPUAllocator()->allocate(bytes), size};
      const int64_t all = now += size;
      int64_t before = most;
      while (before < all && !most.compare_exchange_weak(before, all)) {
      }
      return {memory->data.get(), memory, &Counting::free, c10::Device(c10::DeviceType::CPU)};
    }
    void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }
    std::atomic<int64_t> now{0}, most{0};

   private:
    struct Memory {
      c10::DataPtr data;
      int64_t bytes;
    };
    static void free(void* context) {
      const std::unique_ptr<Memory> memory(static_cast<Memory*>(context));
      allocator().now -= memory->bytes;
    }
  };

  // For the rest of the process: memory that it has counted may be freed at any time.
  static Counting& allocator() {
    static auto* counting = new Counting;
    return *counting;
  }
};

}  // namespace troupe::bench
