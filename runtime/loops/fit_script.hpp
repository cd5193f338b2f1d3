// The order of a stage, as scripts.
#pragma once

#include "troupe/runtime/loops/run_state.hpp"
#include "troupe/runtime/loops/script.hpp"

namespace troupe {

/// Training: sanity check, epochs with validation in between, decisions of the monitors, limits. `state` must outlive
/// the script. Throws what a monitor throws.
Script fit_script(RunState& state);

/// Validate, test or predict by itself.
Script evaluation_script(RunState& state);

}  // namespace troupe
