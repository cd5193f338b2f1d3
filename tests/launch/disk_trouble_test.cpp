// Checkpoints that cannot be written, and such that should not be, in whole runs.
#include "tests/support/dam.hpp"
#include "tests/support/ddp.hpp"

#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <condition_variable>
#include <csignal>
#include <fstream>
#include <functional>
#include <limits>
#include <mutex>
#include <semaphore>
#include <variant>

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

// --- A disk that is full ---

// Files end at 4 KiB, which is less than a checkpoint has: the kernel writes what fits, and refuses the rest with
// EFBIG. That holds for root too.
void limit_files(rlim_t bytes) {
  rlimit limit{};
  getrlimit(RLIMIT_FSIZE, &limit);
  limit.rlim_cur = std::min(bytes, limit.rlim_max);
  setrlimit(RLIMIT_FSIZE, &limit);
}
void fill_disk() {
  limit_files(4096);
}
void free_disk() {
  limit_files(RLIM_INFINITY);
}
constexpr const char* full = "File too large";

// --- A folder that belongs to somebody else ---

// Permissions do not bind root, who becomes nobody for a while. Whether it can be done here.
bool forbid(const fs::path& folder) {
  if (geteuid() == 0) return seteuid(65534) == 0;
  fs::permissions(folder, fs::perms::owner_read | fs::perms::owner_exec);
  return true;
}
void allow(const fs::path& folder) {
  if (getuid() == 0) {
    EXPECT_EQ(seteuid(0), 0);
  } else {
    fs::permissions(folder, fs::perms::owner_all);
  }
}

// --- Runs in which something happens ---

// Tells when the answer to a request of `last` has come, which is the latest of each occasion.
struct WatchedOnDisk : ModelCheckpoint {
  using ModelCheckpoint::ModelCheckpoint;
  Decision decide(Moment moment, const Progress& progress, const MetricMap& metrics) override {
    Decision decision = ModelCheckpoint::decide(moment, progress, metrics);
    if (!decision.save.empty() && ++occasions == 3 && at_third_occasion) at_third_occasion();
    return decision;
  }
  void saved(const fs::path& path) override {
    ModelCheckpoint::saved(path);
    if (path == last_model_path()) answers.release();
  }
  void save_failed(const fs::path& path) override {
    ModelCheckpoint::save_failed(path);
    if (path != last_model_path()) return;
    if (++failures == 1 && at_first_failure) at_first_failure();
    answers.release();
  }
  std::counting_semaphore<> answers{0};
  int occasions = 0, failures = 0;
  std::function<void()> at_third_occasion, at_first_failure;
};

// Does something when an epoch begins and all checkpoints so far have been written, or not.
struct Interfering : Net {
  explicit Interfering(NetOptions options = {}) : Net(options) { gain_ = register_buffer("gain", torch::ones({2})); }
  void on_train_epoch_start() override {
    const auto epoch = static_cast<std::size_t>(trainer().progress().epoch);
    if (epoch > 0 && watched) watched->answers.acquire();
    if (epoch < at_epoch.size() && at_epoch[epoch]) at_epoch[epoch](*this, trainer().run_dir() / "checkpoints");
  }
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    log("age", static_cast<double>(trainer().progress().epoch), {.on_step = false, .on_epoch = true});
    return Net::training_step(batch, batch_idx);
  }
  void spoil_a_weight() { net_->parameters()[0].data()[0][0] = std::numeric_limits<double>::quiet_NaN(); }
  // No step changes it, so that it can be mended.
  void set_gain(double value) { gain_[1] = value; }

  using Act = std::function<void(Interfering&, const fs::path&)>;
  static inline std::vector<Act> at_epoch;
  static inline std::shared_ptr<WatchedOnDisk> watched;

 private:
  torch::Tensor gain_;
};

