// A job of SLURM whose time is over.
#pragma once

#include <string>
#include <vector>

namespace troupe {

/// Whether this process belongs to a job.
bool is_slurm_job();

/// Puts the job that this process belongs to back into the queue, with `scontrol requeue`; an element of a job array
/// by its own number. Returns lines for the user: that it was done, or why not. Nothing outside of a job.
/// https://slurm.schedmd.com/scontrol.html#OPT_requeue
std::vector<std::string> requeue_slurm_job();

}  // namespace troupe
