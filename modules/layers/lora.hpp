// Low-rank adapters: fine-tuning that trains and saves a small part of a model.
#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/options/linear.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// Names are peft's (https://huggingface.co/docs/peft/package_reference/lora), `layers` but for: its target_modules.
struct LoraOptions {
  /// Patterns of the names of layers, separated by '|': `*` stands for any text, dots included, `?` for one character.
  std::string layers = "*";
  int64_t r = 8;            ///< rank of what is added to a weight: from 1 to the smaller of its two sizes
  double lora_alpha = 8;    ///< what is added is scaled by lora_alpha / r; above 0
  double lora_dropout = 0;  ///< of the adapter's input in training, in [0, 1)
};

/// torch::nn::Linear that can take an adapter: the same names, first values and results without one. With one
///
///     y = x W^T + b + lora_alpha / r * dropout(x) A^T B^T
///
/// (Hu et al. 2021, https://arxiv.org/abs/2106.09685), with A [r, in] as lora_A.weight and B [out, r] as lora_B.weight,
/// peft's names. B begins as zeros, so that a new adapter changes nothing.
class LoraLinearImpl : public torch::nn::Cloneable<LoraLinearImpl> {
 public:
  LoraLinearImpl(int64_t in_features, int64_t out_features)
      : LoraLinearImpl(torch::nn::LinearOptions(in_features, out_features)) {}
  explicit LoraLinearImpl(const torch::nn::LinearOptions& options);

  void reset() override;
  /// What is frozen stays so, which torch::nn::Cloneable forgets.
  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>& device = std::nullopt) const override;
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;
  /// [*, in] to [*, out]. Throws UsageError when a merged adapter is to be trained.
  torch::Tensor forward(const torch::Tensor& input);

  bool has_adapter() const { return r_ > 0; }
  bool is_merged() const { return is_merged_; }
  /// Throws UsageError if it has one already, and for options out of their range. `name`: of the layer, in messages.
  void check_adapter(const std::string& name, const LoraOptions& options) const;
  void add_adapter(const LoraOptions& options);
  /// Adds the adapter's product to the weight, or takes it off; nothing if that is so already.
  void merge();
  void unmerge();
  /// The weight with the adapter in it, a tensor of its own.
  torch::Tensor merged_weight() const;
  /// lora_A.weight and lora_B.weight; empty without an adapter.
  std::vector<torch::Tensor> adapter() const;

  torch::nn::LinearOptions options;
  torch::Tensor weight, bias;

 private:
  torch::Tensor product() const;
  void make_adapter();

  int64_t r_ = 0;
  double scale_ = 1, dropout_ = 0;
  bool is_merged_ = false;
  torch::nn::Linear lora_a_{nullptr}, lora_b_{nullptr};
};
TORCH_MODULE(LoraLinear);

/// Gives the layers whose names fit the patterns an adapter each. From then on only the adapters need gradients, and of
/// a troupe::Module checkpoints have what is trained and the buffers (Module::save_only_trainable): whoever loads one
/// makes the module with its base weights first, as its constructor does:
///
///     Tuned(const TunedOptions& o) : ModuleWith(o) {
///       net_ = register_module("net", ...);               // with troupe::LoraLinear in place of torch::nn::Linear
///       load_weights(*this, o.weights);                    // the base: before its names get others beside them
///       add_lora(*this, {.layers = "*.c_attn", .r = 4, .lora_alpha = 8});
///     }
///     Optimizers configure_optimizers() override { return optim::adamw(trainable(*this)); }
///
/// Returns the names of these layers. Called by the thread that owns the module, before optimizers are made.
///
/// Throws UsageError, and changes nothing, for a pattern that fits no layer, or layers that cannot take an adapter
/// alone, with the nearest that can; for a rank of 0 or above the layer's smaller size; and for a layer that has one.
std::vector<std::string> add_lora(torch::nn::Module& module, const LoraOptions& options = {});

/// Puts all adapters into the weights, which then compute by themselves, and takes them out again, to rounding (1e-6 of
/// a weight in float32). Throw UsageError if the module has no adapter.
void merge_lora(torch::nn::Module& module);
void unmerge_lora(torch::nn::Module& module);

/// Parameters and buffers of the model without adapters, by name, with the adapters in the weights: copies of these,
/// the others as they are. For write_safetensors and load_weights. Throws UsageError if the module has no adapter.
std::vector<std::pair<std::string, torch::Tensor>> merged_tensors(const torch::nn::Module& module);

}  // namespace troupe
