// How many processors a process may keep busy: where it may run, how much of the time, and beside whom.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <vector>

namespace troupe {

/// The processors that the calling thread may run on (sched_getaffinity): all of the machine, or those that taskset,
/// mpirun's binding, a cpuset or SLURM left to it. Never empty.
std::vector<int> allowed_cpus();

/// How many processors' time the control groups of this process grant it, such as 1.5; none if nothing limits it. A
/// container has such a quota (`docker run --cpus`, Kubernetes' `limits.cpu`) while it sees, and may run on, every
/// processor of the host: whoever uses more is stopped for the rest of each 100 ms. The smallest quota of the nested
/// groups counts. Reads cpu.max (version 2) and cpu.cfs_quota_us (version 1), at the places that /proc/self/mountinfo
/// and /proc/self/cgroup name; what cannot be read limits nothing. `root` stands in front of all paths, for tests.
/// https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu, https://docs.kernel.org/scheduler/sched-bwc.html
std::optional<double> cpu_quota(const std::filesystem::path& root = "/");

/// How many threads this process can have at work at a time: one for each of allowed_cpus(), but no more than the quota
/// grants, rounded up. At least 1.
std::size_t usable_processors(std::optional<double> quota = cpu_quota());

/// How many processors one of a host's processes has to itself, not below 0: of each that it may run on its part, and
/// no more than its part of the quota. `processes` has allowed_cpus() of all of them; `own` is the one that asks.
double cpu_share(const std::vector<std::vector<int>>& processes, std::size_t own, std::optional<double> quota);

}  // namespace troupe
