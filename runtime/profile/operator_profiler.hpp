// LibTorch's operators in a profile: where they are observed, and the table of them.
//
// Operators, nodes of the backward pass and the user's scopes are seen on all threads of the process, also those on
// which autograd computes for a GPU. Of a GPU's work the time is that of the thread which asks for it, not of the
// kernels. Operators that a replayed step calls past LibTorch's dispatcher are seen, too (runtime/capture/program.cpp).
#pragma once

#include "troupe/runtime/profile/lane.hpp"

#include <torch/csrc/profiler/orchestration/observer.h>
#include <nlohmann/json.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace troupe {

class Profiling;

struct OperatorRow {
  std::string name;
  SpanKind kind = SpanKind::op;  ///< or autograd, or scope
  int64_t calls = 0;
  double self = 0;   ///< seconds, without the operators that it called
  double total = 0;  ///< seconds
  /// Bytes that it allocated itself, those that it gave back included.
  int64_t allocated = 0;
};

struct OperatorTable {
  std::string stage;
  int64_t batches = 0;            ///< of training that were recorded
  double seconds = 0;             ///< for which it was recorded
  int64_t peak = 0;               ///< bytes of memory at most at a time, of those allocated in `seconds`
  int64_t device_peak = 0;        ///< the same of GPUs
  std::vector<OperatorRow> rows;  ///< by self time, longest first
};

/// Over all lanes. Any thread.
OperatorTable operators_of(const Profiling& profiling);

/// The `most` rows with the longest self time, then "and N more", in lines of at most 120 columns.
std::string to_text(const OperatorTable& table, std::size_t most = 30);
/// All rows. Times are in seconds.
nlohmann::json to_json(const OperatorTable& table);

/// Has LibTorch's operators written to the lanes of their threads, from now until it is given back what it returned.
uint64_t observe_operators();
void forget_operators(uint64_t observed);

/// Hears of the memory that threads allocate on which it is installed (c10::DebugInfoKind::PROFILER_STATE, which
/// autograd hands on to its threads). LibTorch takes whoever is there for a profiler of its own.
class MemoryWatch final : public torch::profiler::impl::ProfilerStateBase {
 public:
  MemoryWatch();
  void reportMemoryUsage(void* at, int64_t bytes, std::size_t all_allocated, std::size_t all_reserved,
                         c10::Device device) override;
  torch::profiler::impl::ActiveProfilerType profilerType() override {
    return torch::profiler::impl::ActiveProfilerType::NONE;
  }
  /// To be called before it is installed: LibTorch warns of the first block that is given back to it and was allocated
  /// before, of which every profile has one, and then of every 1,000th. The first warning is spent here.
  static void spend_first_warning(const std::shared_ptr<MemoryWatch>& memory);
  int64_t peak(bool of_device) const { return counts_[of_device].peak.load(std::memory_order_relaxed); }

 private:
  struct Count {
    std::atomic<int64_t> now = 0, peak = 0;
  };
  Count counts_[2];
};

}  // namespace troupe
