// What kill_test.sh kills: a run with everything in it whose state a checkpoint must hold (dropout, momentum, averaged
// weights, a scheduler, accumulation over windows, a metric, validation within epochs), with a checkpoint every few
// steps. At the end it prints numbers that all bits of the weights and of the metrics make.
#include "troupe/troupe.hpp"

#include <torch/torch.h>

#include <atomic>
#include <bit>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <thread>

namespace troupe {
namespace {

struct MixedOptions {
  int64_t hidden = 256;
  double lr = 0.05;
  int64_t fetchers = 2;
  int64_t pause = 0;
  int64_t stall = 0;
  int64_t stall_at = 0;
};
TROUPE_OPTIONS(MixedOptions, (hidden, "units"), (lr, "learning rate"), (fetchers, "fetchers of the train loader"),
               (pause, "milliseconds that a step takes longer, without a processor"),
               (stall, "seconds that one sample takes in each part of the run"), (stall_at, "which one"))

// Training data of which one sample takes long, once per process.
class Stalling : public TensorDataset {
 public:
  Stalling(Batch tensors, const MixedOptions& options) : TensorDataset(std::move(tensors)), options_(options) {}
  Batch get(int64_t index) override {
    stall(index);
    return TensorDataset::get(index);
  }
  std::optional<Batch> get_batch(at::IntArrayRef indices) override {
    for (const int64_t index : indices) stall(index);
    return TensorDataset::get_batch(indices);
  }

 private:
  void stall(int64_t index) {
    if (options_.stall == 0 || index != options_.stall_at || has_stalled_.exchange(true)) return;
    std::cerr << "stalls for " + std::to_string(options_.stall) + " s\n";
    std::this_thread::sleep_for(std::chrono::seconds(options_.stall));
  }
  const MixedOptions options_;
  std::atomic<bool> has_stalled_ = false;
};

uint64_t mixed(uint64_t hash, const torch::Tensor& tensor) {
  const auto bytes = tensor.detach().contiguous().view({-1}).view(torch::kUInt8);
  const auto* at = bytes.const_data_ptr<uint8_t>();
  for (int64_t i = 0; i < bytes.numel(); ++i) hash = (hash ^ at[i]) * 0x100000001b3ULL;  // FNV-1a
  return hash;
}

class Mixed : public ModuleWith<MixedOptions> {
 public:
  explicit Mixed(const MixedOptions& options) : ModuleWith(options) {
    namespace nn = torch::nn;
    net_ = register_module("net", nn::Sequential(nn::Linear(32, options.hidden), nn::BatchNorm1d(options.hidden),
                                                 nn::ReLU(), nn::Dropout(0.3), nn::Linear(options.hidden, 4)));
    error_ = register_metric("error", metrics::MeanSquaredError());
  }
  torch::Tensor forward(torch::Tensor x) override { return net_->forward(x); }
  StepOutput training_step(const Batch& batch, int64_t) override {
    std::this_thread::sleep_for(std::chrono::milliseconds(options().pause));
    const auto y = forward(batch[0]);
    const auto loss = torch::mse_loss(y, batch[1]);
    error_.update(y.detach(), batch[1]);
    log("train_loss", loss, {.on_step = true, .on_epoch = true});
    log("train_error", error_, {.on_step = false, .on_epoch = true});
    return loss;
  }
  StepOutput validation_step(const Batch& batch, int64_t) override {
    log("val_loss", torch::mse_loss(forward(batch[0]), batch[1]));
    return {};
  }
  Optimizers configure_optimizers() override {
    auto sgd = optim::sgd(parameters(), {.lr = options().lr, .momentum = 0.9});
    return {
        sgd,
        {.scheduler = lr_schedulers::exponential(sgd, {.gamma = 0.99}), .interval = LRSchedulerConfig::Interval::step}};
  }
  DataLoaders train_dataloader() override { return data(600, true); }
  DataLoaders val_dataloader() override { return data(100, false); }
  void on_train_end() override {
    uint64_t hash = 0xcbf29ce484222325ULL;
    for (const auto& parameter : parameters()) hash = mixed(hash, parameter);
    for (const auto& buffer : buffers()) hash = mixed(hash, buffer);
    print("weights", std::to_string(hash));
    for (const auto& [name, value] : trainer().callback_metrics()) {
      print(name, std::to_string(std::bit_cast<uint64_t>(value)));
    }
  }

 private:
  DataLoader data(int64_t count, bool trains) const {
    const auto x = torch::arange(count * 32, torch::kFloat32).view({count, 32}).mul(0.37).sin();
    const auto y = x.slice(1, 0, 4) * x.slice(1, 4, 8);
    std::shared_ptr<Dataset> samples = std::make_shared<TensorDataset>(x, y);
    if (trains && options().stall > 0) samples = std::make_shared<Stalling>(Batch{x, y}, options());
    return {samples, {.batch_size = 10, .shuffle = trains, .num_workers = trains ? options().fetchers : 0}};
  }
  torch::nn::Sequential net_{nullptr};
  MetricHolder<metrics::MeanSquaredError> error_;
};

}  // namespace
}  // namespace troupe

int main(int argc, char** argv) {
  troupe::TrainerOptions options{
      .max_epochs = 40, .val_check_interval = 25, .log_every_n_steps = 1, .accumulate_grad_batches = 3, .seed = 5};
  options.enable_progress_bar = options.enable_model_summary = false;
  const char* elsewhere = std::getenv("KILL_PROGRAM_CHECKPOINTS");  // disk_test has a small disk there
  options.callbacks = {
      std::make_shared<troupe::ModelCheckpoint>(troupe::ModelCheckpointOptions{
          .dirpath = elsewhere ? elsewhere : "",
          .save_top_k = std::getenv("KILL_PROGRAM_KEEPS_ALL") ? -1 : 2,  // elastic_test looks for any of them
          .save_last = true,
          .every_n_train_steps = 4}),
      std::make_shared<troupe::WeightAveraging>(troupe::WeightAveragingOptions{.decay = 0.9})};
  return troupe::main<troupe::Mixed>(argc, argv, {.trainer = options});
}
