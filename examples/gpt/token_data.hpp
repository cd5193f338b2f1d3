// Files of tokens as windows; the library maps them into memory, so they may be larger than it.
#pragma once

#include "../char_rnn/text_data.hpp"

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

struct TokenDataOptions {
  std::vector<std::filesystem::path> files = {"/usr/share/common-licenses"};
  std::vector<std::filesystem::path> train, val;
  int64_t vocabulary = 256;
  int64_t length = 128;
  int64_t batch_size = 16;
  std::string prompt = "The licensee ";
};
TROUPE_OPTIONS(TokenDataOptions,
               (files, "text files and folders of them, whose bytes are the tokens; the last tenth is for validation"),
               (train, "in place of files: token files with llm.c's header to train on"), (val, "those to validate on"),
               (vocabulary, "tokens are below this, as model.vocabulary says; others are refused"),
               (length, "tokens of a sample"), (batch_size, "samples a batch"), (prompt, "what predict goes on from"))

class TokenData : public troupe::DataModule {
 public:
  using Options = TokenDataOptions;
  explicit TokenData(Options options) : options_(std::move(options)) {
    if (!options_.val.empty() && options_.train.empty()) {
      throw troupe::UsageError("data.val is given without data.train; give both, or neither to use data.files");
    }
  }

  /// Writes the bytes of the text as token files, in a folder that all processes must see.
  void prepare_data() override {
    if (!options_.train.empty() || trainer().stage() == troupe::Stage::predict) return;
    const auto text = troupe::read_bytes(options_.files);
    const int64_t training = text.numel() - text.numel() / 10;
    troupe::write_token_file(written("train"), text.slice(0, 0, training), troupe::TokenType::uint16);
    troupe::write_token_file(written("val"), text.slice(0, training), troupe::TokenType::uint16);
  }

  void setup(troupe::Stage stage) override {
    if (stage == troupe::Stage::predict) return;
    train_ = windows(options_.train, "train");
    val_ = windows(options_.val, "val");
  }

  troupe::DataLoaders train_dataloader() override {
    return troupe::DataLoader(train_, {.batch_size = options_.batch_size, .shuffle = true});
  }
  troupe::DataLoaders val_dataloader() override {
    return troupe::DataLoader(val_, {.batch_size = options_.batch_size});
  }
  troupe::DataLoaders predict_dataloader() override { return prompt_loader(options_.prompt); }

 private:
  std::filesystem::path written(const std::string& name) const {
    return trainer().options().default_root_dir / "gpt_tokens" / (name + ".bin");
  }
  std::shared_ptr<troupe::Dataset> windows(std::vector<std::filesystem::path> files, const std::string& name) const {
    if (options_.train.empty()) files = {written(name)};
    if (files.empty()) throw troupe::UsageError("data.val is empty; give token files to validate on");
    return std::make_shared<troupe::TokenDataset>(files, options_.length,
                                                  troupe::TokenDatasetOptions{.vocabulary = options_.vocabulary});
  }

  Options options_;
  std::shared_ptr<troupe::Dataset> train_, val_;
};
