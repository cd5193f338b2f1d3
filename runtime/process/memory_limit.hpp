// A limit on the memory that tensors on the CPU take: Linux refuses hardly any allocation, and ends the process later.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

namespace c10 {
struct Allocator;
}

namespace troupe {

/// While it lives, an allocation of LibTorch's on the CPU that would leave tensors with more than `bytes` beyond what
/// they have when it is made throws c10::OutOfMemoryError ("out of memory: ..."), in whatever thread it happens. Memory
/// that is not LibTorch's is not counted.
///
/// It is an allocator before LibTorch's, and LibTorch's list of allocators has no lock: make one, and let it go, while
/// no other thread allocates. One at a time.
class MemoryLimit {
 public:
  explicit MemoryLimit(int64_t bytes);
  ~MemoryLimit();
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;

 private:
  c10::Allocator* before_;
};

/// Bytes of memory that this process has in use now (VmRSS of proc(5)); 0 if that cannot be read.
int64_t resident_memory();

/// Bytes that this process could take beyond those: what the machine has available, and no more than the control groups
/// of the process have left. Nothing if neither can be read. `root` stands in front of all paths, for tests.
/// https://docs.kernel.org/admin-guide/cgroup-v2.html#memory
std::optional<int64_t> available_memory(const std::filesystem::path& root = "/");

/// Whether a message is one of those that LibTorch, CUDA's libraries and the standard library have when memory is out.
bool is_out_of_memory(std::string_view message);

}  // namespace troupe
