#include "troupe/runtime/collectives/memory_steps.hpp"

#include "troupe/runtime/collectives/reduce_kernel.hpp"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <span>

namespace troupe {
namespace {

using Calls = std::vector<CollectiveCall>;

void copy(const char* from, char* to, int64_t bytes) {
  if (from != to && bytes > 0) std::memcpy(to, from, static_cast<std::size_t>(bytes));
}

int64_t element_bytes(const CollectiveCall& call) {
  return static_cast<int64_t>(call.input.element_size());
}

// Copies a range of one rank's tensor to the same range of the others'.
MemoryStep copies_from(const Calls& calls, std::size_t source) {
  const int64_t bytes = element_bytes(calls[0]);
  return {calls[0].output.numel(), bytes * static_cast<int64_t>(calls.size()),
          [&calls, source, bytes](int64_t begin, int64_t end) {
            const char* const from = memory_of(calls[source].output) + begin * bytes;
            for (std::size_t rank = 0; rank < calls.size(); ++rank) {
              if (rank != source) copy(from, memory_of(calls[rank].output) + begin * bytes, (end - begin) * bytes);
            }
          }};
}

// The elements [begin, end) of all inputs, reduced into `target`.
void reduce_inputs(const Calls& calls, int64_t begin, int64_t end, void* target) {
  std::vector<const void*> sources;
  for (const auto& call : calls) sources.push_back(memory_of(call.input) + begin * element_bytes(call));
  reduce_elements(calls[0].input.scalar_type(), calls[0].op, sources, target, end - begin);
}

MemorySteps all_reduce(const Calls& calls, bool alone) {
  const int64_t bytes = element_bytes(calls[0]);
  MemorySteps steps;
  steps.combine = {calls[0].input.numel(), 2 * bytes * static_cast<int64_t>(calls.size()),
                   [&calls, bytes, alone](int64_t begin, int64_t end) {
                     char* const target = memory_of(calls[0].output) + begin * bytes;
                     reduce_inputs(calls, begin, end, target);
                     for (std::size_t rank = 1; alone && rank < calls.size(); ++rank) {
                       copy(target, memory_of(calls[rank].output) + begin * bytes, (end - begin) * bytes);
                     }
                   }};
  if (!alone) {
    // A mean of processes of means of threads: all processes have as many threads.
    steps.between = CollectiveCall{.kind = Collective::all_reduce, .op = calls[0].op};
    steps.between->input = steps.between->output = calls[0].output;
    steps.spread = copies_from(calls, 0);
  }
  return steps;
}

MemorySteps broadcast(const Calls& calls, const MemoryPlace& place) {
  const int threads = static_cast<int>(calls.size());
  const bool ours = calls[0].root / threads == place.process;
  const auto source = static_cast<std::size_t>(ours ? calls[0].root % threads : 0);
  MemorySteps steps;
  if (place.processes == 1) {
    steps.combine = copies_from(calls, source);
    return steps;
  }
  steps.between = CollectiveCall{.kind = Collective::broadcast, .root = calls[0].root / threads};
  steps.between->input = steps.between->output = calls[source].output;
  steps.spread = copies_from(calls, source);
  return steps;
}

// Calls part(rank, begin, end, place) for the pieces of [begin, end) that belong to each rank, where rank r has
// counts[r] elements behind those of the ranks before it; `place` is the piece's first element in its rank's part.
template <class Part>
void for_parts(std::span<const int64_t> counts, int64_t begin, int64_t end, const Part& part) {
  int64_t first = 0;
  for (std::size_t rank = 0; rank < counts.size() && first < end; ++rank) {
    const int64_t from = std::max(begin, first);
    const int64_t to = std::min(end, first + counts[rank]);
    if (from < to) part(rank, from, to, from - first);
    first += counts[rank];
  }
}

MemorySteps all_gather(const Calls& calls, const MemoryPlace& place) {
  const std::size_t threads = calls.size();
  const auto first = static_cast<std::size_t>(place.process) * threads;
  const std::span<const int64_t> counts = calls[0].counts;
  const auto local = counts.subspan(first, threads);
  const int64_t offset =
      std::accumulate(counts.begin(), counts.begin() + static_cast<std::ptrdiff_t>(first), int64_t{0});
  const int64_t bytes = element_bytes(calls[0]);
  const bool alone = place.processes == 1;
  MemorySteps steps;
  steps.combine = {std::accumulate(local.begin(), local.end(), int64_t{0}),
                   bytes * static_cast<int64_t>(alone ? threads : 1),
                   [&calls, local, offset, bytes, alone](int64_t begin, int64_t end) {
                     for_parts(local, begin, end, [&](std::size_t rank, int64_t from, int64_t to, int64_t at) {
                       for (std::size_t other = 0; other < (alone ? calls.size() : 1); ++other) {
                         copy(memory_of(calls[rank].input) + at * bytes,
                              memory_of(calls[other].output) + (offset + from) * bytes, (to - from) * bytes);
                       }
                     });
                   }};
  if (alone) return steps;
  steps.between = CollectiveCall{.kind = Collective::all_gather};
  const auto flat = calls[0].output.view({-1});
  steps.between->input = flat.narrow(0, offset, steps.combine.units);
  steps.between->output = flat;
  for (std::size_t rank = 0; rank < counts.size(); rank += threads) {
    const auto of_process = counts.subspan(rank, threads);
    steps.between->counts.push_back(std::accumulate(of_process.begin(), of_process.end(), int64_t{0}));
  }
  steps.spread = copies_from(calls, 0);
  return steps;
}

MemorySteps reduce_scatter(const Calls& calls, const MemoryPlace& place) {
  const int64_t bytes = element_bytes(calls[0]);
  const int64_t total = calls[0].input.numel();
  const std::vector<int64_t> local(calls.size(), calls[0].output.numel());
  MemorySteps steps;
  steps.combine = {total, bytes * static_cast<int64_t>(calls.size()), {}};
  if (place.processes == 1) {
    steps.combine.run = [&calls, local, bytes](int64_t begin, int64_t end) {
      for_parts(local, begin, end, [&](std::size_t rank, int64_t from, int64_t to, int64_t at) {
        reduce_inputs(calls, from, to, memory_of(calls[rank].output) + at * bytes);
      });
    };
    return steps;
  }
  const auto all = at::empty({total}, calls[0].input.options());
  const auto ours = at::empty({total / place.processes}, all.options());
  steps.combine.run = [&calls, all, bytes](int64_t begin, int64_t end) {
    reduce_inputs(calls, begin, end, memory_of(all) + begin * bytes);
  };
  steps.between = CollectiveCall{.kind = Collective::reduce_scatter, .op = calls[0].op, .input = all, .output = ours};
  steps.spread = {ours.numel(), 2 * bytes, [&calls, local, ours, bytes](int64_t begin, int64_t end) {
                    for_parts(local, begin, end, [&](std::size_t rank, int64_t from, int64_t to, int64_t at) {
                      copy(memory_of(ours) + from * bytes, memory_of(calls[rank].output) + at * bytes,
                           (to - from) * bytes);
                    });
                  }};
  return steps;
}

}  // namespace

MemorySteps steps_of(const std::vector<CollectiveCall>& calls, const MemoryPlace& place) {
  const bool alone = place.processes == 1;
  switch (calls.front().kind) {
    case Collective::all_reduce: return all_reduce(calls, alone);
    case Collective::broadcast: return broadcast(calls, place);
    case Collective::all_gather: return all_gather(calls, place);
    case Collective::reduce_scatter: return reduce_scatter(calls, place);
    case Collective::barrier: break;
  }
  MemorySteps steps;
  if (!alone) steps.between = CollectiveCall{.kind = Collective::barrier};
  return steps;
}

}  // namespace troupe
