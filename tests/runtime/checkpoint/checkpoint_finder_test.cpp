#include "troupe/runtime/checkpoint/checkpoint_finder.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/temp_dir.hpp"
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
  checkpoint.metadata = {{"saved_at", saved_at}, {"progress", {{"global_step", global_step}}}};
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
std::string finding_error(Find find, const fs::path& root) {
  try {
    find(root, {});
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

// --- Every way to damage the newest one ---

/// A folder with a checkpoint, and a later one of the size that real ones have, which is to be damaged.
class DamagedCheckpoint : public ::testing::Test {
 protected:
  DamagedCheckpoint() {
    save(former_, 1);
    Checkpoint checkpoint;
    checkpoint.metadata = {{"saved_at", 2}, {"hparams", {{"lr", 0.1}}}, {"progress", {{"global_step", 20}}}};
    const auto numbers = [](int64_t count) { return torch::arange(1, count + 1, torch::kFloat32).sin(); };
    checkpoint.tensors = {{"model.weight", numbers(64 * 128).view({64, 128})},
                          {"model.bias", numbers(64)},
                          {"model.batches", torch::tensor(0x0102030405060708, torch::kInt64)},
                          {"optimizer.0.weight.exp_avg", numbers(64 * 128).view({64, 128})},
                          {"random.cpu", torch::full({5056}, 7, torch::kUInt8)}};
    write_checkpoint(checkpoint, newest_);
    whole_ = content_of(newest_);
  }

  /// Writes `bytes` in its place and returns why it is passed over for the one before.
  std::string reason(const std::string& bytes) const {
    put(newest_, bytes);
    const auto found = find_last(dir_.path());
    if (!found || found->path != former_ || found->skipped.size() != 1) return "the former one is not what is found";
    EXPECT_EQ(found->skipped[0].path, newest_);
    EXPECT_THAT(found->skipped[0].reason, HasSubstr(newest_.string()));
    return found->skipped[0].reason;
  }
  std::string with_bit_flipped(std::size_t at, int bit) const {
    auto bytes = whole_;
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << bit));
    return bytes;
  }

  const TempDir dir_;
  const fs::path former_ = dir_ / "checkpoints/epoch=0.safetensors", newest_ = dir_ / "checkpoints/last.safetensors";
  std::string whole_;
};

TEST_F(DamagedCheckpoint, IsTheNewestWhileItIsWhole) {
  EXPECT_EQ(find_last(dir_.path())->path, newest_);
  ASSERT_GT(whole_.size(), 64u * 1024);
}

TEST_F(DamagedCheckpoint, IsPassedOverWhereverItIsCut) {
  for (std::size_t size = 0; size < whole_.size(); size += 4096) {
    EXPECT_THAT(reason(whole_.substr(0, size)), HasSubstr("truncated")) << size;
  }
  for (const std::size_t less : {1, 7, 4096}) {
    EXPECT_THAT(reason(whole_.substr(0, whole_.size() - less)), HasSubstr("truncated")) << less;
  }
}

// As file systems leave it that wrote down the size before the bytes.
TEST_F(DamagedCheckpoint, IsPassedOverWhereverZerosBegin) {
  for (std::size_t size = 0; size < whole_.size(); size += 4096) {
    auto bytes = whole_;
    bytes.replace(size, std::string::npos, whole_.size() - size, '\0');
    EXPECT_THAT(reason(bytes), HasSubstr(size < 4096 ? "header" : "is damaged: its checksum differs")) << size;
  }
}

TEST_F(DamagedCheckpoint, IsPassedOverForABitInTheHeader) {
  for (std::size_t at = 0; at < 8; ++at) {  // its length
    for (int bit = 0; bit < 8; ++bit) EXPECT_THAT(reason(with_bit_flipped(at, bit)), HasSubstr("header")) << at;
  }
  for (const char* key : {"\"data_offsets\"", "\"dtype\"", "\"F32\"", "\"shape\"", "\"model.bias\"", "[64,128]"}) {
    const auto at = whole_.find(key);
    ASSERT_NE(at, whole_.npos) << key;
    for (int bit = 0; bit < 8; ++bit) {
      EXPECT_THAT(reason(with_bit_flipped(at + 2, bit)), HasSubstr("cannot read the checkpoint")) << key << bit;
    }
  }
}

