#include "troupe/runtime/data/files/file_reader.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/base/failure.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <fstream>

namespace troupe {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

/// A file of "0123456789" whose reads fail with the errors given, one after the other, before they succeed.
struct FlakyFile {
  std::vector<int> errors;
  int opened = 0;

  FileReader::Open open() {
    return [this](const std::filesystem::path&) {
      opened += 1;
      return FileReader::Source{.size = 10, .read = [this](int64_t offset, std::span<std::byte> into) {
                                  if (!errors.empty()) {
                                    const int error = errors.front();
                                    errors.erase(errors.begin());
                                    throw std::system_error(error, std::generic_category(), "cannot read 'x'");
                                  }
                                  const std::string_view text = "0123456789";
                                  const auto part = text.substr(static_cast<std::size_t>(offset), into.size());
                                  std::memcpy(into.data(), part.data(), part.size());
                                  return part.size();
                                }};
    };
  }
};

std::string three_from(const FileReader& file, int64_t offset) {
  std::string out(3, ' ');
  file.read_at(offset, out.data(), out.size());
  return out;
}

TEST(FileReader, ReadsAtAnyPositionOfARealFile) {
  const TempDir dir;
  std::ofstream(dir / "a") << "0123456789";
  const FileReader file(dir / "a");
  EXPECT_EQ(file.size(), 10);
  EXPECT_EQ(three_from(file, 4), "456");
  EXPECT_EQ(file.read_all(), "0123456789");
}

TEST(FileReader, NamesWhatCannotBeOpened) {
  const TempDir dir;
  EXPECT_THAT(refusal([&] { FileReader file(dir / "missing"); }),
              AllOf(HasSubstr("missing"), HasSubstr("No such file or directory")));
  EXPECT_THAT(refusal([&] { FileReader file{std::filesystem::path(dir / "")}; }), HasSubstr("Is a directory"));
}

TEST(FileReader, SaysWhereAFileEndsTooEarly) {
  FlakyFile made;
  const FileReader file("x", {}, made.open());
  EXPECT_THAT(refusal([&] { three_from(file, 8); }),
              AllOf(HasSubstr("'x' ends at byte 10"), HasSubstr("3 bytes are needed from byte 8 on")));
}

TEST(FileReader, RefusesAWholeFileBeyondTheLimit) {
  FlakyFile made;
  const FileReader file("x", {}, made.open());
  EXPECT_THAT(refusal([&] { (void)file.read_all(9); }), HasSubstr("10 bytes, more than the 9"));
}

TEST(FileReader, OpensAFileAnewAfterAFailureThatMayPassAndWaitsLongerEachTime) {
  FlakyFile made{.errors = {EIO, ESTALE, EIO, ETIMEDOUT}};
  std::vector<double> waits;
  std::vector<int64_t> tries;
  const FileReader file("x",
                        {.first_wait = 1,
                         .longest_wait = 3,
                         .on_retry = [&](const std::string&, int64_t next) { tries.push_back(next); },
                         .wait = [&](double seconds) { waits.push_back(seconds); }},
                        made.open());
  EXPECT_EQ(three_from(file, 2), "234");
  EXPECT_THAT(waits, ElementsAre(1, 2, 3, 3));
  EXPECT_THAT(tries, ElementsAre(2, 3, 4, 5));
  EXPECT_EQ(made.opened, 5);
}

TEST(FileReader, GivesUpAfterTheLastTryAndSaysHowManyThereWere) {
  FlakyFile made{.errors = {EIO, EIO, EIO}};
  int waited = 0;
  const FileReader file("x", {.retries = 2, .wait = [&](double) { ++waited; }}, made.open());
  EXPECT_THAT(refusal([&] { three_from(file, 5); }), AllOf(HasSubstr("cannot read 'x' (tried 3 times)"),
                                                           HasSubstr("Input/output error"), HasSubstr("at byte 5")));
  EXPECT_EQ(waited, 2);
}

TEST(FileReader, DoesNotTryAgainWhatWillNotPass) {
  FlakyFile made{.errors = {EACCES}};
  int waited = 0;
  const FileReader file("x", {.wait = [&](double) { ++waited; }}, made.open());
  EXPECT_THAT(refusal([&] { three_from(file, 5); }), HasSubstr("Permission denied"));
  EXPECT_EQ(waited, 0);
}

TEST(FileReader, RefusesAPolicyThatCannotBe) {
  FlakyFile made;
  EXPECT_THAT(refusal([&] { FileReader("x", {.retries = -1}, made.open()); }), HasSubstr("retries is -1"));
  EXPECT_THAT(refusal([&] { FileReader("x", {.first_wait = -0.5}, made.open()); }), HasSubstr("first_wait is -0.5"));
}

TEST(WithRetries, LetsOtherErrorsThroughAtOnce) {
  int calls = 0;
  EXPECT_THROW(with_retries({.wait = [](double) {}},
                            [&]() -> int {
                              ++calls;
                              throw std::out_of_range("no");
                            }),
               std::out_of_range);
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace troupe
