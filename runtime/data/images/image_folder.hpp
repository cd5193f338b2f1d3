// Images in one sub-folder per class.
#pragma once

#include "troupe/modules/data/dataset.hpp"
#include "troupe/runtime/data/files/retry.hpp"
#include "troupe/runtime/data/images/image_options.hpp"
#include "troupe/runtime/data/transforms/transform.hpp"

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

class ImagePipeline;

struct ImageFolderOptions {
  using Broken = BrokenImages;

  /// Of uint8 [C, H, W], in a chain with or without ToFloat: see ImageFolder. Null: images as they are, whose sizes
  /// must be equal within a batch.
  std::shared_ptr<const transforms::Transform> transform = nullptr;
  /// How images are decoded.
  ImageOptions image = {};
  Broken broken = Broken::refuse;
  /// For files that cannot be read for a moment.
  RetryPolicy retry = {};
  /// A class without images is kept; it is refused otherwise.
  bool allow_empty = false;
  /// JPEGs are decoded at 1/2, 1/4 or 1/8 of their size where a crop then still is at least twice as high and as wide
  /// as what it becomes, so for crops that shrink 4-fold or more. This takes a fraction of the time, and levels differ
  /// by about 1 in the mean from those that all pixels give. Without it, values are the transform's own.
  bool scaled_decode = true;
};

/// torchvision's ImageFolder (https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html)
/// for JPEG and PNG:
///
///     using namespace transforms;
///     const Compose train{RandomResizedCrop(224), RandomHorizontalFlip(), ToFloat(), Normalize(mean, std)};
///     auto photos = std::make_shared<ImageFolder>(
///         "photos/train", ImageFolderOptions{.transform = std::make_shared<Compose>(train)});
///
/// Classes are the folder's sub-folders in the order of their names' bytes. Images are files whose names end with .jpg,
/// .jpeg or .png in upper or lower case, in a class's folder or at any depth below it: first in the order of their
/// folders' paths, then of their names. Links are followed. Files and folders whose names begin with a dot are left out
/// (torchvision takes them: a folder ".cache" is a class there).
///
/// A sample is {"image": what the transform makes of uint8 [C, H, W], "label": int64 []}. If `transform` is a chain
/// that FusedTransform knows, a batch's images are decoded straight into its memory, and of each only the part that its
/// crop needs; else each is decoded as a whole and the transform is called. The random state is the index's own in any
/// case.
///
/// A skipped image: which one stands in for it depends on the files alone, so order and resuming do not change. It is
/// looked for among the 100 that follow, around the end of the list; if all of them are broken, it is an error after
/// all. broken_paths() lists what was met so far.
///
/// Threads: `get` and `get_into` of one object are for one thread, since it keeps decoders; fetchers get replicas,
/// which share the list of paths and of broken images. Everything else may be called from any thread.
class ImageFolder : public Dataset {
 public:
  /// Lists the folder. Throws UsageError if it cannot be read, has no sub-folders or, unless `allow_empty`, one without
  /// images, and for most_pixels below 1. No image is opened.
  explicit ImageFolder(const std::filesystem::path& root, ImageFolderOptions options = {});
  ~ImageFolder() override;

  int64_t size() const override;
  Batch get(int64_t index) override;
  std::optional<Batch> batch_memory(int64_t samples) override;
  void get_into(int64_t index, Batch& batch, int64_t row) override;
  std::shared_ptr<Dataset> replicate() const override;

  const std::vector<std::string>& classes() const;
  /// Position of each class in classes(), which is its label.
  std::map<std::string, int64_t> class_to_idx() const;
  /// Of image `index`, without reading it; throws std::out_of_range.
  int64_t label(int64_t index) const;
  /// int64 [size()], without reading any image.
  torch::Tensor targets() const;
  /// Of image `index`; throws std::out_of_range.
  std::filesystem::path path(int64_t index) const;
  /// Images that were skipped, each once, in order; by this object and all of its replicas.
  std::vector<std::filesystem::path> broken_paths() const;
  /// How many those are.
  int64_t broken_count() const;
  /// Memory that the list of paths takes.
  int64_t list_bytes() const;

 private:
  struct Shared;
  ImageFolder(std::shared_ptr<Shared> shared);
  void check(int64_t index) const;

  std::shared_ptr<Shared> shared_;
  std::unique_ptr<ImagePipeline> decoder_;
};

}  // namespace troupe
