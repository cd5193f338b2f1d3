#include "troupe/runtime/checkpoint/snapshot_memory.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace troupe {

namespace {

// Nobody else has it any more, and what they did with it is over.
bool is_free(const torch::Tensor& kept) {
  if (kept.use_count() != 1) return false;
  std::atomic_thread_fence(std::memory_order_acquire);
  return true;
}

// Below this a copy stays in the caches, where whoever writes the file finds it.
constexpr std::size_t least_past_caches = std::size_t{1} << 20;

// A plain store reads the memory that it overwrites first, a third of a large copy's traffic; these do not.
void copy_past_caches(std::byte* to, const std::byte* from, std::size_t size) {
#ifdef __SSE2__
  constexpr std::size_t line = 64, ahead = 1024;
  const std::size_t before = std::min(size, (line - reinterpret_cast<std::uintptr_t>(to) % line) % line);
  std::memcpy(to, from, before);
  to += before, from += before, size -= before;
  for (; size >= line; to += line, from += line, size -= line) {
    _mm_prefetch(reinterpret_cast<const char*>(from) + ahead, _MM_HINT_NTA);
    for (std::size_t i = 0; i < line; i += sizeof(__m128i)) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + i), _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
    }
  }
  _mm_sfence();
#endif
  std::memcpy(to, from, size);
}

void copy_into(const torch::Tensor& to, const torch::Tensor& from) {
  const bool is_plain =
      from.is_cpu() && from.is_contiguous() && !from.is_conj() && !from.is_neg() && !from._is_zerotensor();
  if (!is_plain || from.nbytes() < least_past_caches) {
    to.copy_(from);
    return;
  }
  copy_past_caches(static_cast<std::byte*>(to.mutable_data_ptr()), static_cast<const std::byte*>(from.const_data_ptr()),
                   from.nbytes());
}

}  // namespace

void SnapshotMemory::begin() {
  kept_before_ = std::exchange(kept_, {});
}

torch::Tensor SnapshotMemory::copy(const std::string& name, const torch::Tensor& tensor) {
  const torch::NoGradGuard no_gradients;
  torch::Tensor& kept = kept_[name];
  if (const auto before = kept_before_.find(name); before != kept_before_.end()) kept = std::move(before->second);
  const bool fits = kept.defined() && kept.scalar_type() == tensor.scalar_type() && kept.sizes() == tensor.sizes();
  if (!fits || !is_free(kept)) {
    kept = torch::empty(tensor.sizes(),
                        torch::TensorOptions().dtype(tensor.scalar_type()).pinned_memory(tensor.is_cuda()));
  }
  copy_into(kept, tensor);
  return kept;
}

}  // namespace troupe
