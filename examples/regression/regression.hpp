// A number from a row of a table. Inputs and target are standardised inside of the module: what that takes lies in
// buffers, goes into checkpoints, and a model that is loaded takes rows as they are.
#pragma once

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <numeric>
#include <vector>

struct RegressionOptions {
  double lr = 3e-3;
  double weight_decay = 1e-2;
  int64_t features = 9;
  int64_t hidden = 64;
};
TROUPE_OPTIONS(RegressionOptions, (lr, "learning rate of AdamW"), (weight_decay, "of AdamW"),
               (features, "columns of the table"), (hidden, "units of each hidden layer"))

class Regression : public troupe::ModuleWith<RegressionOptions> {
 public:
  explicit Regression(const RegressionOptions& options) : ModuleWith(options) {
    namespace nn = torch::nn;
    input_mean_ = register_buffer("input_mean", torch::zeros({options.features}));
    input_std_ = register_buffer("input_std", torch::ones({options.features}));
    target_mean_ = register_buffer("target_mean", torch::zeros({}));
    target_std_ = register_buffer("target_std", torch::ones({}));
    net_ = register_module(
        "net", nn::Sequential(nn::Linear(options.features, options.hidden), nn::ReLU(),
                              nn::Linear(options.hidden, options.hidden), nn::ReLU(), nn::Linear(options.hidden, 1)));
    example_input_array = torch::zeros({1, options.features});
  }

  /// Fits the standardisation to the training part; a checkpoint that is loaded afterwards wins.
  void setup(troupe::Stage stage) override {
    if (stage != troupe::Stage::fit) return;
    const auto train = datamodule()->train_dataloader()[0].dataset();
    std::vector<int64_t> all(static_cast<std::size_t>(train->size()));
    std::iota(all.begin(), all.end(), 0);
    auto [inputs, target] = train->get_batch(all)->get<2>();
    const auto fit = [](const torch::Tensor& values, torch::Tensor& mean, torch::Tensor& std) {
      mean.copy_(values.mean(0));
      std.copy_(values.std(0).clamp_min(1e-6));  // a column may be constant
    };
    fit(inputs, input_mean_, input_std_);
    fit(target, target_mean_, target_std_);
  }

  /// The target [N], in its own unit, of rows [N, features].
  torch::Tensor forward(torch::Tensor rows) override {
    return net_->forward((rows - input_mean_) / input_std_).squeeze(-1) * target_std_ + target_mean_;
  }

  troupe::StepOutput training_step(const troupe::Batch& batch, int64_t) override {
    auto [rows, target] = batch.get<2>();
    const auto loss = torch::mse_loss(forward(rows), target);
    log("train_loss", loss, {.on_step = false, .on_epoch = true, .prog_bar = true});
    return loss;
  }
  troupe::StepOutput validation_step(const troupe::Batch& batch, int64_t) override {
    auto [rows, target] = batch.get<2>();
    log("val_loss", torch::mse_loss(forward(rows), target), {.prog_bar = true});
    return {};
  }
  troupe::StepOutput test_step(const troupe::Batch& batch, int64_t) override {
    return {{"prediction", forward(batch[0])}, {"target", batch[1]}};
  }
  /// Over all rows at once: the share of the variance that is explained is no mean over batches.
  void test_epoch_end(const troupe::EpochOutputs& outputs) override {
    std::vector<torch::Tensor> predictions, targets;
    for (const auto& output : outputs) {
      predictions.push_back(output["prediction"]);
      targets.push_back(output["target"]);
    }
    const auto target = torch::cat(targets);
    const auto mse = torch::mse_loss(torch::cat(predictions), target);
    log("test_mse", mse);
    log("test_mse_of_mean", (target - target_mean_).square().mean());  // of who always says the training part's mean
    log("test_r2", 1 - mse / target.var(/*unbiased=*/false));
  }
  troupe::StepOutput predict_step(const troupe::Batch& batch, int64_t) override {
    return {{"prediction", forward(batch[0])}};
  }

  troupe::Optimizers configure_optimizers() override {
    return troupe::optim::adamw(parameters(), {.lr = options().lr, .weight_decay = options().weight_decay});
  }

 private:
  torch::Tensor input_mean_, input_std_, target_mean_, target_std_;
  torch::nn::Sequential net_{nullptr};
};
