// What one rank of a Fabric has and does: the mechanisms of a replica, in the order in which a loop of the user's asks
// for them.
#pragma once

#include "troupe/modules/captured_steps.hpp"
#include "troupe/modules/log_options.hpp"
#include "troupe/modules/options/fabric_options.hpp"
#include "troupe/modules/run_context.hpp"
#include "troupe/runtime/device/copy_ahead.hpp"
#include "troupe/runtime/distributed/peers.hpp"
#include "troupe/runtime/fabric/fabric_loader.hpp"
#include "troupe/runtime/process/process_settings.hpp"
#include "troupe/runtime/process/pulse.hpp"
#include "troupe/runtime/replica/gradient_sync.hpp"
#include "troupe/runtime/replica/loss_scaling.hpp"
#include "troupe/runtime/replica/optimizer_toggle.hpp"
#include "troupe/runtime/replica/replica_core.hpp"

#include <torch/nn/module.h>
#include <torch/types.h>
#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe {

class FabricFunction;
class StepCapture;

struct FabricRankSetup {
  std::shared_ptr<const TrainerOptions> options;  ///< of trainer_options(), with a seed and a number of threads
  torch::Device device = torch::kCPU;
  std::shared_ptr<Peers> peers = nullptr;  ///< null: there is one rank
  std::shared_ptr<Pulse> pulse = nullptr;
  std::filesystem::path run_dir = {};  ///< empty: nothing is written
  /// Of rank zero; empty on the others.
  std::vector<std::shared_ptr<Sink>> sinks = {};
};

/// See Fabric (launch/fabric.hpp), whose methods have the same names. Used by the thread that runs the loop, which
/// makes and destroys it. Modules that it has set up may ask it what they ask a run (RunContext); what only a Trainer
/// knows is refused with a UsageError.
class FabricRank final : public RunContext, private ReplicaOutputs {
 public:
  /// Collective. Seeds the thread and, for a GPU, makes the device current.
  explicit FabricRank(FabricRankSetup setup);
  ~FabricRank() override;
  FabricRank(const FabricRank&) = delete;
  FabricRank& operator=(const FabricRank&) = delete;

  Place place() const { return core_.place(); }
  uint64_t seed() const { return seed_; }
  void seed_everything(uint64_t seed);

  void setup_module(std::shared_ptr<torch::nn::Module> module, std::string name);
  /// The optimizer's number.
  std::size_t setup_optimizer(OptimizerPtr optimizer);
  FabricLoader setup_loader(DataLoader loader, Division division);

  /// `optimizers`: whose gradients the loss is for; empty: all.
  void backward(const torch::Tensor& loss, const std::vector<std::size_t>& optimizers);
  void zero_grad(std::size_t optimizer);
  void step(std::size_t optimizer, const OptimizerClosure& closure);
  torch::Tensor clip_gradients(std::size_t optimizer, double bound, GradientClipAlgorithm algorithm);
  /// Whether backward leaves gradients as they are. Returns what was said before.
  bool hold_gradients(bool holds);
  void release_gradients(bool before) { holds_ = before; }

  torch::Tensor all_reduce(const torch::Tensor& tensor, Reduce reduce);
  torch::Tensor broadcast(const torch::Tensor& tensor, int64_t source);
  std::string broadcast(const std::string& text, int64_t source);
  void barrier();

  void save(const std::filesystem::path& path, const nlohmann::json& state);
  nlohmann::json load(const std::filesystem::path& path);

  void log_value(std::string_view name, const torch::Tensor& value, std::optional<int64_t> step);
  void log_value(std::string_view name, double value, std::optional<int64_t> step);
  void flush_sinks();

  // --- RunContext ---

