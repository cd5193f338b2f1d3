// Trains a head first, its backbone later.
#pragma once

#include "troupe/modules/callback.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

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
  /// True: layers of batch norm, and instance norm with running statistics, go on to be trained and to learn these
  /// while the rest is frozen. False: they are frozen too, and in eval mode until the backbone is trained: they use
  /// their statistics and leave them alone. In Lightning they use those of the batch then, and instance norm is none of
  /// them.
  bool train_bn = true;
};

/// configure_optimizers gives the optimizer the parameters that are trained from the start: those of the head
/// (`trainable(*this)` lists what needs a gradient). When its epoch comes, the backbone's parameters join the first
/// optimizer as a group of their own. Those that an optimizer has from the start (`parameters()`) are taken out of its
/// groups before training and join the same optimizer; Lightning leaves them where they are, with the rate of the
/// others. A resumed run goes on exactly. Several, each with a backbone of its own, keep out of each other's way;
/// backbones that have a parameter in common are refused before training, since it would be in two groups.
class BackboneFinetuning : public Callback {
 public:
  /// Throws UsageError for invalid options.
  explicit BackboneFinetuning(BackboneFinetuningOptions options = {});
  std::shared_ptr<Callback> replicate() const override { return std::make_shared<BackboneFinetuning>(*this); }

  std::string state_key() const override { return "BackboneFinetuning{'backbone': '" + options_.backbone + "'}"; }
  nlohmann::json state_dict() const override;
  void load_state_dict(const nlohmann::json& state) override;
  bool has_batch_hooks() const override { return false; }
  /// Throws UsageError if the module has no such submodule, naming the nearest.
  void setup(RunContext& run, Module& module, Stage stage) override;
  void teardown(RunContext& run, Module& module, Stage stage) override;
  /// Throws UsageError for an optimizer that takes one group only (LBFGS).
  void on_pretrain_routine_start(RunContext& run, Module& module) override;
  void on_pretrain_routine_end(RunContext& run, Module& module) override;
  void on_train_epoch_start(RunContext& run, Module& module) override;
  /// Of those among the callbacks that are set up: throws UsageError if two have a parameter in common.
  static void check_apart(const std::vector<std::shared_ptr<Callback>>& callbacks);

 private:
  /// The backbone's parameters in one optimizer.
  struct Share {
    std::size_t optimizer = 0;
    std::vector<torch::Tensor> parameters = {};
    std::size_t others = 0;  // the group whose rate is that of the others
    std::size_t group = 0;   // its own, once it is trained
    double lr = 0;           // of that group
  };
  void freeze();
  void rest();
  void wake();
  void join(Share& share, std::size_t group, double lr) const;
  double rate_of_others(const Share& share) const;

  BackboneFinetuningOptions options_;
  RunContext* run_ = nullptr;
  std::shared_ptr<torch::nn::Module> backbone_;
  std::vector<Share> shares_;
  std::vector<std::shared_ptr<torch::nn::Module>> resting_;  // layers put into eval mode here
  bool is_unfrozen_ = false;
  int64_t epoch_ = -1;  // whose beginning has set the rates: a run may go on within it, and begins it again
};

/// The parameters of `module` that need a gradient, each once.
std::vector<torch::Tensor> trainable(const torch::nn::Module& module);

}  // namespace troupe
