// Which of ONNX's operators take bfloat16, and since which version.
#pragma once

#include <cstdint>
#include <string>

namespace troupe {

/// Why the operator takes no bfloat16 in this version, as a clause; empty if it does. The operators' pages have their
/// types: https://onnx.ai/onnx/operators.
std::string why_no_bfloat16(const std::string& op_type, int64_t opset_version);

}  // namespace troupe
