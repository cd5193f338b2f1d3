// Which samples an epoch visits, in which order.
#pragma once

#include <cstdint>
#include <vector>

namespace troupe {

/// A pure function from (dataset size, seed, epoch) to sample indices. Having no state, a sampler needs none saved: a
/// resumed epoch asks again and starts at a position (protocol rule P9).
class Sampler {
 public:
  virtual ~Sampler() = default;
  /// Indices of the epoch, each in [0, size); repeats and omissions are the sampler's choice.
  virtual std::vector<int64_t> indices(int64_t size, uint64_t seed, int64_t epoch) const = 0;
  /// How many indices an epoch has. The default asks for those of epoch 0 and counts them.
  virtual int64_t count(int64_t size) const { return static_cast<int64_t>(indices(size, 0, 0).size()); }
};

}  // namespace troupe
