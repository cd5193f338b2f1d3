#include "troupe/runtime/export/exported_types.hpp"

#include "troupe/base/failure.hpp"

#include <utility>

namespace troupe {

int64_t exported_type(c10::ScalarType type) {
  using c10::ScalarType;
  switch (type) {
    case ScalarType::Byte:
    case ScalarType::Char:
    case ScalarType::Short:
    case ScalarType::Int:
    case ScalarType::Long:
    case ScalarType::Half:
    case ScalarType::Float:
    case ScalarType::Double:
    case ScalarType::ComplexHalf:
    case ScalarType::ComplexFloat:
    case ScalarType::ComplexDouble:
    case ScalarType::Bool: return static_cast<int64_t>(type) + 1;  // the schema begins with "unknown"
    case ScalarType::BFloat16: return 13;
    case ScalarType::UInt16: return 28;
    case ScalarType::Float8_e4m3fn: return 29;
    case ScalarType::Float8_e5m2: return 30;
    case ScalarType::Float8_e4m3fnuz: return 31;
    case ScalarType::Float8_e5m2fnuz: return 32;
    default: throw UsageError(std::string("PyTorch's exported programs have no tensors of ") + c10::toString(type));
  }
}

int64_t exported_layout(c10::Layout layout) {
  if (layout == c10::Layout::Strided) return 7;
  throw UsageError("only dense tensors can be exported, not sparse ones and not those of oneDNN");
}

int64_t exported_memory_format(c10::MemoryFormat format) {
  switch (format) {
    case c10::MemoryFormat::Contiguous: return 1;
    case c10::MemoryFormat::ChannelsLast: return 2;
    case c10::MemoryFormat::ChannelsLast3d: return 3;
    case c10::MemoryFormat::Preserve: return 4;
    default: throw UsageError("an operator has a memory format that PyTorch's exported programs do not know");
  }
}

nlohmann::json exported_device(c10::Device device) {
  nlohmann::json index;
  if (device.has_index()) index = device.index();
  return {{"type", c10::DeviceTypeName(device.type(), /*lower_case=*/true)}, {"index", index}};
}

nlohmann::json exported_int(int64_t value) {
  return {{"as_int", value}};
}

nlohmann::json exported_tensor(const std::string& name) {
  return {{"as_tensor", {{"name", name}}}};
}

nlohmann::json exported_symbol(const std::string& name) {
  return {{"as_sym_int", {{"as_name", name}}}};
}

nlohmann::json exported_argument(const std::string& name, nlohmann::json value, bool by_keyword) {
  constexpr int positional = 1, keyword = 2;  // the schema's ArgumentKind
  return {{"name", name}, {"arg", std::move(value)}, {"kind", by_keyword ? keyword : positional}};
}

nlohmann::json exported_meta(c10::ScalarType type, c10::Device device, nlohmann::json sizes, nlohmann::json strides,
                             int64_t storage_offset, bool requires_grad) {
  return {{"dtype", exported_type(type)},
          {"sizes", std::move(sizes)},
          {"requires_grad", requires_grad},
          {"device", exported_device(device)},
          {"strides", std::move(strides)},
          {"storage_offset", exported_int(storage_offset)},
          {"layout", exported_layout(c10::Layout::Strided)}};
}

nlohmann::json exported_meta(const torch::Tensor& tensor, int64_t storage_offset) {
  exported_layout(tensor.layout());
  auto sizes = nlohmann::json::array(), strides = nlohmann::json::array();
  for (const auto size : tensor.sizes()) sizes.push_back(exported_int(size));
  for (const auto stride : tensor.strides()) strides.push_back(exported_int(stride));
  return exported_meta(tensor.scalar_type(), tensor.device(), std::move(sizes), std::move(strides), storage_offset,
                       tensor.requires_grad());
}

}  // namespace troupe
