#include "troupe/runtime/data/text_dataset.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/modules/data/data_loader.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>
#include <zlib.h>

#include <filesystem>
#include <string>

namespace troupe {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

std::string text_of(const torch::Tensor& bytes) {
  return {static_cast<const char*>(bytes.data_ptr()), static_cast<std::size_t>(bytes.numel())};
}

TEST(ReadBytes, JoinsFilesInTheOrderGiven) {
  TempDir dir;
  put(dir / "b", "second\n");
  put(dir / "a", std::string("fir\0st", 6));
  const auto bytes = read_bytes({dir / "a", dir / "b", dir / "a"});
  EXPECT_EQ(bytes.scalar_type(), torch::kUInt8);
  EXPECT_EQ(text_of(bytes), std::string("fir\0stsecond\nfir\0st", 19));
}

TEST(ReadBytes, TakesThePlainFilesOfAFolderByName) {
  TempDir dir;
  put(dir / "2", "two");
  put(dir / "10", "ten");
  put(dir / ".hidden", "no");
  fs::create_directory(dir / "folder");
  put(dir / "folder" / "inner", "no");
  fs::create_symlink("2", dir / "link");
  EXPECT_EQ(text_of(read_bytes({dir.path()})), "tentwo");
  EXPECT_EQ(text_of(read_bytes({dir / "link"})), "two") << "a link that is named counts";
}

TEST(ReadBytes, UnpacksGzipAndReadsMoreThanOneBuffer) {
  TempDir dir;
  std::string text;
  for (int i = 0; i < 200000; ++i) text += std::to_string(i) + ' ';
  gzFile file = gzopen((dir / "text.gz").c_str(), "wb");
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
  EXPECT_EQ(text_of(read_bytes({dir / "text.gz"})), text);
  EXPECT_THAT(refusal([&] { read_bytes({dir / "text.gz"}, 1000); }), HasSubstr("has more than 1000 bytes"));
}

TEST(ReadBytes, NamesThePathThatGivesNoText) {
  TempDir dir;
  put(dir / "empty", "");
  EXPECT_EQ(refusal([&] { read_bytes({}); }), "no file was named to read text from");
  EXPECT_EQ(refusal([&] { read_bytes({dir / "empty"}); }), (dir / "empty").string() + " holds no text");
  EXPECT_THAT(refusal([&] { read_bytes({dir / "absent"}); }), HasSubstr("absent: No such file"));
  fs::create_directory(dir / "folder");
  EXPECT_THAT(refusal([&] { read_bytes({dir / "folder"}); }), HasSubstr("folder holds no file of its own"));
}

TEST(NextTokens, TheTargetIsTheInputOneTokenFurther) {
  NextTokenDataset data(torch::arange(10, torch::kUInt8), 3);
  EXPECT_EQ(data.size(), 3);
  const auto sample = data.get(1);
  EXPECT_TRUE(sample["input"].equal(torch::tensor({3, 4, 5}, torch::kInt64)));
  EXPECT_TRUE(sample["target"].equal(torch::tensor({4, 5, 6}, torch::kInt64)));
  EXPECT_TRUE(data.get(2)["target"].equal(torch::tensor({7, 8, 9}, torch::kInt64)));
}

TEST(NextTokens, WindowsMayOverlap) {
  NextTokenDataset data(torch::arange(300, 306, torch::kInt32), 4, 1);
  EXPECT_EQ(data.size(), 2);
  EXPECT_TRUE(data.get(1)["input"].equal(torch::tensor({301, 302, 303, 304}, torch::kInt64)));
}

TEST(NextTokens, AWholeBatchIsItsSamplesStacked) {
  NextTokenDataset data(torch::arange(100, torch::kUInt8), 7, 2);
  const auto batch = *data.get_batch({5, 0, 11});
  const auto stacked = default_collate({data.get(5), data.get(0), data.get(11)});
  for (const char* name : {"input", "target"}) {
    EXPECT_TRUE(batch[name].equal(stacked[name])) << name;
    EXPECT_TRUE(batch[name].is_contiguous()) << name;
  }
}

TEST(NextTokens, RefuseWhatMakesNoWindow) {
  const auto tokens = torch::arange(8);
  EXPECT_EQ(refusal([&] { NextTokenDataset(tokens, 8); }),
            "NextTokenDataset: 8 tokens are too few for windows of 8 and the one that follows; use a length below 8");
  EXPECT_EQ(refusal([&] { NextTokenDataset(tokens, 7); }), "accepted");
  EXPECT_THAT(refusal([&] { NextTokenDataset(tokens, 0); }), HasSubstr("length = 0"));
  EXPECT_THAT(refusal([&] { NextTokenDataset(tokens, 3, -1); }), HasSubstr("stride = -1"));
  EXPECT_THAT(refusal([&] { NextTokenDataset(tokens.to(torch::kFloat), 3); }), HasSubstr("[8] of Float"));
  EXPECT_THAT(refusal([&] { NextTokenDataset(tokens.view({2, 4}), 3); }), HasSubstr("[2, 4] of Long"));
  EXPECT_THAT(refusal([&] { NextTokenDataset(torch::Tensor(), 3); }), HasSubstr("undefined"));
}

}  // namespace
}  // namespace troupe
