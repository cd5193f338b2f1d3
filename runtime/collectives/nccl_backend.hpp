// The transport between GPUs: NCCL, through LibTorch.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>

namespace troupe {

/// Whether this build has NCCL: where it was compiled with CUDA.
bool has_nccl();

/// c10d::ProcessGroupNCCL for rank `rank` of `size`, each on a GPU of its own: `device` with its index. `store` hands
/// NCCL's unique id round: an MpiStore, a c10d::HashStore between the threads of one process, a c10d::TCPStore. It is
/// used on one stream of its own a device, with LibTorch's watchdog, whose `timeout` ends an operation that a rank does
/// not come to. Throws UsageError if this build has no NCCL or the device is no GPU.
c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                                    c10::Device device, std::chrono::milliseconds timeout);

}  // namespace troupe
