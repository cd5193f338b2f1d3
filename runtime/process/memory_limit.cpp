#include "troupe/runtime/process/memory_limit.hpp"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include <malloc.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <fstream>
#include <limits>
#include <string>

namespace troupe {

namespace {

constexpr int64_t no_limit = std::numeric_limits<int64_t>::max();

std::atomic<int64_t> counted_bytes = 0, most_bytes = no_limit;

// What the system's allocator has given, which is what it takes back.
int64_t size_of(void* memory) {
  return static_cast<int64_t>(malloc_usable_size(memory));
}

void free_counted(void* memory) {
  static const c10::DeleterFnPtr free_memory = c10::GetDefaultCPUAllocator()->raw_deleter();
  counted_bytes -= size_of(memory);
  free_memory(memory);
}

// LibTorch's allocator, with a sum of what it has given and not got back.
class CountingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    const int64_t wanted = static_cast<int64_t>(bytes), have = counted_bytes, most = most_bytes;
    if (wanted > most - have) [[unlikely]] {
      TORCH_CHECK_WITH(OutOfMemoryError, false, "out of memory: ", wanted,
                       " bytes on the CPU are more than the limit of memory leaves (",
                       std::max<int64_t>(0, most - have), " bytes)");
    }
    c10::DataPtr data = usual().allocate(bytes);
    if (data.get() == nullptr) return data;
    void* memory = data.release_context();
    counted_bytes += size_of(memory);
    return {memory, memory, free_counted, c10::kCPU};
  }
  bool is_simple_data_ptr(const c10::DataPtr& data) const override { return data.get() == data.get_context(); }
  c10::DeleterFnPtr raw_deleter() const override { return free_counted; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { usual().copy_data(to, from, bytes); }

 private:
  static c10::Allocator& usual() { return *c10::GetDefaultCPUAllocator(); }
};

// Above that of captured steps, which then make no offers.
void use(c10::Allocator* allocator) {
  constexpr uint8_t priority = 100;
  c10::SetCPUAllocator(allocator, priority);
}

// "MemAvailable:   12345 kB" of proc(5).
std::optional<int64_t> kilobytes_in(const std::filesystem::path& path, std::string_view name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(name)) return std::stoll(line.substr(name.size())) * 1024;
  }
  return std::nullopt;
}

std::optional<int64_t> bytes_in(const std::filesystem::path& path) {
  std::ifstream file(path);
  int64_t bytes = 0;
  return file >> bytes ? std::optional(bytes) : std::nullopt;
}

}  // namespace

// The allocator stays for the rest of the process: tensors come back to it.
MemoryLimit::MemoryLimit(int64_t bytes) : before_(c10::GetCPUAllocator()) {
  static CountingAllocator& allocator = *new CountingAllocator;
  most_bytes = counted_bytes + bytes;
  use(&allocator);
}

MemoryLimit::~MemoryLimit() {
  use(before_);
  most_bytes = no_limit;
}

int64_t resident_memory() {
  return kilobytes_in("/proc/self/status", "VmRSS:").value_or(0);
}

std::optional<int64_t> available_memory(const std::filesystem::path& root) {
  auto available = kilobytes_in(root / "proc/meminfo", "MemAvailable:");
  const auto take_less = [&](const std::optional<int64_t>& limit, const std::optional<int64_t>& used) {
    if (!limit || !used || *limit >= no_limit / 2) return;
    available = std::min(available.value_or(no_limit), std::max<int64_t>(0, *limit - *used));
  };
  // Version 2: the group of this process and those around it, as far as they are mounted; version 1: its own.
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (line.starts_with("0::/")) {
      std::filesystem::path group = line.substr(4);
      for (;; group = group.parent_path()) {
        const auto folder = root / "sys/fs/cgroup" / group;
        take_less(bytes_in(folder / "memory.max"), bytes_in(folder / "memory.current"));
        if (group.empty()) break;
      }
    } else if (line.find(":memory:") != std::string::npos) {
      const auto folder = root / "sys/fs/cgroup/memory";
      take_less(bytes_in(folder / "memory.limit_in_bytes"), bytes_in(folder / "memory.usage_in_bytes"));
    }
  }
  return available;
}

bool is_out_of_memory(std::string_view message) {
  constexpr std::array<std::string_view, 6> signs = {
      "out of memory",  // c10::OutOfMemoryError, cudaErrorMemoryAllocation
      "DefaultCPUAllocator: can't allocate memory",
      "DefaultCPUAllocator: not enough memory",
      "std::bad_alloc",
      "CUBLAS_STATUS_ALLOC_FAILED",
      "CUDNN_STATUS_NOT_SUPPORTED"};  // what cuDNN says when a batch is too large for its workspace
  return std::ranges::any_of(signs,
                             [&](std::string_view sign) { return message.find(sign) != std::string_view::npos; });
}

}  // namespace troupe
