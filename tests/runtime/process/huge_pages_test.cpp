#include "troupe/runtime/process/huge_pages.hpp"
#include "troupe/runtime/data/tensor_dataset.hpp"

#include "tests/support/temp_dir.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <string>
#include <thread>

namespace troupe {
namespace {

constexpr int64_t mebi = 1 << 20, elements = 16 * mebi;  // 64 MiB of floats

/// Of the mappings that hold the tensor, in KiB: "Rss", "AnonHugePages".
int64_t mapped_kib(const torch::Tensor& tensor, const std::string& what) {
  const auto begin = reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()), end = begin + tensor.nbytes();
  std::ifstream smaps("/proc/self/smaps");
  int64_t total = 0;
  bool is_in = false;
  for (std::string line; std::getline(smaps, line);) {
    std::size_t after = 0;
    const bool is_range = line.find('-') < line.find(' ');
    if (is_range) {
      const std::uintptr_t from = std::stoull(line, &after, 16), to = std::stoull(line.substr(after + 1), nullptr, 16);
      is_in = from < end && begin < to;
    } else if (is_in && line.starts_with(what + ":")) {
      total += std::stoll(line.substr(what.size() + 1));
    }
  }
  return total;
}

/// Whether this system moves memory at all; a container's may not.
bool can_move() {
  constexpr std::size_t bytes = 4 * mebi;
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return false;
  std::fill_n(static_cast<char*>(memory), bytes, 'x');
  const auto huge = (reinterpret_cast<std::uintptr_t>(memory) + 2 * mebi - 1) / (2 * mebi) * (2 * mebi);
  const bool moved = ::madvise(reinterpret_cast<void*>(huge), 2 * mebi, 25) == 0;
  ::munmap(memory, bytes);
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string enabled;
  std::getline(file, enabled);
  return moved && enabled.find("[never]") == std::string::npos;
}

TEST(HugePages, HoldWhatSmallPagesHeld) {
  if (!can_move()) GTEST_SKIP() << "this system does not move memory to huge pages (MADV_COLLAPSE)";
  const auto tensor = torch::arange(elements, torch::kInt);
  const auto* const place = tensor.const_data_ptr();
  const int64_t before = mapped_kib(tensor, "AnonHugePages");
  const auto pages = HugePages::for_large({tensor, torch::arange(5)});
  ASSERT_TRUE(pages);
  pages->begin();
  pages->begin();
  pages->wait();
  EXPECT_GE(mapped_kib(tensor, "AnonHugePages") - before, 32 * 1024);
  EXPECT_EQ(tensor.const_data_ptr(), place);
  EXPECT_TRUE(tensor.equal(torch::arange(elements, torch::kInt)));
}

TEST(HugePages, AreMadeOfNoMemoryThatIsNotThere) {
  // Never written to: the system's page of zeros takes the place of all of them.
  const auto untouched =
      torch::from_blob(::mmap(nullptr, elements * 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                       {elements}, [](void* memory) { ::munmap(memory, elements * 4); });
  EXPECT_EQ(untouched.sum().item<float>(), 0);
  const int64_t before = mapped_kib(untouched, "AnonHugePages");
  const auto pages = HugePages::for_large({untouched});
  pages->begin();
  pages->wait();
  EXPECT_EQ(mapped_kib(untouched, "AnonHugePages"), before);
}

TEST(HugePages, LeaveFilesAlone) {
  const TempDir folder;
  const auto path = folder.path() / "rows.bin";
  const auto file = torch::from_file(path.string(), /*shared=*/true, elements, torch::kFloat);
  file.fill_(1);
  const auto pages = HugePages::for_large({file});
  ASSERT_TRUE(pages);
  pages->begin();
  pages->wait();
  EXPECT_EQ(mapped_kib(file, "FilePmdMapped"), 0);
  EXPECT_EQ(file.sum().item<float>(), elements);
}

TEST(HugePages, AreForLargeTensorsOfTheCpuAlone) {
  EXPECT_FALSE(HugePages::for_large({torch::zeros({mebi})}));
  EXPECT_FALSE(HugePages::for_large({torch::empty({elements}, torch::kMeta)}));
  EXPECT_FALSE(HugePages::for_large({torch::zeros({4, 4}).to_sparse()}));
  EXPECT_FALSE(HugePages::for_large({torch::zeros({1}).expand({elements})})) << "one element, and no memory of its own";
}

TEST(TensorDataset, MovesItsRowsWithTheFirstBatch) {
  if (!can_move()) GTEST_SKIP() << "this system does not move memory to huge pages (MADV_COLLAPSE)";
  const auto rows = torch::arange(elements, torch::kInt).view({-1, 64});
  TensorDataset data(rows);
  const int64_t before = mapped_kib(rows, "AnonHugePages");
  const auto is_moved = [&] { return mapped_kib(rows, "AnonHugePages") - before >= 32 * 1024; };
  EXPECT_FALSE(is_moved());
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!is_moved() && std::chrono::steady_clock::now() < deadline) {
    EXPECT_TRUE((*data.get_batch({7, 262143}))[0].equal(torch::stack({rows[7], rows[262143]})));
    std::this_thread::yield();
  }
  EXPECT_TRUE(is_moved());
}

}  // namespace
}  // namespace troupe
