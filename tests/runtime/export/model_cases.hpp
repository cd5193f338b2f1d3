// Whole models: the examples, and small ones of the kinds that people train.
#pragma once

#include "examples/autoencoder/autoencoder.hpp"
#include "examples/char_rnn/char_rnn.hpp"
#include "examples/digits/digits.hpp"
#include "examples/gan/gan.hpp"
#include "examples/gpt/gpt.hpp"
#include "examples/images/images.hpp"
#include "examples/regression/regression.hpp"
#include "examples/transfer/transfer.hpp"
#include "tests/runtime/export/export_cases.hpp"

namespace troupe {

/// A block of a GPT, written as its tutorials write it: sizes are taken from the input, heads are views.
class TinyGpt : public Module {
 public:
  TinyGpt() {
    namespace nn = torch::nn;
    tokens_ = register_module("tokens", nn::Embedding(kVocabulary, kWidth));
    places_ = register_module("places", nn::Embedding(kLongest, kWidth));
    before_ = register_module("before", nn::LayerNorm(nn::LayerNormOptions({kWidth})));
    qkv_ = register_module("qkv", nn::Linear(kWidth, 3 * kWidth));
    joined_ = register_module("joined", nn::Linear(kWidth, kWidth));
    after_ = register_module("after", nn::LayerNorm(nn::LayerNormOptions({kWidth})));
    mlp_ = register_module("mlp", nn::Sequential(nn::Linear(kWidth, 4 * kWidth), nn::GELU(),
                                                 nn::Linear(4 * kWidth, kWidth), nn::Dropout(0.1)));
    head_ = register_parameter("head", tokens_->weight);  // tied
  }
  torch::Tensor forward(torch::Tensor x) override {
    const auto batch = x.size(0), time = x.size(1);
    auto h = tokens_(x) + places_(torch::arange(time));
    auto parts = qkv_(before_(h)).split(kWidth, 2);
    for (auto& part : parts) part = part.view({batch, time, kHeads, kWidth / kHeads}).transpose(1, 2);
    auto y = at::scaled_dot_product_attention(parts[0], parts[1], parts[2], {}, 0., true);
    auto scores = parts[0].matmul(parts[1].transpose(-2, -1)) / std::sqrt(static_cast<double>(kWidth / kHeads));
    scores = scores.masked_fill(torch::ones({time, time}).tril() == 0, -INFINITY);
    y = (y + torch::softmax(scores, -1).matmul(parts[2])).transpose(1, 2).contiguous().view({batch, time, kWidth});
    h = h + joined_(y);
    h = h + mlp_->forward(after_(h));
    return torch::linear(h, head_);
  }
  static constexpr int64_t kVocabulary = 11, kWidth = 8, kHeads = 2, kLongest = 9;

 private:
  torch::nn::Embedding tokens_{nullptr}, places_{nullptr};
  torch::nn::LayerNorm before_{nullptr}, after_{nullptr};
  torch::nn::Linear qkv_{nullptr}, joined_{nullptr};
  torch::Tensor head_;
  torch::nn::Sequential mlp_{nullptr};
};

/// Characters in, what may follow each of them out.
class TinyRnn : public Module {
 public:
  TinyRnn() {
    namespace nn = torch::nn;
    characters_ = register_module("characters", nn::Embedding(11, 6));
    lstm_ = register_module("lstm", nn::LSTM(nn::LSTMOptions(6, 5).num_layers(2).batch_first(true)));
    gru_ = register_module("gru", nn::GRU(nn::GRUOptions(5, 4).batch_first(true)));
    head_ = register_module("head", nn::Linear(4, 11));
  }
  torch::Tensor forward(torch::Tensor x) override {
    const auto h = std::get<0>(lstm_->forward(characters_(x)));
    return torch::log_softmax(head_(std::get<0>(gru_->forward(h))), -1);
  }

 private:
  torch::nn::Embedding characters_{nullptr};
  torch::nn::LSTM lstm_{nullptr};
  torch::nn::GRU gru_{nullptr};
  torch::nn::Linear head_{nullptr};
};

/// Two towers whose inputs have a size in common, and two outputs.
class TwoTowers : public Module {
 public:
  TwoTowers() {
    left_ = register_module("left", torch::nn::Linear(4, 3));
    right_ = register_module("right", torch::nn::Linear(5, 3));
  }
  Tensors compare(const torch::Tensor& a, const torch::Tensor& b) {
    const auto x = left_(a), y = right_(b);
    return {x.matmul(y.transpose(1, 2)), torch::cosine_similarity(x.mean(1), y.mean(1)).view({x.size(0), 1})};
  }

