// Which device a run uses.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace troupe {

/// "cpu", "cuda", or "auto": cuda where a GPU works, else the CPU. Throws UsageError for "cuda" where there is none,
/// saying why.
torch::Device choose_device(const std::string& accelerator);

/// `count` devices for the workers of one process: GPUs of their own, those after the ones that the processes before it
/// on this host take (`local_rank` of them with as many each), or the CPU so many times. Throws UsageError as above,
/// and where there are too few GPUs, or more workers on the CPU than could be meant: 8 per processor that the process
/// may use, and 32 at least, are allowed.
std::vector<torch::Device> choose_devices(const std::string& accelerator, int64_t count, int64_t local_rank);

}  // namespace troupe
