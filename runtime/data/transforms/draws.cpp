#include "troupe/runtime/data/transforms/draws.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/DistributionsHelper.h>

#include <cmath>
#include <mutex>

namespace troupe::transforms {

namespace {

template <class Distribution>
auto drawn_from(Distribution distribution) {
  auto* generator =
      at::get_generator_or_default<at::CPUGeneratorImpl>(std::nullopt, at::detail::getDefaultCPUGenerator());
  const std::lock_guard<std::mutex> lock(generator->mutex_);
  return distribution(generator);
}

}  // namespace

float draw_uniform(double low, double high) {
  constexpr uint32_t mask = (1U << 24) - 1;
  const auto from = static_cast<float>(low), to = static_cast<float>(high);
  const auto share =
      drawn_from([](auto* generator) { return static_cast<float>(generator->random() & mask) * 0x1p-24F; });
  // LibTorch's own loop, compiled for CPUs with AVX2, rounds product and sum once; here every CPU does.
  return std::fma(share, to - from, from);
}

int64_t draw_index(int64_t count) {
  return drawn_from(at::uniform_int_from_to_distribution<int64_t>(static_cast<uint64_t>(count), 0));
}

bool draw_chance(double p) {
  return draw_uniform(0, 1) < static_cast<float>(p);
}

}  // namespace troupe::transforms
