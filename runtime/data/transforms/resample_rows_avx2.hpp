// The loops of resample_rows.hpp with AVX2 instructions.
#pragma once

#include "troupe/runtime/data/transforms/resample_rows.hpp"

namespace troupe::transforms {

/// Null if this CPU has no AVX2.
const RowLoops* avx2_row_loops();

}  // namespace troupe::transforms
