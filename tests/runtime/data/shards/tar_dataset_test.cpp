#include "troupe/runtime/data/shards/tar_dataset.hpp"

#include "troupe/runtime/data/batch_maker.hpp"
#include "troupe/runtime/data/epoch_plan.hpp"
#include "troupe/runtime/data/shards/shard_index.hpp"
#include "troupe/runtime/data/transforms/geometry.hpp"
#include "troupe/runtime/data/transforms/values.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/python_output.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/tar_archive.hpp"
#include "tests/support/temp_dir.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include <set>

namespace troupe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// Shards of 5, 1, 7 and 3 samples, the third gzipped, whose classes are 0 to 15.
std::vector<std::string> small_shards(const TempDir& dir, bool is_gzip = false) {
  std::vector<std::string> out;
  int number = 0;
  for (const int samples : {5, 1, 7, 3}) {
    std::string archive;
    for (int i = 0; i < samples; ++i, ++number) {
      const auto key = "s" + std::to_string(number);
      archive += tar_entry({key + ".cls", std::to_string(number) + "\n"}) +
                 tar_entry({key + ".bin", std::string(100 * number, static_cast<char>(number))});
    }
    archive += tar_end();
    out.push_back(dir / ("shard-" + std::to_string(out.size()) + ".tar"));
    put(out.back(), is_gzip || out.size() == 3 ? gzipped(archive) : archive);
  }
  return out;
}

/// The classes in the batches that a rank gets, made by as many makers in turn as there are fetchers.
std::vector<int64_t> classes_of_rank(const DataLoader& loader, int64_t rank, int64_t ranks, int64_t first_batch = 0) {
  const EpochPlan plan(loader, {.seed = 7, .epoch = 1, .shard = rank, .shards = ranks, .division = Division::batches});
  std::vector<std::unique_ptr<BatchMaker>> makers;
  for (int64_t i = 0; i < std::max<int64_t>(1, loader.options().num_workers); ++i) {
    makers.push_back(std::make_unique<BatchMaker>(loader, 7));
  }
  std::vector<int64_t> out;
  for (int64_t i = first_batch; i < plan.batches(); ++i) {
    const auto batch = makers[static_cast<std::size_t>(i) % makers.size()]->make(1, i, plan.batch(i));
    const auto labels = (*batch)["label"];
    for (int64_t j = 0; j < labels.numel(); ++j) out.push_back(labels[j].item<int64_t>());
  }
  return out;
}

const TarOptions kClasses{.fields = {{"cls", "label"}}};

TEST(TarDataset, ServesEachSampleOnceForAnyNumberOfRanksAndFetchers) {
  const TempDir dir;
  const auto data = std::make_shared<TarDataset>(small_shards(dir), kClasses);
  EXPECT_EQ(data->size(), 16);
  EXPECT_THAT(data->shard_sizes(), ElementsAre(5, 1, 7, 3));
  EXPECT_EQ(data->key(5), "s5");
  std::vector<int64_t> first;
  for (const int64_t ranks : {1, 2, 3, 5}) {  // 5: more than there are shards
    for (const int64_t fetchers : {0, 2}) {
      const DataLoader loader(data, {.batch_size = 2, .num_workers = fetchers, .sampler = data->shuffled(4)});
      std::multiset<int64_t> all;
      for (int64_t rank = 0; rank < ranks; ++rank) {
        const auto part = classes_of_rank(loader, rank, ranks);
        all.insert(part.begin(), part.end());
        if (first.empty()) first = part;
        for (std::size_t i = 0; i < part.size(); ++i) {  // every n-th batch of what one rank gets
          EXPECT_EQ(part[i],
                    first[((i / 2) * static_cast<std::size_t>(ranks) + static_cast<std::size_t>(rank)) * 2 + i % 2]);
        }
        const auto rest = classes_of_rank(loader, rank, ranks, 1);
        EXPECT_EQ(rest, std::vector<int64_t>(part.begin() + 2, part.end())) << "resumed after the first batch";
      }
      EXPECT_EQ(all.size(), 16u);
      EXPECT_EQ(std::set<int64_t>(all.begin(), all.end()).size(), 16u);
    }
  }
}

