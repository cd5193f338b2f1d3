#include "troupe/runtime/export/pt2_archive.hpp"

#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/export/exported_types.hpp"
#include "troupe/runtime/weights/pth_writer.hpp"
#include "troupe/runtime/weights/torch_archive.hpp"

#include <torch/csrc/export/pt2_archive_constants.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe {

namespace {

namespace pt2_names = torch::_export::archive_spec;
using nlohmann::json;

/// The part of a storage that some weights cover, in elements.
struct StoredRange {
  torch::Tensor tensor;  ///< one of the weights
  int64_t begin = 0, end = 0;
};

/// The first and the last element of the storage that the tensor has, and one.
std::pair<int64_t, int64_t> covered_elements(const torch::Tensor& tensor) {
  auto end = tensor.storage_offset() + 1;
  if (tensor.numel() == 0) return {tensor.storage_offset(), tensor.storage_offset()};
  for (int64_t d = 0; d < tensor.dim(); ++d) end += (tensor.size(d) - 1) * tensor.stride(d);
  return {tensor.storage_offset(), end};
}

class Pt2Writer {
 public:
  explicit Pt2Writer(const TorchRecordWriter& put) : put_(put) {}

  void write(const ExportedProgram& program) {
    write_tensors(program.weights, pt2_names::WEIGHTS_DIR, pt2_names::WEIGHT_FILENAME_PREFIX,
                  pt2_names::WEIGHTS_CONFIG_FILENAME_FORMAT);
    write_tensors(program.constants, pt2_names::CONSTANTS_DIR, pt2_names::TENSOR_CONSTANT_FILENAME_PREFIX,
                  pt2_names::CONSTANTS_CONFIG_FILENAME_FORMAT);
    put_(named(pt2_names::MODELS_FILENAME_FORMAT), program.model.dump());
    put_(named(pt2_names::SAMPLE_INPUTS_FILENAME_FORMAT), sample_inputs(program.example));
    put_(std::string(pt2_names::ARCHIVE_FORMAT_PATH), pt2_names::ARCHIVE_FORMAT_VALUE);
    put_(std::string(pt2_names::ARCHIVE_VERSION_PATH), pt2_names::ARCHIVE_VERSION_VALUE);
  }

 private:
  /// "models/model.json" for "models/{}.json".
  static std::string named(std::string_view format) {
    std::string name(format);
    return name.replace(name.find("{}"), 2, "model");
  }

  /// What torch.save makes of (args, kwargs).
  static std::string sample_inputs(const std::vector<torch::Tensor>& example) {
    std::vector<PthValue> arguments;
    for (const auto& input : example) arguments.emplace_back(input);
    return pth_bytes(PthValue::tuple_of({PthValue::tuple_of(std::move(arguments)), PthValue::dictionary_of({})}));
  }

  void write_tensors(const std::vector<ProgramTensor>& tensors, std::string_view folder, std::string_view prefix,
                     std::string_view config_format) {
    std::vector<StoredRange> ranges;
    std::map<std::pair<const void*, torch::ScalarType>, std::size_t> places;
    std::vector<std::size_t> range_of;
    for (const auto& one : tensors) {
      const auto [begin, end] = covered_elements(one.tensor);
      const auto [place, is_new] =
          places.try_emplace({one.tensor.storage().unsafeGetStorageImpl(), one.tensor.scalar_type()}, ranges.size());
      if (is_new) ranges.push_back({one.tensor, begin, end});
      auto& range = ranges[place->second];
      range.begin = std::min(range.begin, begin);
      range.end = std::max(range.end, end);
      range_of.push_back(place->second);
    }
    auto config = json::object();
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const auto& one = tensors[i];
      config[one.name] = {
          {"path_name", std::string(prefix) + std::to_string(range_of[i])},
          {"is_param", one.is_parameter},
          {"use_pickle", false},
          {"tensor_meta", exported_meta(one.tensor, one.tensor.storage_offset() - ranges[range_of[i]].begin)}};
    }
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      write_range(std::string(folder) + std::string(prefix) + std::to_string(i), ranges[i]);
    }
    put_(named(config_format), json{{"config", std::move(config)}}.dump());
  }

  void write_range(const std::string& name, const StoredRange& range) {
    const auto bytes = range.tensor.detach().as_strided({range.end - range.begin}, {1}, range.begin).cpu();
    put_(name, {static_cast<const char*>(bytes.const_data_ptr()), bytes.nbytes()});
  }

  const TorchRecordWriter& put_;
};

}  // namespace

void write_pt2(const std::filesystem::path& path, const ExportedProgram& program) {
  constexpr uint64_t layout = 6;  // what PyTorch writes since 2.0
  write_atomically(path, [&](OutputFile& file) {
    write_torch_archive([&](auto bytes) { file.write(bytes); },
                        [&](const TorchRecordWriter& put) { Pt2Writer(put).write(program); }, layout);
  });
}

}  // namespace troupe
