#include "troupe/runtime/collectives/mpi_calls.hpp"

#include "troupe/runtime/collectives/collective_error.hpp"
#include "troupe/runtime/collectives/mpi_error.hpp"
#include "troupe/runtime/collectives/reduce_kernel.hpp"

#include <c10/util/Exception.h>
#define OMPI_SKIP_MPICXX 1  // the C interface alone
#include <mpi.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

namespace troupe {
namespace {

using c10d::ReduceOp;

// A call of MPI counts with an int; besides, memory that was just written is still in the cache when it is read again.
constexpr int64_t segment_bytes = 4 * 1024 * 1024;
// Below this, all values go to all ranks in one exchange.
constexpr int64_t gather_bytes = 16 * 1024;

struct Group {
  MPI_Comm communicator = MPI_COMM_NULL;
  int rank = 0;
  int size = 1;
};

// A call with the sizes that MPI wants to know.
struct Elements {
  explicit Elements(const at::Tensor& tensor)
      : type(tensor.scalar_type()), bytes(static_cast<int64_t>(tensor.element_size())) {}
  at::ScalarType type;
  int64_t bytes;
};

MPI_Datatype mpi_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat: return MPI_FLOAT;
    case at::kDouble: return MPI_DOUBLE;
    case at::kChar: return MPI_INT8_T;
    case at::kBool:
    case at::kByte: return MPI_UINT8_T;
    case at::kShort: return MPI_INT16_T;
    case at::kUInt16: return MPI_UINT16_T;
    case at::kInt: return MPI_INT32_T;
    case at::kUInt32: return MPI_UINT32_T;
    case at::kLong: return MPI_INT64_T;
    case at::kUInt64: return MPI_UINT64_T;
    default: TORCH_INTERNAL_ASSERT(false, "no type of MPI's for ", type);
  }
}

MPI_Op mpi_op(at::ScalarType type, ReduceOp::RedOpType op) {
  const bool logical = type == at::kBool;
  switch (op) {
    case ReduceOp::SUM:
    case ReduceOp::AVG: return logical ? MPI_MAX : MPI_SUM;
    case ReduceOp::PRODUCT: return logical ? MPI_MIN : MPI_PROD;
    case ReduceOp::MIN: return MPI_MIN;
    default: return MPI_MAX;
  }
}

// Whether MPI's own operation gives the right bits on all ranks. It has no half types, and its MIN and MAX of floats
// depend on the order of their arguments where one is NaN or both are zeros.
bool is_mpis_own(at::ScalarType type, ReduceOp::RedOpType op) {
  if (type == at::kHalf || type == at::kBFloat16) return false;
  return !at::isFloatingType(type) || (op != ReduceOp::MIN && op != ReduceOp::MAX);
}

// Calls part(begin, count) for [0, total) in pieces.
template <class Part>
void in_segments(int64_t total, int64_t a_segment, const Part& part) {
  for (int64_t begin = 0; begin < total; begin += a_segment) {
    part(begin, static_cast<int>(std::min(a_segment, total - begin)));
  }
}

int64_t elements_a_segment(const Elements& elements, int64_t bytes = segment_bytes) {
  return std::max<int64_t>(1, bytes / elements.bytes);
}

int bytes_of(int count, const Elements& elements) {
  return static_cast<int>(count * elements.bytes);
}

// --- Reductions that MPI has no operation for ------------------------------------------------------------------------

void reduce_parts(const Elements& elements, ReduceOp::RedOpType op, const std::vector<char>& parts, int64_t count,
                  int ranks, char* target) {
  std::vector<const void*> sources;
  for (int rank = 0; rank < ranks; ++rank) sources.push_back(parts.data() + rank * count * elements.bytes);
  reduce_elements(elements.type, op, sources, target, count);
}

void all_reduce_small(const Elements& elements, ReduceOp::RedOpType op, char* memory, int count, const Group& group) {
  const int bytes = bytes_of(count, elements);
  std::vector<char> parts(static_cast<std::size_t>(bytes) * static_cast<std::size_t>(group.size));
  check_mpi(MPI_Allgather(memory, bytes, MPI_BYTE, parts.data(), bytes, MPI_BYTE, group.communicator), "MPI_Allgather");
  reduce_parts(elements, op, parts, count, group.size, memory);
}