TEST(TarDataset, GivesTheSameFromGzippedShards) {
  const TempDir plain_dir, gzip_dir;
  const auto sizes = [](std::span<const std::byte> content, const std::string&) -> FieldValue {
    return torch::tensor(std::vector<int64_t>{static_cast<int64_t>(content.size()),
                                              content.empty() ? 0 : static_cast<int64_t>(content.back())});
  };
  const TarOptions options{.fields = {"bin", "cls"}, .decoders = {{"bin", sizes}}};
  TarDataset plain(small_shards(plain_dir), options), zipped(small_shards(gzip_dir, true), options);
  for (const int64_t i : {15, 3, 4, 9, 0, 12, 1, 2}) {
    EXPECT_EQ(plain.get(i)[0][0].item<int64_t>(), 100 * i);
    EXPECT_EQ(plain.get(i)[1].item<int64_t>(), i);
    EXPECT_TRUE(plain.get(i)[0].equal(zipped.get(i)[0]));
  }
  const auto replica = zipped.replicate();
  EXPECT_EQ(replica->get(7)[1].item<int64_t>(), 7);
  std::filesystem::remove(gzip_dir / "shard-2.tar.index");  // the points are gone: slower, not wrong
  EXPECT_EQ(zipped.replicate()->get(12)[1].item<int64_t>(), 12);
}

std::string sample_shard(const TempDir& dir, const std::string& name, const std::string& archive) {
  put(dir / name, archive + tar_end());
  return dir / name;
}

TEST(TarDataset, DecodesByExtension) {
  const TempDir dir;
  const std::string npy = std::string("\x93NUMPY\x01\x00\x46\x00", 10) +
                          "{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }" + std::string(12, ' ') + "\n" +
                          std::string("\x01\0\0\0\xff\xff\xff\xff", 8);
  const auto shard =
      sample_shard(dir, "a.tar",
                   tar_entry({"d/x.index", " 12\r\n"}) + tar_entry({"d/x.seg.npy", npy}) +
                       tar_entry({"d/x.json", "{\"a\": [1, 2]}"}) + tar_entry({"d/x.txt", "gr\xc3\xbc\xc3\x9f"}) +
                       tar_entry({"d/x.weights", "abc"}) + tar_entry({"d/x.weights.txt", "own"}));
  TarDataset data(
      shard,
      {.fields = {"cls;index", {"seg.npy", "mask"}, {"json", "about"}, "txt", "__key__", "weights", "weights.txt"},
       .decoders = {{"weights", [](auto content, const std::string&) { return std::any(content.size()); }},
                    {"weights.txt", [](auto, const std::string& name) { return std::any(name); }}}});
  auto sample = data.get(0);
  EXPECT_EQ(sample[0].item<int64_t>(), 12);
  EXPECT_TRUE(sample["mask"].equal(torch::tensor({1, -1}, torch::kInt32)));
  auto others = std::any_cast<FieldValues>(sample.extra);
  EXPECT_EQ(std::any_cast<nlohmann::json>(others["about"])["a"][1], 2);
  EXPECT_EQ(std::any_cast<std::string>(others["txt"]), "gr\xc3\xbc\xc3\x9f");
  EXPECT_EQ(std::any_cast<std::string>(others["__key__"]), "d/x");
  EXPECT_EQ(std::any_cast<std::size_t>(others["weights"]), 3u);
  EXPECT_EQ(std::any_cast<std::string>(others["weights.txt"]), shard + ": d/x.weights.txt");
}

