// What the readers of deflated data share.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

#include <libdeflate.h>

namespace troupe {

/// Bytes that one deflated byte makes at most: 258 of 2 bits (https://zlib.net/zlib_tech.html).
constexpr int64_t kMostDeflated = 1032;

struct FreeDecompressor {
  void operator()(libdeflate_decompressor* decompressor) const { libdeflate_free_decompressor(decompressor); }
};
/// Serves one thread at a time, for one stretch of data after another.
using Decompressor = std::unique_ptr<libdeflate_decompressor, FreeDecompressor>;

inline Decompressor make_decompressor() {
  Decompressor out(libdeflate_alloc_decompressor());
  if (!out) throw std::bad_alloc();
  return out;
}

}  // namespace troupe
