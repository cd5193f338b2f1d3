// How many threads LibTorch's CPU kernels use.
#pragma once

namespace troupe {

/// From now on the CPU kernels that the calling thread starts run on it alone, as torch.set_num_threads(1) does in each
/// of PyTorch's DataLoader workers: loader threads would else each keep a team of threads as large as the machine.
/// Other threads keep their setting (at::set_num_threads would change the default of new threads too). Does nothing
/// where LibTorch was built without OpenMP.
void use_one_compute_thread();

}  // namespace troupe
