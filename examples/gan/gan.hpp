// A generative adversarial network (Goodfellow et al. 2014) with two optimizers, in automatic and in manual
// optimization.
#pragma once

#include <troupe/troupe.hpp>

#include <torch/torch.h>

struct GanOptions {
  double lr = 2e-4;
  int64_t latent_dim = 64;
  bool manual = false;
};
TROUPE_OPTIONS(GanOptions, (lr, "learning rate of both"), (latent_dim, "numbers that an image is made of"),
               (manual, "step the optimizers in training_step"))

class Gan : public troupe::ModuleWith<GanOptions> {
 public:
  explicit Gan(const GanOptions& options) : ModuleWith(options) {
    namespace nn = torch::nn;
    const auto leaky = nn::LeakyReLUOptions().negative_slope(0.2);
    generator_ = register_module("generator", nn::Sequential(nn::Linear(options.latent_dim, 256), nn::BatchNorm1d(256),
                                                             nn::ReLU(), nn::Linear(256, 512), nn::BatchNorm1d(512),
                                                             nn::ReLU(), nn::Linear(512, 784), nn::Sigmoid()));
    discriminator_ =
        register_module("discriminator", nn::Sequential(nn::Flatten(), nn::Linear(784, 512), nn::LeakyReLU(leaky),
                                                        nn::Dropout(0.3), nn::Linear(512, 256), nn::LeakyReLU(leaky),
                                                        nn::Dropout(0.3), nn::Linear(256, 1)));
    automatic_optimization = !options.manual;
  }

  /// Images [N, 1, 28, 28] of noise [N, latent_dim].
  torch::Tensor forward(torch::Tensor noise) override { return generator_->forward(noise).view({-1, 1, 28, 28}); }

  // Automatic: once for each optimizer, while the other's parameters need no gradient.
  troupe::StepOutput training_step(const troupe::Batch& batch, int64_t, int64_t optimizer_idx) override {
    if (options().manual) return training_step_by_hand(batch);
    return optimizer_idx == 0 ? generator_loss(batch) : discriminator_loss(batch);
  }

  troupe::StepOutput validation_step(const troupe::Batch& batch, int64_t batch_idx) override {
    const auto images = forward(noise_for(batch));
    // How far the average generated image is from the average real one: a mean squared error.
    log("val_mean_gap", torch::mse_loss(images.mean(0), batch[0].mean(0)), {.prog_bar = true});
    if (batch_idx == 0) logger().log_image("generated", images[0]);
    return {};
  }

  troupe::Optimizers configure_optimizers() override {
    const troupe::optim::AdamOptions how{.lr = options().lr, .betas = {0.5, 0.999}};
    return {troupe::optim::adam(generator_->parameters(), how), troupe::optim::adam(discriminator_->parameters(), how)};
  }

 private:
  troupe::StepOutput training_step_by_hand(const troupe::Batch& batch) {
    auto [generator, discriminator] = optimizers<2>();
    const auto step = [&](const troupe::OptimizerHandle& optimizer, auto loss_of) {
      const auto toggled = optimizer.toggle_model();
      optimizer.zero_grad();
      manual_backward(loss_of());
      optimizer.step();
    };
    step(generator, [&] { return generator_loss(batch); });
    step(discriminator, [&] { return discriminator_loss(batch); });
    return {};
  }

  torch::Tensor noise_for(const troupe::Batch& batch) const {
    return torch::randn({batch.size(), options().latent_dim}, device());
  }
  torch::Tensor judged(const torch::Tensor& images, double as) {
    const auto scores = discriminator_->forward(images);
    return torch::binary_cross_entropy_with_logits(scores, torch::full_like(scores, as));
  }
  torch::Tensor generator_loss(const troupe::Batch& batch) {
    const auto loss = judged(forward(noise_for(batch)), 1);
    log("g_loss", loss, {.on_step = true, .on_epoch = true, .prog_bar = true});
    return loss;
  }
  torch::Tensor discriminator_loss(const troupe::Batch& batch) {
    const auto fake = forward(noise_for(batch)).detach();
    const auto loss = (judged(batch[0], 0.9) + judged(fake, 0)) / 2;
    log("d_loss", loss, {.on_step = true, .on_epoch = true, .prog_bar = true});
    return loss;
  }

  torch::nn::Sequential generator_{nullptr}, discriminator_{nullptr};
};
