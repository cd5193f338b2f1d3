// How much memory LibTorch's tensors on the CPU hold, and held at most.
#pragma once

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <cstdint>
#include <memory>

namespace troupe::bench {

/// Counts what the thread that made it, and those that work for it, ask LibTorch's allocator for and give back, while
/// it lives.
class Allocated {
 public:
  Allocated() : counter_(std::make_shared<Counter>()), scope_(c10::DebugInfoKind::PROFILER_STATE, counter_) {}

  int64_t bytes() const { return counter_->now; }
  int64_t peak() const { return counter_->peak; }

 private:
  struct Counter : c10::MemoryReportingInfoBase {
    void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device device) override {
      if (!device.is_cpu()) return;
      now += size;
      peak = std::max(peak, now);
    }
    bool memoryProfilingEnabled() const override { return true; }

    int64_t now = 0, peak = 0;
  };

  std::shared_ptr<Counter> counter_;
  c10::DebugInfoGuard scope_;
};

}  // namespace troupe::bench
