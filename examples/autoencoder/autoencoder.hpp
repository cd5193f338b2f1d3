// The guide's autoencoder: an image becomes two numbers and an image again.
#pragma once

#include <troupe/troupe.hpp>

#include <torch/torch.h>

struct AutoencoderOptions {
  double lr = 1e-3;
  int64_t latent_dim = 8;
};
TROUPE_OPTIONS(AutoencoderOptions, (lr, "learning rate of Adam"), (latent_dim, "numbers that stand for an image"))

class Autoencoder : public troupe::ModuleWith<AutoencoderOptions> {
 public:
  explicit Autoencoder(const AutoencoderOptions& options) : ModuleWith(options) {
    namespace nn = torch::nn;
    encoder_ = register_module("encoder", nn::Sequential(nn::Flatten(), nn::Linear(784, 256), nn::ReLU(),
                                                         nn::Linear(256, options.latent_dim)));
    decoder_ = register_module("decoder", nn::Sequential(nn::Linear(options.latent_dim, 256), nn::ReLU(),
                                                         nn::Linear(256, 784), nn::Sigmoid()));
    example_input_array = torch::zeros({1, options.latent_dim});
  }

  /// Images [N, 1, 28, 28] of latent numbers [N, latent_dim].
  torch::Tensor forward(torch::Tensor latent) override { return decoder_->forward(latent).view({-1, 1, 28, 28}); }

  troupe::StepOutput training_step(const troupe::Batch& batch, int64_t) override {
    const auto loss = shared_step(batch);
    log("train_loss", loss, {.on_step = true, .on_epoch = true, .prog_bar = true});
    return loss;
  }
  troupe::StepOutput validation_step(const troupe::Batch& batch, int64_t batch_idx) override {
    log("val_loss", shared_step(batch), {.prog_bar = true});
    if (batch_idx == 0) logger().log_image("reconstruction", forward(encoder_->forward(batch[0]))[0].clamp(0, 1));
    return {};
  }
  troupe::StepOutput test_step(const troupe::Batch& batch, int64_t) override {
    log("test_loss", shared_step(batch));
    return {};
  }
  /// The latent numbers, for a look at how digits lie among each other.
  troupe::StepOutput predict_step(const troupe::Batch& batch, int64_t) override {
    return {{"latent", encoder_->forward(batch[0])}, {"label", batch[1]}};
  }

  troupe::Optimizers configure_optimizers() override { return troupe::optim::adam(parameters(), {.lr = options().lr}); }

 private:
  torch::Tensor shared_step(const troupe::Batch& batch) {
    return torch::mse_loss(forward(encoder_->forward(batch[0])), batch[0]);
  }

  torch::nn::Sequential encoder_{nullptr}, decoder_{nullptr};
};
