#include "troupe/runtime/device/cuda_libraries.hpp"

#ifdef TROUPE_HAS_CUDA

#include <torch/cuda.h>

#include <dlfcn.h>

#include <exception>
#include <filesystem>
#include <stdexcept>

namespace troupe {

namespace {

// Beside libtorch_cpu, wherever the loader found that.
std::string path_of_libtorch_cuda() {
  constexpr const char* name = "libtorch_cuda.so";
  Dl_info libtorch_cpu{};
  const auto* inside = reinterpret_cast<const void*>(&torch::cuda::is_available);
  if (dladdr(inside, &libtorch_cpu) == 0 || !libtorch_cpu.dli_fname) return name;
  return std::filesystem::path(libtorch_cpu.dli_fname).replace_filename(name).string();
}

void* libtorch_cuda() {
  static void* const handle = [] {
    // Global, as if the program had been linked to it: its libraries look for each other's symbols.
    void* const loaded = dlopen(path_of_libtorch_cuda().c_str(), RTLD_LAZY | RTLD_GLOBAL);
    if (!loaded) throw std::runtime_error("LibTorch's CUDA libraries cannot be loaded: " + std::string(dlerror()));
    return loaded;
  }();
  return handle;
}

bool has_driver() {
  void* const driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (!driver) return false;
  dlclose(driver);
  return true;
}

std::string load_before_main() {
  try {
    if (has_driver()) libtorch_cuda();
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

const std::string problem_before_main = load_before_main();

}  // namespace

const std::string& cuda_libraries_problem() {
  return problem_before_main;
}

void* cuda_symbol(const char* name) {
  void* const address = dlsym(libtorch_cuda(), name);
  if (!address) throw std::runtime_error("LibTorch's CUDA libraries have no " + std::string(name));
  return address;
}

}  // namespace troupe

#endif
