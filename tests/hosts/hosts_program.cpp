// What hosts_test.sh runs on several hosts: trains a network whose gradients are about 1 MB, which go over the link in
// each step. Rank zero prints "training" after ten steps, when all that belongs to the start is over; at the end each
// rank prints a number that its weights' bits make, and the seconds since the first step.
#include "troupe/troupe.hpp"

#include <torch/torch.h>

#include <chrono>
#include <iostream>

namespace troupe {
namespace {

struct WideOptions {
  int64_t hidden = 2048;
  int64_t samples = 240;
  int64_t batch_size = 4;
};
TROUPE_OPTIONS(WideOptions, (hidden, "units"), (samples, "how many samples"), (batch_size, "samples a batch"))

class Wide : public ModuleWith<WideOptions> {
 public:
  explicit Wide(const WideOptions& options) : ModuleWith(options) {
    namespace nn = torch::nn;
    net_ = register_module("net",
                           nn::Sequential(nn::Linear(128, options.hidden), nn::Tanh(), nn::Linear(options.hidden, 2)));
  }
  torch::Tensor forward(torch::Tensor x) override { return net_->forward(x); }
  StepOutput training_step(const Batch& batch, int64_t) override {
    const auto loss = torch::mse_loss(forward(batch[0]), batch[1]);
    log("train_loss", loss, {.on_step = false, .on_epoch = true});
    return loss;
  }
  StepOutput validation_step(const Batch& batch, int64_t) override {
    log("val_loss", torch::mse_loss(forward(batch[0]), batch[1]));
    return {};
  }
  Optimizers configure_optimizers() override { return optim::sgd(parameters(), {.lr = 0.01, .momentum = 0.9}); }
  DataLoaders train_dataloader() override { return loader(true); }
  DataLoaders val_dataloader() override { return loader(false); }

  void on_train_batch_end(const StepOutput&, const Batch&, int64_t) override {
    ++steps_;
    if (steps_ == 1) begin_ = std::chrono::steady_clock::now();
    if (steps_ == 10 && global_rank() == 0) std::cout << "training" << std::endl;
  }
  void on_train_end() override {
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin_;
    std::cout << "weights " << std::hex << weights() << std::dec << ", " << seconds.count() << " s" << std::endl;
  }

 private:
  DataLoader loader(bool shuffle) const {
    const auto x = torch::arange(options().samples * 128, torch::kFloat).reshape({-1, 128}).mul(0.37).sin();
    const auto y = torch::stack({x.select(1, 0) * x.select(1, 1), x.select(1, 2) - x.select(1, 3)}, 1);
    return {std::make_shared<TensorDataset>(x, y), {.batch_size = options().batch_size, .shuffle = shuffle}};
  }
  // FNV-1a.
  uint64_t weights() const {
    uint64_t number = 0xcbf29ce484222325;
    for (const auto& parameter : parameters()) {
      const auto whole = parameter.detach().contiguous();
      const auto* const bytes = static_cast<const unsigned char*>(whole.const_data_ptr());
      for (std::size_t i = 0; i < whole.nbytes(); ++i) number = (number ^ bytes[i]) * 0x100000001b3;
    }
    return number;
  }

  torch::nn::Sequential net_{nullptr};
  int64_t steps_ = 0;
  std::chrono::steady_clock::time_point begin_;
};

}  // namespace
}  // namespace troupe

int main(int argc, char** argv) {
  troupe::TrainerOptions options{
      .accelerator = troupe::Accelerator::cpu, .collective_timeout = 60, .max_epochs = 1, .seed = 7};
  options.enable_progress_bar = options.enable_model_summary = options.enable_checkpointing = options.logger = false;
  options.num_sanity_val_steps = 0;
  options.num_threads = 1;
  return troupe::main<troupe::Wide>(argc, argv, {.trainer = options});
}
