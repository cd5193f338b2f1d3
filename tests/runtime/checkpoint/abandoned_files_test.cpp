// Temporary files that killed processes left are deleted, and no others.
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/checkpoint/file_lock.hpp"
#include "troupe/runtime/sinks/append_file.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <climits>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace troupe {
namespace {

namespace fs = std::filesystem;

std::string host() {
  char name[HOST_NAME_MAX + 1] = {};
  gethostname(name, HOST_NAME_MAX);
  return name;
}

/// As a process of this machine that is gone would have called it, or one that lives in another container.
std::string name_of(const std::string& host, const std::string& machine = machine_id()) {
  return ".troupe-" + host + "-999999999-0-" + machine + ".tmp";
}

const std::string another_machine(32, '5');

void make_two_days_old(const fs::path& path) {
  fs::last_write_time(path, fs::last_write_time(path) - std::chrono::hours(48));
}

/// A file that its writer holds, as long as this lives.
class Held {
 public:
  explicit Held(const fs::path& path) : descriptor_(create_locked(path, 0, 0600)) {}
  ~Held() { close(descriptor_); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

 private:
  int descriptor_;
};

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
  const auto entries = std::distance(fs::directory_iterator(dir.path()), {});
  EXPECT_EQ(entries, 1);
  EXPECT_EQ(remove_abandoned_files(dir.path()), 1u);
  EXPECT_TRUE(fs::is_empty(dir.path()));
}

// In another container the number of a process means nothing; its lock does.
TEST(AbandonedFiles, OfAWriterThatLivesInAnotherContainerStay) {
  const TempDir dir;
  const auto path = dir / name_of(host());
  {
    const Held writer(path);
    make_two_days_old(path);
    EXPECT_EQ(remove_abandoned_files(dir.path()), 0u);
    EXPECT_TRUE(fs::exists(path));
  }
  EXPECT_EQ(remove_abandoned_files(dir.path()), 1u);
}

TEST(AbandonedFiles, OfAnotherHostNameOnThisMachineAreJudgedByTheLockToo) {
  const TempDir dir;
  { const Held writer(dir / name_of(host() + "-3001")); }
  EXPECT_EQ(remove_abandoned_files(dir.path()), 1u);
}

TEST(AbandonedFiles, OfAnotherMachineStayForADay) {
  const TempDir dir;
  for (const auto& name : {host(), host() + "-3001", std::string("elsewhere")}) {
    const auto path = dir / name_of(name, another_machine);
    std::ofstream(path) << "x";
    EXPECT_EQ(remove_abandoned_files(dir.path()), 0u) << path;
    make_two_days_old(path);
    EXPECT_EQ(remove_abandoned_files(dir.path()), 1u) << path;
    EXPECT_TRUE(fs::is_empty(dir.path()));
  }
}

TEST(AbandonedFiles, OfAnotherMachineThatIsSeenToWriteStay) {
  const TempDir dir;
  const auto path = dir / name_of("elsewhere", another_machine);
  const Held writer(path);
  make_two_days_old(path);
  EXPECT_EQ(remove_abandoned_files(dir.path()), 0u);
}

TEST(AbandonedFiles, AreNoneBetweenTheEndOfTheBytesAndTheirName) {
  const TempDir dir;
  auto file = real_file_system().create(temporary_path(dir.path()));
  file->publish();
  file->sync();
  file->close();
  EXPECT_EQ(remove_abandoned_files(dir.path()), 0u);
  file.reset();
  EXPECT_EQ(remove_abandoned_files(dir.path()), 1u);
}

TEST(AbandonedFiles, OfATableThatGetsAColumnStay) {
  const TempDir dir;
  auto table = AppendFile::temporary(dir.path());
  table.append("a,b\n");
  EXPECT_EQ(remove_abandoned_files(dir.path()), 0u);
  table.rename_to(dir / "metrics.csv");
  EXPECT_EQ(remove_abandoned_files(dir.path()), 0u);
  EXPECT_TRUE(fs::exists(dir / "metrics.csv"));
}

TEST(AbandonedFiles, AreLookedForWhileOthersWrite) {
  const TempDir dir;
  std::atomic<bool> is_over{false};
  std::size_t removed = 0;
  std::thread cleaner([&] {
    while (!is_over) removed += remove_abandoned_files(dir.path());
  });
  for (int i = 0; i < 500; ++i) EXPECT_NO_THROW(write_atomically(dir / "a", [](OutputFile&) {}));
  is_over = true;
  cleaner.join();
  // A name that was not locked yet may be taken away before the first byte: the writer takes another.
  EXPECT_EQ(std::distance(fs::directory_iterator(dir.path()), {}), 1);
}

TEST(AbandonedFiles, AreNothingElse) {
  const TempDir dir;
  const std::vector<std::string> names = {"troupe-" + host() + "-999999999-0-" + machine_id() + ".tmp", "a.tmp",
                                          ".troupe-" + host() + ".safetensors"};
  for (const auto& name : names) std::ofstream(dir / name) << "x";
  fs::create_directory(dir / name_of("folder"));
  fs::create_symlink(dir / "a.tmp", dir / name_of("link"));
  ASSERT_EQ(mkfifo((dir / name_of("pipe")).c_str(), 0600), 0);
  EXPECT_EQ(remove_abandoned_files(dir.path()), 0u);
  EXPECT_EQ(remove_abandoned_files(dir / "nowhere"), 0u);
  for (const auto& name : names) EXPECT_TRUE(fs::exists(dir / name)) << name;
}

}  // namespace
}  // namespace troupe
