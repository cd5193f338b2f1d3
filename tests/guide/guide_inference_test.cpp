// The guide's section "Inference": systems, forward, and a model apart from its task.
#include "tests/guide/images.hpp"

using namespace troupe;
using namespace troupe::guide;
namespace F = torch::nn::functional;

namespace guide_inference {
namespace {

class GuideInference : public InAFolderOfItsOwn {};

namespace system_of_two {

// [guide:inference_system]
class Autoencoder : public Module {
 public:
  explicit Autoencoder(int64_t latent_dim = 2) {
    namespace nn = torch::nn;
    encoder_ =
        register_module("encoder", nn::Sequential(nn::Linear(28 * 28, 256), nn::ReLU(), nn::Linear(256, latent_dim)));
    decoder_ =
        register_module("decoder", nn::Sequential(nn::Linear(latent_dim, 256), nn::ReLU(), nn::Linear(256, 28 * 28)));
  }

  StepOutput training_step(const Batch& batch, int64_t) override {
    auto x = batch[0].flatten(1);
    auto z = encoder_->forward(x);
    auto recons = decoder_->forward(z);
    return F::mse_loss(recons, x);
  }

  StepOutput validation_step(const Batch& batch, int64_t) override {
    auto x = batch[0].flatten(1);
    auto recons = decoder_->forward(encoder_->forward(x));
    log("val_reconstruction", F::mse_loss(recons, x));
    return {};
  }

  StepOutput predict_step(const Batch& batch, int64_t) override {
    // the embedding here; it could be the reconstruction, or both
    return {{"embedding", encoder_->forward(batch[0].flatten(1))}};
  }

  Optimizers configure_optimizers() override { return optim::adam(parameters(), {.lr = 0.0002}); }

 private:
  torch::nn::Sequential encoder_{nullptr}, decoder_{nullptr};
};
// [guide:end]

}  // namespace system_of_two

TEST_F(GuideInference, ASystemIsTrainedAndPredicts) {
  using system_of_two::Autoencoder;
  DataLoader train_loader = images(), val_loader = images();
  // [guide:inference_system_training]
  auto autoencoder = std::make_shared<Autoencoder>();
  Trainer trainer({.devices = 1, .max_epochs = 2});
  trainer.fit(autoencoder, train_loader, val_loader);
  // [guide:end]
  EXPECT_TRUE(trainer.callback_metrics().contains("val_reconstruction"));
  const auto outputs = trainer.predict(autoencoder, val_loader);
  EXPECT_EQ(outputs[0]["embedding"].sizes(), (std::vector<int64_t>{16, 2}));
}

namespace shared {

class Autoencoder : public Module {
 public:
  Autoencoder() {
    namespace nn = torch::nn;
    encoder_ = register_module("encoder", nn::Linear(28 * 28, 2));
    decoder_ = register_module("decoder", nn::Linear(2, 28 * 28));
  }
  // [guide:shared_step]
  StepOutput training_step(const Batch& batch, int64_t) override { return shared_step(batch); }

  StepOutput validation_step(const Batch& batch, int64_t) override {
    log("val_loss", shared_step(batch));
    return {};
  }

  torch::Tensor shared_step(const Batch& batch) {
    auto x = batch[0].flatten(1);
    return F::mse_loss(decoder_(encoder_(x)), x);
  }
  // [guide:end]
  Optimizers configure_optimizers() override { return optim::adam(parameters(), {.lr = 0.0002}); }

 private:
  torch::nn::Linear encoder_{nullptr}, decoder_{nullptr};
};

}  // namespace shared

TEST_F(GuideInference, StepsMayShareCode) {
  Trainer trainer(brief());
  trainer.fit(std::make_shared<shared::Autoencoder>(), images(), images());
  EXPECT_GT(trainer.callback_metrics().at("val_loss"), 0);
}

namespace research {

class Autoencoder : public Module {
 public:
  Autoencoder() { decoder_ = register_module("decoder", torch::nn::Linear(2, 28 * 28)); }
  // [guide:inference_research_forward]
  torch::Tensor forward(torch::Tensor x) override { return decoder_(x); }
  // [guide:end]
  // [guide:inference_research_predict]
  StepOutput predict_step(const Batch& batch, int64_t) override {
    return {{"image", forward(batch[0])}};  // calls forward
  }
  // [guide:end]

