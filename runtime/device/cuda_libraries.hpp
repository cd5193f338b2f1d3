// LibTorch's CUDA libraries, which a program loads if there is a GPU to use them.
#pragma once

#ifdef TROUPE_HAS_CUDA

#include <string>

namespace troupe {

// A program loads libtorch_cuda, which lies beside libtorch_cpu and registers its kernels by itself, before main if
// NVIDIA's driver is there, since LibTorch looks for GPUs once. On other machines nothing is loaded: the libraries take
// 350 MB and half a second from a process that computes on the CPU.

/// Why the libraries could not be loaded before main; empty if they were, or if there is no driver.
const std::string& cuda_libraries_problem();

/// A function of the CUDA libraries by its linker name; loads them if they are not. Throws std::runtime_error, with the
/// loader's words, if that fails, and if they have no such function.
void* cuda_symbol(const char* name);

}  // namespace troupe

#endif
