#include "troupe/runtime/export/onnx_file.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"

#include <torch/types.h>
#include <torch/utils.h>
#include <protozero/pbf_writer.hpp>

#include <span>
#include <system_error>

namespace troupe {

namespace {

using protozero::pbf_writer;

// Field numbers of onnx.proto.
namespace model {
constexpr int kIrVersion = 1, kProducerName = 2, kGraph = 7, kOpsetImport = 8;
constexpr int kOpsetDomain = 1, kOpsetVersion = 2;
}  // namespace model
namespace graph {
constexpr int kNode = 1, kName = 2, kInitializer = 5, kInput = 11, kOutput = 12;
}
namespace node {
constexpr int kInput = 1, kOutput = 2, kName = 3, kOpType = 4, kAttribute = 5, kDomain = 7;
}
namespace attribute {
constexpr int kName = 1, kFloat = 2, kInt = 3, kString = 4, kFloats = 7, kInts = 8, kStrings = 9, kType = 20;
constexpr int kFloatType = 1, kIntType = 2, kStringType = 3, kFloatsType = 6, kIntsType = 7, kStringsType = 8;
}  // namespace attribute
namespace tensor {
constexpr int kDims = 1, kDataType = 2, kName = 8, kRawData = 9, kExternalData = 13, kDataLocation = 14;
constexpr int kExternal = 1, kKey = 1, kValue = 2;
}  // namespace tensor
namespace value_info {
constexpr int kName = 1, kType = 2;
constexpr int kTensorType = 1, kElemType = 1, kShape = 2, kDim = 1, kDimValue = 1, kDimParam = 2;
}  // namespace value_info

constexpr std::size_t kMostBytes = (std::size_t{1} << 31) - 1;  // of a message, by protobuf's own limit
constexpr std::size_t kExternalFrom = 1024;                     // smaller ones are shapes and scalars
constexpr uint64_t kAlignment = 4096;                           // so that a reader may map the weights into memory

/// The oldest version of the format that has the operators: https://github.com/onnx/onnx/blob/main/docs/Versioning.md.
int64_t ir_version(int64_t opset_version) {
  return opset_version >= 23 ? 11 : opset_version >= 21 ? 10 : opset_version >= 19 ? 9 : 8;
}

torch::Tensor host_bytes(const torch::Tensor& tensor) {
  return tensor.detach().to(torch::kCPU).contiguous();
}

std::span<const std::byte> bytes_of(const torch::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

uint64_t aligned(uint64_t offset) {
  return (offset + kAlignment - 1) / kAlignment * kAlignment;
}

class Encoder {
 public:
  /// `data_file`: the name of the weights' file, empty for none.
  Encoder(const OnnxGraph& graph, std::string data_file) : graph_(graph), data_file_(std::move(data_file)) {}

  std::string encode(const OnnxFileOptions& options) {
    std::string data;
    pbf_writer model(data);
    model.add_int64(model::kIrVersion, ir_version(options.opset_version));
    model.add_string(model::kProducerName, "troupe");
    add_opset(model, "", options.opset_version);
    for (const auto& [domain, version] : graph_.domains) add_opset(model, domain, version);
    pbf_writer graph(model, model::kGraph);
    graph.add_string(graph::kName, options.graph_name);
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) add_node(graph, graph_.nodes[i], i);
    for (const auto& [name, value] : graph_.initializers) add_initializer(graph, name, value);
    for (const auto& info : graph_.inputs) add_value_info(pbf_writer(graph, graph::kInput), info);
    for (const auto& info : graph_.outputs) add_value_info(pbf_writer(graph, graph::kOutput), info);
    graph.commit();
    return data;
  }

  /// Writes what encode() left out, in the places that it gave.
  void write_external(OutputFile& file) const {
    uint64_t at = 0;
    for (const auto& [name, value] : graph_.initializers) {
      if (!is_external(value)) continue;
      const std::vector<std::byte> gap(aligned(at) - at);
      file.write(gap);
      file.write(bytes_of(host_bytes(value)));
      at = aligned(at) + value.nbytes();
    }
  }

 private:
  bool is_external(const torch::Tensor& tensor) const {
    return !data_file_.empty() && tensor.nbytes() >= kExternalFrom;
  }

  static void add_opset(pbf_writer& model, const std::string& domain, int64_t version) {
    pbf_writer opset(model, model::kOpsetImport);
    if (!domain.empty()) opset.add_string(model::kOpsetDomain, domain);
    opset.add_int64(model::kOpsetVersion, version);
  }

  static void add_node(pbf_writer& graph, const OnnxNode& node, std::size_t index) {
    pbf_writer message(graph, graph::kNode);
    for (const auto& name : node.inputs) message.add_string(node::kInput, name);
    for (const auto& name : node.outputs) message.add_string(node::kOutput, name);
    message.add_string(node::kName, node.op_type + "_" + std::to_string(index));
    message.add_string(node::kOpType, node.op_type);
    if (!node.domain.empty()) message.add_string(node::kDomain, node.domain);
    for (const auto& [name, value] : node.attributes) add_attribute(message, name, value);
  }

  static void add_attribute(pbf_writer& node, const std::string& name, const OnnxAttributeValue& value) {
    pbf_writer message(node, node::kAttribute);
    message.add_string(attribute::kName, name);
    if (const auto* number = std::get_if<int64_t>(&value)) {
      message.add_int64(attribute::kInt, *number);
      message.add_enum(attribute::kType, attribute::kIntType);
    } else if (const auto* real = std::get_if<double>(&value)) {
      message.add_float(attribute::kFloat, static_cast<float>(*real));
      message.add_enum(attribute::kType, attribute::kFloatType);
    } else if (const auto* text = std::get_if<std::string>(&value)) {
      message.add_bytes(attribute::kString, *text);
      message.add_enum(attribute::kType, attribute::kStringType);
    } else if (const auto* numbers = std::get_if<std::vector<int64_t>>(&value)) {
      for (const auto number : *numbers) message.add_int64(attribute::kInts, number);
      message.add_enum(attribute::kType, attribute::kIntsType);
    } else if (const auto* reals = std::get_if<std::vector<double>>(&value)) {
      for (const auto one : *reals) message.add_float(attribute::kFloats, static_cast<float>(one));
      message.add_enum(attribute::kType, attribute::kFloatsType);
    } else {
      for (const auto& text : std::get<std::vector<std::string>>(value)) message.add_bytes(attribute::kStrings, text);
      message.add_enum(attribute::kType, attribute::kStringsType);
    }
  }

  void add_initializer(pbf_writer& graph, const std::string& name, const torch::Tensor& value) {
    pbf_writer message(graph, graph::kInitializer);
    for (const auto size : value.sizes()) message.add_int64(tensor::kDims, size);
    message.add_int32(tensor::kDataType, onnx_type(value.scalar_type()));
    message.add_string(tensor::kName, name);
    if (is_external(value)) {
      offset_ = aligned(offset_);
      add_entry(message, "location", data_file_);
      add_entry(message, "offset", std::to_string(offset_));
      add_entry(message, "length", std::to_string(value.nbytes()));
      message.add_enum(tensor::kDataLocation, tensor::kExternal);
      offset_ += value.nbytes();
    } else {
      const auto bytes = host_bytes(value);
      message.add_bytes(tensor::kRawData, static_cast<const char*>(bytes.data_ptr()), bytes.nbytes());
    }
  }

  static void add_entry(pbf_writer& tensor, const std::string& key, const std::string& value) {
    pbf_writer entry(tensor, tensor::kExternalData);
    entry.add_string(tensor::kKey, key);
    entry.add_string(tensor::kValue, value);
  }

  static void add_value_info(pbf_writer message, const OnnxValueInfo& info) {
    message.add_string(value_info::kName, info.name);
    pbf_writer type(message, value_info::kType);
    pbf_writer tensor(type, value_info::kTensorType);
    tensor.add_int32(value_info::kElemType, onnx_type(info.dtype));
    pbf_writer shape(tensor, value_info::kShape);
    for (const auto& dim : info.dims) {
      if (dim == OnnxDim(std::string())) {
        shape.add_message(value_info::kDim,
                          std::string());  // a writer of a message that stays empty would take it back
        continue;
      }
      pbf_writer message_of_dim(shape, value_info::kDim);
      if (const auto* size = std::get_if<int64_t>(&dim)) {
        message_of_dim.add_int64(value_info::kDimValue, *size);
      } else {
        message_of_dim.add_string(value_info::kDimParam, std::get<std::string>(dim));
      }
    }
  }

  const OnnxGraph& graph_;
  std::string data_file_;
  uint64_t offset_ = 0;
};

}  // namespace

int onnx_type(torch::ScalarType dtype) {
  switch (dtype) {
    case torch::kFloat: return 1;
    case torch::kUInt8: return 2;
    case torch::kInt8: return 3;
    case torch::kInt16: return 5;
    case torch::kInt32: return 6;
    case torch::kInt64: return 7;
    case torch::kBool: return 9;
    case torch::kFloat16: return 10;
    case torch::kFloat64: return 11;
    case torch::kBFloat16: return 16;
    default: return 0;
  }
}

void write_onnx(const std::filesystem::path& path, const OnnxGraph& graph, const OnnxFileOptions& options) {
  const auto data_path = std::filesystem::path(path.string() + ".data");
  std::size_t inside = 0;
  for (const auto& [name, value] : graph.initializers) {
    if (!options.external_data || value.nbytes() < kExternalFrom) inside += value.nbytes();
  }
  const auto refuse = [&] {
    throw UsageError("to_onnx: one file can hold 2 GB, and this model takes more (weights: " + std::to_string(inside) +
                     " bytes)" + (options.external_data ? "" : ": set external_data, which puts them into a second"));
  };
  if (inside > kMostBytes) refuse();
  Encoder encoder(graph, options.external_data ? data_path.filename().string() : "");
  const auto bytes = encoder.encode(options);
  if (bytes.size() > kMostBytes) refuse();
  const bool data_is_new = options.external_data && !std::filesystem::exists(data_path);
  if (options.external_data) write_atomically(data_path, [&](OutputFile& file) { encoder.write_external(file); });
  try {
    write_text_atomically(path, bytes);
  } catch (...) {
    std::error_code ignored;  // the first failure is the one to report
    if (data_is_new) std::filesystem::remove(data_path, ignored);
    throw;
  }
}

}  // namespace troupe
