// Temporary files that killed processes left are deleted, and no others.
#include "tests/runtime/temp_dir.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"

#include <gtest/gtest.h>

#include <climits>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

#include <sys/wait.h>
#include <unistd.h>

namespace troupe {
namespace {

std::string host() {
  char name[HOST_NAME_MAX + 1] = {};
  gethostname(name, HOST_NAME_MAX);
  return name;
}

TEST(AbandonedFiles, OfAKilledWriterAreDeleted) {
  const TempDir dir;
  const pid_t child = fork();
  if (child == 0) {  // dies in the middle of a file
    write_atomically(dir / "model.safetensors", [](OutputFile&) { std::raise(SIGKILL); });
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  const auto entries = std::distance(std::filesystem::directory_iterator(dir.path()), {});
  EXPECT_EQ(entries, 1);
  EXPECT_EQ(remove_abandoned_files(dir.path()), 1u);
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(AbandonedFiles, OfOthersStay) {
  const TempDir dir;
  const auto pid = std::to_string(getpid());
  const std::vector<std::string> names = {".troupe-" + host() + "-" + pid + "-0.tmp",   // lives
                                          ".troupe-elsewhere.invalid-999999999-0.tmp",  // another host's
                                          ".troupe-" + host() + "-x-0.tmp",             // no process
                                          ".troupe-999999999-0.tmp",                    // no host
                                          "troupe-" + host() + "-999999999-0.tmp",
                                          "a.tmp"};
  for (const auto& name : names) std::ofstream(dir / name) << "x";
  std::filesystem::create_directory(dir / (".troupe-" + host() + "-999999999-1.tmp"));
  EXPECT_EQ(remove_abandoned_files(dir.path()), 0u);
  EXPECT_EQ(remove_abandoned_files(dir / "nowhere"), 0u);
  for (const auto& name : names) EXPECT_TRUE(std::filesystem::exists(dir / name)) << name;
}

}  // namespace
}  // namespace troupe
