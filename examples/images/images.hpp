// A small residual network for images (He et al. 2016, https://arxiv.org/abs/1512.03385, section 4.2).
#pragma once

#include <troupe/troupe.hpp>

#include <torch/torch.h>

struct ImagesOptions {
  double lr = 0.1;
  int64_t width = 16;
  int64_t blocks = 1;
  int64_t channels = 1;
  int64_t classes = 10;
};
TROUPE_OPTIONS(ImagesOptions, (lr, "highest learning rate of SGD"), (width, "channels of the first of three stages"),
               (blocks, "residual blocks of a stage"), (channels, "of the images: 1 (grey) or 3 (RGB)"),
               (classes, "sub-folders of the training images"))

/// Two convolutions, beside which the input goes on unchanged; or through a convolution of 1 x 1, if the shape changes.
class BlockImpl : public torch::nn::Module {
 public:
  BlockImpl(int64_t in, int64_t out, int64_t stride) {
    namespace nn = torch::nn;
    body_ = register_module(
        "body",
        nn::Sequential(nn::Conv2d(nn::Conv2dOptions(in, out, 3).stride(stride).padding(1).bias(false)),
                       nn::BatchNorm2d(out), nn::ReLU(),
                       nn::Conv2d(nn::Conv2dOptions(out, out, 3).padding(1).bias(false)), nn::BatchNorm2d(out)));
    if (in == out && stride == 1) return;
    shortcut_ = register_module(
        "shortcut",
        nn::Sequential(nn::Conv2d(nn::Conv2dOptions(in, out, 1).stride(stride).bias(false)), nn::BatchNorm2d(out)));
  }
  torch::Tensor forward(const torch::Tensor& x) {
    return torch::relu(body_->forward(x) + (shortcut_ ? shortcut_->forward(x) : x));
  }

 private:
  torch::nn::Sequential body_{nullptr}, shortcut_{nullptr};
};
TORCH_MODULE(Block);

class Images : public troupe::ModuleWith<ImagesOptions> {
 public:
  explicit Images(const ImagesOptions& options) : ModuleWith(options) {
    namespace nn = torch::nn;
    const int64_t width = options.width;
    nn::Sequential net(nn::Conv2d(nn::Conv2dOptions(options.channels, width, 3).padding(1).bias(false)),
                       nn::BatchNorm2d(width), nn::ReLU());
    int64_t in = width;
    for (const int64_t out : {width, 2 * width, 4 * width}) {
      for (int64_t block = 0; block < options.blocks; ++block) {
        net->push_back(Block(in, out, block == 0 && out != width ? 2 : 1));
        in = out;
      }
    }
    net->push_back(nn::AdaptiveAvgPool2d(1));
    net->push_back(nn::Flatten());
    net->push_back(nn::Linear(in, options.classes));
    net_ = register_module("net", net);
    example_input_array = torch::zeros({1, options.channels, 28, 28});
  }

  torch::Tensor forward(torch::Tensor image) override { return net_->forward(image); }

  troupe::StepOutput training_step(const troupe::Batch& batch, int64_t) override {
    auto [image, label] = batch.get<2>();
    auto loss = torch::nn::functional::cross_entropy(forward(image), label);
    log("train_loss", loss, {.on_step = true, .on_epoch = true, .prog_bar = true});
    return loss;
  }
  troupe::StepOutput validation_step(const troupe::Batch& batch, int64_t) override { return evaluate(batch, "val"); }
  troupe::StepOutput test_step(const troupe::Batch& batch, int64_t) override { return evaluate(batch, "test"); }
  troupe::StepOutput predict_step(const troupe::Batch& batch, int64_t) override {
    return {{"class", forward(batch[0]).argmax(1)}};
  }

  troupe::Optimizers configure_optimizers() override {
    auto optimizer = troupe::optim::sgd(parameters(), {.lr = options().lr, .momentum = 0.9, .weight_decay = 5e-4});
    return {optimizer,
            {.scheduler = troupe::lr_schedulers::one_cycle(
                 optimizer, {.max_lr = {options().lr}, .total_steps = trainer().estimated_stepping_batches().value()}),
             .interval = troupe::LRSchedulerConfig::Interval::step}};
  }

 private:
  troupe::StepOutput evaluate(const troupe::Batch& batch, const std::string& stage) {
    auto [image, label] = batch.get<2>();
    const auto logits = forward(image);
    log(stage + "_loss", torch::nn::functional::cross_entropy(logits, label), {.prog_bar = true});
    log(stage + "_acc", logits.argmax(1).eq(label).to(torch::kFloat).mean(), {.prog_bar = true});
    return {};
  }

  torch::nn::Sequential net_{nullptr};
};
