// 392 cars of the years 1970 to 1982 (Quinlan 1993, https://archive.ics.uci.edu/dataset/9/auto+mpg), in a file that the
// PyPI package mlxtend carries.
#pragma once

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <filesystem>
#include <memory>
#include <string>

struct AutoMpgOptions {
  std::filesystem::path csv = TROUPE_AUTO_MPG_CSV;
  int64_t batch_size = 32;
};
TROUPE_OPTIONS(AutoMpgOptions, (csv, "table without a header: eight properties of a car, then its miles per gallon"),
               (batch_size, "samples a batch"))

/// Samples of a car's properties, float [9], and its miles per gallon, float []: 70 % to train on, 15 % to validate,
/// the others to test.
class AutoMpg : public troupe::DataModule {
 public:
  using Options = AutoMpgOptions;
  explicit AutoMpg(Options options) : options_(std::move(options)) {}

  void setup(troupe::Stage) override {
    const auto table = troupe::read_csv(
        options_.csv,
        {.header = false,
         .names = {"cylinders", "displacement", "horsepower", "weight", "acceleration", "year", "origin", "car", "mpg"},
         .usecols = {"cylinders", "displacement", "horsepower", "weight", "acceleration", "year", "origin", "mpg"},
         .on_missing = troupe::CsvOptions::Missing::drop_row});
    const int64_t rows = table.rows(), part = rows * 15 / 100;
    if (part < 2) {
      throw troupe::UsageError(options_.csv.string() + " holds " + std::to_string(rows) +
                               " cars; at least 14 are needed to train, to validate and to test");
    }
    // America, Europe, Japan: no order, so a number for each.
    const auto origin = table.column("origin").unsqueeze(1).eq(torch::arange(1, 4));
    const auto inputs = torch::cat({table.values.narrow(1, 0, 6), origin}, 1).to(torch::kFloat);
    const auto cars = std::make_shared<troupe::TensorDataset>(inputs, table.column("mpg").to(torch::kFloat));
    const auto parts = troupe::random_split(cars, {rows - 2 * part, part, part}, /*seed=*/20);
    train_ = parts[0], val_ = parts[1], test_ = parts[2];
  }

  troupe::DataLoaders train_dataloader() override { return loader(train_, true); }
  troupe::DataLoaders val_dataloader() override { return loader(val_, false); }
  troupe::DataLoaders test_dataloader() override { return loader(test_, false); }
  troupe::DataLoaders predict_dataloader() override { return loader(test_, false); }

 private:
  troupe::DataLoader loader(const std::shared_ptr<troupe::Dataset>& dataset, bool shuffle) const {
    return {dataset, {.batch_size = options_.batch_size, .shuffle = shuffle}};
  }

  Options options_;
  std::shared_ptr<troupe::Dataset> train_, val_, test_;
};
