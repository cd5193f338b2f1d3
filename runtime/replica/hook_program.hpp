// The hooks of a batch that somebody has.
#pragma once

#include "troupe/modules/hooks.hpp"
#include "troupe/runtime/replica/replica_core.hpp"

#include <span>
#include <vector>

namespace troupe {

using HookProgram = std::vector<Hook>;

/// Of a table of modules/hook_order.hpp: the steps themselves, and each hook that the module, the data module or a
/// callback has. What nobody has costs nothing.
HookProgram compile_program(const ReplicaCore& core, std::span<const Hook> table);

}  // namespace troupe