// Every rank reduces its share of the elements, out of all ranks' values, and gives it to the others.
void all_reduce_shares(const Elements& elements, ReduceOp::RedOpType op, char* memory, int count, const Group& group) {
  const auto ranks = static_cast<std::size_t>(group.size);
  std::vector<int> shares(ranks), offsets(ranks), ours(ranks), our_offsets(ranks);
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    const auto first = [&](std::size_t r) {
      return static_cast<int>(static_cast<int64_t>(count) * static_cast<int64_t>(r) / group.size);
    };
    offsets[rank] = bytes_of(first(rank), elements);
    shares[rank] = bytes_of(first(rank + 1) - first(rank), elements);
  }
  const int share = shares[static_cast<std::size_t>(group.rank)];
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    ours[rank] = share;
    our_offsets[rank] = static_cast<int>(rank) * share;
  }
  std::vector<char> parts(static_cast<std::size_t>(share) * ranks);
  check_mpi(MPI_Alltoallv(memory, shares.data(), offsets.data(), MPI_BYTE, parts.data(), ours.data(),
                          our_offsets.data(), MPI_BYTE, group.communicator),
            "MPI_Alltoallv");
  reduce_parts(elements, op, parts, share / elements.bytes, group.size,
               memory + offsets[static_cast<std::size_t>(group.rank)]);
  check_mpi(
      MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_BYTE, memory, shares.data(), offsets.data(), MPI_BYTE, group.communicator),
      "MPI_Allgatherv");
}

// --- The operations --------------------------------------------------------------------------------------------------

void all_reduce(const CollectiveCall& call, const Group& group) {
  const Elements elements(call.input);
  char* const memory = memory_of(call.output);
  const bool own = is_mpis_own(elements.type, call.op);
  in_segments(call.output.numel(), elements_a_segment(elements), [&](int64_t begin, int count) {
    char* const from = memory + begin * elements.bytes;
    if (own) {
      check_mpi(MPI_Allreduce(MPI_IN_PLACE, from, count, mpi_type(elements.type), mpi_op(elements.type, call.op),
                              group.communicator),
                "MPI_Allreduce");
      if (call.op == ReduceOp::AVG) divide_elements(elements.type, from, count, group.size);
    } else if (count * elements.bytes * group.size <= gather_bytes) {
      all_reduce_small(elements, call.op, from, count, group);
    } else {
      all_reduce_shares(elements, call.op, from, count, group);
    }
  });
}

void broadcast(char* memory, int64_t bytes, int root, const Group& group) {
  constexpr int64_t most = std::numeric_limits<int>::max();
  in_segments(bytes, most, [&](int64_t begin, int count) {
    check_mpi(MPI_Bcast(memory + begin, count, MPI_BYTE, root, group.communicator), "MPI_Bcast");
  });
}

void all_gather(const CollectiveCall& call, const Group& group) {
  const Elements elements(call.input);
  char* const output = memory_of(call.output);
  const auto ranks = static_cast<std::size_t>(group.size);
  std::vector<int64_t> sizes(ranks), offsets(ranks);
  std::ranges::transform(call.counts, sizes.begin(), [&](int64_t count) { return count * elements.bytes; });
  std::exclusive_scan(sizes.begin(), sizes.end(), offsets.begin(), int64_t{0});
  const auto self = static_cast<std::size_t>(group.rank);
  // MPI must not read and write the same memory through two arguments: this rank's part is put in its place first.
  if (memory_of(call.input) != output + offsets[self] && sizes[self] > 0) {
    std::memcpy(output + offsets[self], memory_of(call.input), static_cast<std::size_t>(sizes[self]));
  }
  if (offsets.back() + sizes.back() > std::numeric_limits<int>::max()) {  // MPI's offsets are of type int
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      broadcast(output + offsets[rank], sizes[rank], static_cast<int>(rank), group);
    }
    return;
  }
  const std::vector<int> counts(sizes.begin(), sizes.end()), places(offsets.begin(), offsets.end());
  if (std::ranges::all_of(counts, [&](int count) { return count == counts.front(); })) {
    check_mpi(MPI_Allgather(MPI_IN_PLACE, 0, MPI_BYTE, output, counts[0], MPI_BYTE, group.communicator),
              "MPI_Allgather");
  } else {
    check_mpi(
        MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_BYTE, output, counts.data(), places.data(), MPI_BYTE, group.communicator),
        "MPI_Allgatherv");
  }
}

