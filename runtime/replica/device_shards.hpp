// A batch in shards, computed on several devices of one process: the strategies dp and ddp2.
#pragma once

#include "troupe/modules/batch.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/modules/step_output.hpp"
#include "troupe/runtime/replica/shard_context.hpp"

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace troupe {

/// The samples of `batch` in up to `count` shards as equal as torch.chunk makes them; tensors without a first dimension
/// and `extra` go to all of them. Throws UsageError if tensors have different numbers of samples.
std::vector<Batch> split_batch(const Batch& batch, std::size_t count);
/// One output of several: scalars are averaged by `sizes`, all else is joined along the first dimension. Throws
/// UsageError if they have different keys.
StepOutput joined_outputs(const std::vector<StepOutput>& outputs, const std::vector<int64_t>& sizes);

/// A copy of the module on each further device, with a thread each (the first shard is the calling thread's, on the
/// module itself). As PyTorch's DataParallel does
/// (https://docs.pytorch.org/docs/stable/generated/torch.nn.DataParallel.html), the copies take the module's weights
/// before a step and its buffers too, what they write into buffers is dropped, and their gradients are added to the
/// module's. Members of a module that are neither parameters nor buffers nor metrics are each copy's own.
///
/// Used by the worker's thread.
class DeviceShards {
 public:
  struct Setup {
    std::vector<torch::Device> devices;  ///< the further ones
    std::function<std::shared_ptr<Module>()> make_module;
    /// What a run does to a fresh module before it moves to its device (setup) and afterwards.
    std::function<void(Module&, torch::Device)> prepare;
    uint64_t seed = 0;
    int64_t num_threads = 0;
  };
  using Step = std::function<StepOutput(Module&, const Batch&)>;

  /// What the step of each shard returned, on the module's device and connected to the copies' graphs if gradients are
  /// on; and how many samples each had.
  struct Outputs {
    std::vector<StepOutput> outputs;
    std::vector<int64_t> sizes;
  };

  /// `run` is what the module is attached to. Throws UsageError if a copy is not like `module`.
  DeviceShards(RunContext& run, Module& module, Setup setup);
  ~DeviceShards();
  DeviceShards(const DeviceShards&) = delete;
  DeviceShards& operator=(const DeviceShards&) = delete;

  /// Divides `batch`, runs `step` on all shards at once, in the run's precision, and tells the run what they logged, as
  /// if the whole batch had. What a step throws is thrown when all have ended; what was logged is lost then.
  /// `step_number` tells one step's random numbers from another's.
  Outputs run(const Batch& batch, const Step& step, uint64_t step_number);
  /// The device whose shard threw in the last run().
  std::optional<torch::Device> failed_device() const { return failed_; }
  /// After backward: adds the copies' gradients to the module's.
  void collect_gradients();
  /// Adds what the copies' registered metrics have gathered to the module's.
  void collect_metrics();

 private:
  class Copy;

  std::vector<StepOutput> compute(const std::vector<Batch>& shards, const Step& step, uint64_t step_number);

  RunContext& run_;
  Module& module_;
  Setup setup_;
  ShardContext own_;  // of the first shard
  std::vector<std::unique_ptr<Copy>> copies_;
  std::optional<torch::Device> failed_;
};

}  // namespace troupe
