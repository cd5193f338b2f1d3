// Large tensors that are read at random places, on large pages of memory.
#pragma once

#include <torch/types.h>

#include <cstddef>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace troupe {

/// Asks the system to move tensors' memory to huge pages (2 MiB instead of 4 KiB each), where it lies at the same
/// addresses. Rows at random places of a large tensor cost a look into the table of pages each, of which
/// huge pages make a 512th part.
///
/// Memory stays whose it is and what it is, other threads may read and write it meanwhile (a write or read of the 2 MiB
/// that are being moved waits for a fraction of a millisecond). Only pages that this process has for itself are moved:
/// none of mapped files, none that a forked process shares, none that were never written to, so a process does not
/// need more memory than before. Where the kernel (Linux 6.1 and later) or its settings (transparent_hugepage/enabled
/// is never) do not have it, nothing happens. https://man7.org/linux/man-pages/man2/madvise.2.html (MADV_COLLAPSE),
/// https://docs.kernel.org/admin-guide/mm/pagemap.html
class HugePages {
 public:
  /// For those of the tensors that lie on the CPU and take 16 MiB or more; null if there is none.
  static std::shared_ptr<HugePages> for_large(const std::vector<torch::Tensor>& tensors);
  /// Stops, if it is not done.
  ~HugePages() = default;
  HugePages(const HugePages&) = delete;
  HugePages& operator=(const HugePages&) = delete;

  /// Begins on a thread of its own; who reads the tensors meanwhile is slower. Any thread may call it, and the first
  /// call counts.
  void begin();
  /// Until it is done, if it was begun: for tests.
  void wait();

 private:
  explicit HugePages(std::vector<torch::Tensor> tensors) : tensors_(std::move(tensors)) {}

  std::vector<torch::Tensor> tensors_;  // whose memory must not go away meanwhile
  std::once_flag begun_;
  std::jthread thread_;  // ends first
};

}  // namespace troupe
