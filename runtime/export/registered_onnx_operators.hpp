// The operators that users registered (register_onnx_operator.hpp), for those who write graphs.
#pragma once

#include "troupe/runtime/export/onnx_call.hpp"
#include "troupe/runtime/export/register_onnx_operator.hpp"

#include <string>
#include <vector>

namespace troupe {

/// The function for "namespace::operator"; empty if there is none. Any thread may call it.
OnnxOperatorWriter registered_onnx_operator(const std::string& name);

/// All names, sorted.
std::vector<std::string> registered_onnx_operator_names();

/// Lets `write` write the call. Throws UsageError if it leaves a result out that the graph reads.
void write_registered(const OnnxOperatorWriter& write, OnnxCall& call);

}  // namespace troupe
