#include "troupe/runtime/process/cpu_budget.hpp"

#include "tests/support/temp_dir.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <thread>

namespace troupe {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;
using testing::Optional;

// A file system with the files that the kernel would show.
class Kernel {
 public:
  Kernel& has(const std::string& path, const std::string& content) {
    const auto file = folder_->path() / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << content;
    return *this;
  }
  std::optional<double> quota() const { return cpu_quota(folder_->path()); }

 private:
  std::unique_ptr<TempDir> folder_ = std::make_unique<TempDir>();
};

Kernel version_2(const std::string& group, const std::string& top = "/") {
  Kernel kernel;
  kernel.has("proc/self/cgroup", "0::" + group + "\n");
  kernel.has("proc/self/mountinfo", "22 1 0:5 / /proc rw - proc proc rw\n30 24 0:26 " + top +
                                        " /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
  return kernel;
}

Kernel version_1(const std::string& group, const std::string& top = "/") {
  Kernel kernel;
  kernel.has("proc/self/cgroup", "5:cpuset:/\n4:cpu,cpuacct:" + group + "\n1:name=systemd:/x\n0::/\n");
  kernel.has("proc/self/mountinfo", "31 25 0:27 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n32 25 0:28 " +
                                        top + " /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n");
  return kernel;
}

TEST(CpuQuota, IsNoneWithoutGroups) {
  EXPECT_EQ(Kernel().quota(), std::nullopt);
  EXPECT_EQ(version_2("/a").quota(), std::nullopt);
  EXPECT_EQ(version_1("/a").quota(), std::nullopt);
}

TEST(CpuQuota, IsReadFromVersion2) {
  EXPECT_THAT(version_2("/").has("sys/fs/cgroup/cpu.max", "150000 100000\n").quota(), Optional(1.5));
  EXPECT_EQ(version_2("/").has("sys/fs/cgroup/cpu.max", "max 100000\n").quota(), std::nullopt);
  EXPECT_EQ(version_2("/").has("sys/fs/cgroup/cpu.max", "nonsense\n").quota(), std::nullopt);
}

TEST(CpuQuota, IsReadFromVersion1) {
  const auto with = [](const char* quota) {
    return version_1("/a")
        .has("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", quota)
        .has("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "50000\n")
        .quota();
  };
  EXPECT_THAT(with("100000\n"), Optional(2.0));
  EXPECT_EQ(with("-1\n"), std::nullopt);
}

TEST(CpuQuota, IsTheSmallestOfNestedGroups) {
  EXPECT_THAT(version_2("/pod/box")
                  .has("sys/fs/cgroup/pod/cpu.max", "100000 100000")
                  .has("sys/fs/cgroup/pod/box/cpu.max", "400000 100000")
                  .quota(),
              Optional(1.0));
  EXPECT_THAT(version_2("/pod/box")
                  .has("sys/fs/cgroup/pod/cpu.max", "max 100000")
                  .has("sys/fs/cgroup/pod/box/cpu.max", "50000 100000")
                  .quota(),
              Optional(0.5));
}

// The group's full name in /proc/self/cgroup, and the group itself at the place: no namespace for groups.
TEST(CpuQuota, IsThatOfAContainerWhichSeesItsGroupFromTheHost) {
  EXPECT_THAT(version_1("/docker/1f", "/docker/1f")
                  .has("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "300000")
                  .has("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000")
                  .quota(),
              Optional(3.0));
  EXPECT_THAT(version_2("/docker/1f/job", "/docker/1f")
                  .has("sys/fs/cgroup/cpu.max", "300000 100000")
                  .has("sys/fs/cgroup/job/cpu.max", "200000 100000")
                  .quota(),
              Optional(2.0));
}

TEST(AllowedCpus, FollowTheAffinityMask) {
  const auto all = allowed_cpus();
  ASSERT_THAT(all, Not(IsEmpty()));
  std::thread([last = all.back()] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(last, &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    EXPECT_THAT(allowed_cpus(), ElementsAre(last));
    EXPECT_EQ(usable_processors(std::nullopt), 1U);
  }).join();
}

TEST(UsableProcessors, AreThoseAllowedAsFarAsTheQuotaGoes) {
  const auto all = allowed_cpus().size();
  EXPECT_EQ(usable_processors(std::nullopt), all);
  EXPECT_EQ(usable_processors(0.1), 1U);
  EXPECT_EQ(usable_processors(1e9), all);
  EXPECT_EQ(usable_processors(1.5), std::min<std::size_t>(all, 2));
}

TEST(CpuShare, IsWhatAProcessHasToItself) {
  EXPECT_EQ(cpu_share({{0, 1, 2, 3}}, 0, std::nullopt), 4);
  EXPECT_EQ(cpu_share({{0, 1}, {2, 3}}, 1, std::nullopt), 2) << "bound to cores of their own";
  EXPECT_EQ(cpu_share({{0, 1, 2, 3}, {0, 1, 2, 3}}, 1, std::nullopt), 2) << "not bound";
  EXPECT_EQ(cpu_share({{0, 1, 2, 3}, {3}}, 0, std::nullopt), 3.5);
  EXPECT_EQ(cpu_share({{0}, {0}, {0}, {0}}, 2, std::nullopt), 0.25);
}

TEST(CpuShare, IsNoMoreThanThePartOfTheQuota) {
  EXPECT_EQ(cpu_share({{0, 1, 2, 3}}, 0, 1.5), 1.5);
  EXPECT_EQ(cpu_share({{0, 1, 2, 3}}, 0, 9), 4);
  EXPECT_EQ(cpu_share({{0, 1}, {2, 3}}, 0, 3), 1.5);
}

}  // namespace
}  // namespace troupe
