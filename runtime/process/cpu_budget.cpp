#include "troupe/runtime/process/cpu_budget.hpp"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

namespace troupe {
namespace {

namespace fs = std::filesystem;

// Whether `list`, words between commas, has the word.
bool has_word(const std::string& list, const std::string& word) {
  std::istringstream words(list);
  for (std::string one; std::getline(words, one, ',');) {
    if (one == word) return true;
  }
  return false;
}

// A tree of control groups, as far as this process sees it.
struct Hierarchy {
  bool is_v2 = false;
  std::string top;    // which group lies at the place
  fs::path place;     // where it is mounted
  std::string group;  // this process's
};

// The group of this process in the tree: lines "4:cpu,cpuacct:/a/b" of version 1, "0::/a/b" of version 2.
std::optional<std::string> own_group(const fs::path& root, bool is_v2) {
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const auto controllers = line.substr(first + 1, second - first - 1);
    if (is_v2 ? line.rfind("0::", 0) == 0 : has_word(controllers, "cpu")) return line.substr(second + 1);
  }
  return std::nullopt;
}

// Lines of mountinfo (proc(5)): ID PARENT DEVICE TOP PLACE OPTIONS [FIELD...] - TYPE SOURCE SUPER_OPTIONS.
std::vector<Hierarchy> cpu_hierarchies(const fs::path& root) {
  std::vector<Hierarchy> found;
  std::ifstream file(root / "proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    const auto dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream front(line.substr(0, dash)), back(line.substr(dash + 3));
    std::string id, parent, device, top, place, type, source, options;
    front >> id >> parent >> device >> top >> place;
    back >> type >> source >> options;
    const bool is_v2 = type == "cgroup2";
    if (!is_v2 && !(type == "cgroup" && has_word(options, "cpu"))) continue;
    const auto group = own_group(root, is_v2);
    if (group) found.push_back({is_v2, top, root / fs::path(place).relative_path(), *group});
  }
  return found;
}

std::optional<double> first_number(const fs::path& path) {
  std::ifstream file(path);
  double number = 0;
  return file >> number ? std::optional(number) : std::nullopt;
}

// Of one group: "max 100000" or "150000 100000"; in version 1 two files, and -1 for no limit.
std::optional<double> quota_of(const Hierarchy& tree, const fs::path& folder) {
  std::optional<double> time, period;
  if (tree.is_v2) {
    std::ifstream file(folder / "cpu.max");
    double first = 0, second = 0;
    if (file >> first >> second) time = first, period = second;
  } else {
    time = first_number(folder / "cpu.cfs_quota_us");
    period = first_number(folder / "cpu.cfs_period_us");
  }
  if (!time || !period || *time <= 0 || *period <= 0) return std::nullopt;
  return *time / *period;
}

}  // namespace

std::vector<int> allowed_cpus() {
  std::vector<int> allowed;
  // A machine may have more processors than cpu_set_t has bits; the call then says EINVAL until there are enough.
  for (int most = CPU_SETSIZE; most <= 1 << 20 && allowed.empty(); most *= 2) {
    cpu_set_t* const set = CPU_ALLOC(static_cast<std::size_t>(most));
    if (!set) break;
    const auto size = CPU_ALLOC_SIZE(static_cast<std::size_t>(most));
    if (sched_getaffinity(0, size, set) == 0) {
      for (int cpu = 0; cpu < most; ++cpu) {
        if (CPU_ISSET_S(static_cast<std::size_t>(cpu), size, set)) allowed.push_back(cpu);
      }
    }
    CPU_FREE(set);
  }
  if (allowed.empty()) {
    for (int cpu = 0; cpu < std::max(1, static_cast<int>(std::thread::hardware_concurrency())); ++cpu) {
      allowed.push_back(cpu);
    }
  }
  return allowed;
}

std::optional<double> cpu_quota(const fs::path& root) {
  std::optional<double> smallest;
  for (const auto& tree : cpu_hierarchies(root)) {
    // Below the place lies what is below `top`: a container without a namespace for its groups sees its own group
    // mounted there, and its full name in /proc/self/cgroup.
    const auto below = tree.top == "/"                            ? tree.group
                       : tree.group.rfind(tree.top + "/", 0) == 0 ? tree.group.substr(tree.top.size())
                                                                  : std::string("/");
    fs::path folder = tree.place;
    const auto look = [&] {
      const auto quota = quota_of(tree, folder);
      if (quota && (!smallest || *quota < *smallest)) smallest = quota;
    };
    look();
    for (const auto& name : fs::path(below).relative_path()) {
      folder /= name;
      look();
    }
  }
  return smallest;
}

std::size_t usable_processors(std::optional<double> quota) {
  const auto allowed = allowed_cpus().size();
  if (!quota) return allowed;
  return std::clamp<std::size_t>(static_cast<std::size_t>(std::ceil(std::min(*quota, 1e6))), 1, allowed);
}

double cpu_share(const std::vector<std::vector<int>>& processes, std::size_t own, std::optional<double> quota) {
  double share = 0;
  for (const int cpu : processes[own]) {
    share += 1.0 / static_cast<double>(std::count_if(processes.begin(), processes.end(), [cpu](const auto& allowed) {
               return std::find(allowed.begin(), allowed.end(), cpu) != allowed.end();
             }));
  }
  return quota ? std::min(share, *quota / static_cast<double>(processes.size())) : share;
}

}  // namespace troupe
