// A training loop of one's own, without the Trainer: Lightning Fabric's API
// (https://lightning.ai/docs/fabric/stable/api/fabric_methods.html) for any torch::nn::Module.
//
//     Fabric fabric({.devices = 2, .seed = 1});
//     fabric.launch([&](Fabric& fabric) {                          // once for each device
//       auto model = std::make_shared<Net>();
//       auto optimizer = fabric.setup(model, torch::optim::SGD(model->parameters(), 0.1));
//       auto loader = fabric.setup_dataloaders(DataLoader(dataset, {.batch_size = 64, .shuffle = true}));
//       for (const Batch& batch : loader) {
//         optimizer.zero_grad();
//         const auto loss = torch::mse_loss(model->forward(batch[0]), batch[1]);
//         fabric.backward(loss);
//         optimizer.step();
//       }
//     });
//
// The same program trains on one device, on several devices of its process, and on the processes that mpirun, srun or
// torchrun have started, each with several devices. docs/fabric.md goes through it.
#pragma once

#include "troupe/modules/captured_steps.hpp"
#include "troupe/modules/data/data_loader.hpp"
#include "troupe/modules/log_options.hpp"
#include "troupe/modules/optim/optimizer_handle.hpp"
#include "troupe/modules/optim/optimizers.hpp"
#include "troupe/modules/options/fabric_options.hpp"
#include "troupe/modules/progress.hpp"
#include "troupe/modules/step_output.hpp"
#include "troupe/runtime/fabric/fabric_loader.hpp"
#include "troupe/runtime/precision/autocast.hpp"

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>
#include <nlohmann/json.hpp>

#include <array>
#include <concepts>
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
class FabricRank;

/// An optimizer that Fabric::setup was given. What has to do with ranks and precision goes through it; everything else
/// is the optimizer's own, through `->`. With strategy = zero the groups there hold this rank's parts of the
/// parameters. A cheap, copyable handle, valid as long as the function of Fabric::launch runs.
class FabricOptimizer {
 public:
  /// Sets the gradients of its parameters to none.
  void zero_grad() const;
  /// Applies the gradients. With 16-mixed a step whose gradients overflow is left out. Throws UsageError after a
  /// backward pass whose gradients were not averaged (no_backward_sync).
  void step() const;
  /// For optimizers that ask for the loss several times (LBFGS): `closure` calls zero_grad and Fabric::backward, and
  /// returns the loss. Throws UsageError with 16-mixed.
  void step(const OptimizerClosure& closure) const;

  torch::optim::Optimizer& operator*() const { return *optimizer_; }
  torch::optim::Optimizer* operator->() const { return optimizer_.get(); }
  /// For schedulers: lr_schedulers::step(optimizer.ptr(), {.step_size = 10}).
  const OptimizerPtr& ptr() const { return optimizer_; }
  /// Its place among those that were set up; its name in a checkpoint.
  std::size_t index() const { return index_; }

 private:
  friend class Fabric;
  FabricOptimizer(FabricRank& rank, std::size_t index, OptimizerPtr optimizer)
      : rank_(&rank), index_(index), optimizer_(std::move(optimizer)) {}

  FabricRank* rank_;
  std::size_t index_;
  OptimizerPtr optimizer_;
};

/// What Fabric::capture returns. A copyable handle, valid as long as the function of Fabric::launch runs, used by its
/// thread.
class FabricStep {
 public:
  /// What the function returned, in memory of its own and without a graph. Throws what the function throws, and
  /// UsageError if it has to be captured and cannot be (capture_step = require).
  StepOutput operator()(const Batch& batch) const;
  /// What was captured so far, and why the rest was not.
  const CapturedSteps& captured() const;

 private:
  friend class Fabric;
  explicit FabricStep(std::shared_ptr<FabricFunction> function) : function_(std::move(function)) {}
  std::shared_ptr<FabricFunction> function_;
};

/// Shared pointers to a module, and LibTorch's holders of one (TORCH_MODULE).
template <class P>
concept TorchModulePointer = requires(P pointer) {
  {std::shared_ptr<torch::nn::Module>(pointer)};
}
|| requires(P holder) {
  {std::shared_ptr<torch::nn::Module>(holder.ptr())};
};

/// Used by the thread that made it. Everything but launch() and options() is called within launch()'s function, on the
/// Fabric that this is given, by the thread that it runs on. Methods that say "collective" are called by all ranks in
/// the same order.
class Fabric {
 public:
  /// Throws UsageError for options that cannot be.
  explicit Fabric(FabricOptions options = {});
  ~Fabric();
  Fabric(const Fabric&) = delete;
  Fabric& operator=(const Fabric&) = delete;

