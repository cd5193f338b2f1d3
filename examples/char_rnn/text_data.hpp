// Text files as windows of bytes, and what models of text share.
#pragma once

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <numbers>
#include <string>
#include <vector>

struct TextDataOptions {
  std::vector<std::filesystem::path> files = {"/usr/share/common-licenses"};
  int64_t length = 128;
  int64_t batch_size = 16;
  std::string prompt = "The licensee ";
};
TROUPE_OPTIONS(TextDataOptions, (files, "text files and folders of them; the last tenth of the text is for validation"),
               (length, "bytes of a sample"), (batch_size, "samples a batch"), (prompt, "what predict goes on from"))

/// The prompt's bytes, int64 [1, T], for `predict`.
inline troupe::DataLoader prompt_loader(const std::string& prompt) {
  if (prompt.empty()) throw troupe::UsageError("data.prompt is empty; give at least one character");
  const std::vector<uint8_t> bytes(prompt.begin(), prompt.end());
  return troupe::DataLoader(std::make_shared<troupe::TensorDataset>(torch::tensor(bytes, torch::kInt64).unsqueeze(0)));
}

class TextData : public troupe::DataModule {
 public:
  using Options = TextDataOptions;
  explicit TextData(Options options) : options_(std::move(options)) {}

  void setup(troupe::Stage stage) override {
    if (stage == troupe::Stage::predict) return;
    const auto text = troupe::read_bytes(options_.files);
    const int64_t training = text.numel() - text.numel() / 10;
    train_ = std::make_shared<troupe::TokenDataset>(text.slice(0, 0, training), options_.length);
    val_ = std::make_shared<troupe::TokenDataset>(text.slice(0, training), options_.length);
  }

  troupe::DataLoaders train_dataloader() override {
    return troupe::DataLoader(train_, {.batch_size = options_.batch_size, .shuffle = true});
  }
  troupe::DataLoaders val_dataloader() override {
    return troupe::DataLoader(val_, {.batch_size = options_.batch_size});
  }
  troupe::DataLoaders predict_dataloader() override { return prompt_loader(options_.prompt); }

 private:
  Options options_;
  std::shared_ptr<troupe::Dataset> train_, val_;
};

/// Mean over all places of -ln p(next byte): logits [N, T, 256], target [N, T].
inline torch::Tensor next_byte_loss(const torch::Tensor& logits, const torch::Tensor& target) {
  return torch::nn::functional::cross_entropy(logits.flatten(0, 1), target.flatten());
}

/// The same in bits a character, for characters of one byte.
inline torch::Tensor to_bits(const torch::Tensor& loss) {
  return loss.detach() / std::numbers::ln2;
}

/// Prints the text [1, T] and `count` bytes after it, each drawn from the logits [1, 256] that `next` makes of the text
/// so far; the lower the temperature, the more often the likeliest.
inline void write_on(torch::Tensor text, int64_t count, double temperature,
                     const std::function<torch::Tensor(const torch::Tensor& text)>& next) {
  const auto print = [](const torch::Tensor& bytes) {
    for (int64_t i = 0; i < bytes.size(1); ++i) std::cout << static_cast<char>(bytes[0][i].item<int64_t>());
  };
  print(text);
  for (int64_t i = 0; i < count; ++i) {
    const auto byte = torch::softmax(next(text) / temperature, -1).multinomial(1);
    print(byte);
    text = torch::cat({text, byte}, 1);
  }
  std::cout << std::endl;
}
