#include "troupe/runtime/data/tokens/text_bytes.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/tar_archive.hpp"
#include "tests/support/temp_dir.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

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
  put(dir / "text.gz", gzipped(text));
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

}  // namespace
}  // namespace troupe
