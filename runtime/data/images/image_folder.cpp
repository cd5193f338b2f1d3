#include "troupe/runtime/data/images/image_folder.hpp"

#include "troupe/runtime/data/images/image_list.hpp"
#include "troupe/runtime/data/images/image_pipeline.hpp"
#include "troupe/runtime/data/images/stand_ins.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>

#include <stdexcept>
#include <utility>

namespace troupe {

namespace {

ImagePipelineOptions pipeline_options(const ImageFolderOptions& options) {
  return {.decode = options.image,
          .transform = options.transform,
          .scaled_decode = options.scaled_decode,
          .retry = options.retry};
}

}  // namespace

/// What replicas share.
struct ImageFolder::Shared {
  Shared(const std::filesystem::path& root, ImageFolderOptions given)
      : options(std::move(given)), list(root, options.allow_empty), stand_ins(options.broken) {}

  const ImageFolderOptions options;
  const ImageList list;
  BatchPool pool;
  StandIns stand_ins;
};

ImageFolder::ImageFolder(const std::filesystem::path& root, ImageFolderOptions options)
    : ImageFolder(std::make_shared<Shared>(root, std::move(options))) {}

ImageFolder::ImageFolder(std::shared_ptr<Shared> shared)
    : shared_(std::move(shared)),
      decoder_(std::make_unique<ImagePipeline>(pipeline_options(shared_->options), shared_->pool)) {}

ImageFolder::~ImageFolder() = default;

std::shared_ptr<Dataset> ImageFolder::replicate() const {
  return std::shared_ptr<ImageFolder>(new ImageFolder(shared_));
}

int64_t ImageFolder::size() const {
  return shared_->list.size();
}

void ImageFolder::check(int64_t index) const {
  if (index >= 0 && index < size()) return;
  throw std::out_of_range("ImageFolder has no image " + std::to_string(index) + " among " + std::to_string(size()));
}

Batch ImageFolder::get(int64_t index) {
  check(index);
  torch::Tensor image;
  const auto read = [&](int64_t at) { image = decoder_->read(path(at)); };
  const int64_t at = shared_->stand_ins.first_readable(index, size(), read);
  return {{"image", image}, {"label", at::scalar_tensor(label(at), at::kLong)}};
}

std::optional<Batch> ImageFolder::batch_memory(int64_t samples) {
  auto images = decoder_->batch_memory(samples);
  if (!images) return std::nullopt;
  return Batch{{"image", std::move(*images)}, {"label", at::empty({samples}, at::kLong)}};
}

void ImageFolder::get_into(int64_t index, Batch& batch, int64_t row) {
  check(index);
  const auto image = batch[0].select(0, row);
  const auto read = [&](int64_t at) { decoder_->read_into(path(at), image); };
  const int64_t at = shared_->stand_ins.first_readable(index, size(), read);
  batch[1].mutable_data_ptr<int64_t>()[row] = label(at);
}

const std::vector<std::string>& ImageFolder::classes() const {
  return shared_->list.classes();
}

std::map<std::string, int64_t> ImageFolder::class_to_idx() const {
  std::map<std::string, int64_t> out;
  for (const auto& name : classes()) out.emplace(name, static_cast<int64_t>(out.size()));
  return out;
}

int64_t ImageFolder::label(int64_t index) const {
  check(index);
  return shared_->list.label(index);
}

torch::Tensor ImageFolder::targets() const {
  auto out = at::empty({size()}, at::kLong);
  auto* labels = out.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < size(); ++i) labels[i] = shared_->list.label(i);
  return out;
}

std::filesystem::path ImageFolder::path(int64_t index) const {
  check(index);
  return shared_->list.path(index);
}

std::vector<std::filesystem::path> ImageFolder::broken_paths() const {
  std::vector<std::filesystem::path> out;
  for (const int64_t index : shared_->stand_ins.broken()) out.push_back(path(index));
  return out;
}

int64_t ImageFolder::broken_count() const {
  return shared_->stand_ins.count();
}

int64_t ImageFolder::list_bytes() const {
  return shared_->list.bytes();
}

}  // namespace troupe
