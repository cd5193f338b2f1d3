// GPT-2 (Radford et al. 2019) on bytes. Parameters have the names and first values of nanoGPT
// (https://github.com/karpathy/nanoGPT), so that weights go both ways; its lm_head.weight is transformer.wte.weight.
#pragma once

#include "../char_rnn/text_data.hpp"

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <cmath>

struct GptOptions {
  int64_t layers = 4, heads = 4, width = 128, context = 128, vocabulary = 256;
  double dropout = 0.1, lr = 2e-3, weight_decay = 0.1;
  int64_t warmup_steps = 50, generate = 400;
  double temperature = 0.7;
  bool activation_checkpoints = false;
};
TROUPE_OPTIONS(GptOptions, (layers, "blocks of attention and MLP"), (heads, "heads of attention; they divide width"),
               (width, "numbers that stand for a token"), (context, "tokens that one can look back to"),
               (vocabulary, "number of tokens"), (dropout, "share left out in training"), (lr, "highest rate of AdamW"),
               (weight_decay, "of matrices"), (warmup_steps, "steps to the highest rate, a cosine falls from there"),
               (generate, "bytes that predict adds to the prompt"),
               (temperature, "of predict: below 1 likely bytes are drawn more often"),
               (activation_checkpoints, "compute each block again in the backward pass, in place of keeping it"))

namespace gpt {
namespace nn = torch::nn;

/// Each token gathers from itself and those before it.
class Attention : public nn::Module {
 public:
  explicit Attention(const GptOptions& o) : heads_(o.heads), dropout_(o.dropout) {
    if (o.heads < 1 || o.width % o.heads != 0) throw troupe::UsageError("model.heads does not divide model.width");
    c_attn_ = register_module("c_attn", nn::Linear(o.width, 3 * o.width));
    c_proj_ = register_module("c_proj", nn::Linear(o.width, o.width));
  }
  torch::Tensor forward(const torch::Tensor& x) {  // [N, T, width]
    // Queries, keys and values, each [N, heads, T, width / heads].
    const auto qkv = c_attn_(x).unflatten(-1, {3, heads_, -1}).permute({2, 0, 3, 1, 4}).unbind(0);
    const auto y = at::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], {}, is_training() ? dropout_ : 0.0,
                                                    /*is_causal=*/true);
    return torch::dropout(c_proj_(y.transpose(1, 2).flatten(2)), dropout_, is_training());
  }

 private:
  int64_t heads_;
  double dropout_;
  nn::Linear c_attn_{nullptr}, c_proj_{nullptr};
};

class Block : public nn::Module {
 public:
  explicit Block(const GptOptions& o) {
    ln_1_ = register_module("ln_1", nn::LayerNorm(nn::LayerNormOptions({o.width})));
    attn_ = register_module("attn", std::make_shared<Attention>(o));
    ln_2_ = register_module("ln_2", nn::LayerNorm(nn::LayerNormOptions({o.width})));
    mlp_ = register_module("mlp", nn::Sequential({{"c_fc", nn::Linear(o.width, 4 * o.width)},
                                                  {"gelu", nn::GELU()},
                                                  {"c_proj", nn::Linear(4 * o.width, o.width)},
                                                  {"dropout", nn::Dropout(o.dropout)}}));
  }
  torch::Tensor forward(torch::Tensor x) {
    x = x + attn_->forward(ln_1_(x));
    return x + mlp_->forward(ln_2_(x));
  }

 private:
  nn::LayerNorm ln_1_{nullptr}, ln_2_{nullptr};
  std::shared_ptr<Attention> attn_;
  nn::Sequential mlp_{nullptr};
};
}  // namespace gpt

