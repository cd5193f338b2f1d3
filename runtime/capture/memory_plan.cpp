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

// The most of them that are in use at one time: no plan is smaller.
std::size_t least_bytes(const std::vector<std::size_t>& order, const std::vector<Lifetime>& buffers,
                        const MemoryPlan& borrowed) {
  std::size_t most = 0;
  for (const std::size_t start : order) {  // the sum grows only when a buffer begins
    std::size_t sum = 0;
    for (const std::size_t other : order) {
      const bool is_in_use =
          buffers[other].first <= buffers[start].first && buffers[start].first <= buffers[other].last;
      if (is_in_use && !borrowed.lender[other]) sum += aligned(buffers[other].bytes);
    }
    most = std::max(most, sum);
  }
  return most;
}

// Moves buffers, every other time one of those that reach to the plan's end, to earlier places in the order, and keeps
// what makes the plan no larger. The same numbers in each run: a program lies where it lay in the run before.
MemoryPlan improved(MemoryPlan best, std::vector<std::size_t> order, const std::vector<Lifetime>& buffers,
                    const MemoryPlan& borrowed) {
  constexpr std::size_t most_comparisons = 20'000'000, most_tries = 2'000;  // a tenth of a second
  const std::size_t least = least_bytes(order, buffers, borrowed), count = order.size();
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
    const std::size_t to = below(from + 1);
    std::rotate(order.begin() + static_cast<std::ptrdiff_t>(to), order.begin() + static_cast<std::ptrdiff_t>(from),
                order.begin() + static_cast<std::ptrdiff_t>(from) + 1);
    if (auto plan = placed_in(order, buffers, borrowed); plan.bytes <= best.bytes) {
      best = std::move(plan);
    } else {
      std::rotate(order.begin() + static_cast<std::ptrdiff_t>(to), order.begin() + static_cast<std::ptrdiff_t>(to) + 1,
                  order.begin() + static_cast<std::ptrdiff_t>(from) + 1);
    }
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
