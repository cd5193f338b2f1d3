// Samples out of tar archives, as WebDataset writes them.
#pragma once

#include "troupe/modules/data/dataset.hpp"
#include "troupe/runtime/data/files/retry.hpp"
#include "troupe/runtime/data/images/image_options.hpp"
#include "troupe/runtime/data/shards/shard_fields.hpp"
#include "troupe/runtime/data/shards/shard_shuffle_sampler.hpp"
#include "troupe/runtime/data/transforms/transform.hpp"

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

struct TarOptions {
  using Broken = BrokenImages;

  /// What a sample consists of, in this order.
  std::vector<TarField> fields = {{"jpg;jpeg;png", "image"}, {"cls", "label"}};
  /// Decoders of your own, by extension; they win over the library's.
  std::map<std::string, FieldDecoder> decoders = {};
  /// Of each image that the library decodes, uint8 [C, H, W]; null: images as they are.
  std::shared_ptr<const transforms::Transform> transform = nullptr;
  /// How images are decoded.
  ImageOptions image = {};
  /// As in ImageFolderOptions: JPEGs are decoded at a part of their size where a crop shrinks them that much.
  bool scaled_decode = true;
  /// Of images that the library decodes. Content of other kinds that cannot be decoded is refused.
  Broken broken = Broken::refuse;
  /// Leave out samples that lack one of the fields; `skipped` counts them. Else they are refused.
  bool skip_incomplete = false;
  /// Refuse shards that have a sample of the same key. Shards that were numbered anew each share their keys: read those
  /// with false.
  bool unique_keys = true;
  /// Where the indices are kept: in the shards' folder (nothing), or in this one; `keep_index` false: nowhere.
  std::optional<std::filesystem::path> index_folder = std::nullopt;
  bool keep_index = true;
  /// What is done when a read fails for a moment.
  RetryPolicy retry = {};
};

/// Tar shards in WebDataset's naming (https://github.com/webdataset/webdataset): the files of a sample are next to each
/// other and share their name up to the first dot. Plain or gzipped.
///
///     auto data = std::make_shared<TarDataset>("train-{0000..0146}.tar");
///     DataLoader loader(data, {.batch_size = 64, .num_workers = 8, .sampler = data->shuffled(10'000)});
///
/// It is map-style: an index, built when a shard is first opened and kept in a file next to it, says where each sample
/// is. So ranks and fetchers divide the samples and not the shards, each sample comes once, few shards are no problem
/// and a resumed epoch begins at its place at once. `DataLoaderOptions::shuffle` works as with any dataset (each sample
/// costs one read somewhere in the shards); `shuffled` keeps reading nearly sequential.
///
/// Extensions jpg, jpeg and png become what the transform makes of uint8 [C, H, W]; cls, cls2, id, index and inx
/// int64 []; npy the array; json and jsn an nlohmann::json, txt, text and transcript a std::string of UTF-8, which are
/// in the sample's `extra`: std::any_cast<FieldValues>(sample.extra)["json"]. Nothing is unpickled. Where a sample is
/// images and numbers alone and the transform is a chain that FusedTransform knows, images are decoded straight into
/// the batch's memory, and of each only what its crop needs.
///
/// Memory: 16 bytes for each field of a sample, 4 bytes and the text of its key, which all fetchers share. While it is
/// made, the indices of all shards besides: 24 bytes for each file, wanted or not, and for each sample 8 bytes and the
/// text of its key.
///
/// Throws UsageError, naming the shard and an offset or sample: for archives that are damaged, cut off or hold what is
/// no plain file (TarWalker lists it), samples whose files are not next to each other, that lack a field or have one
/// twice, shards that overlap, content that cannot be decoded and extensions that nothing decodes. An index that is
/// damaged or older than its shard is built anew; one that cannot be written is kept in memory.
///
/// A sample of which an image is broken and skipped: the next one in order whose images can all be decoded stands in
/// for it, as a whole. Which one that is depends on the shards alone, so order and resuming do not change. It is looked
/// for among the 100 that follow, around the end of the shards; if all of them are broken, it is an error after all.
///
/// A gzipped shard costs decompressing 1 MiB on the average for a sample out of order. Pictures do not compress: pack
/// them in plain tar files.
class TarDataset : public Dataset {
 public:
  /// `paths`: a shard, a folder of them, or a brace pattern; see find_shards.
  explicit TarDataset(const std::string& paths, TarOptions options = {});
  explicit TarDataset(const std::vector<std::string>& paths, TarOptions options = {});
  TarDataset(std::initializer_list<std::string> paths, TarOptions options = {});
  ~TarDataset() override;

  int64_t size() const override;
  Batch get(int64_t index) override;
  std::optional<Batch> batch_memory(int64_t samples) override;
  void get_into(int64_t index, Batch& batch, int64_t row) override;
  /// Shares the index; the files that are open are its own. One object belongs to one thread.
  std::shared_ptr<Dataset> replicate() const override;

  /// The name of a sample's files up to the dot.
  std::string key(int64_t index) const;
  /// Samples of each shard, in the order of the samples.
  std::vector<int64_t> shard_sizes() const;
  /// Samples that were left out (skip_incomplete).
  int64_t skipped() const;
  /// How many samples with a broken image were met, each counted once; by this object and all of its replicas.
  int64_t broken_count() const;
  /// "SHARD: KEY" of each of them, in order.
  std::vector<std::string> broken_samples() const;
  /// An order of shards and of the samples within `buffer` of them, new in each epoch.
  std::shared_ptr<const Sampler> shuffled(int64_t buffer = 1000) const;

 private:
  struct Plan;
  class Reader;
  explicit TarDataset(std::shared_ptr<const Plan> plan);
  void check(int64_t index) const;
  Batch sample(int64_t index);
  void write(int64_t index, Batch& batch, int64_t row);

  std::shared_ptr<const Plan> plan_;
  std::unique_ptr<Reader> reader_;
};

}  // namespace troupe
