// A backend as what LibTorch's own engines take.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

namespace troupe {

/// A process group that runs everything on tensors of that kind of device over `backend`: what c10d::Reducer,
/// c10d::broadcast_coalesced and c10d::verify_params_across_processes take.
c10::intrusive_ptr<c10d::ProcessGroup> as_process_group(const c10::intrusive_ptr<c10d::Backend>& backend,
                                                        c10::DeviceType device = c10::kCPU);

}  // namespace troupe
