#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/python_output.hpp"
#include "tests/support/temp_dir.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cerrno>
#include <fstream>

namespace troupe {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

Checkpoint example(double value = 1) {
  Checkpoint checkpoint;
  checkpoint.tensors.emplace_back("model.weight", torch::full({2, 3}, value));
  checkpoint.tensors.emplace_back("model.count", torch::tensor(7, torch::kInt64));
  checkpoint.tensors.emplace_back("rng", torch::arange(5, torch::kUInt8));
  checkpoint.metadata = {{"hparams", {{"lr", 0.1}, {"name", "x"}}}, {"global_step", 12}, {"saved_at", 1.5}};
  return checkpoint;
}

std::string reading_error(const fs::path& path) {
  try {
    read_checkpoint(path);
  } catch (const CheckpointError& error) {
    EXPECT_THAT(error.what(), HasSubstr(path.string()));
    return error.what();
  }
  return "nothing was thrown";
}

std::size_t files_in(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

/// The real file system with one call that fails: the n-th, or what is left of a disk that is full.
class FailingFiles : public FileSystem {
 public:
  explicit FailingFiles(int fails_at) : left_(fails_at) {}
  int calls = 0;

  void count(const char* action, const fs::path& path) {
    ++calls;
    if (left_ >= 0 && left_-- == 0) throw FileError(action, path, ENOSPC);
  }
  std::unique_ptr<OutputFile> create(const fs::path& path) override {
    count("create", path);
    return std::make_unique<File>(*this, real_file_system().create(path));
  }
  void rename(const fs::path& from, const fs::path& to) override {
    count("rename", from);
    real_file_system().rename(from, to);
  }
  void remove(const fs::path& path) override { real_file_system().remove(path); }
  void create_folders(const fs::path& folder) override {
    count("create the folder", folder);
    real_file_system().create_folders(folder);
  }
  void sync_folder(const fs::path& folder) override {
    count("write the folder", folder);
    real_file_system().sync_folder(folder);
  }

 private:
  class File : public OutputFile {
   public:
    File(FailingFiles& files, std::unique_ptr<OutputFile> file)
        : OutputFile(file->path()), files_(files), file_(std::move(file)) {}
    void sync() override {
      files_.count("sync", path());
      file_->sync();
    }
    void publish() override {
      files_.count("publish", path());
      file_->publish();
    }
    void close() override {
      files_.count("close", path());
      file_->close();
    }

   protected:
    std::size_t write_some(std::span<const std::byte> bytes) override {
      files_.count("write", path());
      const auto some = bytes.first(std::min<std::size_t>(bytes.size(), 100));
      file_->write(some);
      return some.size();
    }

   private:
    FailingFiles& files_;
    std::unique_ptr<OutputFile> file_;
  };

  int left_;
};

TEST(CheckpointFile, GivesBackTensorsAndMetadata) {
  TempDir dir;
  const auto path = dir / "run/checkpoints/last.safetensors";
  write_checkpoint(example(), path);
  const auto read = read_checkpoint(path);
  ASSERT_EQ(read.tensors.size(), 3u);
  for (const auto& [name, tensor] : example().tensors) {
    ASSERT_TRUE(read.find(name)) << name;
    EXPECT_TRUE(torch::equal(*read.find(name), tensor)) << name;
  }
  EXPECT_EQ(read.metadata, example().metadata);
  EXPECT_EQ(read_checkpoint_metadata(path), example().metadata);
  EXPECT_EQ(files_in(path.parent_path()), 1u);
}

TEST(CheckpointFile, SaysWhenItWasSaved) {
  TempDir dir;
  write_checkpoint({}, dir / "a.safetensors");
  EXPECT_GT(read_checkpoint_metadata(dir / "a.safetensors").at("saved_at"), 1.7e9);
}

TEST(CheckpointFile, IsLaterThanTheOneBeforeWhateverTheClockSays) {
  constexpr double in_2040 = 2.2e9, greatest = std::numeric_limits<double>::max();
  EXPECT_LT(saved_at_after(0), in_2040);
  EXPECT_LT(std::abs(saved_at_after(0) - saved_at_after(1.5e9)), 60) << "now";
  double saved_at = in_2040;
  for (int i = 0; i < 3; ++i) {
    const double next = saved_at_after(saved_at);
    EXPECT_GT(next, saved_at);
    EXPECT_LT(next, in_2040 + 1);
    const nlohmann::json text = next;
    EXPECT_EQ(nlohmann::json::parse(text.dump()), text);
    saved_at = next;
  }
  EXPECT_EQ(saved_at_after(greatest), greatest);
}

TEST(CheckpointFile, IsReadByPython) {
  TempDir dir;
  write_checkpoint(example(), dir / "a.safetensors");
  EXPECT_EQ(python_output("safetensors_file.py", "dump " + (dir / "a.safetensors").string()),
            "[\"model.count\", \"torch.int64\", [], [7.0]]\n"
            "[\"model.weight\", \"torch.float32\", [2, 3], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]\n"
            "[\"rng\", \"torch.uint8\", [5], [0.0, 1.0, 2.0, 3.0, 4.0]]\n"
            "[\"format\", \"troupe\", \"troupe_xxh3_64\"]\n");
}

TEST(CheckpointFile, KeepsTheFormerFileAndNoTemporaryWhereverWritingFails) {
  TempDir dir;
  const auto path = dir / "checkpoints/last.safetensors";
  write_checkpoint(example(1), path);
  FailingFiles counter(-1);
  write_checkpoint(example(1), path, counter);
  ASSERT_GT(counter.calls, 10);
  for (int at = 0; at < counter.calls; ++at) {
    FailingFiles files(at);
    EXPECT_THROW(write_checkpoint(example(2), path, files), FileError) << at;
    const bool renamed = at == counter.calls - 1;  // only the folder's sync comes later
    EXPECT_EQ(read_checkpoint(path).find("model.weight")->sum().item<float>(), renamed ? 12 : 6) << at;
    EXPECT_EQ(files_in(path.parent_path()), 1u) << at;
  }
}

TEST(CheckpointFile, ReportsAFolderThatCannotBeWritten) {
  TempDir dir;
  put(dir / "file", "");
  try {
    write_checkpoint(example(), dir / "file/a.safetensors");
    FAIL() << "nothing was thrown";
  } catch (const FileError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr((dir / "file").string()), HasSubstr("Not a directory")));
  }
}

