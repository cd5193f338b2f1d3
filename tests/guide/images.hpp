// Data for the guide's snippets, and a folder for what they write.
#pragma once

#include "tests/support/temp_dir.hpp"
#include "troupe/troupe.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <memory>

namespace troupe::guide {

/// `count` images [1, 28, 28] of ten classes that a linear layer can tell apart, with labels.
inline std::shared_ptr<TensorDataset> mnist(int64_t count = 64) {
  const auto labels = torch::arange(count, torch::kLong) % 10;
  auto images = torch::zeros({count, 1, 28, 28});
  for (int64_t i = 0; i < count; ++i) images[i].narrow(1, 2 * (i % 10), 2).fill_(1);
  return std::make_shared<TensorDataset>(images, labels);
}

inline DataLoader images(int64_t batch_size = 16) {
  return {mnist(), {.batch_size = batch_size}};
}

/// Snippets use a plain Trainer, whose runs lie in the current folder: a new one for each test.
class InAFolderOfItsOwn : public ::testing::Test {
 protected:
  InAFolderOfItsOwn() { std::filesystem::current_path(dir_.path()); }
  ~InAFolderOfItsOwn() override { std::filesystem::current_path(before_); }

 private:
  std::filesystem::path before_ = std::filesystem::current_path();
  TempDir dir_;
};

/// Options that keep a test's output short.
inline TrainerOptions brief(int64_t epochs = 1) {
  TrainerOptions options{.max_epochs = epochs, .seed = 7};
  options.enable_progress_bar = options.enable_model_summary = false;
  return options;
}

}  // namespace troupe::guide