 private:
  torch::nn::Linear decoder_{nullptr};
};

class Embeddings : public DataModule {
 public:
  DataLoaders predict_dataloader() override {
    return DataLoader(std::make_shared<TensorDataset>(torch::zeros({6, 2})), {.batch_size = 4});
  }
};

// [guide:inference_research_generation]
class Seq2Seq : public Module {
 public:
  Seq2Seq() {
    embedding_ = register_module("embedding", torch::nn::Embedding(12, 8));
    decoder_ = register_module("decoder", torch::nn::GRUCell(8, 8));
    head_ = register_module("head", torch::nn::Linear(8, 12));
  }

  // [N] first tokens -> [N, 5] tokens: as much of a procedure as inference needs
  torch::Tensor forward(torch::Tensor token) override {
    torch::Tensor hidden;
    std::vector<torch::Tensor> decoded;
    for (int step = 0; step < 5; ++step) {
      hidden = decoder_(embedding_(token), hidden);
      token = head_(hidden).argmax(1);
      decoded.push_back(token);
    }
    return torch::stack(decoded, 1);
  }

 private:
  torch::nn::Embedding embedding_{nullptr};
  torch::nn::GRUCell decoder_{nullptr};
  torch::nn::Linear head_{nullptr};
};
// [guide:end]

}  // namespace research

TEST_F(GuideInference, ForwardIsForInference) {
  using research::Autoencoder;
  const auto embedding = torch::randn({3, 2});
  // [guide:inference_research]
  Autoencoder model;
  model.eval();
  torch::NoGradGuard no_gradients;
  auto reconstruction = model(embedding);
  // [guide:end]
  EXPECT_EQ(reconstruction.sizes(), (std::vector<int64_t>{3, 784}));
  EXPECT_FALSE(reconstruction.requires_grad());
  research::Seq2Seq seq2seq;
  EXPECT_EQ(seq2seq(torch::zeros({2}, torch::kLong)).sizes(), (std::vector<int64_t>{2, 5}));
}

TEST_F(GuideInference, PredictScalesIt) {
  using namespace research;
  // [guide:inference_research_scaled]
  auto data_module = std::make_shared<Embeddings>();
  auto model = std::make_shared<Autoencoder>();
  Trainer trainer;
  auto predictions = trainer.predict(model, {}, {.datamodule = data_module});
  // [guide:end]
  ASSERT_EQ(predictions.size(), 2u);
  EXPECT_EQ(predictions[1]["image"].size(0), 2);
}

// [guide:inference_production_task]
class ClassificationTask : public Module {
 public:
  explicit ClassificationTask(torch::nn::AnyModule model) : model_(std::move(model)) {
    register_module("model", model_.ptr());
  }

  StepOutput training_step(const Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    return F::cross_entropy(model_.forward(x), y);
  }

  StepOutput validation_step(const Batch& batch, int64_t) override {
    auto [loss, acc] = shared_eval_step(batch);
    log_dict({{"val_acc", acc}, {"val_loss", loss}});
    return {{"val_acc", acc}, {"val_loss", loss}};
  }

  StepOutput test_step(const Batch& batch, int64_t) override {
    auto [loss, acc] = shared_eval_step(batch);
    log_dict({{"test_acc", acc}, {"test_loss", loss}});
    return {{"test_acc", acc}, {"test_loss", loss}};
  }

  StepOutput predict_step(const Batch& batch, int64_t) override { return {{"y_hat", model_.forward(batch[0])}}; }

  Optimizers configure_optimizers() override { return optim::adam(model_.ptr()->parameters(), {.lr = 0.02}); }

 private:
  std::array<torch::Tensor, 2> shared_eval_step(const Batch& batch) {
    auto [x, y] = batch.get<2>();
    auto y_hat = model_.forward(x);
    return {F::cross_entropy(y_hat, y), y_hat.argmax(1).eq(y).to(torch::kFloat).mean()};
  }

