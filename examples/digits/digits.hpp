// A small convolutional network for handwritten digits.
#pragma once

#include <troupe/troupe.hpp>

#include <torch/torch.h>

struct DigitsOptions {
  double lr = 2e-3;
  double dropout = 0.25;
  int64_t hidden = 128;
};
TROUPE_OPTIONS(DigitsOptions, (lr, "learning rate of AdamW"), (dropout, "share of hidden units left out in training"),
               (hidden, "units of the hidden layer"))

class Digits : public troupe::ModuleWith<DigitsOptions> {
 public:
  explicit Digits(const DigitsOptions& options) : ModuleWith(options) {
    namespace nn = torch::nn;
    net_ = register_module(
        "net", nn::Sequential(nn::Conv2d(nn::Conv2dOptions(1, 16, 3).padding(1)), nn::ReLU(), nn::MaxPool2d(2),
                              nn::Conv2d(nn::Conv2dOptions(16, 32, 3).padding(1)), nn::ReLU(), nn::MaxPool2d(2),
                              nn::Flatten(), nn::Linear(32 * 7 * 7, options.hidden), nn::ReLU(),
                              nn::Dropout(options.dropout), nn::Linear(options.hidden, 10)));
    example_input_array = torch::zeros({1, 1, 28, 28});
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
    return {{"digit", forward(batch[0]).argmax(1)}};
  }

  troupe::Optimizers configure_optimizers() override {
    return troupe::optim::adamw(parameters(), {.lr = options().lr, .weight_decay = 1e-2});
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