// The segment [begin, begin + count) of every rank's block, one behind the other.
std::vector<char> packed(const CollectiveCall& call, int64_t begin, int count, const Group& group) {
  const Elements elements(call.input);
  const auto bytes = static_cast<std::size_t>(bytes_of(count, elements));
  std::vector<char> memory(bytes * static_cast<std::size_t>(group.size));
  for (int rank = 0; rank < group.size; ++rank) {
    std::memcpy(memory.data() + static_cast<std::size_t>(rank) * bytes,
                memory_of(call.input) + (rank * call.output.numel() + begin) * elements.bytes, bytes);
  }
  return memory;
}

void reduce_scatter(const CollectiveCall& call, const Group& group) {
  const Elements elements(call.input);
  const bool own = is_mpis_own(elements.type, call.op);
  const int64_t a_segment = elements_a_segment(elements, std::max<int64_t>(segment_bytes / group.size, 64 * 1024));
  in_segments(call.output.numel(), a_segment, [&](int64_t begin, int count) {
    char* const target = memory_of(call.output) + begin * elements.bytes;
    std::vector<char> copy;
    const char* from = memory_of(call.input);
    if (count < call.output.numel()) {
      copy = packed(call, begin, count, group);
      from = copy.data();
    }
    if (own) {
      check_mpi(MPI_Reduce_scatter_block(from, target, count, mpi_type(elements.type), mpi_op(elements.type, call.op),
                                         group.communicator),
                "MPI_Reduce_scatter_block");
      if (call.op == ReduceOp::AVG) divide_elements(elements.type, target, count, group.size);
      return;
    }
    const int bytes = bytes_of(count, elements);
    std::vector<char> parts(static_cast<std::size_t>(bytes) * static_cast<std::size_t>(group.size));
    check_mpi(MPI_Alltoall(from, bytes, MPI_BYTE, parts.data(), bytes, MPI_BYTE, group.communicator), "MPI_Alltoall");
    reduce_parts(elements, call.op, parts, count, group.size, target);
  });
}

Group group_of(int communicator) {
  Group group{.communicator = MPI_Comm_f2c(communicator)};
  MPI_Comm_rank(group.communicator, &group.rank);
  MPI_Comm_size(group.communicator, &group.size);
  return group;
}

}  // namespace

void call_mpi(const CollectiveCall& call, int communicator) {
  const Group group = group_of(communicator);
  switch (call.kind) {
    case Collective::all_reduce: all_reduce(call, group); break;
    case Collective::broadcast:
      broadcast(memory_of(call.output), static_cast<int64_t>(call.output.nbytes()), call.root, group);
      break;
    case Collective::all_gather: all_gather(call, group); break;
    case Collective::reduce_scatter: reduce_scatter(call, group); break;
    case Collective::barrier: check_mpi(MPI_Barrier(group.communicator), "MPI_Barrier"); break;
  }
}

void meet_over_mpi(int communicator, std::chrono::microseconds keeps_core) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::microseconds nap{20};
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Ibarrier(MPI_Comm_f2c(communicator), &request), "MPI_Ibarrier");
  const auto begin = Clock::now();
  for (int there = 0;;) {
    check_mpi(MPI_Test(&request, &there, MPI_STATUS_IGNORE), "MPI_Test");
    if (there) return;
    if (Clock::now() - begin > keeps_core) std::this_thread::sleep_for(nap);
  }
}

void check_calls_over_mpi(const CollectiveCall& call, int communicator) {
  using Description = std::array<char, 256>;
  const Group group = group_of(communicator);
  Description ours{};
  const std::string text = call.describe();
  std::copy_n(text.begin(), std::min(text.size(), ours.size() - 1), ours.begin());
  std::vector<Description> all(static_cast<std::size_t>(group.size));
  check_mpi(MPI_Allgather(ours.data(), static_cast<int>(ours.size()), MPI_BYTE, all.data(),
                          static_cast<int>(ours.size()), MPI_BYTE, group.communicator),
            "MPI_Allgather");
  const auto other = std::ranges::find_if(all, [&](const Description& one) { return one != all.front(); });
  if (other == all.end()) return;
  throw CollectiveError("the ranks call different operations: rank 0 calls " + std::string(all.front().data()) +
                        ", rank " + std::to_string(other - all.begin()) + " calls " + other->data());
}

}  // namespace troupe