  torch::nn::AnyModule model_;
};
// [guide:end]

struct ConvolutionImpl : torch::nn::Module {
  ConvolutionImpl() { head = register_module("head", torch::nn::Linear(784, 10)); }
  torch::Tensor forward(torch::Tensor x) { return head(x.flatten(1)); }
  torch::nn::Linear head{nullptr};
};
TORCH_MODULE(Convolution);

struct PerceptronImpl : torch::nn::Module {
  PerceptronImpl() {
    namespace nn = torch::nn;
    net = register_module("net", nn::Sequential(nn::Flatten(), nn::Linear(784, 32), nn::ReLU(), nn::Linear(32, 10)));
  }
  torch::Tensor forward(torch::Tensor x) { return net->forward(x); }
  torch::nn::Sequential net{nullptr};
};
TORCH_MODULE(Perceptron);

class OwnModule : public Module {
 public:
  OwnModule() { head_ = register_module("head", torch::nn::Linear(784, 10)); }
  torch::Tensor forward(torch::Tensor x) override { return head_(x.flatten(1)); }

 private:
  torch::nn::Linear head_{nullptr};
};

TEST_F(GuideInference, AnyModelIsFitWithOneTask) {
  using torch::nn::AnyModule;
  DataLoader train_loader = images(), val_loader = images();
  int fitted = 0;
  // [guide:inference_production]
  Perceptron perceptron;
  for (auto& model : {AnyModule(Convolution()), AnyModule(perceptron), AnyModule(std::make_shared<OwnModule>())}) {
    auto task = std::make_shared<ClassificationTask>(model);
    Trainer trainer({.max_epochs = 3});
    trainer.fit(task, train_loader, val_loader);
    EXPECT_GT(trainer.callback_metrics().at("val_acc"), 0.9);              // [guide:hide]
    EXPECT_GT(trainer.test(task, val_loader)[0].at("test_acc"), 0.9);      // [guide:hide]
    EXPECT_EQ(trainer.predict(task, val_loader)[0]["y_hat"].size(1), 10);  // [guide:hide]
    ++fitted;                                                              // [guide:hide]
  }
  // [guide:end]
  EXPECT_EQ(fitted, 3);
  // The model lives on without the task.
  const auto x = mnist()->tensors()[0];
  // [guide:inference_production_model]
  perceptron->eval();
  auto y_hat = perceptron->forward(x);
  // [guide:end]
  EXPECT_TRUE(torch::equal(y_hat.argmax(1), mnist()->tensors()[1]));
}

// [guide:inference_production_gan]
class GANTask : public Module {
 public:
  GANTask(torch::nn::Sequential generator, torch::nn::Sequential discriminator)
      : generator_(register_module("generator", generator)),
        discriminator_(register_module("discriminator", discriminator)) {}

  // once for each optimizer
  StepOutput training_step(const Batch& batch, int64_t, int64_t optimizer_idx) override {
    auto real = batch[0].flatten(1);
    auto fake = generator_->forward(torch::randn({real.size(0), 8}).type_as(real));
    if (optimizer_idx == 0) return judged(fake, 1);
    return (judged(real, 1) + judged(fake.detach(), 0)) / 2;
  }

  Optimizers configure_optimizers() override {
    return {optim::adam(generator_->parameters(), {.lr = 2e-4}),
            optim::adam(discriminator_->parameters(), {.lr = 2e-4})};
  }

 private:
  torch::Tensor judged(const torch::Tensor& images, double as) {
    auto scores = discriminator_->forward(images);
    return torch::binary_cross_entropy_with_logits(scores, torch::full_like(scores, as));
  }

  torch::nn::Sequential generator_, discriminator_;
};
// [guide:end]

TEST_F(GuideInference, ATaskMayBeAGan) {
  namespace nn = torch::nn;
  nn::Sequential generator(nn::Linear(8, 784), nn::Sigmoid()), discriminator(nn::Linear(784, 1));
  const auto before = generator->parameters()[0].clone();
  const auto judge = discriminator->parameters()[0].clone();
  Trainer trainer(brief());
  trainer.fit(std::make_shared<GANTask>(generator, discriminator), images());
  EXPECT_EQ(trainer.global_step(), 8);
  EXPECT_FALSE(torch::equal(generator->parameters()[0], before));
  EXPECT_FALSE(torch::equal(discriminator->parameters()[0], judge));
}

}  // namespace
}  // namespace guide_inference