std::vector<std::string> files(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

// Epochs that were behind when it was written. What is damaged throws.
int64_t epochs_in(const fs::path& path) {
  return read_checkpoint(path).metadata.at("progress").at("epoch").get<int64_t>();
}

class DiskTrouble : public ::testing::Test {
 protected:
  DiskTrouble() {
    std::signal(SIGXFSZ, SIG_IGN);  // NOLINT: the error is what is looked for
    options_ = exact(dir_);
    options_.max_epochs = 4;
    keep({.filename = "{epoch}", .save_top_k = 1, .save_last = true});
  }
  ~DiskTrouble() override {
    free_disk();
    Interfering::at_epoch.clear();
    Interfering::watched = nullptr;
  }
  void keep(const ModelCheckpointOptions& options) {
    checkpoint_ = std::make_shared<WatchedOnDisk>(options);
    options_.callbacks = {checkpoint_};
    Interfering::watched = checkpoint_;
  }
  static void at_epoch(std::size_t epoch, Interfering::Act act) {
    Interfering::at_epoch.resize(std::max(epoch + 1, Interfering::at_epoch.size()));
    Interfering::at_epoch[epoch] = std::move(act);
  }
  static void full_at_epoch(std::size_t epoch) {
    at_epoch(epoch, [](Interfering&, const fs::path&) { fill_disk(); });
  }
  static void free_at_epoch(std::size_t epoch) {
    at_epoch(epoch, [](Interfering&, const fs::path&) { free_disk(); });
  }
  // What was said on stderr; what was thrown is in `error_`.
  std::string fit(Trainer& trainer, const RunArguments& arguments = {}) {
    ::testing::internal::CaptureStderr();
    error_ = error_of([&] { trainer.fit<Interfering>({}, DataLoader(samples(16), {.batch_size = 4}), {}, arguments); });
    free_disk();
    return ::testing::internal::GetCapturedStderr();
  }
  static fs::path folder(const Trainer& trainer) { return trainer.run_dir() / "checkpoints"; }

  const TempDir dir_;
  TrainerOptions options_;
  std::shared_ptr<WatchedOnDisk> checkpoint_;
  std::string error_;
};

// --- Stop ---

TEST_F(DiskTrouble, EndsTheRunWithTheFileAndTheCauseAndKeepsTheFormerCheckpoint) {
  full_at_epoch(1);
  Trainer trainer(options_);
  fit(trainer);
  EXPECT_THAT(error_,
              AllOf(HasSubstr(folder(trainer).string()), HasSubstr(full), HasSubstr("(in checkpointer, stage fit")));
  EXPECT_EQ(trainer.failed_checkpoints(), 2);  // the best and the last one
  // What could not be written is not the best: the one before is, and is there.
  EXPECT_EQ(checkpoint_->best_model_path(), folder(trainer) / "epoch=0.safetensors");
  EXPECT_EQ(epochs_in(checkpoint_->best_model_path()), 1);
  EXPECT_EQ(epochs_in(folder(trainer) / "last.safetensors"), 1);
  EXPECT_THAT(files(folder(trainer)), ElementsAre("epoch=0.safetensors", "last.safetensors"));
}

TEST_F(DiskTrouble, GoesOnFromTheFormerCheckpointWhenThereIsSpaceAgain) {
  const TempDir undisturbed;
  auto options = options_;
  options.default_root_dir = undisturbed.path();
  Trainer whole(options);
  fit(whole);
  ASSERT_EQ(error_, "");

  keep({.filename = "{epoch}", .save_top_k = 1, .save_last = true});
  full_at_epoch(2);
  Trainer stopped(options_);
  fit(stopped);
  EXPECT_THAT(error_, HasSubstr(full));
  Interfering::at_epoch.clear();
  Interfering::watched = nullptr;
  Trainer trainer(options_);
  fit(trainer, {.ckpt_path = "auto"});
  EXPECT_EQ(error_, "");
  EXPECT_EQ(trainer.global_step(), 16);
  const auto expected = read_checkpoint(folder(whole) / "last.safetensors");
  const auto found = read_checkpoint(checkpoint_->last_model_path());
  for (const auto& [name, tensor] : expected.tensors) EXPECT_TRUE(torch::equal(tensor, *found.find(name))) << name;
}

TEST_F(DiskTrouble, AFolderThatIsNotOneAnyMoreEndsTheRun) {
  at_epoch(1, [](Interfering&, const fs::path& folder) {
    fs::rename(folder, folder.string() + "_kept");
    std::ofstream(folder) << "in the way";
  });
  Trainer trainer(options_);
  fit(trainer);
  EXPECT_THAT(error_, AllOf(HasSubstr(folder(trainer).string()), HasSubstr("Not a directory")));
  EXPECT_THAT(files(folder(trainer).string() + "_kept"), ElementsAre("epoch=0.safetensors", "last.safetensors"));
}

TEST_F(DiskTrouble, PassesOverADamagedFileAndSaysWhichAndWhy) {
  Trainer first(options_);
  fit(first);
  const auto last = checkpoint_->last_model_path();
  {
    std::fstream file(last, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(-1, std::ios::end);
    const int byte = file.get();
    file.seekp(-1, std::ios::end);
    file.put(static_cast<char>(byte ^ 1));
  }
  Interfering::watched = nullptr;
  options_.max_epochs = 5;
  Trainer trainer(options_);
  const auto said = fit(trainer, {.ckpt_path = "last"});
  EXPECT_EQ(error_, "");
  EXPECT_THAT(said, AllOf(HasSubstr("warning: passed over " + last.string()), HasSubstr("is damaged")));
  EXPECT_EQ(trainer.global_step(), 20);  // from the best one, of the same epoch
}

// --- Continue ---

TEST_F(DiskTrouble, GoesOnToTheEndWhereItIsToldToAndSaysWhatIsMissing) {
  full_at_epoch(1);
  options_.checkpoint_failure = CheckpointFailure::proceed;
  Trainer trainer(options_);
  const auto said = fit(trainer);
  EXPECT_EQ(error_, "");
  EXPECT_EQ(trainer.global_step(), 16);
  // Two an epoch, and `last` once more at the end where the answer to the one before has come by then.
  EXPECT_THAT(trainer.failed_checkpoints(), AnyOf(6, 7));
  EXPECT_THAT(said, AllOf(HasSubstr("warning: a checkpoint is missing, and the run goes on: cannot write '" +
                                    folder(trainer).string()),
                          HasSubstr(full)));
  EXPECT_EQ(checkpoint_->best_model_path(), folder(trainer) / "epoch=0.safetensors");
  EXPECT_EQ(trainer.best_model_path(), checkpoint_->best_model_path());
  EXPECT_EQ(epochs_in(checkpoint_->best_model_path()), 1);
  EXPECT_EQ(epochs_in(checkpoint_->last_model_path()), 1);
  EXPECT_THAT(files(folder(trainer)), ElementsAre("epoch=0.safetensors", "last.safetensors"));
}

TEST_F(DiskTrouble, WritesAgainWhenItCanAndRemovesWhatWasToBeReplacedMeanwhile) {
  full_at_epoch(1);
  free_at_epoch(3);
  options_.checkpoint_failure = CheckpointFailure::proceed;
  Trainer trainer(options_);
  fit(trainer);
  EXPECT_EQ(error_, "");
  EXPECT_EQ(trainer.failed_checkpoints(), 4);
  EXPECT_EQ(checkpoint_->best_model_path(), folder(trainer) / "epoch=3.safetensors");
  EXPECT_THAT(files(folder(trainer)), ElementsAre("epoch=3.safetensors", "last.safetensors"));
  EXPECT_EQ(epochs_in(checkpoint_->best_model_path()), 4);
  EXPECT_EQ(epochs_in(checkpoint_->last_model_path()), 4);
}

TEST_F(DiskTrouble, WithoutPermissionItGoesOnAndWritesAgainWhenItHasIt) {
  bool is_possible = true;
  at_epoch(1, [&](Interfering&, const fs::path& folder) { is_possible = forbid(folder); });
  at_epoch(2, [](Interfering&, const fs::path& folder) { allow(folder); });
  options_.checkpoint_failure = CheckpointFailure::proceed;
  Trainer trainer(options_);
  const auto said = fit(trainer);
  if (!is_possible) GTEST_SKIP() << "this process may not become another user's";
  EXPECT_EQ(error_, "");
  EXPECT_EQ(trainer.failed_checkpoints(), 2);
  EXPECT_THAT(said, AllOf(HasSubstr(folder(trainer).string()), HasSubstr("Permission denied")));
  EXPECT_THAT(files(folder(trainer)), ElementsAre("epoch=3.safetensors", "last.safetensors"));
  EXPECT_EQ(epochs_in(checkpoint_->best_model_path()), 4);
}

TEST_F(DiskTrouble, AFileThatReplacesItselfStaysTheBest) {
  keep({.filename = "best", .save_top_k = 1, .save_last = true});
  full_at_epoch(1);
  free_at_epoch(3);
  options_.checkpoint_failure = CheckpointFailure::proceed;
  Trainer trainer(options_);
  fit(trainer);
  EXPECT_EQ(error_, "");
  EXPECT_EQ(trainer.failed_checkpoints(), 4);
  EXPECT_THAT(files(folder(trainer)), ElementsAre("best.safetensors", "last.safetensors"));
  EXPECT_EQ(epochs_in(checkpoint_->best_model_path()), 4);
}

// --- A decision made while the file before is still being written ---

// The checkpoint of the second epoch is held back until the one of the third has been decided on, and then fails.
class SlowDisk : public DiskTrouble {
 protected:
  SlowDisk() {
    options_.max_epochs = 3;
    options_.loggers = {};
    options_.sinks = {dam_};
    at_epoch(1, [this](Interfering&, const fs::path&) {
      Interfering::watched = nullptr;  // the third epoch does not wait for it
      dam_->set_open(false);
      fill_disk();
    });
    open_at_third_occasion();
  }
  void open_at_third_occasion() {
    checkpoint_->at_third_occasion = [this] { dam_->set_open(true); };
  }
  const std::shared_ptr<Dam> dam_ = std::make_shared<Dam>();
};

TEST_F(SlowDisk, WhatALaterFileReplacesTooIsRemovedWithIt) {
  options_.checkpoint_failure = CheckpointFailure::proceed;
  checkpoint_->at_first_failure = free_disk;
  Trainer trainer(options_);
  fit(trainer);
  EXPECT_EQ(error_, "");
  EXPECT_EQ(trainer.failed_checkpoints(), 2);
  EXPECT_EQ(checkpoint_->best_model_path(), folder(trainer) / "epoch=2.safetensors");
  EXPECT_THAT(files(folder(trainer)), ElementsAre("epoch=2.safetensors", "last.safetensors"));
}

TEST_F(SlowDisk, AFileThatReplacesItselfKeepsTheScoreOfWhatIsInIt) {
  keep({.filename = "best", .monitor = "age", .mode = MonitorMode::max, .save_top_k = 1, .save_last = true});
  open_at_third_occasion();
  options_.checkpoint_failure = CheckpointFailure::proceed;
  checkpoint_->at_first_failure = free_disk;
  Trainer trainer(options_);
  fit(trainer);
  EXPECT_EQ(error_, "");
  EXPECT_EQ(trainer.failed_checkpoints(), 2);
  EXPECT_EQ(epochs_in(checkpoint_->best_model_path()), 3);
  EXPECT_EQ(checkpoint_->best_model_score(), 2);
}

TEST_F(SlowDisk, TheFormerOneIsTheBestAgainAfterTwoFailures) {
  options_.checkpoint_failure = CheckpointFailure::proceed;
  Trainer trainer(options_);
  fit(trainer);
  EXPECT_EQ(error_, "");
  EXPECT_THAT(trainer.failed_checkpoints(), AnyOf(4, 5));
  EXPECT_EQ(checkpoint_->best_model_path(), folder(trainer) / "epoch=0.safetensors");
  EXPECT_THAT(files(folder(trainer)), ElementsAre("epoch=0.safetensors", "last.safetensors"));
}

TEST_F(SlowDisk, WhatIsNeverWrittenSinceTheRunEndsIsNotTheBest) {
  Trainer trainer(options_);
  fit(trainer);
  EXPECT_THAT(error_, HasSubstr(full));
  EXPECT_EQ(checkpoint_->best_model_path(), folder(trainer) / "epoch=0.safetensors");
  EXPECT_EQ(trainer.best_model_path(), checkpoint_->best_model_path());
  EXPECT_THAT(files(folder(trainer)), ElementsAre("epoch=0.safetensors", "last.safetensors"));
}

// --- Weights that are not finite ---

bool is_finite(const fs::path& path, const char* name) {
  return torch::isfinite(*read_checkpoint(path).find(name)).all().item<bool>();
}

TEST_F(DiskTrouble, WeightsThatAreNotFiniteTakeNoPlaceAmongTheBest) {
  at_epoch(1, [](Interfering& module, const fs::path&) { module.spoil_a_weight(); });
  Trainer trainer(options_);
  const auto said = fit(trainer);
  EXPECT_EQ(error_, "");
  EXPECT_THAT(said, HasSubstr((folder(trainer) / "epoch=1.safetensors").string() +
                              " is not written: net.0.weight is not finite"));
  EXPECT_EQ(trainer.failed_checkpoints(), 0);
  EXPECT_EQ(checkpoint_->best_model_path(), folder(trainer) / "epoch=0.safetensors");
  EXPECT_THAT(files(folder(trainer)), ElementsAre("epoch=0.safetensors", "last.safetensors"));
  EXPECT_TRUE(is_finite(checkpoint_->best_model_path(), "model.net.0.weight"));
  // The newest state is the user's to look at.
  EXPECT_FALSE(is_finite(checkpoint_->last_model_path(), "model.net.0.weight"));
  EXPECT_EQ(epochs_in(checkpoint_->last_model_path()), 4);
}

TEST_F(DiskTrouble, WeightsThatAreFiniteAgainAreKeptAgain) {
  keep({.filename = "{epoch}", .save_top_k = 2, .save_last = true});
  at_epoch(1, [](Interfering& module, const fs::path&) { module.set_gain(std::numeric_limits<double>::infinity()); });
  at_epoch(3, [](Interfering& module, const fs::path&) { module.set_gain(1); });
  Trainer trainer(options_);
  const auto said = fit(trainer);
  EXPECT_EQ(error_, "");
  for (const char* name : {"epoch=1", "epoch=2"}) {
    EXPECT_THAT(said, HasSubstr(std::string(name) + ".safetensors is not written: gain is not finite"));
  }
  EXPECT_THAT(said, Not(HasSubstr("epoch=3")));
  EXPECT_THAT(files(folder(trainer)), ElementsAre("epoch=0.safetensors", "epoch=3.safetensors", "last.safetensors"));
}

TEST_F(DiskTrouble, ARunThatGoesOnFromWeightsThatAreNotFiniteKnowsTheBestOnes) {
  options_.max_epochs = 2;
  at_epoch(1, [](Interfering& module, const fs::path&) { module.set_gain(std::numeric_limits<double>::infinity()); });
  Trainer first(options_);
  fit(first);
  EXPECT_EQ(epochs_in(checkpoint_->last_model_path()), 2);

  keep({.filename = "{epoch}", .save_top_k = 1, .save_last = true});
  Interfering::watched = nullptr;
  Interfering::at_epoch.clear();
  options_.max_epochs = 3;
  Trainer second(options_);
  fit(second, {.ckpt_path = "last"});
  EXPECT_EQ(error_, "");
  EXPECT_EQ(second.global_step(), 12);
  EXPECT_EQ(checkpoint_->best_model_path(), folder(first) / "epoch=0.safetensors");
}

}  // namespace
}  // namespace troupe