  const TrainerOptions& options() const override { return core_.options(); }
  const std::filesystem::path& run_dir() const override { return core_.setup.run_dir; }
  Stage stage() const override { return Stage::fit; }
  bool sanity_checking() const override { return false; }
  const Progress& progress() const override;
  bool logs_this_batch() const override { return true; }  // Fabric::log hands over what it gets
  torch::Device device() const override { return core_.setup.device; }
  int64_t global_rank() const override { return place().global_rank; }
  int64_t local_rank() const override { return place().local_rank; }
  int64_t world_size() const override { return place().world_size; }
  std::optional<int64_t> estimated_stepping_batches(int64_t) const override { return std::nullopt; }
  Optimizers& optimizers() override { return core_.optimizers; }
  void toggle_optimizer(std::size_t index) override { toggle_.toggle(index); }
  void untoggle_optimizer(std::size_t) override { toggle_.untoggle(); }
  void manual_backward(const torch::Tensor& loss) override { backward(loss, {}); }
  void step_optimizer(std::size_t index, const OptimizerClosure& closure) override { step(index, closure); }
  Precision precision() const override { return core_.precision; }
  void set_accumulate_grad_batches(int64_t batches) override;
  void save_checkpoint(const std::filesystem::path& path) override { save(path, nlohmann::json::object()); }
  torch::Tensor whole_gradient_norm(const torch::optim::Optimizer& optimizer, torch::Tensor norm) override {
    return sync_.whole_norm(optimizer, std::move(norm));
  }
  torch::Tensor all_gather(const torch::Tensor& tensor) override;
  DataModule* datamodule() override { return nullptr; }
  void log(std::string_view name, const torch::Tensor& value, const LogOptions&) override {
    log_value(name, value, std::nullopt);
  }
  void log(std::string_view name, double value, const LogOptions&) override { log_value(name, value, std::nullopt); }
  void log(std::string_view name, Metric& metric, const LogOptions&) override;
  void emit(Record record) override;
  void write_prediction(std::string_view name, const torch::Tensor& value, const std::string& filename) override;
  const MetricMap& callback_metrics() const override { return latest_; }
  const MetricMap& logged_metrics() const override { return latest_; }
  const MetricMap& progress_bar_metrics() const override { return latest_; }
  void request_stop(std::string reason) override;
  bool should_stop() const override { return should_stop_; }
  void print(std::string line) override;
  void note(std::string line) override;

 private:
  friend class FabricFunction;
  /// A captured function's call that is being recorded.
  struct Recording;

  // ReplicaOutputs
  void record(Record record) override { emit(std::move(record)); }
  void stop_requested(const std::string& reason) override { request_stop(reason); }

  void refuse_module(const std::shared_ptr<torch::nn::Module>& module, const std::string& name) const;
  std::vector<GradientAverager*> averagers_of(const std::vector<std::size_t>& optimizers) const;
  void begin_averaging(const std::vector<GradientAverager*>& averagers);
  template <class Compute>
  void run_backward(const std::vector<std::size_t>& optimizers, Compute compute);
  void begin_scaled_pass();
  void end_scaled_pass();
  void record_backward(const torch::Tensor& loss, const std::vector<std::size_t>& optimizers);
  void replay_backward(StepCapture& capture, const std::vector<std::size_t>& optimizers);
  void drop(std::size_t optimizer);
  void make_step(std::size_t optimizer, const OptimizerClosure& closure);
  torch::Tensor clip(std::size_t optimizer, double bound, GradientClipAlgorithm algorithm);
  void write_value(std::string_view name, double value, std::optional<int64_t> step);
  void check_like(const char* what, const torch::Tensor& tensor);
  void check_optimizer(const char* what, std::size_t optimizer) const;
  // fabric_state.cpp
  std::vector<std::pair<std::string, torch::Tensor>> named_parameters() const;
  void append_random_states(Checkpoint& checkpoint);

  ReplicaCore core_;
  std::optional<ProcessSettings> process_settings_;
  std::unique_ptr<CopyAhead> copier_;  // on a GPU
  GradientSync sync_;
  LossScaling scaling_;
  OptimizerToggle toggle_;
  std::vector<std::pair<std::string, std::shared_ptr<torch::nn::Module>>> modules_;  // by name; "" is the only one
  uint64_t seed_ = 0;                                                                // of the latest seed_everything
  uint64_t changes_ = 0;  // of what is set up, for captured functions
  uint64_t training_loaders_ = 0, evaluation_loaders_ = 0;
  bool holds_ = false;     // no_backward_sync
  bool has_held_ = false;  // gradients that were not averaged
  Recording* recording_ = nullptr;
  const int threads_before_;  // that this thread computed with
  std::vector<std::shared_ptr<Sink>> sinks_;
  MetricMap latest_;
  bool should_stop_ = false;
};

/// See Fabric::capture.
class FabricFunction {
 public:
  using Function = std::function<StepOutput(const Batch& batch)>;

  FabricFunction(FabricRank& rank, Function function, std::string name);
  ~FabricFunction();
  StepOutput call(const Batch& batch);
  const CapturedSteps& report() const;

 private:
  StepOutput record();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace troupe