TEST(CheckpointFile, NamesTheTensorThatIsDamaged) {
  TempDir dir;
  write_checkpoint(example(), dir / "a.safetensors");
  auto bytes = content_of(dir / "a.safetensors");
  bytes[bytes.size() - 6] ^= 1;  // the last five bytes are "rng", the six floats lie before
  put(dir / "a.safetensors", bytes);
  EXPECT_THAT(reading_error(dir / "a.safetensors"), AllOf(HasSubstr("'model.weight'"), HasSubstr("checksum")));
}

TEST(CheckpointFile, NoticesEveryFlippedBit) {
  TempDir dir;
  write_checkpoint(example(), dir / "a.safetensors");
  const auto whole = content_of(dir / "a.safetensors");
  const auto path = dir / "b.safetensors";
  std::size_t unnoticed = 0;
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    auto bytes = whole;
    bytes[bit / 8] ^= static_cast<char>(1 << bit % 8);
    put(path, bytes);
    try {
      read_checkpoint(path);
      ++unnoticed;
      // Nothing reads "format", which is there for other programs.
      EXPECT_TRUE(whole.find("format\":\"pt\"") <= bit / 8 && bit / 8 < whole.find("format\":\"pt\"") + 11) << bit;
    } catch (const CheckpointError&) {
    }
  }
  EXPECT_LT(unnoticed, 70u);
}

TEST(CheckpointFile, RefusesOtherSafetensorsFilesAndLaterFormats) {
  TempDir dir;
  python_output("safetensors_file.py", "make " + (dir / "python.safetensors").string());
  EXPECT_THAT(reading_error(dir / "python.safetensors"), HasSubstr("not a checkpoint of Troupe"));
  put(dir / "empty.safetensors", "");
  EXPECT_THAT(reading_error(dir / "empty.safetensors"), HasSubstr("truncated"));
  EXPECT_THAT(reading_error(dir / "none.safetensors"), HasSubstr("No such file"));
}

TEST(CheckpointFile, RefusesMetadataThatJsonCannotHold) {
  TempDir dir;
  for (const nlohmann::json& value : {nlohmann::json(std::nan("")), nlohmann::json(HUGE_VAL), nlohmann::json("\xff")}) {
    auto checkpoint = example();
    checkpoint.metadata["hparams"]["lr"] = value;
    try {
      write_checkpoint(checkpoint, dir / "a.safetensors");
      FAIL() << "nothing was thrown";
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), HasSubstr("'metadata/hparams/lr'"));
    }
  }
  EXPECT_FALSE(fs::exists(dir / "a.safetensors"));
}

TEST(CheckpointFile, KeepsNumbersToTheLastBit) {
  TempDir dir;
  Checkpoint checkpoint;
  checkpoint.metadata = {{"a", 0.1 + 0.2}, {"b", 5e-324}, {"c", INT64_MIN}, {"d", UINT64_MAX}, {"e", -0.0}};
  write_checkpoint(checkpoint, dir / "a.safetensors");
  const auto read = read_checkpoint_metadata(dir / "a.safetensors");
  for (const char* key : {"a", "b", "c", "d", "e"}) EXPECT_EQ(read[key], checkpoint.metadata[key]) << key;
  EXPECT_TRUE(std::signbit(read["e"].get<double>()));
}

}  // namespace
}  // namespace troupe
