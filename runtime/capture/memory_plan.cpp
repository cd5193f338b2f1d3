#include "troupe/runtime/capture/memory_plan.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

namespace troupe::capture {

namespace {

constexpr std::size_t alignment = 64;

std::size_t aligned(std::size_t bytes) {
  return (bytes + alignment - 1) / alignment * alignment;
}

bool overlap(const Lifetime& a, const Lifetime& b) {
  return a.first <= b.last && b.first <= a.last;
}

}  // namespace

MemoryPlan plan_memory(const std::vector<Lifetime>& buffers) {
  MemoryPlan plan{std::vector<std::size_t>(buffers.size(), 0), 0};
  std::vector<std::size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::greater(), [&](std::size_t i) { return buffers[i].bytes; });
  std::vector<std::size_t> placed;  // by offset
  for (const std::size_t index : order) {
    const std::size_t bytes = aligned(buffers[index].bytes);
    std::size_t end = 0, best = 0, least = std::numeric_limits<std::size_t>::max();
    for (const std::size_t other : placed) {
      if (!overlap(buffers[index], buffers[other])) continue;
      const std::size_t start = plan.offsets[other];
      if (start >= end + bytes && start - end < least) {
        least = start - end;
        best = end;
      }
      end = std::max(end, start + aligned(buffers[other].bytes));
    }
    plan.offsets[index] = least == std::numeric_limits<std::size_t>::max() ? end : best;
    const auto place = std::ranges::upper_bound(placed, plan.offsets[index], {},
                                                [&](std::size_t other) { return plan.offsets[other]; });
    placed.insert(place, index);
    plan.bytes = std::max(plan.bytes, plan.offsets[index] + bytes);
  }
  return plan;
}

}  // namespace troupe::capture
