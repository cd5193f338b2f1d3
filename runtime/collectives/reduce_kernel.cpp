#include "troupe/runtime/collectives/reduce_kernel.hpp"

#include <ATen/ops/from_blob.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

// GCC vectorises loops of unknown length from -O3 on.
#if defined(__GNUC__) && !defined(__clang__)
#define TROUPE_VECTORISED __attribute__((optimize("O3")))
#else
#define TROUPE_VECTORISED
#endif

namespace troupe {
namespace {

using c10d::ReduceOp;

// The block of the accumulator stays in the first cache while the sources stream through.
constexpr int64_t block = 4096;

struct Sum {
  template <class T>
  static T of(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      using Unsigned = std::make_unsigned_t<T>;  // wraps, as LibTorch's sums do
      return static_cast<T>(static_cast<Unsigned>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b)));
    } else {
      return a + b;
    }
  }
};
struct Product {
  template <class T>
  static T of(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
    } else {
      return a * b;
    }
  }
};
struct Min {
  template <class T>
  static T of(T a, T b) {
    return a < b || a != a ? a : b;
  }
};
struct Max {
  template <class T>
  static T of(T a, T b) {
    return a > b || a != a ? a : b;
  }
};

template <class Op, class T>
TROUPE_VECTORISED void combine(const T* a, const T* b, T* target, int64_t count) {
  for (int64_t i = 0; i < count; ++i) target[i] = Op::of(a[i], b[i]);
}

template <class T>
TROUPE_VECTORISED void divide(T* target, int64_t count, T divisor) {
  for (int64_t i = 0; i < count; ++i) target[i] /= divisor;
}

template <class Op, class T>
void reduce_as(std::span<const void* const> sources, void* target, int64_t count) {
  auto* const out = static_cast<T*>(target);
  for (int64_t begin = 0; begin < count; begin += block) {
    const int64_t length = std::min(block, count - begin);
    const auto at = [&](std::size_t source) { return static_cast<const T*>(sources[source]) + begin; };
    if (sources.size() == 1) {
      if (at(0) != out + begin) std::memcpy(out + begin, at(0), static_cast<std::size_t>(length) * sizeof(T));
      continue;
    }
    combine<Op, T>(at(0), at(1), out + begin, length);
    for (std::size_t source = 2; source < sources.size(); ++source) {
      combine<Op, T>(out + begin, at(source), out + begin, length);
    }
  }
}

template <class T>
void reduce_with(ReduceOp::RedOpType op, std::span<const void* const> sources, void* target, int64_t count) {
  switch (op) {
    case ReduceOp::SUM:
    case ReduceOp::AVG: reduce_as<Sum, T>(sources, target, count); break;
    case ReduceOp::PRODUCT: reduce_as<Product, T>(sources, target, count); break;
    case ReduceOp::MIN: reduce_as<Min, T>(sources, target, count); break;
    default: reduce_as<Max, T>(sources, target, count); break;
  }
}

at::Tensor floats_at(at::ScalarType type, const void* memory, int64_t count) {
  return at::from_blob(const_cast<void*>(memory), {count}, at::TensorOptions().dtype(type));
}

// LibTorch's conversions use the processor's instructions for half; a block is worth their fixed cost.
void reduce_half(at::ScalarType type, ReduceOp::RedOpType op, std::span<const void* const> sources, void* target,
                 int64_t count) {
  constexpr int64_t half_block = 4 * block;
  const int64_t room = std::min(count, half_block);
  std::vector<float> sum(static_cast<std::size_t>(room)), next(static_cast<std::size_t>(room));
  for (int64_t begin = 0; begin < count; begin += half_block) {
    const int64_t length = std::min(half_block, count - begin);
    const auto half_at = [&](const void* memory) {
      return floats_at(type, static_cast<const char*>(memory) + 2 * begin, length);
    };
    auto as_float = [&](std::vector<float>& memory) { return floats_at(at::kFloat, memory.data(), length); };
    as_float(sum).copy_(half_at(sources[0]));
    for (std::size_t source = 1; source < sources.size(); ++source) {
      as_float(next).copy_(half_at(sources[source]));
      const void* const pair[] = {sum.data(), next.data()};
      reduce_with<float>(op, pair, sum.data(), length);
    }
    if (op == ReduceOp::AVG) divide(sum.data(), length, static_cast<float>(sources.size()));
    half_at(target).copy_(as_float(sum));
  }
}

}  // namespace

void reduce_elements(at::ScalarType type, ReduceOp::RedOpType op, std::span<const void* const> sources, void* target,
                     int64_t count) {
  switch (type) {
    case at::kFloat: reduce_with<float>(op, sources, target, count); break;
    case at::kDouble: reduce_with<double>(op, sources, target, count); break;
    case at::kChar: reduce_with<int8_t>(op, sources, target, count); break;
    case at::kByte: reduce_with<uint8_t>(op, sources, target, count); break;
    case at::kShort: reduce_with<int16_t>(op, sources, target, count); break;
    case at::kUInt16: reduce_with<uint16_t>(op, sources, target, count); break;
    case at::kInt: reduce_with<int32_t>(op, sources, target, count); break;
    case at::kUInt32: reduce_with<uint32_t>(op, sources, target, count); break;
    case at::kLong: reduce_with<int64_t>(op, sources, target, count); break;
    case at::kUInt64: reduce_with<uint64_t>(op, sources, target, count); break;
    case at::kBool: {  // bytes of 0 and 1
      const bool any = op == ReduceOp::SUM || op == ReduceOp::MAX;
      reduce_with<uint8_t>(any ? ReduceOp::MAX : ReduceOp::MIN, sources, target, count);
      break;
    }
    case at::kHalf:
    case at::kBFloat16: reduce_half(type, op, sources, target, count); return;
    default: TORCH_INTERNAL_ASSERT(false, "no reduction of ", type);
  }
  if (op == ReduceOp::AVG) divide_elements(type, target, count, static_cast<int64_t>(sources.size()));
}

void divide_elements(at::ScalarType type, void* target, int64_t count, int64_t divisor) {
  if (divisor == 1) return;
  switch (type) {
    case at::kFloat: divide(static_cast<float*>(target), count, static_cast<float>(divisor)); break;
    case at::kDouble: divide(static_cast<double*>(target), count, static_cast<double>(divisor)); break;
    default: floats_at(type, target, count).div_(divisor);
  }
}

}  // namespace troupe