  /// Runs `loop` once for each device of this process, on a thread each, or for one device on this thread; returns when
  /// all ranks have ended. Each starts with the same seed. Throws what `loop` has thrown first in this process, after
  /// which the others give up what they wait for, and RunError for what another process tells. UsageError if processes
  /// have other programs or options, or there are too few devices. Collective among processes.
  void launch(const std::function<void(Fabric& fabric)>& loop);

  /// As resolved: with a seed.
  const FabricOptions& options() const { return options_; }
  bool is_global_zero() const { return global_rank() == 0; }
  /// Among all devices, and among those of this host.
  int64_t global_rank() const;
  int64_t local_rank() const;
  int64_t world_size() const;
  torch::Device device() const;

  // --- Setting up ---

  /// Moves the module to the device and the type of `precision`, gives it rank zero's weights, and divides what the
  /// optimizer keeps among ranks (strategy = zero). The module stays the object that it is: call it as always. From
  /// then on each rank draws random numbers of its own. A Module of Troupe's finds its log(), device(), global_rank(),
  /// all_gather() and manual_backward() here.
  ///
  /// `name`: of one of several modules, which stands before the names of its tensors in checkpoints.
  ///
  /// Throws UsageError for what is null, or was set up before; for an optimizer with parameters that no module here
  /// has; if the ranks' modules differ, with the names of the tensors. Collective.
  template <TorchModulePointer P>
  FabricOptimizer setup(const P& module, Optimizers optimizer, std::string name = "") {
    setup_module(pointer_to(module), std::move(name));
    return one_optimizer(std::move(optimizer));
  }
  /// The same with several optimizers of one module: `auto [body, head] = fabric.setup_all(model, one, other)`.
  template <TorchModulePointer P, std::convertible_to<Optimizers>... O>
  std::array<FabricOptimizer, sizeof...(O)> setup_all(const P& module, O&&... optimizers) {
    setup_module(pointer_to(module), "");
    return {one_optimizer(Optimizers(std::forward<O>(optimizers)))...};
  }
  /// A module without an optimizer, and an optimizer of modules that were set up before.
  template <TorchModulePointer P>
  void setup_module(const P& module, std::string name = "") {
    setup_module(pointer_to(module), std::move(name));
  }
  void setup_module(std::shared_ptr<torch::nn::Module> module, std::string name);
  FabricOptimizer setup_optimizers(Optimizers optimizer) { return one_optimizer(std::move(optimizer)); }
  /// This rank's part of the loader's batches, on its device. `division` says how ranks divide an epoch: for training
  /// all have equally many batches, for which samples are repeated if need be; with Division::batches, for evaluation,
  /// nothing is. Loaders are set up in the same order on all ranks, which their seeds follow.
  FabricLoader setup_dataloaders(DataLoader loader, Division division = Division::padded_samples);
  /// Several: `auto [first, second] = fabric.setup_dataloaders(one, other)`.
  template <std::same_as<DataLoader>... L>
  requires(sizeof...(L) > 1) std::array<FabricLoader, sizeof...(L)> setup_dataloaders(const L&... loaders) {
    return {setup_dataloaders(loaders, Division::padded_samples)...};
  }

  // --- A step ---

  /// In place of loss.backward(): `loss` has one element. Gradients are averaged over ranks while they are computed,
  /// and with 16-mixed the loss is scaled for it. `optimizers`: those whose gradients the loss is for; without, of all.
  /// Name them if a loss does not lead to all parameters of the others (a GAN), which then keep what this rank has
  /// added to them; zero those before their own pass. Throws UsageError for a loss that is no scalar or leads to no
  /// parameter, and if no optimizer was set up. Collective.
  void backward(const torch::Tensor& loss, const std::vector<FabricOptimizer>& optimizers = {});
  /// Bounds the gradients of an optimizer, over all ranks: their 2-norm, or with GradientClipAlgorithm::value each
  /// element. Returns the norm as it was, a tensor without dimensions; undefined with `value` and for the bound 0,
  /// which is none. Throws UsageError for a bound that is negative or NaN. Collective.
  torch::Tensor clip_gradients(const FabricOptimizer& optimizer, double bound,
                               GradientClipAlgorithm algorithm = GradientClipAlgorithm::norm);
  /// The number formats of `precision`, for the forward pass: `const auto autocast = fabric.autocast();` until the end
  /// of the scope. Does nothing for those that are not mixed. backward and steps need none.
  [[nodiscard]] Autocast autocast() const;
  /// While it lives backward averages nothing, so that gradients of several batches are added up before ranks exchange
  /// them: `const auto accumulating = fabric.no_backward_sync(!is_last);`. With `enabled` false it does nothing.
  class NoBackwardSync {
   public:
    NoBackwardSync(FabricRank* rank);
    ~NoBackwardSync();
    NoBackwardSync(const NoBackwardSync&) = delete;
    NoBackwardSync& operator=(const NoBackwardSync&) = delete;