TEST(TarDataset, RefusesWhatItCannotServeAndSaysWhere) {
  const TempDir dir;
  const auto whole = tar_entry({"a.cls", "1"}) + tar_entry({"a.txt", "x"}), part = tar_entry({"b.txt", "x"});
  const auto shard = sample_shard(dir, "a.tar", whole + part);
  const auto told = [](const std::string& path, TarOptions options) {
    options.keep_index =
        false;  // shards of one name and size follow each other faster than the clock of some file systems
    return refusal([&] {
      TarDataset data(path, options);
      for (int64_t i = 0; i < data.size(); ++i) data.get(i);
    });
  };
  EXPECT_EQ(told(shard, {.fields = {"txt"}}), "accepted");
  EXPECT_EQ(told(shard, kClasses),
            shard + ": the sample 'b' has no file cls, it has txt; skip_incomplete leaves such samples out");
  TarDataset skipping(shard, {.fields = {"cls"}, .skip_incomplete = true});
  EXPECT_EQ(skipping.size(), 1);
  EXPECT_EQ(skipping.skipped(), 1);
  EXPECT_THAT(told(shard, {.fields = {"clz"}}), HasSubstr("nothing decodes 'clz'; did you mean 'cls'?"));
  EXPECT_THAT(told(shard, {.fields = {}}), HasSubstr("no files are wanted"));
  EXPECT_THAT(told(shard, {.fields = {"npy"}, .skip_incomplete = true}),
              HasSubstr("no sample of " + shard + " has all of the fields npy; files there are cls, txt"));
  EXPECT_THAT(told(dir / "b.tar", {}), HasSubstr("there is no shard"));
  const auto other = sample_shard(dir, "b.tar", tar_entry({"a.txt", "y"}));
  EXPECT_EQ(told(dir.path(), {.fields = {"txt"}}), "the shards overlap: " + shard + " and " + other +
                                                       " both have a sample 'a'; unique_keys = false reads both");
  EXPECT_EQ(TarDataset(dir.path(), {.fields = {"txt"}, .unique_keys = false}).size(), 3);
  EXPECT_EQ(told(sample_shard(dir, "c.tar", tar_entry({"a.cls", "dog"})), {.fields = {"cls"}}),
            (dir / "c.tar").string() + ": a.cls: 'dog' is no whole number");
  EXPECT_THAT(told(sample_shard(dir, "c.tar", tar_entry({"a.txt", "\xff"})), {.fields = {"txt"}}),
              HasSubstr("a.txt: the text is not UTF-8"));
  EXPECT_THAT(told(sample_shard(dir, "c.tar", tar_entry({"a.json", "{"})), {.fields = {"json"}}),
              HasSubstr("c.tar: a.json: "));
  EXPECT_THAT(told(sample_shard(dir, "c.tar", tar_entry({"a.npy", "{"})), {.fields = {"npy"}}),
              HasSubstr("c.tar: a.npy"));
  EXPECT_THAT(told(sample_shard(dir, "c.tar", tar_entry({"a.jpg", "{"})), {.fields = {"jpg"}}),
              HasSubstr("c.tar: a.jpg"));
  EXPECT_THAT(told(sample_shard(dir, "c.tar", ""), {.fields = {"jpg"}}), HasSubstr("there are no samples"));
  TarDataset cut(shard, {.fields = {"txt"}});
  put(shard, whole.substr(0, 1024));
  EXPECT_EQ(refusal([&] { cut.get(1); }),
            shard + " was changed meanwhile: it has 1024 bytes, and had 4096 when its index was read");
}

