// The training step that bench/overhead and bench/step_times measure, through the cast and in a bare LibTorch loop:
// Linear, ReLU, Linear, cross entropy, Adam with its defaults, batches made beforehand, one compute thread. A time is
// the mean of a step over an epoch, in microseconds.
#pragma once

#include "bench/made_batches.hpp"

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <thread>

namespace troupe::bench {

struct MlpCase {
  int64_t hidden;
  int64_t batch_size;
  int64_t steps;  // of an epoch
};

struct MlpNet : torch::nn::Module {
  explicit MlpNet(int64_t hidden) {
    first = register_module("first", torch::nn::Linear(784, hidden));
    second = register_module("second", torch::nn::Linear(hidden, 10));
  }
  torch::Tensor forward(const torch::Tensor& x) { return second(torch::relu(first(x))); }
  torch::nn::Linear first{nullptr}, second{nullptr};
};

inline std::shared_ptr<MadeBatches> mlp_batches(const MlpCase& c) {
  const auto make = [&c] { return Batch{torch::randn({c.batch_size, 784}), torch::randint(10, {c.batch_size})}; };
  return std::make_shared<MadeBatches>(make, c.steps);
}

class Mlp : public Module {
 public:
  explicit Mlp(const MlpCase& c) : steps_(c.steps) {
    net_ = register_module("net", std::make_shared<MlpNet>(c.hidden));
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    auto loss = torch::nn::functional::cross_entropy(net_->forward(x), y);
    log("train_loss", loss);
    return loss;
  }
  Optimizers configure_optimizers() override { return optim::adam(parameters()); }
  void on_train_epoch_start() override { start_ = std::chrono::steady_clock::now(); }
  void on_train_epoch_end() override {
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start_;
    us = time.count() / static_cast<double>(steps_);
  }
  double us = 0;  // of the last epoch

 private:
  int64_t steps_;
  std::chrono::steady_clock::time_point start_;
  std::shared_ptr<MlpNet> net_;
};

// Logs the loss in every step, to the default sinks in `folder`, without a progress bar. Times the last of `epochs`.
inline double through_the_cast(const MlpCase& c, const std::shared_ptr<MadeBatches>& data,
                               const std::filesystem::path& folder, CaptureStep capture, int64_t epochs = 1) {
  TrainerOptions options{.max_epochs = epochs, .seed = 1, .num_threads = 1, .default_root_dir = folder};
  options.capture_step = capture;
  options.enable_checkpointing = options.enable_progress_bar = options.enable_model_summary = false;
  Trainer trainer(options);
  return trainer.fit(std::make_shared<Mlp>(c), DataLoader(data, {.batch_size = c.batch_size}))->us;
}

// `make_optimizer(parameters)` returns a pointer to what has zero_grad() and step(). Logs nothing, and times as above.
template <class MakeOptimizer>
double bare_loop(const MlpCase& c, const MadeBatches& data, const MakeOptimizer& make_optimizer, int64_t epochs = 1) {
  double us = 0;
  MlpNet net(c.hidden);  // on this thread, as the cast's is: where memory lies makes a difference
  std::thread([&] {
    torch::set_num_threads(1);
    const auto optimizer = make_optimizer(net.parameters());
    for (int64_t epoch = 0; epoch < epochs; ++epoch) {
      const auto start = std::chrono::steady_clock::now();
      for (int64_t step = 0; step < c.steps; ++step) {
        auto [x, y] = data.batch(step).template get<2>();
        auto loss = torch::nn::functional::cross_entropy(net.forward(x), y);
        optimizer->zero_grad();
        loss.backward();
        optimizer->step();
      }
      const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
      us = time.count() / static_cast<double>(c.steps);
    }
  }).join();
  return us;
}

// The bare loop's lines with Fabric's in their place; with `captures`, as a captured function.
template <class MakeOptimizer>
double fabric_loop(const MlpCase& c, const MadeBatches& data, const MakeOptimizer& make_optimizer, bool captures,
                   int64_t epochs = 1) {
  double us = 0;
  auto net = std::make_shared<MlpNet>(c.hidden);
  std::thread([&] {
    FabricOptions options{.accelerator = Accelerator::cpu, .seed = 1, .num_threads = 1, .quiet = true};
    options.capture_step = captures ? CaptureStep::require : CaptureStep::off;
    Fabric(options).launch([&](Fabric& fabric) {
      const auto optimizer = fabric.setup(net, make_optimizer(net->parameters()));
      const auto step = fabric.capture([&](const Batch& batch) {
        auto [x, y] = batch.get<2>();
        auto loss = torch::nn::functional::cross_entropy(net->forward(x), y);
        optimizer.zero_grad();
        fabric.backward(loss);
        optimizer.step();
        return loss;
      });
      for (int64_t epoch = 0; epoch < epochs; ++epoch) {
        const auto start = std::chrono::steady_clock::now();
        for (int64_t i = 0; i < c.steps; ++i) {
          const Batch& batch = data.batch(i);
          if (captures) {
            (void)step(batch);
            continue;
          }
          auto [x, y] = batch.get<2>();
          auto loss = torch::nn::functional::cross_entropy(net->forward(x), y);
          optimizer.zero_grad();
          fabric.backward(loss);
          optimizer.step();
        }
        const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
        us = time.count() / static_cast<double>(c.steps);
      }
    });
  }).join();
  return us;
}

}  // namespace troupe::bench
