// A recurrent language model of characters (Karpathy 2015, https://karpathy.github.io/2015/05/21/rnn-effectiveness/),
// trained by truncated back-propagation through time.
#pragma once

#include "text_data.hpp"

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <tuple>
#include <utility>

struct CharRnnOptions {
  double lr = 4e-3;
  int64_t hidden = 256;
  double dropout = 0.1;
  int64_t bptt = 32;
  double temperature = 0.7;
  int64_t generate = 400;
};
TROUPE_OPTIONS(CharRnnOptions, (lr, "learning rate of AdamW"), (hidden, "units of the LSTM"),
               (dropout, "share of inputs and outputs of the LSTM left out in training"),
               (bptt, "characters that gradients flow back through; 0: all of a sample"),
               (temperature, "of predict: below 1 likely characters are drawn more often"),
               (generate, "characters that predict adds to the prompt"))

class CharRnn : public troupe::ModuleWith<CharRnnOptions> {
 public:
  using State = std::tuple<torch::Tensor, torch::Tensor>;  // hidden and cell, each [1, N, hidden]

  explicit CharRnn(const CharRnnOptions& options) : ModuleWith(options) {
    namespace nn = torch::nn;
    embedding_ = register_module("embedding", nn::Embedding(256, options.hidden / 2));
    lstm_ = register_module("lstm", nn::LSTM(nn::LSTMOptions(options.hidden / 2, options.hidden).batch_first(true)));
    dropout_ = register_module("dropout", nn::Dropout(options.dropout));
    head_ = register_module("head", nn::Linear(options.hidden, 256));
    truncated_bptt_steps = options.bptt;
  }

  /// Logits [N, T, 256] of bytes [N, T], from the beginning of a text.
  torch::Tensor forward(torch::Tensor bytes) override { return run(bytes, {}).first; }

  // Once for each part of a sample: the LSTM goes on from where the part before has left it.
  troupe::StepOutput training_step(const troupe::Batch& part, int64_t, const troupe::StepOutput& hiddens) override {
    auto [input, target] = part.get<2>();
    const auto before =
        hiddens.empty() ? std::nullopt : std::optional<State>({hiddens["hidden"], hiddens["hidden_cell"]});
    const auto [logits, state] = run(input, before);
    const auto loss = next_byte_loss(logits, target);
    log("train_bits", to_bits(loss), {.on_step = true, .on_epoch = true, .prog_bar = true});
    return {{"loss", loss}, {"hidden", std::get<0>(state)}, {"hidden_cell", std::get<1>(state)}};
  }
  troupe::StepOutput validation_step(const troupe::Batch& batch, int64_t) override {
    const auto loss = next_byte_loss(forward(batch["input"]), batch["target"]);
    log("val_loss", loss);
    log("val_bits", to_bits(loss), {.prog_bar = true});
    return {};
  }
  /// Writes on from the prompt.
  troupe::StepOutput predict_step(const troupe::Batch& batch, int64_t) override {
    std::optional<State> state;
    int64_t seen = 0;
    write_on(batch[0], options().generate, options().temperature, [&](const torch::Tensor& text) {
      const auto [logits, after] = run(text.slice(1, seen), state);
      state = after, seen = text.size(1);
      return logits.select(1, -1);
    });
    return {};
  }

  troupe::Optimizers configure_optimizers() override {
    return troupe::optim::adamw(parameters(), {.lr = options().lr});
  }

 private:
  std::pair<torch::Tensor, State> run(const torch::Tensor& bytes, const std::optional<State>& before) {
    const auto [out, after] = lstm_->forward(dropout_->forward(embedding_->forward(bytes)), before);
    return {head_->forward(dropout_->forward(out)), after};
  }

  torch::nn::Embedding embedding_{nullptr};
  torch::nn::LSTM lstm_{nullptr};
  torch::nn::Dropout dropout_{nullptr};
  torch::nn::Linear head_{nullptr};
};
