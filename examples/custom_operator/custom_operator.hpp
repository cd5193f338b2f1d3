// A perceptron for handwritten digits whose activation is an operator of one's own.
#pragma once

#include "squared_relu.hpp"

#include <troupe/troupe.hpp>

#include <torch/torch.h>

/// How to_onnx writes the operator: with two of ONNX's.
[[maybe_unused]] inline const bool squared_relu_in_onnx =
    troupe::register_onnx_operator("example::squared_relu", [](troupe::OnnxCallWriter& call) {
      const auto positive = call.add("Relu", {call.tensor("self")});
      call.returns(call.add("Mul", {positive, positive}));
    });

struct PerceptronOptions {
  double lr = 1e-3;
  int64_t hidden = 128;
  bool composite = false;
};
TROUPE_OPTIONS(PerceptronOptions, (lr, "learning rate of Adam"), (hidden, "units of each hidden layer"),
               (composite,
                "LibTorch's operators in place of the own one: the same numbers, for files that need no library"))

class Perceptron : public troupe::ModuleWith<PerceptronOptions> {
 public:
  explicit Perceptron(const PerceptronOptions& options) : ModuleWith(options) {
    namespace nn = torch::nn;
    net_ = register_module(
        "net", nn::Sequential(nn::Flatten(), nn::Linear(784, options.hidden), SquaredReLU(options.composite),
                              nn::Linear(options.hidden, options.hidden), SquaredReLU(options.composite),
                              nn::Linear(options.hidden, 10)));
    example_input_array = torch::zeros({1, 1, 28, 28});
  }

  /// Scores [N, 10] of images [N, 1, 28, 28].
  torch::Tensor forward(torch::Tensor image) override { return net_->forward(image); }

  troupe::StepOutput training_step(const troupe::Batch& batch, int64_t) override {
    const auto [image, label] = batch.get<2>();
    const auto loss = torch::nn::functional::cross_entropy(forward(image), label);
    log("train_loss", loss, {.on_step = true, .on_epoch = true, .prog_bar = true});
    return loss;
  }
  troupe::StepOutput validation_step(const troupe::Batch& batch, int64_t) override { return evaluate(batch, "val"); }
  troupe::StepOutput test_step(const troupe::Batch& batch, int64_t) override { return evaluate(batch, "test"); }

  troupe::Optimizers configure_optimizers() override { return troupe::optim::adam(parameters(), {.lr = options().lr}); }

 private:
  troupe::StepOutput evaluate(const troupe::Batch& batch, const std::string& stage) {
    const auto [image, label] = batch.get<2>();
    const auto scores = forward(image);
    log(stage + "_loss", torch::nn::functional::cross_entropy(scores, label), {.prog_bar = true});
    log(stage + "_acc", scores.argmax(1).eq(label).to(torch::kFloat).mean(), {.prog_bar = true});
    return {};
  }

  torch::nn::Sequential net_{nullptr};
};
