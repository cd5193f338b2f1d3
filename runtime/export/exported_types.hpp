// Types, devices and numbers as PyTorch's exported programs write them: torch/_export/serde/schema.py, version 8.17.
//
// LibTorch has this schema as C++ classes (torch/csrc/utils/generated_serialization_types.h). They change with
// LibTorch, and what is written here is to be read by every PyTorch from 2.11 on: so it is written as plain JSON.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Layout.h>
#include <c10/core/MemoryFormat.h>
#include <c10/core/ScalarType.h>
#include <torch/types.h>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>

namespace troupe {

/// Number of the type in the schema. Throws UsageError with the type's name for one that it has not.
int64_t exported_type(c10::ScalarType type);
/// The same of layouts and of memory formats.
int64_t exported_layout(c10::Layout layout);
int64_t exported_memory_format(c10::MemoryFormat format);

/// {"type": "cuda", "index": 0}; the index of a CPU is null.
nlohmann::json exported_device(c10::Device device);

/// {"as_int": value}.
nlohmann::json exported_int(int64_t value);

/// Of a value of the graph: {"as_tensor": {"name": name}} for a tensor, {"as_sym_int": {"as_name": name}} for a number
/// that depends on sizes.
nlohmann::json exported_tensor(const std::string& name);
nlohmann::json exported_symbol(const std::string& name);

/// {"name": name, "arg": value, "kind": 1}, for an argument by its position; kind 2: by keyword.
nlohmann::json exported_argument(const std::string& name, nlohmann::json value, bool by_keyword = false);

/// The description of a tensor of these sizes and strides, each as the schema's SymInt.
nlohmann::json exported_meta(c10::ScalarType type, c10::Device device, nlohmann::json sizes, nlohmann::json strides,
                             int64_t storage_offset, bool requires_grad);

/// The description of `tensor` whose first element is the `storage_offset`th of what is stored.
nlohmann::json exported_meta(const torch::Tensor& tensor, int64_t storage_offset);

}  // namespace troupe
