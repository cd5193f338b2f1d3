#include "troupe/runtime/checkpoint/file_system.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/temp_dir.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
#include <fstream>

namespace troupe {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

unsigned mode_of(const fs::path& path) {
  struct stat status {};
  stat(path.c_str(), &status);
  return status.st_mode & 0777;
}

template <class Action>
std::string message_of(Action action) {
  try {
    action();
  } catch (const FileError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

/// Takes at most two bytes a call.
class SlowFile : public OutputFile {
 public:
  SlowFile() : OutputFile("slow") {}
  void sync() override {}
  void publish() override {}
  void close() override {}
  std::string text;

 protected:
  std::size_t write_some(std::span<const std::byte> bytes) override {
    const auto count = std::min<std::size_t>(2, bytes.size());
    text.append(reinterpret_cast<const char*>(bytes.data()), count);
    return count;
  }
};

TEST(FileSystem, WritesAllBytesThroughShortWrites) {
  SlowFile file;
  file.write(bytes_of("seven b"));
  file.write({});
  EXPECT_EQ(file.text, "seven b");
}

TEST(FileSystem, KeepsANewFilePrivateUntilItIsPublished) {
  TempDir dir;
  const auto former = umask(027);
  const auto file = real_file_system().create(dir / "a");
  file->write(bytes_of("hello"));
  EXPECT_EQ(mode_of(dir / "a"), 0600u);
  file->publish();
  umask(former);
  file->sync();
  file->close();
  EXPECT_EQ(mode_of(dir / "a"), 0640u);
  EXPECT_EQ(content_of(dir / "a"), "hello");
}

TEST(FileSystem, NeverOpensWhatExistsNorFollowsALink) {
  TempDir dir;
  std::ofstream(dir / "a") << "mine";
  fs::create_symlink(dir / "elsewhere", dir / "link");
  EXPECT_THAT(message_of([&] { real_file_system().create(dir / "a"); }),
              AllOf(HasSubstr((dir / "a").string()), HasSubstr("File exists")));
  EXPECT_THAT(message_of([&] { real_file_system().create(dir / "link"); }), HasSubstr("File exists"));
  EXPECT_EQ(content_of(dir / "a"), "mine");
  EXPECT_FALSE(fs::exists(dir / "elsewhere"));
}

TEST(FileSystem, RenamesOverAFileAndRemovesWhatMayBeMissing) {
  TempDir dir;
  auto& files = real_file_system();
  std::ofstream(dir / "a") << "new";
  std::ofstream(dir / "b") << "old";
  files.rename(dir / "a", dir / "b");
  files.sync_folder(dir.path());
  EXPECT_EQ(content_of(dir / "b"), "new");
  EXPECT_FALSE(fs::exists(dir / "a"));
  files.remove(dir / "b");
  files.remove(dir / "b");
  EXPECT_FALSE(fs::exists(dir / "b"));
}

TEST(FileSystem, NamesPathAndReasonOfAFailure) {
  TempDir dir;
  auto& files = real_file_system();
  std::ofstream(dir / "file") << "";
  EXPECT_THAT(message_of([&] { files.create_folders(dir / "file/sub"); }),
              AllOf(HasSubstr("file/sub"), HasSubstr("Not a directory")));
  EXPECT_THAT(message_of([&] { files.rename(dir / "none", dir / "b"); }), HasSubstr("No such file"));
  EXPECT_THAT(message_of([&] { files.sync_folder(dir / "none"); }), HasSubstr("No such file"));
}

TEST(InputFile, ReadsAtAnyPositionUpToTheEnd) {
  TempDir dir;
  std::ofstream(dir / "a") << "0123456789";
  const InputFile file(dir / "a");
  std::array<std::byte, 4> buffer{};
  EXPECT_EQ(file.size(), 10u);
  EXPECT_EQ(file.read(3, buffer), 4u);
  EXPECT_EQ(buffer[0], std::byte('3'));
  EXPECT_EQ(file.read(8, buffer), 2u);
  EXPECT_EQ(file.read(20, buffer), 0u);
}

TEST(InputFile, RefusesFoldersAndPipesWithoutWaiting) {
  TempDir dir;
  ASSERT_EQ(mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(message_of([&] { InputFile file(dir / "pipe"); }), HasSubstr("Invalid argument"));
  EXPECT_THAT(message_of([&] { InputFile file(dir.path()); }), HasSubstr("Is a directory"));
  EXPECT_THAT(message_of([&] { InputFile file(dir / "none"); }), HasSubstr("No such file"));
}

}  // namespace
}  // namespace troupe
