// The guide's section "Training": each snippet in a run that shows what it says.
#include "tests/guide/images.hpp"

#include <numeric>

using namespace troupe;
using namespace troupe::guide;
namespace F = torch::nn::functional;

namespace guide_training {
namespace {

class GuideTraining : public InAFolderOfItsOwn {};

std::shared_ptr<Module> linear_model() {
  class Linear : public Module {
   public:
    Linear() { net_ = register_module("net", torch::nn::Linear(784, 10)); }
    torch::Tensor forward(torch::Tensor x) override { return net_(x.flatten(1)); }

   private:
    torch::nn::Linear net_{nullptr};
  };
  torch::manual_seed(3);
  return std::make_shared<Linear>();
}

// [guide:training_loop]
class LitClassifier : public Module {
 public:
  explicit LitClassifier(std::shared_ptr<Module> model) : model_(register_module("model", model)) {}

  StepOutput training_step(const Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    auto y_hat = model_->forward(x);
    auto loss = F::cross_entropy(y_hat, y);
    return loss;
  }

  Optimizers configure_optimizers() override { return optim::sgd(parameters(), {.lr = 0.1}); }

 protected:
  std::shared_ptr<Module> model_;
};
// [guide:end]

TEST_F(GuideTraining, TheLoopIsThatOfBareLibTorch) {
  auto trained = std::make_shared<LitClassifier>(linear_model());
  Trainer(brief()).fit(trained, images());

  auto model = linear_model();
  torch::optim::SGD optimizer(model->parameters(), 0.1);
  std::vector<Batch> train_batches;
  for (int64_t i = 0; i < 4; ++i) {
    std::vector<int64_t> indices(16);
    std::iota(indices.begin(), indices.end(), 16 * i);
    train_batches.push_back(*mnist()->get_batch(indices));
  }
  const auto training_step = [&](const Batch& batch) { return F::cross_entropy(model->forward(batch[0]), batch[1]); };
  // [guide:training_loop_inside]
  // train mode, gradients on
  model->train();
  torch::AutoGradMode with_gradients(true);

  std::vector<torch::Tensor> losses;
  for (const Batch& batch : train_batches) {
    // forward
    auto loss = training_step(batch);
    losses.push_back(loss.detach());
    // clear gradients
    optimizer.zero_grad();
    // backward
    loss.backward();
    // update parameters
    optimizer.step();
  }
  // [guide:end]
  EXPECT_TRUE(torch::allclose(trained->parameters()[0], model->parameters()[0]));
  EXPECT_LT(losses.back().item<double>(), losses.front().item<double>());
}

class LogsIt : public LitClassifier {
 public:
  using LitClassifier::LitClassifier;
  // [guide:training_epoch_level_metrics]
  StepOutput training_step(const Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    auto loss = F::cross_entropy(model_->forward(x), y);
    // the value of each step, and the mean over the epoch, for the progress bar and the sinks
    log("train_loss", loss, {.on_step = true, .on_epoch = true, .prog_bar = true, .logger = true});
    return loss;
  }
  // [guide:end]
  void on_train_batch_end(const StepOutput& output, const Batch& batch, int64_t) override {
    losses.push_back(output.loss().item<double>()), sizes.push_back(static_cast<double>(batch.size()));
  }
  std::vector<double> losses, sizes;
};

TEST_F(GuideTraining, AMetricIsTheMeanOverTheEpoch) {
  auto model = std::make_shared<LogsIt>(linear_model());
  Trainer trainer(brief());
  trainer.fit(model, images(24));  // 24, 24 and 16 samples
  const auto& losses = model->losses;
  const auto& sizes = model->sizes;
  // [guide:training_epoch_level_metrics_inside]
  double sum = 0, samples = 0;
  for (std::size_t i = 0; i < losses.size(); ++i) {
    sum += losses[i] * sizes[i];  // a batch counts by its size
    samples += sizes[i];
  }
  double epoch_metric = sum / samples;
  // [guide:end]
  ASSERT_EQ(losses.size(), 3u);
  EXPECT_NEAR(trainer.callback_metrics().at("train_loss_epoch"), epoch_metric, 1e-6);
  EXPECT_NEAR(trainer.callback_metrics().at("train_loss_step"), losses.back(), 1e-6);
}

class KeepsOutputs : public LitClassifier {
 public:
  using LitClassifier::LitClassifier;
  // [guide:training_epoch_level_operations]
  StepOutput training_step(const Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    auto y_hat = model_->forward(x);
    auto loss = F::cross_entropy(y_hat, y);
    auto preds = y_hat.argmax(1);
    return {{"loss", loss}, {"preds", preds}};
  }

  void training_epoch_end(const EpochOutputs& training_step_outputs) override {
    for (const auto& out : training_step_outputs) {
      predicted += out["preds"].size(0);  // or whatever wants all of them
    }
  }
  // [guide:end]
  int64_t predicted = 0;
};

TEST_F(GuideTraining, TheEpochsEndHasTheOutputsOfAllSteps) {
  auto model = std::make_shared<KeepsOutputs>(linear_model());
  Trainer(brief()).fit(model, images(24));
  EXPECT_EQ(model->predicted, 64);
}

class Parts : public LitClassifier {
 public:
  using LitClassifier::LitClassifier;
  // [guide:training_with_dataparallel]
  StepOutput training_step(const Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    auto y_hat = model_->forward(x);
    return {{"loss", F::cross_entropy(y_hat, y)}, {"pred", y_hat}};
  }

  StepOutput training_step_end(const std::vector<StepOutput>& batch_parts) override {
    // what the step returned for each device's part of the batch
    torch::Tensor loss = torch::zeros({});
    for (const StepOutput& part : batch_parts) loss = loss + part["loss"];
    return loss / static_cast<double>(batch_parts.size());
  }
  // [guide:end]
};

TEST_F(GuideTraining, AStepsEndSeesTheParts) {
  auto plain = std::make_shared<LitClassifier>(linear_model());
  auto parts = std::make_shared<Parts>(linear_model());
  Trainer(brief()).fit(plain, images());
  Trainer(brief()).fit(parts, images());
  EXPECT_TRUE(torch::equal(plain->parameters()[0], parts->parameters()[0]));
  const StepOutput one(torch::tensor(1.0)), two(torch::tensor(3.0));
  EXPECT_EQ(parts->training_step_end({one, two}).loss().item<double>(), 2);
}

// Made from options, so that there is one for each device.
struct PartsOptions {
  int64_t unused = 0;
};
TROUPE_OPTIONS(PartsOptions, (unused, "nothing"))
struct PartsOfOptions : Parts {
  using Options = PartsOptions;
  explicit PartsOfOptions(PartsOptions) : Parts(linear_model()) {}
};

TEST_F(GuideTraining, TheEndOfAStepIsThatOfAllDevices) {
  const auto weights = [](int64_t devices) {
    auto options = brief();
    options.devices = devices;
    options.strategy = Strategy::dp;
    options.accelerator = Accelerator::cpu;
    return Trainer(options).fit<PartsOfOptions>({}, images())->parameters()[0].detach();
  };
  EXPECT_TRUE(torch::allclose(weights(2), weights(1), 1e-5, 1e-7));
}

}  // namespace
}  // namespace guide_training