TEST_F(DamagedCheckpoint, IsPassedOverForABitInTheMetadata) {
  for (const char* key : {"saved_at", "global_step", "0.1", "format_version", "checksums", "troupe_xxh3_64"}) {
    const auto at = whole_.find(key);
    ASSERT_NE(at, whole_.npos) << key;
    EXPECT_THAT(reason(with_bit_flipped(at + 2, 0)), HasSubstr("metadata")) << key;
  }
}

TEST_F(DamagedCheckpoint, IsPassedOverForABitInATensorWhichItNames) {
  const SafetensorsFile file(newest_);
  const auto entries = file.entries();
  ASSERT_EQ(entries.size(), 5u);
  for (const auto& entry : entries) {
    for (const auto at : {entry.begin, (entry.begin + entry.end) / 2, entry.end - 1}) {
      EXPECT_THAT(reason(with_bit_flipped(at, 3)),
                  AllOf(HasSubstr("tensor '" + entry.name + "' (bytes " + std::to_string(entry.begin)),
                        HasSubstr("is damaged: its checksum differs")));
    }
  }
}

TEST(CheckpointFinder, TellsNoneFromNoneThatIsValid) {
  TempDir dir;
  EXPECT_FALSE(find_last(dir.path()));
  EXPECT_FALSE(find_best(dir.path()));
  EXPECT_FALSE(find_last(dir / "missing"));
  save(dir / "checkpoints/a.safetensors", 1);
  damage(dir / "checkpoints/a.safetensors");
  EXPECT_THAT(finding_error(find_last, dir.path()),
              AllOf(HasSubstr(dir.path().string()), HasSubstr("no last checkpoint"), HasSubstr("a.safetensors"),
                    HasSubstr("checksum")));
}

TEST(CheckpointFinder, EndsWhereLinksGoInCircles) {
  TempDir dir;
  save(dir / "checkpoints/a.safetensors", 1);
  fs::create_directory_symlink(dir.path(), dir / "checkpoints/loop");
  fs::create_directory_symlink(dir / "checkpoints", dir / "checkpoints/checkpoints");
  fs::create_symlink(dir / "x.safetensors", dir / "x.safetensors");
  EXPECT_EQ(find_last(dir.path())->path, dir / "checkpoints/a.safetensors");
}

TEST(CheckpointFinder, FollowsLinksToFoldersOfRuns) {
  const TempDir dir, elsewhere;
  fs::create_directories(dir / "runs/two");
  fs::create_directory_symlink(elsewhere.path(), dir / "runs/one");
  save(dir / "runs/one/version_0/checkpoints/best.safetensors", 2);
  save(dir / "runs/one/version_0/checkpoints/last.safetensors", 3, 0, "best.safetensors");
  EXPECT_EQ(find_last(dir / "runs")->path, dir / "runs/one/version_0/checkpoints/last.safetensors");
  EXPECT_EQ(find_best(dir / "runs")->path, dir / "runs/one/version_0/checkpoints/best.safetensors");
  fs::create_directory_symlink(elsewhere / "version_0", dir / "runs/two/version_7");
  fs::remove(dir / "runs/one");
  EXPECT_EQ(find_last(dir / "runs")->path, dir / "runs/two/version_7/checkpoints/last.safetensors");
  fs::create_directory(dir / "runs/two/version_8");
  fs::create_directory_symlink(elsewhere / "version_0/checkpoints", dir / "runs/two/version_8/checkpoints");
  fs::remove(dir / "runs/two/version_7");
  EXPECT_EQ(find_best(dir / "runs")->path, dir / "runs/two/version_8/checkpoints/best.safetensors");
  fs::create_directory_symlink(dir / "runs", dir / "all");
  EXPECT_EQ(find_last(dir / "all")->path, dir / "all/two/version_8/checkpoints/last.safetensors");
}

