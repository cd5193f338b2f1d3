// Random numbers that do not depend on which thread asks first (protocol rule P9).
//
// LibTorch has one default CPU generator a process, so two workers or fetchers would take turns drawing from it and two
// runs would differ. Linked into a program, this part gives every thread a default CPU generator of its own: it defines
// the function through which LibTorch finds its generator, and the dynamic linker prefers the program's definition.
// `torch::manual_seed`, `torch::rand`, dropout and the rest then use the calling thread's generator.
#pragma once

#include <torch/types.h>

#include <cstdint>

namespace troupe {

/// Whether LibTorch draws from generators of this library's, one a thread; tried with one draw, which is taken back.
/// False if the program was linked such that LibTorch keeps its own (the library inside of a plug-in, for example):
/// with several workers or fetchers, two runs may then differ. The Trainer calls it at start-up.
bool per_thread_generators();

/// Seeds the calling thread's default CPU generator; no other thread's and no GPU's. It costs next to nothing: the seed
/// takes effect when LibTorch next asks for the generator, which every draw without a generator of its own does. Who
/// keeps the handle of the default generator over a call of this must ask for it again.
void seed_thread(uint64_t seed);

/// The same, and the generator of `device` if that is a GPU.
void seed_thread_and_device(uint64_t seed, torch::Device device);

/// A seed that nobody chose, from the system's source of random numbers; at most 2^63 - 1.
uint64_t drawn_seed();

/// Throws UsageError unless per_thread_generators().
void require_own_generators();

/// The state of the default generator for `device`, as bytes on the CPU: the calling thread's where that is the CPU,
/// else the device's, which all threads share.
torch::Tensor generator_state(torch::Device device = torch::kCPU);
/// Gives that generator a state that generator_state() returned; throws UsageError for anything else.
void set_generator_state(const torch::Tensor& state, torch::Device device = torch::kCPU);

/// How far SplitMix64 goes on from one number to the next.
inline constexpr uint64_t kSplitMixStep = 0x9e3779b97f4a7c15ULL;

/// A well-spread hash of one number (the finalizer of SplitMix64, https://prng.di.unimi.it/splitmix64.c).
constexpr uint64_t mix(uint64_t value) {
  value += kSplitMixStep;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31);
}

/// A seed from a seed and whatever tells one use from another: mix(seed, epoch, index). The order of the parts counts.
template <class Part, class... Parts>
constexpr uint64_t mix(uint64_t seed, Part part, Parts... parts) {
  return mix(mix(seed) ^ static_cast<uint64_t>(part), parts...);
}

}  // namespace troupe
