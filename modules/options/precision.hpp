// The number formats that a run may compute in.
#pragma once

#include "troupe/modules/options/choices.hpp"

#include <torch/types.h>

namespace troupe {

/// Names and meanings are those of Lightning's Trainer
/// (https://lightning.ai/docs/pytorch/stable/common/precision.html).
///
/// - "true": parameters, batches and computation are all in one format.
/// - "mixed": parameters and optimizer stay in float32; operations that can do without its range run in the shorter
///   format (automatic mixed precision, Micikevicius et al. 2018). With float16 the loss is scaled so that small
///   gradients do not vanish (runtime/precision/grad_scaler.hpp).
enum class Precision { float32, float64, float16_mixed, bfloat16_mixed, float16_true, bfloat16_true };

TROUPE_CHOICES(Precision, {float32, "32-true"}, {float64, "64-true"}, {float16_mixed, "16-mixed"},
               {bfloat16_mixed, "bf16-mixed"}, {float16_true, "16-true"}, {bfloat16_true, "bf16-true"},
               {float32, "32", ::troupe::ChoiceUse::accepted}, {float64, "64", ::troupe::ChoiceUse::accepted},
               {float16_mixed, "16", ::troupe::ChoiceUse::accepted},
               {bfloat16_mixed, "bf16", ::troupe::ChoiceUse::accepted})

/// The format of parameters and of the floating-point tensors of a batch.
torch::ScalarType parameter_type(Precision precision);
inline bool is_mixed(Precision precision) {
  return precision == Precision::float16_mixed || precision == Precision::bfloat16_mixed;
}
/// The bits of the format computed in, as Lightning's `precision` has them: 64, 32 or 16.
int bits_of(Precision precision);

}  // namespace troupe
