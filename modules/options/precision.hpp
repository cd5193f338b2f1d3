// The number formats that a run may compute in.
#pragma once

#include <torch/types.h>

#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// Names and meanings are those of Lightning's Trainer
/// (https://lightning.ai/docs/pytorch/stable/common/precision.html).
///
/// - "true": parameters, batches and computation are all in one format.
/// - "mixed": parameters and optimizer stay in float32; operations that can do without its range run in the shorter
///   format (automatic mixed precision, Micikevicius et al. 2018). With float16 the loss is scaled so that small
///   gradients do not vanish (runtime/precision/grad_scaler.hpp).
enum class Precision { float32, float64, float16_mixed, bfloat16_mixed, float16_true, bfloat16_true };

/// "32-true" (also "32"), "64-true" ("64"), "16-mixed" ("16"), "bf16-mixed" ("bf16"), "16-true" or "bf16-true". Throws
/// UsageError that names the nearest.
Precision precision_from_text(std::string_view text);
/// The first of the texts above.
std::string_view to_string(Precision precision);

/// The format of parameters and of the floating-point tensors of a batch.
torch::ScalarType parameter_type(Precision precision);
inline bool is_mixed(Precision precision) {
  return precision == Precision::float16_mixed || precision == Precision::bfloat16_mixed;
}
/// The bits of the format computed in, as Lightning's `precision` has them: 64, 32 or 16.
int bits_of(Precision precision);

}  // namespace troupe
