// Reference values that PyTorch computes while the test runs, and runs of a Trainer to hold against them.
//
// A script tests/parity/<name>.py takes the path of a file and writes it, a safetensors file of everything that its
// cases need and give: "<case>.<what>". One start of Python serves all cases of a program. What the scripts share is in
// common.py.
//
// Both sides compute with the same LibTorch, one thread, the same weights and batches. Where a comment says that
// numbers are equal to the last bit, that is what a test saw and not what it asks for, unless its tolerance is 0.
#pragma once

#include "tests/support/program.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/runtime/checkpoint/safetensors.hpp"
#include "troupe/runtime/precision/convert.hpp"
#include "troupe/troupe.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

using Tensors = std::map<std::string, torch::Tensor>;

/// What tests/parity/`script` writes.
inline Tensors pytorch_reference(const std::string& script) {
  const TempDir dir;
  const auto path = dir / "reference.safetensors";
  const auto run = run_program("'" TROUPE_TEST_PYTHON "' '" TROUPE_SOURCE_DIR "/tests/parity/" + script + "' '" +
                               path.string() + "'");
  if (run.status != 0) throw std::runtime_error("failed: " + script + "\n" + run.output);
  const SafetensorsFile file(path);
  Tensors tensors;
  for (const auto& entry : file.entries()) tensors.emplace(entry.name, file.read(entry));
  return tensors;
}

/// The largest difference of two tensors of one shape; infinity where one of them has a NaN and the other has not.
inline double largest_difference(const torch::Tensor& a, const torch::Tensor& b) {
  if (a.sizes() != b.sizes()) throw std::runtime_error("the shapes differ");
  if (a.numel() == 0) return 0;
  const auto x = a.detach().to(torch::kFloat64), y = b.detach().to(torch::kFloat64);
  const auto both_nan = x.isnan().logical_and(y.isnan());
  return (x - y).abs().masked_fill(both_nan.logical_or(x == y), 0).nan_to_num(INFINITY).max().item<double>();
}

/// A format that runs are compared in, and how far numbers may be apart after 50 steps.
struct NumberType {
  const char* name;  ///< in the keys of a script
  torch::ScalarType type;
  Precision precision;
  double tolerance;
};
inline const std::array<NumberType, 2> number_types = {
    {{"float64", torch::kFloat64, Precision::float64, 1e-10}, {"float32", torch::kFloat32, Precision::float32, 1e-5}}};

/// Gives every parameter and buffer of `module` the value under `prefix` + its name.
inline void start_from(const torch::nn::Module& module, const Tensors& reference,
                       const std::string& prefix = "start.") {
  const torch::NoGradGuard no_gradients;
  for (auto& item : module.named_parameters()) item.value().copy_(reference.at(prefix + item.key()));
  for (auto& item : module.named_buffers()) item.value().copy_(reference.at(prefix + item.key()));
}

/// That `ours` and `theirs` are no more than `tolerance` apart. `--gtest_output=xml` writes down how far they are.
inline void expect_close(const torch::Tensor& ours, const torch::Tensor& theirs, double tolerance,
                         const std::string& name) {
  const double difference = largest_difference(ours, theirs);
  ::testing::Test::RecordProperty(name, double_to_text(difference));
  EXPECT_LE(difference, tolerance) << name;
}

/// Every parameter and floating-point buffer of `module` is the one under `key`, and parameters are no longer those
/// under `start`.
inline void expect_weights(const torch::nn::Module& module, const Tensors& reference, const std::string& key,
                           double tolerance, const std::string& start = "start.") {
  const auto theirs = [&](const std::string& name) { return reference.at(key + "." + name); };
  for (const auto& item : module.named_parameters()) {
    expect_close(item.value(), theirs(item.key()), tolerance, key + "." + item.key());
    EXPECT_GT(largest_difference(item.value(), reference.at(start + item.key())), 1e-4) << item.key() << " as before";
  }
  for (const auto& item : module.named_buffers()) {
    if (!item.value().is_floating_point()) continue;
    expect_close(item.value(), theirs(item.key()), tolerance, key + "." + item.key());
  }
}

inline void expect_losses(const std::vector<torch::Tensor>& losses, const Tensors& reference, const std::string& key,
                          double tolerance) {
  const auto& theirs = reference.at(key + ".losses");
  ASSERT_EQ(static_cast<int64_t>(losses.size()), theirs.size(0));
  expect_close(torch::stack(losses), theirs, tolerance, key + ".losses");
}

/// The perceptron of common.py, which keeps the loss of every training step.
class Perceptron : public Module {
 public:
  using MakeOptimizers = std::function<Optimizers(std::vector<torch::Tensor> parameters)>;

  Perceptron(const Tensors& reference, torch::ScalarType type, MakeOptimizers make_optimizers)
      : make_optimizers_(std::move(make_optimizers)) {
    namespace nn = torch::nn;
    net = register_module("net", nn::Sequential(nn::Linear(6, 9), nn::Tanh(), nn::Linear(9, 3)));
    set_floating_type(*net, type);
    start_from(*net, reference);
  }
  torch::Tensor forward(torch::Tensor x) override { return net->forward(x); }
  torch::Tensor error(const Batch& batch) { return torch::mse_loss(forward(batch[0]), batch[1]); }
  StepOutput training_step(const Batch& batch, int64_t) override {
    auto loss = error(batch);
    losses.push_back(loss.detach());
    return loss;
  }
  Optimizers configure_optimizers() override { return make_optimizers_(parameters()); }

  torch::nn::Sequential net{nullptr};
  std::vector<torch::Tensor> losses;

 private:
  MakeOptimizers make_optimizers_;
};

/// "x" and "y" of a script, or their first `samples` rows, in order.
inline DataLoader batches_of(const Tensors& reference, torch::ScalarType type, int64_t batch_size, int64_t samples = -1,
                             const std::string& suffix = "") {
  const auto rows = [&](const std::string& name) {
    const auto& all = reference.at(name + suffix);
    return all.slice(0, 0, samples < 0 ? all.size(0) : samples).to(type);
  };
  return {std::make_shared<TensorDataset>(rows("x"), rows("y")), {.batch_size = batch_size}};
}

/// Runs that write nothing and use one thread.
inline TrainerOptions bare(Precision precision, TrainerOptions options = {}) {
  options.precision = precision;
  options.enable_progress_bar = options.enable_model_summary = options.enable_checkpointing = options.logger = false;
  options.num_sanity_val_steps = 0;
  options.num_threads = 1;
  options.seed = 1;
  return options;
}

}  // namespace troupe
