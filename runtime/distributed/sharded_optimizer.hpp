// The state of an optimizer divided among the workers of a run.
#pragma once

#include "troupe/modules/options/trainer_choices.hpp"
#include "troupe/runtime/checkpoint/checkpoint.hpp"
#include "troupe/runtime/distributed/autograd_node.hpp"
#include "troupe/runtime/distributed/gradient_averager.hpp"
#include "troupe/runtime/distributed/parameter_blocks.hpp"
#include "troupe/runtime/distributed/peers.hpp"

#include <torch/optim/optimizer.h>
#include <torch/types.h>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace troupe {

struct ShardingOptions {
  Strategy strategy = Strategy::zero;    ///< zero, zero2 or fsdp
  int64_t first_bucket_bytes = 1 << 20;  ///< the first to be reduced, small so that reduction begins early
  int64_t bucket_bytes = 25 << 20;
  GradientCompression compression = GradientCompression::none;
  /// fsdp: which parameters become a block together, by their addresses.
  std::unordered_map<const void*, std::size_t> block_of = {};
};

/// The stages of ZeRO (Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054). With strategy = zero (stage 1) every
/// worker has all parameters, but updates only its part of them, and holds the optimizer's state of that part alone.
/// With zero2 a bucket of gradients exists only until it is reduced; with fsdp (stage 3) so do parameters, of which a
/// bucket is a block (ParameterBlocks).
///
/// The parameters are moved into flat buckets, in about the order in which their gradients come, each divided into as
/// many equal parts as there are workers. The optimizer's groups hold this worker's parts, one-dimensional, instead of
/// the parameters. A bucket is reduced and scattered as soon as its gradients are there, while backward computes the
/// next ones; after the optimizer's step gather_parameters() gathers the parts. That sends as much as the all-reduce of
/// GradientReducer does.
///
/// `grad()` of a parameter holds what this worker has added up since the last reduction (with zero2 and fsdp: nothing);
/// the average is in `grad()` of the parts.
class ShardedOptimizer final : public GradientAverager {
 public:
  using Named = std::vector<std::pair<std::string, torch::Tensor>>;

  /// Takes the parameters of `optimizer`, which has to live longer. Throws UsageError for an optimizer that is not
  /// known to treat each element by itself: all of troupe::optim's and LibTorch's do, LBFGS, Muon and Adafactor
  /// excepted. `blocks`: of all optimizers of the run, with fsdp.
  ShardedOptimizer(std::size_t index, torch::optim::Optimizer& optimizer, Peers& peers, ShardingOptions options,
                   std::shared_ptr<ParameterBlocks> blocks = nullptr);
  /// The parameters get memory of their own again.
  ~ShardedOptimizer() override;
  ShardedOptimizer(const ShardedOptimizer&) = delete;
  ShardedOptimizer& operator=(const ShardedOptimizer&) = delete;

  /// Takes parameters that the optimizer has got since, and looks at which of them need gradients.
  void refresh();
  /// The whole parameters, in the order of the optimizer's groups.
  std::vector<torch::Tensor> parameters() const;
  /// Whether it is one of them, or this worker's part of one.
  bool holds(const torch::Tensor& tensor) const { return known_.contains(tensor.unsafeGetTensorImpl()); }

  void begin() override;
  void prepare(const torch::Tensor& loss) override;
  void finish() override;
  void contribute_nothing() override;
  /// Null unless parameters are divided.
  ParameterBlocks* blocks() const { return blocks_.get(); }
  /// After the optimizer's step: all parameters as all workers have updated them, at once or when they are used.
  void gather_parameters();
  /// The 2-norm of all gradients from that of this worker's parts.
  torch::Tensor whole_norm(const torch::Tensor& norm_of_parts) const;

  /// Averages that wait for a step: each parameter with this worker's part of its average, in its place among zeros.
  /// All workers' add up to the average.
  std::vector<std::pair<torch::Tensor, torch::Tensor>> waiting_parts() const;
  /// Puts such a part back. The parameter is one of parameters(), `part` of its shape and type.
  void put_back(const torch::Tensor& parameter, const torch::Tensor& part);

  /// As append_optimizer_state does, with the whole state; collective. On rank zero alone it is added.
  void append_state(Checkpoint& checkpoint, const Named& named_parameters);
  /// As load_optimizer_state does, of a checkpoint with the whole state, whichever number of workers wrote it.
  void load_state(const Checkpoint& checkpoint, const Named& named_parameters);

 private:
  struct Parameter {
    torch::Tensor whole;
    std::size_t group;
    std::size_t bucket;
    int64_t offset;                 // in the bucket
    int64_t begin, end;             // this worker's part of it, counted in its elements; may be empty
    torch::Tensor shard = {};       // that part; undefined if it is empty
    torch::Tensor kept = {};        // its gradient before the pass in progress
    AutogradNode accumulator = {};  // whose hook says that a gradient is there
    uintptr_t hook = 0;
  };
  using PartStates = std::map<std::string, std::map<std::string, torch::Tensor>>;  // by parameter, then by name
  struct Bucket {
    std::vector<std::size_t> parameters;
    torch::Tensor weights;                   // all parts
    torch::Tensor shard_weights;             // this worker's, with fsdp in memory of its own
    torch::Tensor gradients;                 // all parts; with zero2 and fsdp while a pass adds to them
    torch::Tensor shard_gradients;           // this worker's part
    std::optional<std::size_t> block = {};   // with fsdp
    torch::Tensor sent = {}, received = {};  // while `work` is in progress
    std::size_t expected = 0, arrived = 0;
    bool is_launched = false;  // in this pass
    c10::intrusive_ptr<c10d::Work> work;
  };

  void take(const std::vector<std::pair<std::size_t, torch::Tensor>>& parameters);
  void make_bucket(const std::vector<std::pair<std::size_t, torch::Tensor>>& parameters);
  bool divides_gradients() const { return troupe::divides_gradients(options_.strategy); }
  void arrive(std::size_t parameter);
  void take_gradient(Bucket& bucket, Parameter& parameter);
  void launch_complete();
  void launch(Bucket& bucket);
  void complete(Bucket& bucket);
  Named names_of_shards(const Named& named_parameters) const;
  nlohmann::json states_of_all(const PartStates& mine);
  torch::Tensor whole_state(const Bucket& bucket, const PartStates& mine, const std::vector<std::string>& names,
                            const std::string& state, torch::ScalarType type);
  void append_groups(Checkpoint& checkpoint, const Checkpoint& own, const std::vector<std::string>& names) const;

  const std::size_t index_;
  torch::optim::Optimizer& optimizer_;
  Peers& peers_;
  const ShardingOptions options_;
  std::vector<Parameter> parameters_;
  std::unordered_map<const void*, std::size_t> known_;  // shards and parameters, by their addresses
  std::vector<std::vector<std::size_t>> groups_;        // parameters of each, in the optimizer's order
  std::vector<Bucket> buckets_;
  std::shared_ptr<ParameterBlocks> blocks_;
  bool is_prepared_ = false;
  std::optional<std::size_t> on_its_way_;  // the bucket that is being reduced, of zero2 and fsdp
};

}  // namespace troupe
