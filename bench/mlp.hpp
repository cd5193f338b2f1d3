// The training step that bench/overhead and bench/step_times measure, through the cast and in a bare LibTorch loop:
// Linear, ReLU, Linear, cross entropy, Adam with its defaults, batches made beforehand, one compute thread. A time is
// the mean of a step over an epoch, in microseconds.
#pragma once

#include "bench/made_batches.hpp"
#include "bench/table.hpp"

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

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

/// A median of differences, in microseconds, and the interval that holds the true one in 95 of 100 cases.
struct Difference {
  double us = 0, low = 0, high = 0;
};

// Order statistics: no assumption on how the differences are distributed but that each is drawn by itself.
inline Difference median_difference(std::vector<double> all) {
  std::ranges::sort(all);
  const auto count = static_cast<double>(all.size());
  const auto at = [&](double place) {
    return all[static_cast<std::size_t>(std::clamp(std::floor(place), 0.0, count - 1))];
  };
  const double reach = 1.96 * std::sqrt(count) / 2;
  return {median(all), at(count / 2 - reach), at(count / 2 + reach)};
}

// What a step costs more with Fabric than without. Both train the same model with the same optimizer, so that memory is
// the same, and take turns step by step: Fabric, bare, bare, Fabric, the next time the other way round. The four give a
// difference in which what drifts, and what the first of two pays for the other, cancels out.
template <class MakeOptimizer>
Difference added_by_fabric(const MlpCase& c, const MadeBatches& data, const MakeOptimizer& make_optimizer,
                           int64_t turns) {
  std::vector<double> differences;
  auto net = std::make_shared<MlpNet>(c.hidden);
  std::thread([&] {
    const FabricOptions options{.accelerator = Accelerator::cpu, .seed = 1, .num_threads = 1, .quiet = true};
    Fabric(options).launch([&](Fabric& fabric) {
      const auto ours = fabric.setup(net, make_optimizer(net->parameters()));
      torch::optim::Optimizer& own = *ours;
      const auto step = [&](const Batch& batch, bool is_ours) {
        const auto start = std::chrono::steady_clock::now();
        auto [x, y] = batch.get<2>();
        auto loss = torch::nn::functional::cross_entropy(net->forward(x), y);
        if (is_ours) {
          ours.zero_grad();
          fabric.backward(loss);
          ours.step();
        } else {
          own.zero_grad();
          loss.backward();
          own.step();
        }
        const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
        return is_ours ? time.count() : -time.count();
      };
      const int64_t warm_up = std::max<int64_t>(turns / 20, 2);
      for (int64_t turn = -warm_up; turn < turns; ++turn) {
        const bool ours_first = turn % 2 == 0;
        double sum = 0;
        for (int64_t i = 0; i < 4; ++i) {
          const bool is_outer = i == 0 || i == 3;
          sum += step(data.batch((turn + warm_up) * 4 + i), is_outer == ours_first);
        }
        if (turn >= 0) differences.push_back(sum / 2);
      }
    });
  }).join();
  return median_difference(std::move(differences));
}

}  // namespace troupe::bench
