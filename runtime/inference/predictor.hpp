// A trained model that answers, without a Trainer: in a server, behind a C function, in another program's loop.
//
//     const auto predictor = troupe::Predictor::load<Digits>("runs/digits/version_0/checkpoints/last.safetensors",
//                                                            {.warm_up = {1, 32}});
//     auto scores = predictor.predict(images);  // from any thread
//
// docs/inference.md says how it computes, what it costs and what it cannot see.
#pragma once

#include "troupe/modules/captured_steps.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/modules/options/trainer_choices.hpp"
#include "troupe/runtime/checkpoint/load_from_checkpoint.hpp"

#include <torch/types.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

struct PredictorOptions {
  /// Whether forward is recorded once for each shape of inputs and replayed from then on. `automatic`: if it can be;
  /// Predictor::captured() has the reasons against. `require`: an input for which it cannot be is an error with the
  /// reason. `check`: each replay is compared with forward, and one that differs is an error. On the CPU only.
  CaptureStep capture = CaptureStep::automatic;
  /// Give the bits of forward. False: replays use kernels of Troupe's, which round sums in another order (a relative
  /// 1e-6), and batch norm becomes part of the convolution before it.
  bool exact = false;
  /// An input of more samples is cut into pieces of so many along its first axis, whose results are joined; 0: none
  /// is. It bounds the memory of one call.
  int64_t max_batch = 0;
  /// Sizes of batches to compute ahead, with the example, so that the first request is as fast as all others.
  std::vector<int64_t> warm_up = {};
  /// An input that shows shape and type. Default: the module's example_input_array.
  torch::Tensor example_input = {};
  /// The axes of the input that may have another size than the example's: the batch, and for sequences {0, 1}.
  std::vector<int64_t> dynamic_axes = {0};
  /// Where the module is put; default: where it is.
  std::optional<torch::Device> device = {};
  /// The type that its floating-point parameters and buffers get; default: the one that they have.
  std::optional<torch::ScalarType> dtype = {};
  /// Shapes of inputs that are kept as programs, each with memory of its own; the one that was used longest ago makes
  /// room for a new one.
  std::size_t max_shapes = 8;
  /// Threads that replay at one time, each in memory of its own; those beyond compute forward plainly. 0: as many as
  /// the process may use processors (affinity, cpusets, a container's quota).
  std::size_t max_callers = 0;
};

/// A module that is frozen: in eval mode, without gradients, and nobody's but the predictor's. Any number of threads
/// may call predict() and the other members at one time, on inputs of any batch size.
///
/// forward may be called by several threads at once, and in a replay not at all: it must not write to members, and what
/// it does must depend on the input's shape and values alone. Layers of LibTorch's are such.
class Predictor {
 public:
  /// Takes the module over: the caller changes neither it nor its weights from now on. Throws UsageError for a null
  /// pointer, for options that do not fit the module, and for what predict() refuses in a warm-up.
  explicit Predictor(std::shared_ptr<Module> module, PredictorOptions options = {});
  ~Predictor();
  Predictor(Predictor&&) noexcept;
  Predictor& operator=(Predictor&&) noexcept;

  /// An M as it was trained, with the weights of the checkpoint at `path`; `how` as for load_from_checkpoint, which
  /// says what is thrown. For weights with other names make the module, give it to load_weights() and then to the
  /// constructor.
  template <std::derived_from<Module> M>
  static Predictor load(const std::filesystem::path& path, PredictorOptions options = {}, const LoadOptions& how = {}) {
    return Predictor(load_from_checkpoint<M>(path, how), std::move(options));
  }

  /// forward of the input, which is on the module's device: [N, ...] of any N, as the example for all other axes and in
  /// its type. The result needs no gradient and is the caller's: later calls do not write to it, and it may outlive
  /// the predictor.
  ///
  /// Throws UsageError for an input of another shape, type or device, with both; and what forward throws.
  torch::Tensor predict(const torch::Tensor& input) const;
  torch::Tensor operator()(const torch::Tensor& input) const { return predict(input); }

  /// Computes a batch of each size with the example, as PredictorOptions::warm_up does. Throws UsageError if there is
  /// no example, and for sizes below 1.
  void warm_up(std::span<const int64_t> batch_sizes) const;

  /// The example in the module's type and on its device; undefined if there is none, and then inputs are not checked.
  const torch::Tensor& example_input() const;
  /// The shape of inputs, -1 for axes that may have any size; empty if there is no example.
  const std::vector<int64_t>& input_shape() const;
  torch::Device device() const;
  /// What has been captured so far: a program for each shape, with its replays, and why others are not captured. The
  /// step is called forward: `captured().replays("forward")` counts those of all.
  CapturedSteps captured() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace troupe
