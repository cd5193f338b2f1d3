// Trains a head first, its backbone later.
#pragma once

#include "troupe/modules/callback.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace troupe {

/// Names, meanings and defaults are Lightning's
/// (https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.BackboneFinetuning.html).
struct BackboneFinetuningOptions {
  /// The submodule to freeze, by its path in the module.
  std::string backbone = "backbone";
  /// It is trained from the beginning of this epoch on.
  int64_t unfreeze_backbone_at_epoch = 10;
  /// Factor of the backbone's rate each epoch after that, until it reaches the rate of the others.
  std::function<double(int64_t epoch)> lambda_func = [](int64_t) { return 2.0; };
  /// Its first rate is the present rate of the others times this; `backbone_initial_lr` wins.
  double backbone_initial_ratio_lr = 0.1;
  std::optional<double> backbone_initial_lr = std::nullopt;
  /// Once it has reached the rate of the others, it follows that.
  bool should_align = true;
  /// Layers of batch norm go on to learn their statistics while frozen.
  bool train_bn = true;
};

/// configure_optimizers gives the optimizer the parameters that are trained from the start: those of the head
/// (`trainable(*this)` lists what needs a gradient). When its epoch comes, the backbone's parameters join the first
/// optimizer as a group of their own. A resumed run goes on exactly.
class BackboneFinetuning : public Callback {
 public:
  /// Throws UsageError for options that cannot be.
  explicit BackboneFinetuning(BackboneFinetuningOptions options = {});
  std::shared_ptr<Callback> replicate() const override { return std::make_shared<BackboneFinetuning>(*this); }

  std::string state_key() const override { return "BackboneFinetuning"; }
  nlohmann::json state_dict() const override;
  void load_state_dict(const nlohmann::json& state) override;
  bool has_batch_hooks() const override { return false; }
  /// Throws UsageError where the module has no such submodule, naming the nearest.
  void setup(RunContext& run, Module& module, Stage stage) override;
  void on_train_epoch_start(RunContext& run, Module& module) override;

 private:
  void freeze();
  void unfreeze(double lr);

  BackboneFinetuningOptions options_;
  RunContext* run_ = nullptr;
  std::shared_ptr<torch::nn::Module> backbone_;
  bool is_unfrozen_ = false;
  double lr_ = 0;  // of the backbone's group
};

/// The parameters of `module` that need a gradient.
std::vector<torch::Tensor> trainable(const torch::nn::Module& module);

}  // namespace troupe
