#include "troupe/modules/callbacks/throughput_monitor.hpp"

#include "troupe/modules/module.hpp"

namespace troupe {

ThroughputMonitor::ThroughputMonitor(int64_t window_size) : window_size_(window_size) {
  if (window_size < 2) {
    throw UsageError("ThroughputMonitor: window_size = " + std::to_string(window_size) + "; use at least 2");
  }
}

// Validations and hooks between epochs are no part of it.
void ThroughputMonitor::on_train_epoch_start(RunContext&, Module&) {
  marks_ = {{std::chrono::steady_clock::now(), 0, 0}};
}

void ThroughputMonitor::on_validation_end(RunContext&, Module&) {
  if (marks_.empty()) return;
  Mark last = marks_.back();
  last.time = std::chrono::steady_clock::now();
  marks_ = {last};
}

void ThroughputMonitor::on_train_batch_end(RunContext& run, Module&, const StepOutput&, const Batch& batch, int64_t) {
  const auto& last = marks_.back();
  marks_.push_back({std::chrono::steady_clock::now(), last.batches + 1, last.samples + batch.size()});
  if (static_cast<int64_t>(marks_.size()) > window_size_) marks_.pop_front();
  const Mark &from = marks_.front(), &to = marks_.back();
  const double seconds = std::chrono::duration<double>(to.time - from.time).count();
  if (seconds <= 0) return;
  const LogOptions how{.on_step = true, .on_epoch = false};
  const auto log = [&](const char* name, int64_t count) {
    run.log(name, static_cast<double>(count * run.world_size()) / seconds, how);
  };
  log("train/batches_per_sec", to.batches - from.batches);
  log("train/samples_per_sec", to.samples - from.samples);
}

}  // namespace troupe
