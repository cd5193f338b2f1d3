// Where an epoch begins that a run with another number of ranks has begun.
#pragma once

#include <cstdint>

namespace troupe {

/// So many samples of the epoch's order, counted over all ranks, are behind, and so many batches; a plain epoch begins
/// with none.
struct EpochOrigin {
  int64_t epoch = -1;  ///< that it holds for
  int64_t batches = 0;
  int64_t samples = 0;
};

}  // namespace troupe