   private:
    FabricRank* rank_;  // null: it does nothing
    bool before_ = false;
  };
  [[nodiscard]] NoBackwardSync no_backward_sync(bool enabled = true);

  /// A step that runs its code for the first batches only, and is replayed from a list of kernels afterwards, with the
  /// same bits (docs/captured-step.md, `capture_step`): `f` computes on tensors of the batch, calls backward once or
  /// not at all, and then clips and steps. So it has to do the same with each batch; what it is given and changes
  /// besides (numbers of the host, other tensors than the modules') is not looked at again. zero_grad, clip_gradients,
  /// step and log(name, tensor) are called in each replay. What cannot be captured is said once, and computed as
  /// always. `name` is what messages call it. On the CPU; on other devices `f` is called.
  [[nodiscard]] FabricStep capture(std::function<StepOutput(const Batch& batch)> f, std::string name = "step");

  // --- What ranks tell each other; collective ---

  /// Of the tensors of all ranks, of one shape and type: their mean (in a floating-point type), sum, min or max,
  /// element by element, in a new tensor. Throws UsageError, on all ranks, if shapes or types differ.
  torch::Tensor all_reduce(const torch::Tensor& tensor, Reduce reduce = Reduce::mean);
  /// The tensors of all ranks along a new first dimension, [world_size, ...]. Throws as all_reduce.
  torch::Tensor all_gather(const torch::Tensor& tensor);
  /// The tensor of rank `source`, in a new one. Throws as all_reduce, and for a rank that there is none of.
  torch::Tensor broadcast(const torch::Tensor& tensor, int64_t source = 0);
  std::string broadcast(const std::string& text, int64_t source = 0);
  /// Returns when all ranks are here.
  void barrier();

  // --- Files ---

  /// Writes what was set up into a checkpoint (docs/checkpoint-format.md), atomically, with `state` beside it: weights,
  /// states of optimizers, whole ones with strategy = zero too, and of each rank's random generators.
  /// load_from_checkpoint, read_weights and `troupe checkpoint` read it; a Trainer takes its weights. Throws UsageError
  /// for what a file cannot hold, and on all ranks if it cannot be written. Collective.
  void save(const std::filesystem::path& path, const nlohmann::json& state = nlohmann::json::object());
  /// Gives back what save() wrote, with any number of ranks and either strategy, and returns `state`; of a Trainer's
  /// checkpoint the weights and optimizers, and null. Every rank reads the file. Throws CheckpointError for a file that
  /// is damaged, and UsageError that names the tensors if it belongs to another model or other optimizers. Collective.
  nlohmann::json load(const std::filesystem::path& path);

  // --- What it says ---

  /// A line to stdout, from rank zero.
  void print(const std::string& line);
  /// A number for the sinks (`loggers`, `sinks`), which rank zero writes. `value` has one element. `step`: the axis;
  /// without it, the steps of optimizers so far. Sinks are flushed at the end of launch().
  void log(std::string_view name, const torch::Tensor& value, std::optional<int64_t> step = std::nullopt);
  void log(std::string_view name, double value, std::optional<int64_t> step = std::nullopt);
  void log_dict(const std::vector<std::pair<std::string, torch::Tensor>>& values,
                std::optional<int64_t> step = std::nullopt);
  /// The latest value of each name.
  const MetricMap& logged() const;
  /// <default_root_dir>/<name>/version_N; empty without `loggers`.
  const std::filesystem::path& run_dir() const;
  /// Seeds this rank's random generators, and the loaders that are set up from now on: after setup() each rank with
  /// numbers of its own. launch() has done so with FabricOptions::seed.
  void seed_everything(uint64_t seed);

 private:
  explicit Fabric(std::unique_ptr<FabricRank> rank, FabricOptions options);

  template <class P>
  static std::shared_ptr<torch::nn::Module> pointer_to(const P& module) {
    if constexpr (requires { std::shared_ptr<torch::nn::Module>(module); }) {
      return module;
    } else {
      return module.ptr();
    }
  }
  FabricOptimizer one_optimizer(Optimizers optimizer);
  FabricRank& rank(const char* what) const;

  FabricOptions options_;
  std::unique_ptr<FabricRank> rank_;  // within launch()
};

}  // namespace troupe
