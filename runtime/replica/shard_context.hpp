// The run as the module, or a copy of it, sees it while it computes a shard of a batch.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/runtime/replica/shard_report.hpp"

#include <algorithm>
#include <utility>

namespace troupe {

/// Answers what the run knows, and keeps what the shard logs until the batch is over. What makes no sense in a shard is
/// refused. Used by the shard's thread while it is computed, when nothing of the run changes. On the run's own thread
/// (`is_of_run`: the first shard) all but what is logged goes to the run at once; else it waits as well.
class ShardContext final : public RunContext {
 public:
  ShardContext(RunContext& run, torch::Device device, bool is_of_run)
      : run_(run), device_(device), is_of_run_(is_of_run) {}

  void set_module(const Module* module) { module_ = module; }
  void begin(bool should_stop) {
    report_ = {};
    should_stop_ = should_stop;
  }
  ShardReport take_report() { return std::exchange(report_, {}); }

  const TrainerOptions& options() const override { return run_.options(); }
  const std::filesystem::path& run_dir() const override { return run_.run_dir(); }
  Stage stage() const override { return run_.stage(); }
  bool sanity_checking() const override { return run_.sanity_checking(); }
  const Progress& progress() const override { return run_.progress(); }
  bool logs_this_batch() const override { return run_.logs_this_batch(); }
  torch::Device device() const override { return device_; }
  int64_t global_rank() const override { return run_.global_rank(); }
  int64_t local_rank() const override { return run_.local_rank(); }
  int64_t world_size() const override { return run_.world_size(); }
  std::optional<int64_t> estimated_stepping_batches(int64_t optimizers) const override {
    return run_.estimated_stepping_batches(optimizers);
  }
  Optimizers& optimizers() override { return run_.optimizers(); }
  void toggle_optimizer(std::size_t) override { refuse("toggle_optimizer"); }
  void untoggle_optimizer(std::size_t) override { refuse("untoggle_optimizer"); }
  void manual_backward(const torch::Tensor&) override { refuse("manual_backward"); }
  void step_optimizer(std::size_t, const OptimizerClosure&) override { refuse("an optimizer's step"); }
  Precision precision() const override { return run_.precision(); }
  void set_accumulate_grad_batches(int64_t) override { refuse("set_accumulate_grad_batches"); }
  void save_checkpoint(const std::filesystem::path&) override { refuse("save_checkpoint"); }
  torch::Tensor whole_gradient_norm(const torch::optim::Optimizer&, torch::Tensor norm) override { return norm; }
  torch::Tensor all_gather(const torch::Tensor&) override { refuse("all_gather"); }
  DataModule* datamodule() override { return run_.datamodule(); }
  void log(std::string_view name, const torch::Tensor& value, const LogOptions& options) override {
    report_.log(name, value, options);
  }
  void log(std::string_view name, double value, const LogOptions& options) override {
    report_.log(name, value, options);
  }
  void log(std::string_view name, Metric& metric, const LogOptions& options) override {
    const auto& registered = module_->metrics();
    const auto found = std::ranges::find(registered, &metric, [](const auto& item) { return item.second.get(); });
    if (found == registered.end()) {
      throw UsageError("log(\"" + std::string(name) + "\"): the " + metric.class_name() +
                       " is not one of the module's: register_metric it in the constructor");
    }
    report_.log_metric(name, static_cast<std::size_t>(found - registered.begin()), options);
  }
  void emit(Record record) override {
    say([record = std::move(record)](RunContext& run) { run.emit(record); });
  }
  void write_prediction(std::string_view name, const torch::Tensor& value, const std::string& filename) override {
    say([name = std::string(name), value, filename](RunContext& run) { run.write_prediction(name, value, filename); });
  }
  const MetricMap& callback_metrics() const override { return run_.callback_metrics(); }
  const MetricMap& logged_metrics() const override { return run_.logged_metrics(); }
  const MetricMap& progress_bar_metrics() const override { return run_.progress_bar_metrics(); }
  void request_stop(std::string reason) override {
    should_stop_ = true;
    say([reason = std::move(reason)](RunContext& run) { run.request_stop(reason); });
  }
  bool should_stop() const override { return should_stop_; }
  void print(std::string line) override {
    say([line = std::move(line)](RunContext& run) { run.print(line); });
  }
  void note(std::string line) override {
    say([line = std::move(line)](RunContext& run) { run.note(line); });
  }

 private:
  void say(std::function<void(RunContext&)> what) {
    if (is_of_run_) return what(run_);
    report_.say(std::move(what));
  }
  [[noreturn]] static void refuse(const char* what) {
    throw UsageError(std::string(what) +
                     " makes no sense in a part of a batch (strategy dp or ddp2): call it in training_step_end or in a "
                     "hook of the whole batch");
  }

  RunContext& run_;
  const torch::Device device_;
  const bool is_of_run_;
  const Module* module_ = nullptr;
  ShardReport report_;
  bool should_stop_ = false;
};

}  // namespace troupe
