#include "troupe/runtime/checkpoint/packed_tensor.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <cstring>
#include <utility>

namespace troupe {

using Json = nlohmann::json;

Json packed_tensor(const torch::Tensor& tensor) {
  const auto value = tensor.detach().to(torch::kCPU).contiguous();
  std::vector<uint8_t> bytes(static_cast<std::size_t>(value.nbytes()));
  if (!bytes.empty()) std::memcpy(bytes.data(), value.const_data_ptr(), bytes.size());
  return {{"type", static_cast<int>(value.scalar_type())},
          {"shape", value.sizes().vec()},
          {"bytes", Json::binary(std::move(bytes))}};
}

torch::Tensor unpacked_tensor(const Json& json) {
  auto tensor = torch::empty(json.at("shape").get<std::vector<int64_t>>(),
                             static_cast<torch::ScalarType>(json.at("type").get<int>()));
  const auto& bytes = json.at("bytes").get_binary();
  if (!bytes.empty()) std::memcpy(tensor.mutable_data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

std::string cbor_text(const Json& json) {
  const auto bytes = Json::to_cbor(json);
  return {bytes.begin(), bytes.end()};
}

std::string packed_checkpoint(const Checkpoint& checkpoint) {
  Json json = {{"metadata", checkpoint.metadata}, {"tensors", Json::array()}};
  for (const auto& [name, tensor] : checkpoint.tensors) {
    json["tensors"].push_back({{"name", name}, {"tensor", packed_tensor(tensor)}});
  }
  return cbor_text(json);
}

Checkpoint unpacked_checkpoint(const std::string& bytes) {
  const auto json = Json::from_cbor(bytes);
  Checkpoint checkpoint;
  checkpoint.metadata = json.at("metadata");
  for (const auto& item : json.at("tensors")) {
    checkpoint.tensors.emplace_back(item.at("name").get<std::string>(), unpacked_tensor(item.at("tensor")));
  }
  return checkpoint;
}

}  // namespace troupe
