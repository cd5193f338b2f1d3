#include "troupe/runtime/capture/memory_plan.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>

namespace troupe::capture {

namespace {

constexpr std::size_t alignment = 64;

std::size_t aligned(std::size_t bytes) {
  return (bytes + alignment - 1) / alignment * alignment;
}

bool overlap(const Lifetime& a, const Lifetime& b) {
  return a.first <= b.last && b.first <= a.last;
}

// The smallest gap that holds a buffer, among those in `placed`, by offset, that are in use at the same time; or the
// place behind all of them.
std::size_t gap_for(const Lifetime& buffer, const std::vector<std::size_t>& placed,
                    const std::vector<Lifetime>& buffers, const std::vector<std::size_t>& offsets) {
  std::size_t end = 0, best = 0, least = std::numeric_limits<std::size_t>::max();
  for (const std::size_t other : placed) {
    if (!overlap(buffer, buffers[other])) continue;
    const std::size_t start = offsets[other];
    if (start >= end + aligned(buffer.bytes) && start - end < least) {
      least = start - end;
      best = end;
    }
    end = std::max(end, start + aligned(buffers[other].bytes));
  }
  return least == std::numeric_limits<std::size_t>::max() ? end : best;
}

void insert_by_offset(std::size_t index, std::vector<std::size_t>& placed, const std::vector<std::size_t>& offsets) {
  const auto offset_of = [&](std::size_t other) { return offsets[other]; };
  placed.insert(std::ranges::upper_bound(placed, offsets[index], {}, offset_of), index);
}

// Those in `order` that no lender has, each in turn.
MemoryPlan placed_in(const std::vector<std::size_t>& order, const std::vector<Lifetime>& buffers, MemoryPlan plan) {
  std::vector<std::size_t> placed;
  for (const std::size_t index : order) {
    if (plan.lender[index]) continue;
    plan.offsets[index] = gap_for(buffers[index], placed, buffers, plan.offsets);
    insert_by_offset(index, placed, plan.offsets);
    plan.bytes = std::max(plan.bytes, plan.offsets[index] + aligned(buffers[index].bytes));
  }
  return plan;
}

// What goes into memory that is lent.
MemoryPlan borrow(const std::vector<std::size_t>& order, const std::vector<Lifetime>& buffers,
                  const std::vector<Lifetime>& lent) {
  MemoryPlan plan{std::vector<std::size_t>(buffers.size(), 0), {}, 0};
  plan.lender.resize(buffers.size());
  for (std::size_t which = 0; which < lent.size(); ++which) {
    std::vector<std::size_t> placed;
    for (const std::size_t index : order) {
      const Lifetime& buffer = buffers[index];
      if (plan.lender[index] || buffer.first < lent[which].first || buffer.last > lent[which].last) continue;
      const std::size_t offset = gap_for(buffer, placed, buffers, plan.offsets);
      if (offset + buffer.bytes > lent[which].bytes) continue;
      plan.offsets[index] = offset;
      plan.lender[index] = which;
      insert_by_offset(index, placed, plan.offsets);
    }
  }
  return plan;
}

// The most that is in use at one time, but for what lies in lent memory: no plan is smaller.
std::size_t least_bytes(const std::vector<Lifetime>& buffers, const MemoryPlan& borrowed) {
  std::size_t end = 0;
  for (const auto& buffer : buffers) end = std::max(end, buffer.last + 1);
  std::vector<std::size_t> begun(end + 1, 0), ended(end + 1, 0);
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    if (borrowed.lender[i]) continue;
    begun[buffers[i].first] += aligned(buffers[i].bytes);
    ended[buffers[i].last + 1] += aligned(buffers[i].bytes);
  }
  std::size_t in_use = 0, most = 0;
  for (std::size_t time = 0; time < end; ++time) {
    in_use += begun[time] - ended[time];
    most = std::max(most, in_use);
  }
  return most;
}

// Moves buffers, every other time one of those that reach to the plan's end, to earlier places in the order, and keeps
// what makes the plan no larger. The same numbers in each run: a program lies where it lay in the run before.
MemoryPlan improved(MemoryPlan best, std::vector<std::size_t> order, const std::vector<Lifetime>& buffers,
                    const MemoryPlan& borrowed) {
  constexpr std::size_t most_comparisons = 20'000'000, most_tries = 2'000;  // a tenth of a second
  const std::size_t least = least_bytes(buffers, borrowed), count = order.size();
  std::mt19937 numbers;  // NOLINT(cert-msc51-cpp)
  const auto below = [&](std::size_t limit) { return static_cast<std::size_t>(numbers()) % limit; };
  std::size_t tries = std::min(most_tries, most_comparisons / std::max<std::size_t>(1, count * count));
  for (; best.bytes > least && tries > 0; --tries) {
    std::size_t from = below(count);
    if (tries % 2 == 0) {
      const auto reaches_end = [&](std::size_t index) {
        return !best.lender[index] && best.offsets[index] + aligned(buffers[index].bytes) == best.bytes;
      };
      from = static_cast<std::size_t>(std::ranges::find_if(order, reaches_end) - order.begin());
    }
    auto moved = order;
    moved.erase(moved.begin() + static_cast<std::ptrdiff_t>(from));
    moved.insert(moved.begin() + static_cast<std::ptrdiff_t>(below(from + 1)), order[from]);
    auto plan = placed_in(moved, buffers, borrowed);
    if (plan.bytes > best.bytes) continue;
    best = std::move(plan);
    order = std::move(moved);
  }
  return best;
}

}  // namespace

MemoryPlan plan_memory(const std::vector<Lifetime>& buffers, const std::vector<Lifetime>& lent) {
  std::vector<std::size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto duration = [&](std::size_t i) { return static_cast<double>(buffers[i].last - buffers[i].first + 1); };
  const auto bytes = [&](std::size_t i) { return static_cast<double>(buffers[i].bytes); };
  const auto area = [&](std::size_t i) { return bytes(i) * duration(i); };
  std::ranges::stable_sort(order, std::greater(), bytes);
  const MemoryPlan borrowed = borrow(order, buffers, lent);
  MemoryPlan best = placed_in(order, buffers, borrowed);
  std::vector<std::size_t> best_order = order;
  const auto try_order = [&] {
    auto plan = placed_in(order, buffers, borrowed);
    if (plan.bytes >= best.bytes) return;
    best = std::move(plan);
    best_order = order;
  };
  std::ranges::stable_sort(order, std::greater(), area);
  try_order();
  std::ranges::stable_sort(order, std::greater(), duration);
  try_order();
  return improved(std::move(best), std::move(best_order), buffers, borrowed);
}

}  // namespace troupe::capture