TEST(TarDataset, DecodesImagesIntoTheBatchAsItDoesOneByOne) {
  const TempDir dir;
  python_output("write_image_shard.py", (dir / "images.tar").string());
  using namespace transforms;
  const auto chain = std::make_shared<Compose>(RandomResizedCrop(16), RandomHorizontalFlip(), ToFloat());
  const auto data = std::make_shared<TarDataset>(dir / "images.tar", TarOptions{.transform = chain});
  ASSERT_EQ(data->size(), 6);
  const auto batch_of = [](const std::shared_ptr<Dataset>& dataset, Collate collate) {
    return *BatchMaker(DataLoader(dataset, {.batch_size = 4, .collate = std::move(collate)}), 3)
                .make(2, 0, {5, 0, 3, 2});
  };
  const auto fast = batch_of(data, nullptr), one_by_one = batch_of(data, default_collate);
  EXPECT_EQ(fast["image"].sizes(), (std::vector<int64_t>{4, 3, 16, 16}));
  EXPECT_TRUE(fast["image"].equal(one_by_one["image"]));
  EXPECT_TRUE(fast["label"].equal(torch::tensor({5, 0, 3, 2}, torch::kInt64)));
  EXPECT_TRUE(one_by_one["label"].equal(fast["label"]));
  TarDataset plain(dir / "images.tar", {.fields = {"png"}, .skip_incomplete = true});
  EXPECT_EQ(plain.size(), 3);
  EXPECT_EQ(plain.get(1)[0].sizes(), (std::vector<int64_t>{3, 22, 30}));
  EXPECT_TRUE(plain.get(1)[0].eq(40).all().item<bool>());
}

TEST(TarDataset, LetsTheNextSampleStandInForOneWithABrokenImage) {
  const TempDir dir;
  python_output("write_image_shard.py", (dir / "images.tar").string());
  const TarOptions options{
      .fields = {{"jpg;jpeg;png", "image"}, {"cls", "label"}},
      .transform = std::make_shared<transforms::Compose>(transforms::Resize(transforms::Size{16, 16}))};
  std::string broken;
  for (int i = 0; i < 3; ++i) {
    const auto key = "x" + std::to_string(i);
    broken += tar_entry({key + ".png", i == 1 ? "" : "\x89PNG, but no more"}) + tar_entry({key + ".cls", "9"});
  }
  const auto first = (dir / "broken.tar").string(), second = (dir / "images.tar").string();
  put(first, broken + tar_end());
  TarDataset refusing({first, second}, options);
  EXPECT_THAT(refusal([&] { refusing.get(1); }), HasSubstr(first + ": x1.png"));
  EXPECT_EQ(refusing.broken_count(), 0);

  auto skipping = options;
  skipping.broken = TarOptions::Broken::skip;
  const auto data = std::make_shared<TarDataset>(std::vector<std::string>{first, second}, skipping);
  const auto loader = [&](Collate collate) {
    return DataLoader(data, {.batch_size = 4, .collate = std::move(collate)});
  };
  for (const auto& collate : {Collate(), Collate(default_collate)}) {
    const auto batch = *BatchMaker(loader(collate), 3).make(0, 0, {1, 3, 2, 4});
    EXPECT_TRUE(batch["label"].equal(torch::tensor({0, 0, 0, 1}, torch::kInt64))) << batch["label"];
    EXPECT_TRUE(batch["image"][0].equal(batch["image"][1]));
    EXPECT_TRUE(batch["image"][2].equal(batch["image"][1]));
  }
  EXPECT_THAT(data->broken_samples(), ElementsAre(first + ": x1", first + ": x2"));
  EXPECT_EQ(data->broken_count(), 2) << "replicas count for all, and each sample once";
  TarDataset alone(first, skipping);
  EXPECT_THAT(refusal([&] { alone.get(2); }), HasSubstr("; neither can the 2 images after it be decoded"));
  put(first, tar_entry({"x.png", broken}) + tar_entry({"x.cls", "dog"}) + tar_end());
  TarDataset no_number(first, {.fields = {"cls"}, .broken = TarOptions::Broken::skip});
  EXPECT_THAT(refusal([&] { no_number.get(0); }), HasSubstr("'dog' is no whole number")) << "that is no image";
}

}  // namespace
}  // namespace troupe
