// Ranks that train alone for a while: steps of their own between two exchanges of weights.
#pragma once

#include "troupe/modules/options/trainer_choices.hpp"
#include "troupe/runtime/checkpoint/checkpoint.hpp"
#include "troupe/runtime/distributed/gradient_averager.hpp"
#include "troupe/runtime/distributed/peers.hpp"

#include <torch/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

struct LocalTrainingOptions {
  int64_t steps = 500;  ///< of each worker between two exchanges
  /// Of the outer optimizer, SGD with Nesterov's momentum. 1 and 0: the weights become the mean of the workers'.
  double lr = 1, momentum = 0;
  int64_t bucket_bytes = 25 << 20;  ///< of the messages
  GradientCompression compression = GradientCompression::none;
};

/// The weights of workers that step optimizers of their own, each with the gradients of its own batches. After every
/// `steps` steps they exchange what their weights have moved since the last exchange. The mean of that is the gradient
/// of an outer optimizer, which steps the weights of the last exchange; all workers go on from there. With lr 1 and no
/// momentum it is local SGD (Stich 2018, https://arxiv.org/abs/1805.09767), else DiLoCo (Douillard et al. 2023,
/// https://arxiv.org/abs/2311.08105, algorithm 1). The inner optimizers' states stay each worker's own.
///
/// After an exchange all workers have the same weights, bit for bit: the mean is the same everywhere, and each element
/// is computed from it alone.
///
/// Between two exchanges there is no one model. Where one is wanted (to be evaluated or saved) show_mean() puts the
/// mean of all workers' weights into the module, and show_own() takes it away: what is trained does not depend on who
/// looked. Used by the worker's thread.
class LocalTraining {
 public:
  using Tensors = std::vector<std::pair<std::string, torch::Tensor>>;

  LocalTraining(Peers& peers, const LocalTrainingOptions& options) : peers_(peers), options_(options) {}
  LocalTraining(const LocalTraining&) = delete;
  LocalTraining& operator=(const LocalTraining&) = delete;

  /// Takes those parameters in addition that it does not have. On all workers they are equal when they are taken. Those
  /// that are frozen later on stay: they may have moved.
  void add(const Tensors& parameters);
  /// What goes along with the weights and is worker zero's: running means, for example. In place of those before.
  void set_buffers(std::vector<torch::Tensor> buffers) { buffers_ = std::move(buffers); }

  /// A step is made; exchanges if it is time. Collective then.
  void count_step();
  /// Nothing if no step was made since the last one. Collective.
  void exchange();
  int64_t steps_since_exchange() const { return steps_since_; }

  /// Until show_own() the parameters hold the mean of all workers', and the buffers worker zero's. Collective.
  void show_mean();
  void show_own();
  bool shows_mean() const { return !own_.empty(); }
  /// The mean is what all go on with. Collective.
  void adopt_mean();
  /// The worker's own value of a parameter or buffer, while the mean is shown too.
  torch::Tensor own(const torch::Tensor& tensor) const;

  // --- State. Tensors are the ones in use. ---

  /// What all workers have alike: `outer.weights.<name>`, those of the last exchange, if steps were made since;
  /// `outer.momentum.<name>`; and `outer` in the metadata.
  void append_shared(Checkpoint& checkpoint) const;
  /// What a worker has for itself: `local.<name>`, its weights, if steps were made since the last exchange.
  void append_own(Checkpoint& state) const;
  /// The same again, into parameters that have the mean. `own`: what this worker had for itself, or null if that is not
  /// known. Throws CheckpointError for what is damaged.
  void load(const Checkpoint& checkpoint, const Checkpoint* own);

 private:
  struct Parameter {
    std::string name;
    torch::Tensor tensor;
    torch::Tensor exchanged;  // its value after the last exchange
    torch::Tensor momentum;
  };
  struct Kept {
    torch::Tensor tensor, value;
  };

  std::vector<std::vector<std::size_t>> buckets() const;
  torch::Tensor moved(const Parameter& parameter) const;
  void step(Parameter& parameter, const torch::Tensor& mean) const;

  Peers& peers_;
  LocalTrainingOptions options_;
  std::vector<Parameter> parameters_;
  std::vector<torch::Tensor> buffers_;
  std::vector<Kept> own_;  // while the mean is shown
  int64_t steps_since_ = 0;
};

/// The gradients of a worker that trains alone: they stay what they are, and a worker without a loss in a step of the
/// others gets zeros, so that all make equally many steps.
class LocalGradients final : public GradientAverager {
 public:
  explicit LocalGradients(std::vector<torch::Tensor> parameters) : parameters_(std::move(parameters)) {}

  void prepare(const torch::Tensor&) override {}
  void contribute_nothing() override;

 private:
  std::vector<torch::Tensor> parameters_;
};

}  // namespace troupe
