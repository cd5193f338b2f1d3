// A running average of the weights: EMA and SWA.
#pragma once

#include "troupe/modules/callback.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

struct WeightAveragingOptions {
  /// Weight of the old average in an exponential moving average (Polyak & Juditsky 1992; "EMA"), in [0, 1). Unset: all
  /// averaged weights count the same (stochastic weight averaging, Izmailov et al. 2018; "SWA").
  std::optional<double> decay = std::nullopt;
  /// Average after this many optimizer steps; 0: after every epoch.
  int64_t update_every_n_steps = 1;
  /// From this global step and this epoch on.
  int64_t update_starting_at_step = 0;
  int64_t update_starting_at_epoch = 0;
  /// Average buffers too, such as the statistics of batch norm; else the present ones are used. Whole numbers are never
  /// averaged.
  bool use_buffers = true;
};

/// Validation sees the average, the training the weights themselves; when training ends, the module has the average. A
/// checkpoint's model is the average, with the weights themselves beside it, so a resumed run goes on exactly.
/// Lightning's WeightAveraging and EMAWeightAveraging
/// (https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.WeightAveraging.html) have these names;
/// the statistics of batch norm are averaged and not computed anew.
///
/// Averages of weights of 16 bits are held in float32, where small changes are not lost; in Lightning they have the
/// weights' type. A weight that layers share is averaged once. A run may have one WeightAveraging, since one average
/// can be what validation sees.
class WeightAveraging : public Callback {
 public:
  /// Throws UsageError for invalid options.
  explicit WeightAveraging(WeightAveragingOptions options = {});
  std::shared_ptr<Callback> replicate() const override { return std::make_shared<WeightAveraging>(options_); }

  /// How often weights went into the average.
  int64_t updates() const { return updates_; }

  std::string state_key() const override { return "WeightAveraging"; }
  nlohmann::json state_dict() const override { return {{"updates", updates_}, {"step", last_step_}}; }
  void load_state_dict(const nlohmann::json& state) override;
  std::vector<std::pair<std::string, torch::Tensor>> state_tensors() const override;
  void load_state_tensors(const std::vector<std::pair<std::string, torch::Tensor>>& tensors) override;

  void on_snapshot_start(Module& module) override;
  void on_snapshot_end(Module& module) override;
  void on_pretrain_routine_start(RunContext& run, Module& module) override;
  void on_train_batch_end(RunContext& run, Module& module, const StepOutput& output, const Batch& batch,
                          int64_t batch_idx) override;
  void on_train_epoch_end(RunContext& run, Module& module) override;
  void on_validation_start(RunContext& run, Module& module) override;
  void on_validation_end(RunContext& run, Module& module) override;
  void on_train_end(RunContext& run, Module& module) override;
  void on_exception(RunContext& run, Module& module, const Failure& failure) override;

 private:
  struct Entry {
    std::vector<std::string> names;  // of the weight, which layers may share
    torch::Tensor live, average;     // with narrow weights: the average is of another type
    torch::Tensor kept;              // of narrow weights, while the module has the average: the weights themselves

    bool is_narrow() const { return live.scalar_type() != average.scalar_type(); }
  };
  void update();
  void swap();
  static void swap(Entry& entry, bool back);

  WeightAveragingOptions options_;
  std::vector<Entry> entries_;
  int64_t updates_ = 0;
  int64_t last_step_ = 0;    // the global step of the latest update
  bool is_swapped_ = false;  // the module has the average
  bool is_snapshot_ = false;
};

}  // namespace troupe
