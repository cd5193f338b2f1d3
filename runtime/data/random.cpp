#include "troupe/runtime/data/random.hpp"

#include "troupe/base/failure.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/ops/rand.h>
#include <torch/cuda.h>

#include <mutex>
#include <random>
#include <string>

namespace {

// A thread's generator, and the seed that it is to get before the next draw. Seeding fills 2.5 KB, which costs more
// than making a sample often does; most samples draw nothing.
struct ThreadGenerator {
  at::Generator generator = at::detail::createCPUGenerator();
  uint64_t seed = 0;
  bool seed_is_due = false;

  void seed_now() {
    seed_is_due = false;
    const std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_current_seed(seed);
  }
};

ThreadGenerator& thread_generator() {
  static thread_local ThreadGenerator generator;
  return generator;
}

}  // namespace

namespace at::detail {

// Takes the place of LibTorch's definition, for LibTorch's own calls too: every draw asks for the generator here.
const Generator& getDefaultCPUGenerator() {
  ThreadGenerator& own = thread_generator();
  if (own.seed_is_due) own.seed_now();
  return own.generator;
}

}  // namespace at::detail

namespace troupe {

namespace {

at::Generator generator_of(torch::Device device) {
  return device.is_cpu() ? at::detail::getDefaultCPUGenerator() : at::globalContext().defaultGenerator(device);
}

}  // namespace

bool per_thread_generators() {
  const torch::Tensor before = generator_state();
  at::rand({1}, at::kCPU);
  const bool ours_was_drawn_from = !generator_state().equal(before);
  set_generator_state(before);
  return ours_was_drawn_from;
}

void seed_thread(uint64_t seed) {
  ThreadGenerator& own = thread_generator();
  own.seed = seed;
  own.seed_is_due = true;
}

void seed_thread_and_device(uint64_t seed, torch::Device device) {
  seed_thread(seed);
  if (device.is_cuda()) torch::cuda::manual_seed(seed);
}

uint64_t drawn_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32 | device()) >> 1;
}

void require_own_generators() {
  if (per_thread_generators()) return;
  throw UsageError(
      "LibTorch does not draw from this program's random generators: link Troupe into the program itself, not into a"
      " plug-in");
}

torch::Tensor generator_state(torch::Device device) {
  at::Generator generator = generator_of(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void set_generator_state(const torch::Tensor& state, torch::Device device) {
  at::Generator generator = generator_of(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  const auto bytes = generator.get_state().numel();
  if (!state.defined() || !state.device().is_cpu() || state.scalar_type() != at::kByte || state.dim() != 1 ||
      state.numel() != bytes) {
    throw UsageError("the state of a random generator is " + std::to_string(bytes) + " bytes, not " +
                     (state.defined()
                          ? std::to_string(state.numel()) + " values of type " + c10::toString(state.scalar_type())
                          : std::string("an undefined tensor")));
  }
  try {
    generator.set_state(state.contiguous());
  } catch (const c10::Error& error) {
    throw UsageError(std::string("not the state of a random generator: ") + error.what_without_backtrace());
  }
}

}  // namespace troupe
