// From the bytes of an image to the tensor that a model takes.
#pragma once

#include "troupe/runtime/data/batch_pool.hpp"
#include "troupe/runtime/data/files/retry.hpp"
#include "troupe/runtime/data/images/image_reader.hpp"
#include "troupe/runtime/data/transforms/fused.hpp"
#include "troupe/runtime/data/transforms/transform.hpp"

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace troupe {

struct ImagePipelineOptions {
  ImageOptions decode = {};
  /// Applied to uint8 [C, H, W]; null: none.
  std::shared_ptr<const transforms::Transform> transform = nullptr;
  /// Decode JPEGs at 1/2, 1/4 or 1/8 of their size where that leaves at least twice the size that the crop becomes.
  bool scaled_decode = true;
  /// For files that cannot be read for a moment.
  RetryPolicy retry = {};
};

/// Decodes and transforms one image after another. Belongs to one thread.
///
/// Transforms that FusedTransform knows are applied while the image is decoded: only the part of it that the drawn crop
/// needs becomes pixels, and these are resampled, flipped and normalised straight into the batch's memory. All others
/// get the decoded image.
class ImagePipeline {
 public:
  /// `pool` is for batch_memory; pipelines may share one.
  explicit ImagePipeline(ImagePipelineOptions options, BatchPool pool = {});

  /// Memory for `samples` results, the first dimension, if write_* can fill it: the transform is fused and makes all of
  /// one size, and `decode.mode` fixes the channels. Uninitialised.
  std::optional<torch::Tensor> batch_memory(int64_t samples);

  /// Errors of all four: ImageError if the image cannot be decoded, what the transform throws.
  torch::Tensor read(const std::filesystem::path& path);
  torch::Tensor decode(std::span<const uint8_t> bytes, std::string name);
  /// Write into `row`, one entry of batch_memory, the very bits that `read` and `decode` return.
  void read_into(const std::filesystem::path& path, torch::Tensor row);
  void decode_into(std::span<const uint8_t> bytes, std::string name, torch::Tensor row);

 private:
  /// Of one result of the fused transform: [C, H, W].
  std::array<int64_t, 3> result_sizes() const;
  torch::Tensor result();
  void write(torch::Tensor& row);
  int denominator(const transforms::DrawnImage& drawn) const;

  ImagePipelineOptions options_;
  std::optional<transforms::FusedTransform> fused_;
  ImageReader reader_;
  BatchPool pool_;
};

}  // namespace troupe
