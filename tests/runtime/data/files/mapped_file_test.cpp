#include "troupe/runtime/data/files/mapped_file.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>

namespace troupe {
namespace {

using testing::HasSubstr;

std::string mapped_text(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.size()};
}

TEST(MappedFile, HasTheBytesOfTheFileForAnyAccess) {
  const TempDir dir;
  std::string content;
  while (content.size() < 10000) content += std::to_string(content.size());
  put(dir / "x", content);
  for (const auto access : {AccessPattern::normal, AccessPattern::sequential, AccessPattern::random}) {
    for (const bool copy_on_write : {false, true}) {
      const MappedFile file(dir / "x", {.access = access, .copy_on_write = copy_on_write});
      file.will_need(5000, 100000);
      file.will_need(20000, 1);
      EXPECT_EQ(mapped_text(file), content);
    }
  }
}

TEST(MappedFile, KeepsAFileThatIsReplacedOrRemoved) {
  const TempDir dir;
  put(dir / "x", "old");
  put(dir / "y", "new");
  const MappedFile file(dir / "x");
  std::filesystem::rename(dir / "y", dir / "x");
  EXPECT_EQ(mapped_text(file), "old");
  EXPECT_EQ(mapped_text(MappedFile(dir / "x")), "new");
}

TEST(MappedFile, MayBeEmpty) {
  const TempDir dir;
  put(dir / "x", "");
  const MappedFile file(dir / "x");
  EXPECT_TRUE(file.bytes().empty());
  file.will_need(0, 1);
}

TEST(MappedFile, NamesWhatIsNoFile) {
  const TempDir dir;
  ASSERT_EQ(mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(refusal([&] { MappedFile(dir / "absent"); }),
            "cannot open " + (dir / "absent").string() + ": No such file or directory");
  EXPECT_EQ(refusal([&] { MappedFile{dir.path()}; }), dir.path().string() + " is a folder; a file was expected");
  EXPECT_THAT(refusal([&] { MappedFile(dir / "pipe"); }), HasSubstr("pipe is no regular file"));
}

}  // namespace
}  // namespace troupe
