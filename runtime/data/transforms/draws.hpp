// Single random numbers as LibTorch draws them into a tensor of one element, without the tensor.
#pragma once

#include <cstdint>

namespace troupe::transforms {

/// torch.empty(1).uniform_(low, high).item()
float draw_uniform(double low, double high);
/// torch.randint(0, count, (1,)).item()
int64_t draw_index(int64_t count);
/// torch.rand(1) < p
bool draw_chance(double p);

}  // namespace troupe::transforms
