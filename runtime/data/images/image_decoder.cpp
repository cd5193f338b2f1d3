#include "troupe/runtime/data/images/image_decoder.hpp"

#include "troupe/runtime/data/images/image_pipeline.hpp"

#include <string>

namespace troupe {

torch::Tensor read_image(const std::filesystem::path& path, const ImageOptions& options, const RetryPolicy& retry) {
  return ImagePipeline({.decode = options, .retry = retry}).read(path);
}

torch::Tensor decode_image(std::span<const uint8_t> bytes, const ImageOptions& options, std::string_view name) {
  return ImagePipeline({.decode = options}).decode(bytes, std::string(name));
}

}  // namespace troupe
