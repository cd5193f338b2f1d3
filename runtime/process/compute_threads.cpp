#include "troupe/runtime/process/compute_threads.hpp"

#include <ATen/Parallel.h>
#include <dlfcn.h>

namespace troupe {

void use_one_compute_thread() {
  // LibTorch sets a thread's number at the first question for it, and would overwrite ours later.
  at::get_num_threads();
  // LibTorch brings an OpenMP library of its own: linking another one here would make two teams.
  using Setter = void (*)(int);
  static const auto set_num_threads = reinterpret_cast<Setter>(dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
  if (set_num_threads) set_num_threads(1);
}

}  // namespace troupe
