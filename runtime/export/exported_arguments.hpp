// Arguments of operators in an exported program.
#pragma once

#include "troupe/runtime/export/exported_values.hpp"

#include <ATen/core/function_schema.h>
#include <torch/csrc/jit/ir/ir.h>
#include <nlohmann/json.hpp>

namespace troupe {

/// The node's arguments for an operator of `schema`, which may have fewer than the node has inputs (the first ones).
/// Arguments at the end, and those by keyword, are left out where they have their defaults.
///
/// Throws UsageError for an argument that the format has no form for.
nlohmann::json exported_arguments(const torch::jit::Node& node, const c10::FunctionSchema& schema,
                                  const ExportedValues& values);

}  // namespace troupe
