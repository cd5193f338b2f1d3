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

// Each buffer in turn into the smallest gap that holds it, among those that are in use at the same time.
MemoryPlan placed_in(const std::vector<std::size_t>& order, const std::vector<Lifetime>& buffers) {
  MemoryPlan plan{std::vector<std::size_t>(buffers.size(), 0), 0};
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

}  // namespace

MemoryPlan plan_memory(const std::vector<Lifetime>& buffers) {
  std::vector<std::size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto duration = [&](std::size_t i) { return static_cast<double>(buffers[i].last - buffers[i].first + 1); };
  const auto bytes = [&](std::size_t i) { return static_cast<double>(buffers[i].bytes); };
  const auto area = [&](std::size_t i) { return bytes(i) * duration(i); };
  std::ranges::stable_sort(order, std::greater(), bytes);
  MemoryPlan best = placed_in(order, buffers);
  const auto try_order = [&] {
    if (auto plan = placed_in(order, buffers); plan.bytes < best.bytes) best = std::move(plan);
  };
  std::ranges::stable_sort(order, std::greater(), area);
  try_order();
  std::ranges::stable_sort(order, std::greater(), duration);
  try_order();
  return best;
}

}  // namespace troupe::capture
