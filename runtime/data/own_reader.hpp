// One reader of a stream per device.
#pragma once

#include "troupe/modules/data/data_loader.hpp"

#include <string>

namespace troupe {

/// The loader, over a copy of its own of a stream, which the devices of one process must not read together. `option` is
/// what made them several ("trainer.devices"). Throws UsageError if the stream has no replicate().
DataLoader own_reader(const DataLoader& loader, const std::string& option);

}  // namespace troupe
