#include "troupe/modules/callbacks/device_stats_monitor.hpp"

#include "troupe/modules/module.hpp"

#include <c10/core/CachingDeviceAllocator.h>

#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <fstream>

namespace troupe {

namespace {

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double processor_seconds() {
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(use.ru_utime) + seconds(use.ru_stime);
}

// Second number of /proc/self/statm (proc(5)): resident pages.
double resident_megabytes() {
  std::ifstream file("/proc/self/statm");
  int64_t size = 0, resident = 0;
  file >> size >> resident;
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1e6;
}

}  // namespace

void DeviceStatsMonitor::on_train_start(RunContext&, Module&) {
  wall_ = wall_seconds();
  cpu_ = processor_seconds();
}

void DeviceStatsMonitor::on_train_batch_end(RunContext& run, Module&, const StepOutput&, const Batch&, int64_t) {
  if (!run.logs_this_batch()) return;
  const LogOptions how{.on_step = true, .on_epoch = false};
  const double wall = wall_seconds(), cpu = processor_seconds();
  run.log("device/cpu_rss_mb", resident_megabytes(), how);
  if (wall > wall_) run.log("device/cpu_percent", 100 * (cpu - cpu_) / (wall - wall_), how);
  wall_ = wall;
  cpu_ = cpu;
  if (run.device().is_cuda()) log_gpus(run);
}

// Those of the process, which follow each other: this callback is called on the first one alone.
void DeviceStatsMonitor::log_gpus(RunContext& run) {
  auto* allocator = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(run.device().type()));
  if (!allocator) return;
  const LogOptions how{.on_step = true, .on_epoch = false};
  const auto megabytes = [](const auto& all) { return static_cast<double>(all[0].current) / 1e6; };
  for (int64_t i = 0; i < run.options().devices; ++i) {
    const auto stats = allocator->getDeviceStats(static_cast<c10::DeviceIndex>(run.device().index() + i));
    const std::string name = i == 0 ? "device/cuda_" : "device/cuda_" + std::to_string(i) + "_";
    run.log(name + "allocated_mb", megabytes(stats.allocated_bytes), how);
    run.log(name + "reserved_mb", megabytes(stats.reserved_bytes), how);
  }
}

}  // namespace troupe
