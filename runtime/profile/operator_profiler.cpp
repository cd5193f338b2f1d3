#include "troupe/runtime/profile/operator_profiler.hpp"

#include "troupe/base/text.hpp"
#include "troupe/runtime/profile/profiling.hpp"
#include "troupe/runtime/profile/thread_lane.hpp"

#include <ATen/record_function.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Logging.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>

namespace troupe {

namespace {

// Around each node of the backward pass, which is observed itself.
constexpr std::string_view engine_prefix = "autograd::engine::";

SpanKind kind_of(at::RecordScope scope) {
  switch (scope) {
    case at::RecordScope::BACKWARD_FUNCTION: return SpanKind::autograd;
    case at::RecordScope::USER_SCOPE: return SpanKind::scope;
    default: return SpanKind::op;
  }
}

std::unique_ptr<at::ObserverContext> operator_begins(const at::RecordFunction& function) {
  const std::string_view name = function.name();
  if (name.starts_with(engine_prefix)) return nullptr;
  if (Lane* lane = lane_of_thread()) lane->begin(kind_of(function.scope()), name, &function);
  return nullptr;
}

// One that began before is not in the lane.
void operator_ends(const at::RecordFunction& function, at::ObserverContext*) {
  if (Lane* lane = lane_of_thread()) lane->end(&function);
}

double in_seconds(int64_t nanoseconds) {
  return 1e-9 * static_cast<double>(nanoseconds);
}

std::string shown_time(double seconds) {
  if (seconds >= 1) return fmt::format("{:.3f} s", seconds);
  if (seconds >= 1e-3) return fmt::format("{:.3f} ms", 1e3 * seconds);
  return fmt::format("{:.3f} us", 1e6 * seconds);
}

std::string shown_bytes(int64_t bytes) {
  static constexpr std::array units = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < units.size(); ++unit) value /= 1024;
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, units[unit]);
}

std::string row_title(const OperatorRow& row) {
  constexpr int most_columns = 44;
  const std::string title = single_line(row.name) + (row.kind == SpanKind::scope ? " (scope)" : "");
  return pad_columns(fit_columns(title, most_columns), most_columns);
}

}  // namespace

uint64_t observe_operators() {
  at::RecordFunctionCallback callback(operator_begins, operator_ends);
  callback.scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION, at::RecordScope::USER_SCOPE,
                   at::RecordScope::TORCHSCRIPT_FUNCTION, at::RecordScope::CUSTOM_CLASS});
  return at::addGlobalCallback(callback);
}

void forget_operators(uint64_t observed) {
  at::removeCallback(observed);
}

// --- Memory ---

MemoryWatch::MemoryWatch()
    : ProfilerStateBase(torch::profiler::impl::ProfilerConfig(torch::profiler::impl::ProfilerState::CPU,
                                                              /*report_input_shapes=*/false,
                                                              /*profile_memory=*/true)) {}

void MemoryWatch::reportMemoryUsage(void*, int64_t bytes, std::size_t, std::size_t, c10::Device device) {
  if (!Profiling::is_recording()) return;
  Count& count = counts_[!device.is_cpu()];
  const int64_t now = count.now.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  int64_t peak = count.peak.load(std::memory_order_relaxed);
  while (now > peak && !count.peak.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
  }
  if (bytes <= 0) return;
  if (Lane* lane = lane_of_thread()) lane->note_allocation(bytes);
}

// The level belongs to the process, so that no other warning is seen for these microseconds.
void MemoryWatch::spend_first_warning(const std::shared_ptr<MemoryWatch>& memory) {
  static std::once_flag once;
  std::call_once(once, [&] {
    constexpr int errors_alone = 2;
    const c10::DebugInfoGuard listening(c10::DebugInfoKind::PROFILER_STATE, memory);
    const int level = std::exchange(FLAGS_caffe2_log_level, errors_alone);
    int never_allocated = 0;
    c10::profiledCPUMemoryReporter().Delete(&never_allocated);
    FLAGS_caffe2_log_level = level;
  });
}

// --- The table ---

OperatorTable operators_of(const Profiling& profiling) {
  OperatorTable table;
  table.stage = profiling.setup().stage;
  table.batches = profiling.batches();
  table.seconds = profiling.seconds();
  table.peak = profiling.peak_bytes(false);
  table.device_peak = profiling.peak_bytes(true);
  std::map<std::pair<SpanKind, std::string>, OperatorRow> rows;
  for (const auto& lane : profiling.lanes()) {
    lane->for_each_sum([&](const SpanSums& sums) {
      const bool is_row = sums.kind == SpanKind::op || sums.kind == SpanKind::autograd || sums.kind == SpanKind::scope;
      if (!is_row || sums.calls == 0) return;
      OperatorRow& row = rows[{sums.kind, sums.name}];
      row.name = sums.name;
      row.kind = sums.kind;
      row.calls += sums.calls;
      row.self += in_seconds(sums.self);
      row.total += in_seconds(sums.total);
      row.allocated += sums.allocated;
    });
  }
  for (auto& [key, row] : rows) table.rows.push_back(std::move(row));
  std::ranges::stable_sort(table.rows, std::greater(), &OperatorRow::self);
  return table;
}

std::string to_text(const OperatorTable& table, std::size_t most) {
  double all = 0;
  for (const auto& row : table.rows) all += row.self;
  std::string text =
      fmt::format("operators of {}, {} training batches in {}", table.stage, table.batches, shown_time(table.seconds));
  if (table.peak > 0) text += "; memory allocated at a time: " + shown_bytes(table.peak);
  if (table.device_peak > 0) text += fmt::format(", on devices {}", shown_bytes(table.device_peak));
  text += '\n';
  text += pad_columns("operator", 44) + fmt::format(" {:>9} {:>12} {:>6} {:>12} {:>12} {:>11}\n", "calls", "self",
                                                    "share", "total", "mean", "allocated");
  for (std::size_t i = 0; i < std::min(most, table.rows.size()); ++i) {
    const OperatorRow& row = table.rows[i];
    text += row_title(row) + fmt::format(" {:>9} {:>12} {:>5.1f}% {:>12} {:>12} {:>11}\n", row.calls,
                                         shown_time(row.self), all > 0 ? 100 * row.self / all : 0,
                                         shown_time(row.total), shown_time(row.total / static_cast<double>(row.calls)),
                                         shown_bytes(row.allocated));
  }
  if (table.rows.size() > most) text += fmt::format("and {} more\n", table.rows.size() - most);
  return text;
}

nlohmann::json to_json(const OperatorTable& table) {
  auto rows = nlohmann::json::array();
  for (const auto& row : table.rows) {
    rows.push_back({{"name", valid_utf8(row.name)},
                    {"kind", std::string(to_string(row.kind))},
                    {"calls", row.calls},
                    {"self_seconds", row.self},
                    {"total_seconds", row.total},
                    {"allocated_bytes", row.allocated}});
  }
  return {{"stage", table.stage},     {"training_batches", table.batches},      {"seconds", table.seconds},
          {"peak_bytes", table.peak}, {"device_peak_bytes", table.device_peak}, {"operators", std::move(rows)}};
}

}  // namespace troupe
