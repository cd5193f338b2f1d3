// What comes between a checkpoint and the disk, when checkpoints are asked for faster than they are written.
#include "tests/support/dam.hpp"
#include "tests/support/ddp.hpp"

#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>

namespace troupe {
namespace {

struct OpensTheDam : Net {
  using Net::Net;
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    if (trainer().progress().global_step == 16) dam->set_open(true);
    log("loss", error(batch), {.on_step = true});
    return Net::training_step(batch, batch_idx);
  }
  static inline std::shared_ptr<Dam> dam;
};

TEST(Backpressure, SkipsCheckpointsOfStepsWhileOneIsBeingWrittenAndCountsThem) {
  const TempDir dir;
  auto options = exact(dir);
  options.max_epochs = 4;
  options.log_every_n_steps = 1;
  options.checkpoint_backpressure = CheckpointBackpressure::skip;
  OpensTheDam::dam = std::make_shared<Dam>();
  OpensTheDam::dam->set_open(false);
  options.loggers = {};
  options.sinks = {OpensTheDam::dam};
  options.callbacks = {std::make_shared<ModelCheckpoint>(
      ModelCheckpointOptions{.save_top_k = -1, .save_last = true, .every_n_train_steps = 2})};
  Trainer trainer(options);
  trainer.fit<OpensTheDam>({}, DataLoader(samples(40), {.batch_size = 4}));
  // That of step 2 waits before the dam until step 16; at 4, 6, ... none is written.
  EXPECT_GE(trainer.skipped_checkpoints(), 6);
  EXPECT_LE(trainer.skipped_checkpoints(), 19);
  std::size_t files = 0;
  bool has_last = false;
  for (const auto& entry : std::filesystem::directory_iterator(trainer.run_dir() / "checkpoints")) {
    (void)read_checkpoint(entry.path());
    const bool is_last = entry.path().filename() == "last.safetensors";
    has_last |= is_last;
    files += is_last ? 0 : 1;
  }
  EXPECT_TRUE(has_last);
  EXPECT_EQ(static_cast<int64_t>(files) + trainer.skipped_checkpoints(), 20);
  const auto last = read_checkpoint_metadata(trainer.run_dir() / "checkpoints" / "last.safetensors");
  EXPECT_EQ(last.at("progress").at("global_step"), 40);
}

}  // namespace
}  // namespace troupe
