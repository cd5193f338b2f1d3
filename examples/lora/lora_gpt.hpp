// A GPT of examples/gpt, trained already, that learns a new text with low-rank adapters.
#pragma once

#include "../gpt/gpt.hpp"

#include <troupe/troupe.hpp>

#include <filesystem>
#include <memory>
#include <string>

struct LoraGptOptions {
  std::filesystem::path weights = {};
  std::string layers = "*.c_attn|*.mlp.c_fc";
  int64_t r = 8;
  double lora_alpha = 16, lora_dropout = 0.05, lr = 3e-3;
  std::filesystem::path merged = {};
};
TROUPE_OPTIONS(LoraGptOptions, (weights, "checkpoint of gpt's fit: the base, which stays as it is"),
               (layers, "patterns of the layers that get an adapter, separated by |"), (r, "rank of the adapters"),
               (lora_alpha, "what they add is scaled by lora_alpha / r"),
               (lora_dropout, "share of their inputs that is left out in training"), (lr, "rate of AdamW"),
               (merged, "file of torch.save that gets the base with the adapters in its weights, at the end of fit"))

class LoraGpt : public Gpt {
 public:
  using Options = LoraGptOptions;
  explicit LoraGpt(const LoraGptOptions& options) : LoraGpt(options, base_of(options)) {}

  /// The adapters alone are trained, and are all that a checkpoint has.
  troupe::Optimizers configure_optimizers() override {
    return troupe::optim::adamw(troupe::trainable(*this), {.lr = lora_.lr, .weight_decay = 0});
  }
  void on_fit_end() override {
    if (!lora_.merged.empty() && global_rank() == 0) troupe::write_pth(troupe::merged_tensors(*this), lora_.merged);
  }

 private:
  LoraGpt(const LoraGptOptions& options, const std::shared_ptr<Gpt>& base) : Gpt(base->options()), lora_(options) {
    save_hyperparameters(lora_);
    troupe::load_weights(*this, troupe::named_model_tensors(*base));
    troupe::add_lora(*this, {.layers = options.layers,
                             .r = options.r,
                             .lora_alpha = options.lora_alpha,
                             .lora_dropout = options.lora_dropout});
  }
  static std::shared_ptr<Gpt> base_of(const LoraGptOptions& options) {
    if (options.weights.empty()) {
      throw troupe::UsageError(
          "model.weights is empty; give a checkpoint of gpt's fit, such as "
          "runs/gpt/version_0/checkpoints/last.safetensors");
    }
    return troupe::load_from_checkpoint<Gpt>(options.weights);
  }

  LoraGptOptions lora_;
};
