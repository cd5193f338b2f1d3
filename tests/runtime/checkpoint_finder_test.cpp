#include "troupe/runtime/checkpoint/checkpoint_finder.hpp"

#include "tests/runtime/temp_dir.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <fstream>

namespace troupe {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

void save(const fs::path& path, double saved_at, int64_t global_step = 0, const std::string& best = "") {
  Checkpoint checkpoint;
  checkpoint.tensors.emplace_back("model.weight", torch::ones(4));
  checkpoint.metadata = {{"saved_at", saved_at}, {"global_step", global_step}};
  if (!best.empty()) checkpoint.metadata["callbacks"]["ModelCheckpoint{}"] = {{"best_model_path", best}};
  write_checkpoint(checkpoint, path);
}

/// Flips the last bit of the tensor's last byte: the header stays right.
void damage(const fs::path& path) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-1, std::ios::end);
  file.put('\x01');
}

template <class Find>
std::string error_of(Find find, const fs::path& root) {
  try {
    find(root);
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(CheckpointFinder, TakesTheOneSavedLastOfAllRuns) {
  TempDir dir;
  save(dir / "a/version_0/checkpoints/last.safetensors", 30);
  save(dir / "a/version_1/checkpoints/last.safetensors", 20);
  save(dir / "elsewhere/newer.safetensors", 40);
  save(dir / ".hidden/checkpoints/newer.safetensors", 50);
  const auto found = find_last(dir.path());
  ASSERT_TRUE(found);
  EXPECT_EQ(found->path, dir / "a/version_0/checkpoints/last.safetensors");
  EXPECT_EQ(found->checkpoint.metadata["saved_at"], 30);
  EXPECT_TRUE(found->skipped.empty());
}

TEST(CheckpointFinder, TakesTheLaterStepOfTwoSavedAtOnce) {
  TempDir dir;
  save(dir / "checkpoints/b.safetensors", 1, 20);
  save(dir / "checkpoints/a.safetensors", 1, 30);
  EXPECT_EQ(find_last(dir.path())->path, dir / "checkpoints/a.safetensors");
}

TEST(CheckpointFinder, LooksIntoTheFolderItself) {
  TempDir dir;
  save(dir / "a.safetensors", 1);
  EXPECT_EQ(find_last(dir.path())->path, dir / "a.safetensors");
}

TEST(CheckpointFinder, FallsBackPastDamagedFilesAndSaysWhich) {
  TempDir dir;
  save(dir / "checkpoints/old.safetensors", 1);
  save(dir / "checkpoints/damaged.safetensors", 3);
  damage(dir / "checkpoints/damaged.safetensors");
  save(dir / "checkpoints/cut.safetensors", 2);
  fs::resize_file(dir / "checkpoints/cut.safetensors", 40);
  fs::create_directory(dir / "checkpoints/folder.safetensors");
  const auto found = find_last(dir.path());
  ASSERT_TRUE(found);
  EXPECT_EQ(found->path, dir / "checkpoints/old.safetensors");
  ASSERT_EQ(found->skipped.size(), 2u);
  EXPECT_THAT(found->skipped[0].reason, HasSubstr("truncated"));
  EXPECT_THAT(found->skipped[1].reason, AllOf(HasSubstr("damaged.safetensors"), HasSubstr("'model.weight'")));
}

TEST(CheckpointFinder, TellsNoneFromNoneThatIsValid) {
  TempDir dir;
  EXPECT_FALSE(find_last(dir.path()));
  EXPECT_FALSE(find_best(dir.path()));
  EXPECT_FALSE(find_last(dir / "missing"));
  save(dir / "checkpoints/a.safetensors", 1);
  damage(dir / "checkpoints/a.safetensors");
  EXPECT_THAT(error_of(find_last, dir.path()), AllOf(HasSubstr(dir.path().string()), HasSubstr("no last checkpoint"),
                                                     HasSubstr("a.safetensors"), HasSubstr("checksum")));
}

TEST(CheckpointFinder, EndsWhereLinksGoInCircles) {
  TempDir dir;
  save(dir / "checkpoints/a.safetensors", 1);
  fs::create_directory_symlink(dir.path(), dir / "checkpoints/loop");
  fs::create_directory_symlink(dir / "checkpoints", dir / "checkpoints/checkpoints");
  fs::create_symlink(dir / "x.safetensors", dir / "x.safetensors");
  EXPECT_EQ(find_last(dir.path())->path, dir / "checkpoints/a.safetensors");
}

TEST(CheckpointFinder, TakesWhatTheNewestCallsTheBest) {
  TempDir dir;
  save(dir / "checkpoints/epoch=0.safetensors", 1, 0, "epoch=0.safetensors");
  save(dir / "checkpoints/epoch=1.safetensors", 2, 0, "epoch=1.safetensors");
  save(dir / "checkpoints/last.safetensors", 3, 0, "epoch=1.safetensors");
  EXPECT_EQ(find_best(dir.path())->path, dir / "checkpoints/epoch=1.safetensors");
  damage(dir / "checkpoints/epoch=1.safetensors");
  const auto found = find_best(dir.path());
  EXPECT_EQ(found->path, dir / "checkpoints/epoch=0.safetensors");
  ASSERT_EQ(found->skipped.size(), 1u);
  EXPECT_THAT(found->skipped[0].reason, HasSubstr("epoch=1.safetensors"));
}

TEST(CheckpointFinder, FollowsTheBestIntoAnotherRunBelowTheRoot) {
  TempDir dir;
  const auto best = dir / "version_0/checkpoints/best.safetensors";
  save(best, 1);
  save(dir / "version_1/checkpoints/last.safetensors", 2, 0, best.string());
  EXPECT_EQ(find_best(dir.path())->path, best);
}

TEST(CheckpointFinder, NeverFollowsTheBestOutOfTheRoot) {
  TempDir dir;
  save(dir / "outside.safetensors", 1);
  for (const auto& path : {std::string("../../outside.safetensors"), (dir / "outside.safetensors").string()}) {
    save(dir / "runs/checkpoints/last.safetensors", 2, 0, path);
    EXPECT_THAT(error_of(find_best, dir / "runs"), AllOf(HasSubstr("no best checkpoint"), HasSubstr(path)));
  }
}

TEST(CheckpointFinder, SaysWhereNoCheckpointNamesABestOne) {
  TempDir dir;
  save(dir / "checkpoints/a.safetensors", 1);
  EXPECT_THAT(error_of(find_best, dir.path()), AllOf(HasSubstr("no best checkpoint"), HasSubstr(dir.path().string())));
}

}  // namespace
}  // namespace troupe