TEST(CheckpointFinder, ReadsAFolderUnderItsOwnNameWhereALinkWithAnotherLeadsToIt) {
  const TempDir dir;
  save(dir / "checkpoints/a.safetensors", 1);
  fs::create_directory_symlink(dir / "checkpoints", dir / "a_link");
  fs::create_directory_symlink(dir / "checkpoints", dir / "z_link");
  EXPECT_EQ(find_last(dir.path())->path, dir / "checkpoints/a.safetensors");
}

// --- Runs of several names in one folder ---

TEST(CheckpointFinder, LeavesOutRunsOfAnotherName) {
  const TempDir dir;
  save(dir / "net/version_0/checkpoints/last.safetensors", 1, 0, "last.safetensors");
  save(dir / "other/version_0/checkpoints/last.safetensors", 3, 0, "last.safetensors");
  const auto own = dir / "net/version_0/checkpoints/last.safetensors";
  EXPECT_EQ(find_last(dir.path(), {.name = "net"})->path, own);
  EXPECT_EQ(find_best(dir.path(), {.name = "net"})->path, own);
  EXPECT_FALSE(find_last(dir.path(), {.name = "ne"}));
  EXPECT_FALSE(find_best(dir.path(), {.name = "ne"}));
  // What is damaged among the others' is no concern of this one.
  damage(dir / "other/version_0/checkpoints/last.safetensors");
  put(dir / "other/version_0/checkpoints/text.safetensors", "text");
  EXPECT_TRUE(find_last(dir.path(), {.name = "net"})->skipped.empty());
  EXPECT_FALSE(find_last(dir.path(), {.name = "ne"}));
}

TEST(CheckpointFinder, KnowsTheNameOfARunWhoseCheckpointsLieElsewhere) {
  const TempDir dir;
  const auto save_of = [&](const std::string& path, const nlohmann::json& name, double saved_at) {
    Checkpoint checkpoint;
    checkpoint.metadata = {{"saved_at", saved_at}, {"run", {{"name", name}}}};
    write_checkpoint(checkpoint, dir / path);
  };
  save_of("checkpoints/other.safetensors", "other", 9);
  save_of("checkpoints/net.safetensors", "net", 1);
  EXPECT_EQ(find_last(dir.path(), {.name = "net"})->path, dir / "checkpoints/net.safetensors");
  // In the folder of the name it is one of its runs: somebody gave the folder another name.
  save_of("net/version_0/checkpoints/a.safetensors", "former", 2);
  EXPECT_EQ(find_last(dir.path(), {.name = "net"})->path, dir / "net/version_0/checkpoints/a.safetensors");
  save_of("checkpoints/of_nobody.safetensors", 5, 10);
  EXPECT_EQ(find_last(dir.path(), {.name = "net"})->path, dir / "checkpoints/of_nobody.safetensors");
  // A folder of runs itself, and a run's own, may be searched.
  EXPECT_FALSE(find_last(dir / "net", {.name = "net"}));
  EXPECT_EQ(find_last(dir / "net", {.name = "former"})->path, dir / "net/version_0/checkpoints/a.safetensors");
}

TEST(CheckpointFinder, AsksTheFilterOfTheNewestFirstUntilOneFits) {
  const TempDir dir;
  for (const int at : {1, 2, 3, 4}) save(dir / ("checkpoints/" + std::to_string(at) + ".safetensors"), at);
  std::vector<double> asked;
  const auto fits = [&](const fs::path&, const nlohmann::json& metadata) {
    asked.push_back(metadata.at("saved_at"));
    return asked.back() < 4;
  };
  EXPECT_EQ(find_last(dir.path(), {.fits = fits})->path, dir / "checkpoints/3.safetensors");
  EXPECT_EQ(asked, (std::vector<double>{4, 3}));
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
    EXPECT_THAT(finding_error(find_best, dir / "runs"), AllOf(HasSubstr("no best checkpoint"), HasSubstr(path)));
  }
}

TEST(CheckpointFinder, SaysWhereNoCheckpointNamesABestOne) {
  TempDir dir;
  save(dir / "checkpoints/a.safetensors", 1);
  EXPECT_THAT(finding_error(find_best, dir.path()),
              AllOf(HasSubstr("no best checkpoint"), HasSubstr(dir.path().string())));
}

}  // namespace
}  // namespace troupe
