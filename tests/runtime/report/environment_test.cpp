#include "troupe/runtime/report/environment.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/temp_dir.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

namespace troupe {
namespace {

int run_git(const TempDir& dir, const std::string& words) {
  return std::system(("git -C '" + dir.path().string() +
                      "' -c user.name=n -c user.email=e -c init.defaultBranch=main " + words + " >/dev/null 2>&1")
                         .c_str());
}

TEST(Environment, KnowsTheMachineAndTheVersions) {
  const auto found = find_environment();
  EXPECT_FALSE(found.host.empty());
  EXPECT_TRUE(found.system.starts_with("Linux "));
  EXPECT_TRUE(found.libtorch.starts_with("2."));
  EXPECT_GT(found.pid, 0);
}

TEST(Environment, KnowsTheCommitAndWhetherFilesHaveChanged) {
  const TempDir dir;
  RunEnvironment none;
  find_git_state(none, dir.path());
  EXPECT_EQ(none.git_commit, "");
  if (run_git(dir, "init") != 0) GTEST_SKIP() << "there is no git";
  put(dir / "file", "1");
  ASSERT_EQ(run_git(dir, "add file"), 0);
  ASSERT_EQ(run_git(dir, "commit -m first"), 0);
  RunEnvironment clean;
  put(dir / "unknown", "1");
  find_git_state(clean, dir.path());
  EXPECT_EQ(clean.git_commit.size(), 40u);
  EXPECT_FALSE(clean.git_is_dirty);
  put(dir / "file", "2");
  RunEnvironment dirty;
  find_git_state(dirty, dir.path());
  EXPECT_EQ(dirty.git_commit, clean.git_commit);
  EXPECT_TRUE(dirty.git_is_dirty);
}

}  // namespace
}  // namespace troupe
