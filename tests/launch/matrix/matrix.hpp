// One combination: the straight run against the loop by hand, and the run that stopped and was resumed against the
// straight one.
#pragma once

#include "tests/launch/matrix/model.hpp"

#include <gmock/gmock.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace troupe::matrix {

struct Ended {
  torch::Tensor weights;
  MetricMap metrics;
  int64_t global_step = 0;
  CapturedSteps captured;
};

inline PartsOptions parts_options(const Combination& c) {
  constexpr std::array names = {"automatic", "several", "manual", "manual_several"};
  return {.optimization = names[static_cast<std::size_t>(c.optimization)], .window = c.accumulate};
}

/// `root`: where runs lie, the same on all ranks.
inline TrainerOptions trainer_options(const Combination& c, const std::filesystem::path& root) {
  TrainerOptions options{.max_epochs = epochs, .seed = 7, .default_root_dir = root};
  options.accelerator = Accelerator::cpu;
  options.precision = c.precision;
  options.devices = c.devices;
  options.strategy = c.strategy;
  options.num_threads = 1;
  options.collective_timeout = 60;
  options.num_sanity_val_steps = 0;
  options.enable_progress_bar = options.enable_model_summary = false;
  if (!c.is_manual()) {
    options.accumulate_grad_batches = c.accumulate;
    options.gradient_clip_val = clip;
  }
  if (c.extra == Extra::averages) {
    options.callbacks.push_back(std::make_shared<WeightAveraging>(WeightAveragingOptions{.decay = decay}));
  } else if (c.extra == Extra::finetuning) {
    options.callbacks.push_back(std::make_shared<BackboneFinetuning>(
        BackboneFinetuningOptions{.unfreeze_backbone_at_epoch = unfreeze_at, .backbone_initial_lr = backbone_lr}));
  } else if (c.extra == Extra::early_stopping) {
    options.callbacks.push_back(
        std::make_shared<EarlyStopping>(EarlyStoppingOptions{.monitor = "plateau", .patience = 1}));
  }
  return options;
}

/// Batches of a rank, of `ranks` in all.
inline DataLoader loader(const Combination& c, int64_t ranks) {
  return {std::make_shared<TensorDataset>(inputs().to(data_type(c)), targets().to(data_type(c))),
          {.batch_size = batch_size / ranks}};
}

inline Ended fit(const Combination& c, TrainerOptions options, int64_t ranks, std::optional<std::string> from = {}) {
  Trainer trainer(std::move(options));
  const auto parts = trainer.fit<Parts>(parts_options(c), loader(c, ranks), loader(c, ranks), {.ckpt_path = from});
  return {parts->weights(), trainer.callback_metrics(), trainer.global_step(), trainer.captured()};
}

/// Steps of optimizers after which max_steps ends a run, or a checkpoint is taken: in the middle of epoch 1.
inline int64_t steps_to_the_middle(const Combination& c) {
  const int64_t per_epoch = (batches + c.accumulate - 1) / c.accumulate;
  return (per_epoch + 1) * (c.has_several() ? 2 : 1);
}

/// A run that ends in the middle of epoch 1, below `root`; the checkpoint to go on from.
inline std::string stopped(const Combination& c, const std::filesystem::path& root, int64_t ranks) {
  auto options = trainer_options(c, root);
  ModelCheckpointOptions keep{.dirpath = root / "kept", .filename = "{step}", .save_last = true};
  if (c.stop == Stop::checkpoint) {
    keep = {.dirpath = root / "kept",
            .filename = "{step}",
            .save_top_k = -1,
            .every_n_train_steps = steps_to_the_middle(c)};
  }
  options.callbacks.push_back(std::make_shared<ModelCheckpoint>(keep));
  if (c.stop == Stop::max_steps) options.max_steps = steps_to_the_middle(c);
  asks_to_stop = c.stop == Stop::request;
  raises_signal = c.stop == Stop::signal;
  fit(c, options, ranks);
  asks_to_stop = raises_signal = false;
  const std::string step = "step=" + std::to_string(steps_to_the_middle(c));
  return (root / "kept" / (c.stop == Stop::checkpoint ? step + ".safetensors" : "last.safetensors")).string();
}

/// Runs below `root`, an empty folder that is the same on all ranks.
inline void check(const Combination& c, const std::filesystem::path& root, int64_t ranks) {
  auto options = trainer_options(c, root / "straight");
  Trainer trainer(options);
  const auto parts = trainer.fit<Parts>(parts_options(c), loader(c, ranks), loader(c, ranks));
  const auto weights = parts->weights();

  HandLoop hand(c, parts->start);
  const auto expected = hand.train();
  std::vector<torch::Tensor> start;
  for (const auto& tensor : parts->start) start.push_back(tensor.flatten().to(torch::kFloat64));
  const double way = (expected - torch::cat(start)).norm().item<double>();
  const double difference = (weights - expected).norm().item<double>() / way;
  EXPECT_LE(difference, tolerance(c.precision));

  const auto from = stopped(c, root / "cut", ranks);
  const auto resumed = fit(c, trainer_options(c, root / "resumed"), ranks, from);
  EXPECT_EQ((resumed.weights - weights).abs().max().item<double>(), 0);
  EXPECT_EQ(resumed.metrics, trainer.callback_metrics());
  EXPECT_EQ(resumed.global_step, trainer.global_step());

  if (divides_gradients(c.strategy)) return;  // their steps are not captured
  using ::testing::Contains, ::testing::HasSubstr, ::testing::Not, ::testing::StartsWith;
  // The same with steps that are captured: from the beginning, and from a checkpoint that knows nothing of it.
  const auto expect_captured = [&](const std::string& folder, const std::optional<std::string>& checkpoint) {
    auto capturing = trainer_options(c, root / folder);
    capturing.capture_step = CaptureStep::automatic;
    const auto captured = fit(c, capturing, ranks, checkpoint);
    EXPECT_EQ((captured.weights - weights).abs().max().item<double>(), 0) << folder;
    EXPECT_EQ(captured.metrics, trainer.callback_metrics()) << folder;
    if (c.is_manual() && c.devices * ranks > 1) {
      EXPECT_THAT(captured.captured.refusals, Contains(HasSubstr("manual optimization averages gradients of several")));
      return;
    }
    // Few steps may be left to one that is resumed, and of steps by hand each batch of a long window is a kind.
    if (!checkpoint && !(c.is_manual() && c.accumulate > 2)) {
      EXPECT_GT(captured.captured.replays(), 0);
    }
    EXPECT_THAT(captured.captured.refusals, Not(Contains(StartsWith("training_step")))) << folder;
  };
  expect_captured("captured", std::nullopt);
  expect_captured("captured_resumed", from);
}

}  // namespace troupe::matrix
