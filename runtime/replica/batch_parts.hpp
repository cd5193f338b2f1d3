// A batch in parts, computed on several devices of one process: the strategies dp and ddp2.
#pragma once

#include "troupe/modules/batch.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/modules/step_output.hpp"
#include "troupe/runtime/replica/part_report.hpp"

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace troupe {

/// The samples of `batch` in up to `count` parts as equal as torch.chunk makes them; tensors without a first dimension
/// and `extra` go to all parts. Throws UsageError where tensors have different numbers of samples.
std::vector<Batch> split_batch(const Batch& batch, std::size_t count);
/// One output of several: scalars are averaged by `sizes`, all else is joined along the first dimension. Throws
/// UsageError where the parts have different keys.
StepOutput joined_outputs(const std::vector<StepOutput>& parts, const std::vector<int64_t>& sizes);

/// A copy of the module on each further device, with a thread each (the first part is the calling thread's, on the
/// module itself). As PyTorch's DataParallel does
/// (https://docs.pytorch.org/docs/stable/generated/torch.nn.DataParallel.html), the copies take the module's weights
/// before a step and its buffers too, what they write into buffers is dropped, and their gradients are added to the
/// module's. Members of a module that are neither parameters nor buffers nor metrics are each copy's own.
///
/// Used by the worker's thread.
class BatchParts {
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

  /// `run` is what the copies see of the run. Throws UsageError where a copy is not like `module`.
  BatchParts(RunContext& run, Module& module, Setup setup);
  ~BatchParts();
  BatchParts(const BatchParts&) = delete;
  BatchParts& operator=(const BatchParts&) = delete;

  std::size_t count() const { return 1 + copies_.size(); }
  /// Runs `step` on all parts at once and returns the outputs on the module's device, connected to the copies' graphs
  /// where gradients are on. What a step throws is thrown when all have ended. `step_number` tells one step's random
  /// numbers from another's.
  std::vector<StepOutput> run(const std::vector<Batch>& parts, const Step& step, uint64_t step_number);
  /// What the copies said in the last run(); what the module itself says goes to the run.
  std::vector<PartReport> take_reports();
  /// The device whose part threw in the last run().
  std::optional<torch::Device> failed_device() const { return failed_; }
  /// After backward: adds the copies' gradients to the module's.
  void collect_gradients();
  /// Adds what the copies' registered metrics have gathered to the module's.
  void collect_metrics();

 private:
  class Copy;

  RunContext& run_;
  Module& module_;
  Setup setup_;
  std::vector<std::unique_ptr<Copy>> copies_;
  std::optional<torch::Device> failed_;
};

}  // namespace troupe
