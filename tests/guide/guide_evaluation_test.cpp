// The guide's sections "Validation loop" and "Test loop".
#include "tests/guide/images.hpp"

using namespace troupe;
using namespace troupe::guide;
namespace F = torch::nn::functional;

namespace guide_evaluation {
namespace {

class GuideEvaluation : public InAFolderOfItsOwn {};

class Base : public Module {
 public:
  Base() { net_ = register_module("net", torch::nn::Sequential(torch::nn::Linear(784, 10), torch::nn::Dropout(0.5))); }
  torch::Tensor forward(torch::Tensor x) override { return net_->forward(x.flatten(1)); }
  StepOutput training_step(const Batch& batch, int64_t) override {
    return F::cross_entropy(forward(batch[0]), batch[1]);
  }
  Optimizers configure_optimizers() override { return optim::adam(parameters(), {.lr = 0.01}); }

 protected:
  torch::nn::Sequential net_{nullptr};
};

class LitModel : public Base {
 public:
  // [guide:validation_loop]
  StepOutput validation_step(const Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    auto loss = F::cross_entropy(forward(x), y);
    log("val_loss", loss);
    return {};
  }
  // [guide:end]
};

TEST_F(GuideEvaluation, ValidationIsInEvalModeAndWithoutGradients) {
  auto model = std::make_shared<LitModel>();
  Trainer trainer(brief());
  trainer.fit(model, images(), images());
  const auto validation_step = [&](const Batch& batch) { return F::cross_entropy(model->forward(batch[0]), batch[1]); };
  const std::vector<Batch> val_batches = {mnist()->tensors()};
  model->train();
  torch::Tensor val_loss;
  // [guide:validation_loop_inside]
  // gradients, dropout and the statistics of batch norm off
  {
    torch::NoGradGuard no_gradients;
    model->eval();
    for (const Batch& batch : val_batches) val_loss = validation_step(batch);
  }
  // and on again
  model->train();
  // [guide:end]
  EXPECT_NEAR(trainer.callback_metrics().at("val_loss"), val_loss.item<double>(), 1e-5);
}

class Collects : public Base {
 public:
  // [guide:validation_epoch_level_metrics]
  StepOutput validation_step(const Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    auto pred = forward(x).argmax(1);
    return {{"pred", pred}, {"y", y}};
  }

  void validation_epoch_end(const EpochOutputs& validation_step_outputs) override {
    int64_t right = 0, all = 0;
    for (const auto& out : validation_step_outputs) {
      right += out["pred"].eq(out["y"]).sum().item<int64_t>();
      all += out["y"].size(0);
    }
    log("val_right", static_cast<double>(right) / static_cast<double>(all));
  }
  // [guide:end]
};

TEST_F(GuideEvaluation, TheEpochsEndHasAllOutputs) {
  auto model = std::make_shared<Collects>();
  Trainer trainer(brief(3));
  trainer.fit(model, images(), images());
  EXPECT_EQ(trainer.callback_metrics().at("val_right"), 1);
}

class Parts : public Base {
 public:
  // [guide:validating_with_dataparallel]
  StepOutput validation_step(const Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    auto pred = forward(x);
    return {{"loss", F::cross_entropy(pred, y)}, {"pred", pred}};
  }

  StepOutput validation_step_end(const std::vector<StepOutput>& batch_parts) override {
    torch::Tensor loss = torch::zeros({});
    for (const StepOutput& part : batch_parts) loss = loss + part["loss"];
    loss = loss / static_cast<double>(batch_parts.size());
    log("val_loss", loss);
    return loss;
  }

  void validation_epoch_end(const EpochOutputs& validation_step_outputs) override {
    for (const auto& out : validation_step_outputs) losses.push_back(out.loss().item<double>());
  }
  // [guide:end]
  std::vector<double> losses;
};

TEST_F(GuideEvaluation, AStepsEndSeesTheParts) {
  auto model = std::make_shared<Parts>();
  Trainer trainer(brief());
  trainer.validate(model, images());
  ASSERT_EQ(model->losses.size(), 4u);
  const double mean = (model->losses[0] + model->losses[1] + model->losses[2] + model->losses[3]) / 4;
  EXPECT_NEAR(trainer.callback_metrics().at("val_loss"), mean, 1e-5);
}

class Model : public Base {
 public:
  StepOutput validation_step(const Batch& batch, int64_t) override {
    log("val_loss", F::cross_entropy(forward(batch[0]), batch[1]));
    return {};
  }
  // [guide:test_loop_step]
  StepOutput test_step(const Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    log("test_loss", F::cross_entropy(forward(x), y));
    return {};
  }
  // [guide:end]
};

TEST_F(GuideEvaluation, TestAfterFitAndTestOfAModelThatIsThere) {
  DataLoader train_loader = images(), val_loader = images(), test_loader = images();
  // [guide:test_loop]
  // after a training: with the weights of its best checkpoint
  Trainer trainer({.max_epochs = 2});
  auto model = trainer.fit(std::make_shared<Model>(), train_loader, val_loader);
  auto results = trainer.test(test_loader);  // the metrics of each loader
  // [guide:end]
  ASSERT_EQ(results.size(), 1u);
  const auto path = trainer.best_model_path();
  std::vector<MetricMap> again;
  {
    // [guide:test_pretrained]
    // or of a model that is there
    auto model = load_from_checkpoint<Model>(path);
    Trainer trainer;
    auto results = trainer.test(model, test_loader);
    // [guide:end]
    again = results;
  }
  EXPECT_EQ(again[0].at("test_loss"), results[0].at("test_loss"));
}

}  // namespace
}  // namespace guide_evaluation
