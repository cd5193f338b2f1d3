// What bench/distributed and bench/rank_times train on two ranks: an MLP 784-1024-1024-10 with batches of 64 and Adam;
// the GPT of examples/gpt with its defaults and batches of 16 x 128 bytes; and the same GPT as tests/parity has it (2
// layers, 2 heads, width 32, batches of 8 x 32 bytes), of whose step the reduction is a larger part. float32, batches
// made beforehand, Troupe's optimizers, one compute thread a rank. Steps go through the Trainer and its whole
// cast, and log their metrics to the default sinks; progress bar, summary and checkpoints are off.
#pragma once

#include "bench/made_batches.hpp"
#include "examples/gpt/gpt.hpp"

#include <troupe/troupe.hpp>

#include <torch/torch.h>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace troupe::bench {

// Sizes of buckets in MiB.
struct Buckets {
  double first = troupe::TrainerOptions().first_bucket_mb;
  double others = troupe::TrainerOptions().bucket_cap_mb;
  std::string text() const {
    std::array<char, 64> out{};
    std::snprintf(out.data(), out.size(), "%g:%g", first, others);
    return out.data();
  }
};

struct WideMlpOptions {
  int64_t hidden = 1024;
};
TROUPE_OPTIONS(WideMlpOptions, (hidden, "units of each of the two hidden layers"))

class WideMlp : public ModuleWith<WideMlpOptions> {
 public:
  explicit WideMlp(const WideMlpOptions& o) : ModuleWith(o) {
    namespace nn = torch::nn;
    net_ = register_module("net", nn::Sequential(nn::Linear(784, o.hidden), nn::ReLU(), nn::Linear(o.hidden, o.hidden),
                                                 nn::ReLU(), nn::Linear(o.hidden, 10)));
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    auto loss = torch::nn::functional::cross_entropy(net_->forward(x), y);
    log("train_loss", loss);
    return loss;
  }
  Optimizers configure_optimizers() override { return optim::adam(parameters()); }

 private:
  torch::nn::Sequential net_{nullptr};
};

// Seconds of each epoch.
template <class M>
class WithEpochTimes : public M {
 public:
  using M::M;
  void on_train_epoch_start() override { start_ = now(); }
  void on_train_epoch_end() override { seconds.push_back(std::chrono::duration<double>(now() - start_).count()); }
  std::vector<double> seconds;

 private:
  std::chrono::steady_clock::time_point now() { return now_on(this->parameters()[0].device()); }
  std::chrono::steady_clock::time_point start_;
};

inline Batch images() {
  return {torch::randn({64, 784}), torch::randint(10, {64})};
}

inline const GptOptions gpt_options;
inline const GptOptions tiny_gpt_options = {.layers = 2, .heads = 2, .width = 32, .context = 32};

// How much of it: a round gives `samples` samples of `steps` steps.
struct Amounts {
  int64_t steps, samples;
};

// What train() throws when a signal has ended it: there are not all of its times then.
class Interrupted : public std::runtime_error {
 public:
  explicit Interrupted(int its_signal)
      : std::runtime_error("signal " + std::to_string(its_signal) + " has ended it"), signal(its_signal) {}
  int signal;
};

template <class M>
std::vector<double> train(const typename M::Options& model_options, TrainerOptions options, int64_t ranks,
                          Amounts amounts, const std::function<Batch()>& make) {
  if (options.accelerator == Accelerator::automatic) options.accelerator = Accelerator::cpu;
  options.max_epochs = amounts.samples + 1;
  options.seed = 1;
  options.num_threads = 1;
  options.enable_checkpointing = options.enable_progress_bar = options.enable_model_summary = false;
  const auto data = std::make_shared<MadeBatches>(make, amounts.steps * ranks);
  Trainer trainer(options);
  const auto model =
      trainer.fit<WithEpochTimes<M>>(model_options, DataLoader(data, {.batch_size = data->batch_size()}));
  if (trainer.was_interrupted()) throw Interrupted(trainer.interrupting_signal());
  std::vector<double> seconds(model->seconds.begin() + 1, model->seconds.end());
  for (auto& each : seconds) each /= static_cast<double>(amounts.steps);
  return seconds;
}

// Bytes of the buckets that c10d::Reducer lays out when it has seen a step: gradients come from the last parameter to
// the first.
inline std::vector<int64_t> bucket_bytes(const Module& model, const Buckets& buckets) {
  auto parameters = model.parameters();
  std::ranges::reverse(parameters);
  const auto bytes = [](double mb) { return static_cast<std::size_t>(mb * (1 << 20)); };
  const auto layout =
      std::get<0>(c10d::compute_bucket_assignment_by_size(parameters, {bytes(buckets.first), bytes(buckets.others)}));
  std::vector<int64_t> out;
  for (const auto& bucket : layout) {
    out.push_back(0);
    for (const auto index : bucket) out.back() += static_cast<int64_t>(parameters[index].nbytes());
  }
  return out;
}

struct Workload {
  const char* name;
  const char* argument;
  bool is_swept;  // there is more than one way to divide its gradients
  Amounts amounts;
  std::vector<double> (*train)(TrainerOptions, int64_t ranks, Amounts);
  std::vector<int64_t> (*bucket_bytes)(const Buckets&);
};

inline const std::array<Workload, 3>& workloads() {
  static const std::array<Workload, 3> all = {
      {{"MLP",
        "mlp",
        true,
        {100, 3},
        [](TrainerOptions options, int64_t ranks, Amounts amounts) {
          return train<WideMlp>({}, std::move(options), ranks, amounts, images);
        },
        [](const Buckets& buckets) { return bucket_bytes(WideMlp({}), buckets); }},
       {"GPT",
        "gpt",
        true,
        {12, 3},
        [](TrainerOptions options, int64_t ranks, Amounts amounts) {
          return train<Gpt>(gpt_options, std::move(options), ranks, amounts, [] { return texts(16, 128); });
        },
        [](const Buckets& buckets) { return bucket_bytes(Gpt(gpt_options), buckets); }},
       {"tiny GPT",
        "tiny-gpt",
        false,
        {200, 3},
        [](TrainerOptions options, int64_t ranks, Amounts amounts) {
          return train<Gpt>(tiny_gpt_options, std::move(options), ranks, amounts, [] { return texts(8, 32); });
        },
        [](const Buckets& buckets) { return bucket_bytes(Gpt(tiny_gpt_options), buckets); }}}};
  return all;
}

inline const Workload& workload_of(const std::string& argument) {
  const auto found = std::ranges::find(workloads(), argument, &Workload::argument);
  if (found == workloads().end()) throw UsageError("'" + argument + "' is none of mlp, gpt and tiny-gpt");
  return *found;
}

}  // namespace troupe::bench
