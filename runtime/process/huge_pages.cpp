#include "troupe/runtime/process/huge_pages.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>

namespace troupe {

namespace {

// Those of a processor's second table of recent addresses reach about so far with 4 KiB each.
constexpr std::size_t least_bytes = std::size_t{16} << 20;
constexpr int collapse = 25;  // MADV_COLLAPSE, which headers from before Linux 6.1 lack

std::string text_of(const std::string& setting) {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/" + setting);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// Bytes of a huge page; 0 if there are none, or are not wanted.
std::size_t huge_page_bytes() {
  const std::string enabled = text_of("enabled"), size = text_of("hpage_pmd_size");
  if (enabled.empty() || enabled.find("[never]") != std::string::npos) return 0;
  return static_cast<std::size_t>(std::strtoull(size.c_str(), nullptr, 10));
}

/// What the system says about the pages of this process.
class PageMap {
 public:
  PageMap() : file_(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)) {}
  ~PageMap() {
    if (file_ >= 0) ::close(file_);
  }
  PageMap(const PageMap&) = delete;
  PageMap& operator=(const PageMap&) = delete;

  /// Whether all pages of [begin, begin + bytes) are in memory, no file's, and nobody else's.
  bool are_own(std::uintptr_t begin, std::size_t bytes) {
    constexpr uint64_t is_present = uint64_t{1} << 63, is_of_file = uint64_t{1} << 61, is_exclusive = uint64_t{1} << 56;
    entries_.resize(bytes / page_bytes_);
    const std::size_t wanted = entries_.size() * sizeof(uint64_t);
    const auto at = static_cast<off_t>(begin / page_bytes_ * sizeof(uint64_t));
    if (file_ < 0 || ::pread(file_, entries_.data(), wanted, at) != static_cast<ssize_t>(wanted)) return false;
    return std::ranges::all_of(entries_, [](uint64_t entry) {
      return (entry & (is_present | is_of_file | is_exclusive)) == (is_present | is_exclusive);
    });
  }

 private:
  int file_;
  std::size_t page_bytes_ = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::vector<uint64_t> entries_;
};

void move_to_huge_pages(const std::vector<torch::Tensor>& tensors, const std::stop_token& stop) {
  constexpr int most_refusals = 8;  // in a row: each may have looked for free memory for long
  const std::size_t huge = huge_page_bytes();
  if (huge == 0) return;
  PageMap pages;
  int refusals = 0;
  for (const auto& tensor : tensors) {
    const auto begin = reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()), end = begin + tensor.nbytes();
    for (std::uintptr_t at = (begin + huge - 1) / huge * huge; at + huge <= end; at += huge) {
      if (stop.stop_requested()) return;
      if (!pages.are_own(at, huge)) continue;
      if (::madvise(reinterpret_cast<void*>(at), huge, collapse) == 0) {
        refusals = 0;
      } else if (errno == EINVAL || ++refusals == most_refusals) {
        return;
      }
    }
  }
}

}  // namespace

std::shared_ptr<HugePages> HugePages::for_large(const std::vector<torch::Tensor>& tensors) {
  std::vector<torch::Tensor> large;
  std::ranges::copy_if(tensors, std::back_inserter(large), [](const torch::Tensor& tensor) {
    return tensor.is_cpu() && tensor.layout() == torch::kStrided && tensor.is_contiguous() && tensor.has_storage() &&
           tensor.nbytes() >= least_bytes;
  });
  return large.empty() ? nullptr : std::shared_ptr<HugePages>(new HugePages(std::move(large)));
}

void HugePages::begin() {
  std::call_once(begun_, [this] {
    try {
      thread_ = std::jthread([this](const std::stop_token& stop) { move_to_huge_pages(tensors_, stop); });
    } catch (const std::system_error&) {
      // No thread may be had: pages stay as they are.
    }
  });
}

void HugePages::wait() {
  if (thread_.joinable()) thread_.join();
}

}  // namespace troupe
