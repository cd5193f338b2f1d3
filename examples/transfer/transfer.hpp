// Few images of new digits, many of others: a classifier whose backbone may come from another one.
#pragma once

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

struct ClassifierOptions {
  double lr = 1e-3;
  int64_t classes = 5;
};
TROUPE_OPTIONS(ClassifierOptions, (lr, "learning rate of Adam"), (classes, "number of digits to tell apart"))

class Classifier : public troupe::ModuleWith<ClassifierOptions> {
 public:
  /// With a backbone that makes `features` numbers of each image, trained already, or with one of its own.
  explicit Classifier(const ClassifierOptions& options, const torch::nn::Sequential& pretrained = nullptr,
                      int64_t features = 64 * 3 * 3)
      : ModuleWith(options) {
    backbone = register_module("backbone", pretrained.is_empty() ? new_backbone() : pretrained);
    head = register_module("head", torch::nn::Linear(features, options.classes));
  }

  torch::Tensor forward(torch::Tensor image) override { return head(backbone->forward(image)); }

  troupe::StepOutput training_step(const troupe::Batch& batch, int64_t) override {
    const auto loss = torch::nn::functional::cross_entropy(forward(batch[0]), batch[1]);
    log("train_loss", loss, {.on_step = false, .on_epoch = true, .prog_bar = true});
    return loss;
  }
  troupe::StepOutput test_step(const troupe::Batch& batch, int64_t) override {
    log("test_acc", forward(batch[0]).argmax(1).eq(batch[1]).to(torch::kFloat).mean());
    return {};
  }

  /// A frozen backbone joins later, see BackboneFinetuning.
  troupe::Optimizers configure_optimizers() override {
    return troupe::optim::adam(troupe::trainable(*this), {.lr = options().lr});
  }

  torch::nn::Sequential backbone{nullptr};
  torch::nn::Linear head{nullptr};

 private:
  static torch::nn::Sequential new_backbone() {
    namespace nn = torch::nn;
    nn::Sequential layers;
    for (const auto& [in, out] : {std::pair(1, 16), std::pair(16, 32), std::pair(32, 64)}) {
      layers->push_back(nn::Conv2d(nn::Conv2dOptions(in, out, 3).padding(1).bias(false)));
      layers->push_back(nn::BatchNorm2d(out));
      layers->push_back(nn::ReLU());
      layers->push_back(nn::MaxPool2d(2));
    }
    layers->push_back(nn::Flatten());
    return layers;
  }
};

/// Samples to train on and to test with.
struct Task {
  troupe::DataLoader train, test;
};

/// Five digits from `first` on, their labels from 0: `shots` images of each to train on, the others to test with.
inline Task five_digits(const troupe::MnistData& mnist, int64_t first, int64_t shots, int64_t batch_size) {
  std::vector<torch::Tensor> train, test;
  for (int64_t digit = first; digit < first + 5; ++digit) {
    const auto rows = mnist.labels.eq(digit).nonzero().squeeze(1);
    if (shots < 1 || shots >= rows.numel()) {
      throw troupe::UsageError("transfer.shots = " + std::to_string(shots) + ", but there are " +
                               std::to_string(rows.numel()) + " images of " + std::to_string(digit) +
                               ", some of them to test with; use 1 to " + std::to_string(rows.numel() - 1));
    }
    train.push_back(rows.slice(0, 0, shots));
    test.push_back(rows.slice(0, shots));
  }
  const auto samples = [&](const std::vector<torch::Tensor>& parts) {
    const auto rows = torch::cat(parts);
    return troupe::to_dataset({mnist.images.index_select(0, rows), mnist.labels.index_select(0, rows) - first});
  };
  return {{samples(train), {.batch_size = batch_size, .shuffle = true}}, {samples(test), {.batch_size = 100}}};
}