class Gpt : public troupe::ModuleWith<GptOptions> {
 public:
  explicit Gpt(const GptOptions& options) : ModuleWith(options) {
    namespace nn = torch::nn;
    const auto transformer = register_module("transformer", std::make_shared<nn::Module>());
    wte_ = transformer->register_module("wte", nn::Embedding(options.vocabulary, options.width));
    wpe_ = transformer->register_module("wpe", nn::Embedding(options.context, options.width));
    h_ = transformer->register_module("h", nn::Sequential());
    for (int64_t i = 0; i < options.layers; ++i) h_->push_back(std::make_shared<gpt::Block>(options));
    ln_f_ = transformer->register_module("ln_f", nn::LayerNorm(nn::LayerNormOptions({options.width})));
    for (auto& item : named_parameters()) {
      const bool adds_to_stream = item.key().ends_with("c_proj.weight");  // twice a layer: keeps the sum's size
      const double std = adds_to_stream ? 0.02 / std::sqrt(2.0 * options.layers) : 0.02;
      if (item.value().dim() == 2) nn::init::normal_(item.value(), 0, std);
      if (item.key().ends_with("bias")) nn::init::zeros_(item.value());
    }
    example_input_array = torch::zeros({1, options.context}, torch::kInt64);
  }

  /// Logits [N, T, vocabulary] of what follows each of the tokens [N, T], T <= context.
  torch::Tensor forward(torch::Tensor tokens) override {
    const int64_t length = tokens.size(1);
    if (length > options().context) throw troupe::UsageError("samples are longer than model.context");
    const auto x = wte_(tokens) + wpe_(torch::arange(length, tokens.options()));
    const auto y = ln_f_(through_blocks(torch::dropout(x, options().dropout, is_training())));
    return torch::linear(y, wte_->weight);  // one weight at both ends (Press & Wolf 2017)
  }

  troupe::StepOutput training_step(const troupe::Batch& batch, int64_t) override { return step(batch, "train"); }
  troupe::StepOutput validation_step(const troupe::Batch& batch, int64_t) override { return step(batch, "val"); }
  /// Writes on from the prompt.
  troupe::StepOutput predict_step(const troupe::Batch& batch, int64_t) override {
    write_on(batch[0], options().generate, options().temperature, [&](const torch::Tensor& text) {
      return forward(text.slice(1, std::max<int64_t>(0, text.size(1) - options().context))).select(1, -1);
    });
    return {};
  }

  /// Matrices decay, biases and layer norms do not. The rate grows linearly, then falls as a cosine to a tenth.
  troupe::Optimizers configure_optimizers() override {
    const auto& o = options();
    std::vector<torch::Tensor> matrices, others;
    for (const auto& each : parameters()) (each.dim() == 2 ? matrices : others).push_back(each);
    const auto adamw = troupe::optim::adamw(
        {{.params = matrices, .weight_decay = o.weight_decay}, {.params = others, .weight_decay = 0.0}},
        {.lr = o.lr, .betas = {0.9, 0.99}});
    const int64_t steps = trainer().estimated_stepping_batches().value_or(int64_t{1} << 40);  // no end: it stays high
    const auto cosine = troupe::lr_schedulers::cosine_annealing(
        adamw, {.T_max = std::max<int64_t>(1, steps - o.warmup_steps), .eta_min = o.lr / 10});
    return {adamw,
            {.scheduler = troupe::lr_schedulers::linear_warmup(adamw, {.warmup_steps = o.warmup_steps}, cosine),
             .interval = troupe::LRSchedulerConfig::Interval::step}};
  }

 private:
  torch::Tensor through_blocks(torch::Tensor x) {
    if (!options().activation_checkpoints) return h_->forward(x);
    for (std::size_t i = 0; i < h_->size(); ++i) {
      x = troupe::activation_checkpoint(
          [block = h_->ptr<gpt::Block>(i)](const torch::Tensor& x) { return block->forward(x); }, x);
    }
    return x;
  }

  troupe::StepOutput step(const troupe::Batch& batch, const std::string& stage) {
    const auto loss = next_byte_loss(forward(batch["input"]), batch["target"]);
    log_dict({{stage + "_loss", loss}, {stage + "_bits", to_bits(loss)}}, {.on_epoch = true, .prog_bar = true});
    return loss;
  }

  torch::nn::Embedding wte_{nullptr}, wpe_{nullptr};
  torch::nn::Sequential h_{nullptr};
  torch::nn::LayerNorm ln_f_{nullptr};
};
