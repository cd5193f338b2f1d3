// GPT-2 (Radford et al. 2019) on bytes. Parameters have the names and first values of nanoGPT
// (https://github.com/karpathy/nanoGPT), so that weights go both ways; its lm_head.weight is transformer.wte.weight.
#pragma once

#include "../char_rnn/text_data.hpp"
#include "gpt_options.hpp"
#include "hugging_face.hpp"

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

namespace gpt {
namespace nn = torch::nn;

/// Each token gathers from itself and those before it.
class Attention : public nn::Module {
 public:
  explicit Attention(const GptOptions& o) : heads_(o.heads), dropout_(o.dropout) {
    if (o.heads < 1 || o.width % o.heads != 0) {
      int64_t nearest = std::clamp<int64_t>(o.heads, 1, std::max<int64_t>(1, o.width));
      while (o.width % nearest != 0) --nearest;
      throw troupe::UsageError("model.heads = " + std::to_string(o.heads) + " does not divide model.width = " +
                               std::to_string(o.width) + "; " + std::to_string(nearest) + " does");
    }
    c_attn_ = register_module("c_attn", troupe::LoraLinear(o.width, 3 * o.width));
    c_proj_ = register_module("c_proj", troupe::LoraLinear(o.width, o.width));
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
  troupe::LoraLinear c_attn_{nullptr}, c_proj_{nullptr};  // examples/lora gives them adapters
};

class Block : public nn::Module {
 public:
  explicit Block(const GptOptions& o) {
    ln_1_ = register_module("ln_1", nn::LayerNorm(nn::LayerNormOptions({o.width})));
    attn_ = register_module("attn", std::make_shared<Attention>(o));
    ln_2_ = register_module("ln_2", nn::LayerNorm(nn::LayerNormOptions({o.width})));
    const auto gelu = nn::GELUOptions().approximate(o.activation == GptActivation::gelu ? "none" : "tanh");
    mlp_ = register_module("mlp", nn::Sequential({{"c_fc", troupe::LoraLinear(o.width, 4 * o.width)},
                                                  {"gelu", nn::GELU(gelu)},
                                                  {"c_proj", troupe::LoraLinear(4 * o.width, o.width)},
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
  explicit Gpt(const GptOptions& given) : ModuleWith(own_options(given)), save_pretrained_(given.save_pretrained) {
    namespace nn = torch::nn;
    const auto& options = this->options();
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
    if (!given.from_pretrained.empty()) {
      gpt::load_pretrained(*this, given.from_pretrained);
      token_ids_ = gpt::PretrainedConfig(given.from_pretrained).token_ids();
    }
    example_input_array = torch::zeros({1, options.context}, torch::kInt64);
  }

  /// Logits [N, T, vocabulary] of what follows each of the tokens [N, T], T <= context.
  torch::Tensor forward(torch::Tensor tokens) override {
    const int64_t length = tokens.size(1);
    if (length > options().context) {
      const auto most = std::to_string(options().context);
      throw troupe::UsageError("samples of " + std::to_string(length) + " tokens are longer than model.context = " +
                               most + "; set data.length = " + most + ", or less");
    }
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

  void setup(troupe::Stage) override {
    if (!save_pretrained_.empty()) gpt::make_folder(save_pretrained_);  // fails before the training
  }
  /// They belong to the tokenizer's vocabulary and not to the sizes: kept beside the options.
  void on_save_checkpoint(nlohmann::json& checkpoint) override { checkpoint["token_ids"] = token_ids_; }
  void on_load_checkpoint(const nlohmann::json& checkpoint) override {
    const auto saved = checkpoint.value("token_ids", nlohmann::json::object());
    if (saved.is_object() && !saved.empty()) token_ids_ = saved;
  }
  void on_fit_end() override { save_pretrained(); }
  void on_validation_end() override {
    if (trainer().stage() == troupe::Stage::validate) save_pretrained();
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
  /// A checkpoint stands on its own: with the sizes, without the folders.
  static GptOptions own_options(const GptOptions& given) {
    if (given.max_shard_bytes < 1) {
      throw troupe::UsageError("model.max_shard_bytes = " + std::to_string(given.max_shard_bytes) +
                               "; it is 1 at least, and 5000000000 by default");
    }
    auto own = gpt::with_pretrained_sizes(given);
    own.from_pretrained.clear(), own.save_pretrained.clear();
    return own;
  }
  void save_pretrained() const {
    if (save_pretrained_.empty() || global_rank() != 0) return;
    gpt::save_pretrained(*this, options(), save_pretrained_, token_ids_);
  }

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

  std::filesystem::path save_pretrained_;
  nlohmann::json token_ids_ = nlohmann::json::object();
  torch::nn::Embedding wte_{nullptr}, wpe_{nullptr};
  torch::nn::Sequential h_{nullptr};
  torch::nn::LayerNorm ln_f_{nullptr};
};
