// Which device a run uses.
#pragma once

#include "troupe/modules/options/trainer_choices.hpp"

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace troupe {

/// Throws UsageError for `cuda` if there is no GPU that works, saying why.
torch::Device choose_device(Accelerator accelerator);

/// `count` devices for the workers of one process: GPUs of their own, those after the ones that the processes before it
/// on this host take (`local_rank` of them with as many each), or the CPU so many times. Throws UsageError as above,
/// and where there are too few GPUs, or more workers on the CPU than could be meant: 8 per processor that the process
/// may use, and 32 at least, are allowed.
std::vector<torch::Device> choose_devices(Accelerator accelerator, int64_t count, int64_t local_rank);

}  // namespace troupe