 private:
  torch::nn::Linear left_{nullptr}, right_{nullptr};
};

inline Tensors tokens(int64_t batch, int64_t time) {
  return {torch::randint(0, 11, {batch, time})};
}

inline void add_examples(ExportCases& add) {
  add.cases.push_back({"digits", std::make_shared<Digits>(DigitsOptions{}), batches_of({1, 28, 28}), {}});
  add.cases.push_back({"autoencoder", std::make_shared<Autoencoder>(AutoencoderOptions{}), batches_of({8}), {}});
  add.cases.push_back({"gan", std::make_shared<Gan>(GanOptions{}), batches_of({64}), {}});
  add.cases.push_back({"regression",
                       std::make_shared<Regression>(RegressionOptions{}),
                       batches_of({RegressionOptions{}.features}),
                       {}});
  add.cases.push_back({"images", std::make_shared<Images>(ImagesOptions{.width = 4}), batches_of({1, 28, 28}), {}});
  add.cases.push_back({"transfer", std::make_shared<Classifier>(ClassifierOptions{}), batches_of({1, 28, 28}), {}});
  const DynamicAxes time{{"bytes", {{1, "time"}}}};
  const GptOptions small{.layers = 2, .heads = 2, .width = 16, .context = 12};
  add.cases.push_back({"example_gpt",
                       std::make_shared<Gpt>(small),
                       {tokens(2, small.context), tokens(3, 4), tokens(1, 1)},
                       {.input_names = {"bytes"}, .dynamic_axes = time}});
  add.cases.push_back({"example_char_rnn",
                       std::make_shared<CharRnn>(CharRnnOptions{.hidden = 8}),
                       {tokens(2, 6), tokens(3, 4), tokens(1, 1)},
                       {.input_names = {"bytes"}, .dynamic_axes = time}});
}

inline std::vector<ExportCase> model_cases() {
  torch::manual_seed(3);
  ExportCases add;
  add_examples(add);
  const DynamicAxes time{{"tokens", {{1, "time"}}}};
  // The example is as long as the model allows: forward can only be tried with shorter ones.
  add.cases.push_back({"gpt",
                       std::make_shared<TinyGpt>(),
                       {tokens(2, TinyGpt::kLongest), tokens(3, 4), tokens(1, 1)},
                       {.input_names = {"tokens"}, .output_names = {"logits"}, .dynamic_axes = time}});
  add.cases.push_back({"rnn",
                       std::make_shared<TinyRnn>(),
                       {tokens(2, 6), tokens(3, 4), tokens(1, 1)},
                       {.input_names = {"tokens"}, .dynamic_axes = time}});
  auto towers = std::make_shared<TwoTowers>();
  const auto pair = [](int64_t batch, int64_t a, int64_t b) {
    return Tensors{torch::randn({batch, a, 4}), torch::randn({batch, b, 5})};
  };
  const ExportForward compare = [m = towers.get()](const Tensors& in) { return m->compare(in[0], in[1]); };
  add.cases.push_back(
      {"towers",
       towers,
       {pair(2, 3, 4), pair(1, 5, 2), pair(4, 1, 7)},
       {.input_names = {"a", "b"}, .dynamic_axes = {{"a", {{1, "n"}}}, {"b", {{1, "m"}}}}, .forward = compare}});
  namespace nn = torch::nn;
  nn::Conv1d strided(nn::Conv1dOptions(3, 4, 3).stride(2).padding(1));
  add.network("odd_lengths", {3, 8}, {strided.ptr()}, [strided](const torch::Tensor& x) mutable {
    const auto y = strided(x).transpose(1, 2);
    return y.reshape({-1, 4}).view({y.size(0), y.size(1), 4}) + torch::arange(y.size(1)).unsqueeze(1);
  });
  auto& lengths = add.cases.back();
  lengths.samples = {{torch::randn({2, 3, 8})}, {torch::randn({3, 3, 13})}, {torch::randn({1, 3, 5})}};
  lengths.options.dynamic_axes = {{"input", {{-1, "length"}}}};
  add.cases.push_back({"fixed", std::make_shared<TinyRnn>(), {tokens(2, 6)}, {.dynamic_batch = false}});
  add.cases.push_back(
      {"external", std::make_shared<Digits>(DigitsOptions{}), batches_of({1, 28, 28}), {.external_data = true}});
  return std::move(add.cases);
}

}  // namespace troupe
