// How this process was started, as the environment says, without initialising MPI: a process that was started alone
// does not pay for it.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe {

enum class Launcher {
  none,      ///< started alone
  mpi,       ///< by mpirun or srun: MpiWorld knows the rest
  torchrun,  ///< by torchrun, or anything that sets its variables
};

struct LaunchEnvironment {
  Launcher launcher = Launcher::none;
  // What torchrun says; with MPI, MpiWorld asks MPI itself, and only the size is here, as far as variables say it.
  int rank = 0;
  int size = 1;
  int local_rank = 0;
  int local_size = 1;
  std::string store_host{};  ///< torchrun's store, for a c10d::TCPStore as a client
  int store_port = 0;
};

/// The value of an environment variable, none if it is not set.
using Environment = std::function<std::optional<std::string>(const char* name)>;

/// The process's own environment.
std::optional<std::string> environment_variable(const char* name);

/// Reads these variables, in this order:
///
/// | variable | set by | meaning |
/// |---|---|---|
/// | OMPI_COMM_WORLD_SIZE | mpirun of Open MPI | the process is one of MPI's |
/// | PMIX_RANK | srun --mpi=pmix | the same |
/// | PMIX_NAMESPACE | srun --mpi=pmix | "slurm.pmix.JOB.STEP": if another step's, PMIX_RANK does not count |
/// | SLURM_JOB_ID, SLURM_STEP_ID | srun | whose they have to be |
/// | SLURM_STEP_NUM_TASKS | srun | the number of tasks; more than one without the above is an error |
/// | SLURM_JOB_NAME, SLURM_PROCID | srun | "bash" or "interactive", and 0: a shell, in which a program is alone |
/// | SLURM_TASK_PID | srun | the task's process: if it is this one, no shell is between srun and it |
/// | PMI_RANK, PMI_SIZE | srun --mpi=pmi2 | changes nothing of that: Open MPI cannot use it |
/// | PMI_RANK, PMI_SIZE | mpirun of MPICH, without srun | the process is one of MPI's |
/// | RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT | torchrun | all four have to be set |
/// | LOCAL_RANK, LOCAL_WORLD_SIZE | torchrun | default: 0 of 1 |
///
/// The names of shells are those that Lightning looks for.
///
/// Throws UsageError for values that are no numbers, a rank that is not below the size, and variables that are missing.
LaunchEnvironment launch_environment(const Environment& environment = environment_variable);

/// Variables to set before MPI is initialised: how Open MPI carries messages, by its names. None if anybody has chosen:
/// in the environment, to which mpirun adds what --mca says, or in `users_file`, the text of
/// ~/.openmpi/mca-params.conf.
///
/// On one host: its transports within a host. Without them Open MPI looks for network cards first, which takes 0.2 s
/// with 4.1 and 1.4 s with 5.0.11 on a host that has none, and is of no use unless there are several hosts.
///
/// On several hosts: large messages over TCP are pushed piece by piece, and not asked for by the receiver. What asks
/// for them would wait behind the messages that go the same way, so that a link is used one way at a time and an
/// all-reduce takes twice as long (findings/open_mpi_tcp_one_way.sh). Nothing else is chosen there.
/// https://docs.open-mpi.org/en/v5.0.x/mca.html
std::vector<std::pair<std::string, std::string>> mpi_transports(const Environment& environment,
                                                                std::string_view users_file);

/// Throws UsageError if the launcher started more processes than MPI finds, `found`: it is another MPI's than the
/// one that the program was linked to, and each process would train alone.
void check_size_of_mpi(const LaunchEnvironment& launched, int found);

}  // namespace troupe
