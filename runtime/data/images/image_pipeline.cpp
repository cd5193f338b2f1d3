#include "troupe/runtime/data/images/image_pipeline.hpp"

#include "troupe/runtime/data/transforms/resample_rows.hpp"

#include <ATen/ops/empty.h>

#include <cmath>
#include <utility>
#include <vector>

namespace troupe {

namespace {

using transforms::Compose;
using transforms::FusedTransform;

std::optional<FusedTransform> fused_part(const ImagePipelineOptions& options) {
  // Without a mode, the channels differ from image to image.
  if (!options.transform || options.decode.mode == ImageMode::unchanged) return std::nullopt;
  if (const auto* chain = dynamic_cast<const Compose*>(options.transform.get())) return FusedTransform::of(*chain);
  return FusedTransform::of(Compose(std::vector{options.transform}));
}

PixelRegion whole_pixels(const transforms::Box& box) {
  const auto top = static_cast<int64_t>(std::floor(box.top)), left = static_cast<int64_t>(std::floor(box.left));
  return {.top = top,
          .left = left,
          .height = static_cast<int64_t>(std::ceil(box.top + box.height)) - top,
          .width = static_cast<int64_t>(std::ceil(box.left + box.width)) - left};
}

/// Copies interleaved pixels to [channels, height, width].
torch::Tensor planar_tensor(const transforms::PixelView& pixels) {
  auto out = at::empty({pixels.channels, pixels.height, pixels.width}, at::kByte);
  auto* to = out.mutable_data_ptr<uint8_t>();
  for (int64_t y = 0; y < pixels.height; ++y, to += pixels.width) {
    transforms::row_loops().to_levels(pixels.data + y * pixels.row_stride, pixels.width, pixels.channels,
                                      /*flip=*/false, to, pixels.height * pixels.width);
  }
  return out;
}

torch::Tensor whole_image(ImageReader& reader) {
  return planar_tensor(reader.decode({.height = reader.height(), .width = reader.width()}).pixels);
}

}  // namespace

ImagePipeline::ImagePipeline(ImagePipelineOptions options, BatchPool pool)
    : options_(std::move(options)),
      fused_(fused_part(options_)),
      reader_(options_.decode, options_.retry),
      pool_(std::move(pool)) {}

std::array<int64_t, 3> ImagePipeline::result_sizes() const {
  const auto [height, width] = fused_->output_size();
  return {options_.decode.mode == ImageMode::grey ? 1 : 3, height, width};
}

std::optional<torch::Tensor> ImagePipeline::batch_memory(int64_t samples) {
  if (!fused_) return std::nullopt;
  const auto [channels, height, width] = result_sizes();
  return pool_.take({samples, channels, height, width}, fused_->output_type());
}

torch::Tensor ImagePipeline::read(const std::filesystem::path& path) {
  reader_.open(path);
  return result();
}

torch::Tensor ImagePipeline::decode(std::span<const uint8_t> bytes, std::string name) {
  reader_.open(bytes, std::move(name));
  return result();
}

void ImagePipeline::read_into(const std::filesystem::path& path, torch::Tensor row) {
  reader_.open(path);
  write(row);
}

void ImagePipeline::decode_into(std::span<const uint8_t> bytes, std::string name, torch::Tensor row) {
  reader_.open(bytes, std::move(name));
  write(row);
}

torch::Tensor ImagePipeline::result() {
  if (fused_) {
    torch::Tensor row = at::empty(result_sizes(), fused_->output_type());
    write(row);
    return row;
  }
  const torch::Tensor image = whole_image(reader_);
  return options_.transform ? (*options_.transform)(image) : image;
}

int ImagePipeline::denominator(const transforms::DrawnImage& drawn) const {
  if (!options_.scaled_decode || !reader_.can_scale()) return 1;
  // Pillow's thumbnail leaves twice the size for the resampling as well (reducing_gap = 2.0): without, levels are off
  // by 2 to 3 in the mean, with it by less than 1.3.
  constexpr int64_t gap = 2;
  for (const int by : {8, 4, 2}) {
    if (drawn.box.height >= static_cast<double>(gap * by * drawn.resized.height) &&
        drawn.box.width >= static_cast<double>(gap * by * drawn.resized.width)) {
      return by;
    }
  }
  return 1;
}

void ImagePipeline::write(torch::Tensor& row) {
  const auto drawn = fused_->draw(reader_.height(), reader_.width());
  const int by = denominator(drawn);
  const auto part = reader_.decode(whole_pixels(drawn.needed), by);
  const transforms::Box box{.top = (drawn.box.top - static_cast<double>(part.top)) / by,
                            .left = (drawn.box.left - static_cast<double>(part.left)) / by,
                            .height = drawn.box.height / by,
                            .width = drawn.box.width / by};
  fused_->write(part.pixels, box, drawn, row);
}

}  // namespace troupe
