#include "troupe/runtime/data/images/image_folder.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/jpeg_bytes.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/same_bits.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/data/batch_maker.hpp"
#include "troupe/runtime/data/images/image_decoder.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/data/subset.hpp"
#include "troupe/runtime/data/transforms/color.hpp"
#include "troupe/runtime/data/transforms/values.hpp"
#include "troupe/runtime/sinks/png.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/fsuid.h>
#include <torch/torch.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace troupe {
namespace {

namespace tf = transforms;
using testing::ElementsAre;
using testing::HasSubstr;
using Broken = ImageFolderOptions::Broken;

class ImageFolders : public testing::Test {
 protected:
  void put_file(const std::string& name, const std::string& content = "") {
    std::filesystem::create_directories((dir_ / name).parent_path());
    put(dir_ / name, content);
  }
  void put_jpegs(int count, int64_t height = 60, int64_t width = 80) {
    for (int i = 0; i < count; ++i) {
      put_file((i < count / 2 ? "a/" : "b/") + std::to_string(100 + i) + ".jpg",
               jpeg_bytes(smooth_picture(height + i, width - i, i), {.orientation = 1 + i % 8}));
    }
  }
  std::vector<std::string> names(const ImageFolder& folder) {
    std::vector<std::string> out;
    for (int64_t i = 0; i < folder.size(); ++i) out.push_back(folder.path(i).lexically_relative(dir_.path()));
    return out;
  }
  std::string told(const ImageFolderOptions& options = {}) {
    auto said = refusal([&] { ImageFolder(dir_.path(), options); });
    const auto at = said.find(dir_.path().string());
    return at == std::string::npos ? said : said.replace(at, dir_.path().string().size(), "DIR");
  }
  TempDir dir_;
};

std::shared_ptr<const tf::Transform> train_transform(int64_t size = 24) {
  return std::make_shared<tf::Compose>(tf::RandomResizedCrop(size), tf::RandomHorizontalFlip(), tf::ToFloat(),
                                       tf::Normalize({0.5, 0.4, 0.3}, {0.2, 0.25, 0.3}));
}

TEST_F(ImageFolders, ListClassesAndPathsInTorchvisionsOrder) {
  for (const char* name : {"B/10.jpg", "B/9.jpg", "B/Q.JPEG", "B/x.PnG", "B/sub/y.png", "B/sub/deep/z.jpg",
                           "B/sub-a/w.jpg", "a/1.jpeg", "10/1.jpg", "2/1.jpg"}) {
    put_file(name);
  }
  for (const char* name : {"B/notes.txt", "B/.hidden.jpg", "B/.jpg", ".cache/1.jpg", "B/.git/1.jpg", "stray.jpg"}) {
    put_file(name);
  }
  const ImageFolder folder(dir_.path());
  EXPECT_THAT(folder.classes(), ElementsAre("10", "2", "B", "a"));
  EXPECT_THAT(names(folder), ElementsAre("10/1.jpg", "2/1.jpg", "B/10.jpg", "B/9.jpg", "B/Q.JPEG", "B/x.PnG",
                                         "B/sub/y.png", "B/sub-a/w.jpg", "B/sub/deep/z.jpg", "a/1.jpeg"));
  EXPECT_TRUE(folder.targets().equal(torch::tensor({0, 1, 2, 2, 2, 2, 2, 2, 2, 3}, torch::kInt64)));
  EXPECT_EQ(folder.label(9), 3);
  EXPECT_EQ(folder.class_to_idx().at("B"), 2);
  EXPECT_THROW((void)folder.path(10), std::out_of_range);
  EXPECT_THROW((void)folder.label(-1), std::out_of_range);
}

TEST_F(ImageFolders, FollowLinksAndRefuseOnesThatLeadBack) {
  put_file("elsewhere/1.jpg");
  put_file("root/a/0.jpg");
  std::filesystem::create_symlink(dir_ / "elsewhere", dir_ / "root/b");
  std::filesystem::create_symlink(dir_ / "elsewhere/1.jpg", dir_ / "root/a/1.jpg");
  std::filesystem::create_symlink(dir_ / "nowhere.jpg", dir_ / "root/a/2.jpg");
  EXPECT_THAT(names(ImageFolder(dir_ / "root")), ElementsAre("root/a/0.jpg", "root/a/1.jpg", "root/b/1.jpg"));
  std::filesystem::create_symlink(dir_ / "root/a", dir_ / "root/a/loop");
  EXPECT_THAT(refusal([&] { ImageFolder(dir_ / "root"); }), HasSubstr("levels deep; does a link lead back?"));
}

TEST_F(ImageFolders, AreRefusedWithoutClassesOrImages) {
  EXPECT_EQ(told(), "the folder DIR has no sub-folders; one for each class was expected, with images");
  put_file("1.jpg");
  EXPECT_THAT(told(), HasSubstr("with images, not images such as '1.jpg'"));
  put_file("a/1.jpg");
  put_file("b/2.webp");
  EXPECT_EQ(told(),
            "the class folder DIR/b has no images (.jpg, .jpeg, .png); it has 1 other file: '2.webp'; "
            "allow_empty lets it be a class without images");
  EXPECT_THAT(ImageFolder(dir_.path(), {.allow_empty = true}).classes(), ElementsAre("a", "b"));
  EXPECT_EQ(told({.image = {.most_pixels = 0}, .allow_empty = true}), "most_pixels is 0; it must be at least 1");
  EXPECT_THAT(refusal([&] { ImageFolder(dir_ / "none"); }), HasSubstr("none: No such file or directory"));
}

TEST_F(ImageFolders, ListManyClassesInOrderAndNameTheFirstAtFault) {
  std::vector<std::string> expected;
  for (int i = 0; i < 60; ++i) {
    const auto name = "class" + std::to_string(100 + i);
    // The first 8 bytes are equal; a name that begins another one, and bytes above 127.
    for (const char* end : {"", "-2", "2", "\xc3\xa4"}) expected.push_back(name + "/picture" + end + ".png");
    if (i % 7 == 0) expected.push_back(name + "/x/1.jpg");
  }
  std::mt19937 random(1);
  auto shuffled = expected;
  std::ranges::shuffle(shuffled, random);
  for (const auto& name : shuffled) put_file(name);
  const ImageFolder folder(dir_.path());
  const auto found = names(folder);
  std::ranges::sort(expected, {}, [](const std::string& name) {
    const auto path = std::filesystem::path(name);
    return std::pair(path.parent_path().string(), path.filename().string());
  });
  EXPECT_EQ(found, expected);
  for (int64_t i = 0; i < folder.size(); ++i) {
    ASSERT_EQ(folder.classes()[static_cast<std::size_t>(folder.label(i))],
              found[static_cast<std::size_t>(i)].substr(0, 8));
  }
  for (const char* name : {"class130", "class117", "class159"}) {
    std::filesystem::remove_all(dir_ / name);
    put_file(std::string(name) + "/notes.txt");
  }
  for (int i = 0; i < 5; ++i) EXPECT_THAT(told(), HasSubstr("the class folder DIR/class117 has no images"));
}

/// While it lives, this thread and those that it starts open files as another user: permissions do not bind root.
class AsAnotherUser {
 public:
  AsAnotherUser() { ::setfsuid(geteuid() == 0 ? 65534 : geteuid()); }
  ~AsAnotherUser() { ::setfsuid(geteuid()); }
  AsAnotherUser(const AsAnotherUser&) = delete;
  AsAnotherUser& operator=(const AsAnotherUser&) = delete;
  /// A container may not allow it.
  static bool is_possible() {
    const AsAnotherUser user;
    return geteuid() != 0 || ::setfsuid(static_cast<uid_t>(-1)) == 65534;
  }
};

TEST_F(ImageFolders, SayWhichFolderOrFileMayNotBeRead) {
  using std::filesystem::perms;
  constexpr auto readable = static_cast<perms>(0755);  // for the group too, which stays root's
  if (!AsAnotherUser::is_possible()) GTEST_SKIP() << "root cannot open files as another user here";
  put_jpegs(2);
  for (const char* name : {"c/1.png", "d/deep/2.png"}) put_file(name);
  std::filesystem::permissions(dir_.path(), readable);
  std::filesystem::permissions(dir_ / "a/100.jpg", perms::owner_write);
  const auto said_without = [&](const std::string& folder) {
    std::filesystem::permissions(dir_ / folder, perms::none);
    std::string said;
    {
      const AsAnotherUser user;
      said = told();
    }
    std::filesystem::permissions(dir_ / folder, readable);
    return said;
  };
  EXPECT_EQ(said_without("d/deep"), "cannot read the folder DIR/d/deep: Permission denied");
  EXPECT_EQ(said_without("c"), "cannot read the folder DIR/c: Permission denied");
  EXPECT_EQ(said_without(""), "cannot read the folder DIR: Permission denied");

  for (const auto broken : {Broken::refuse, Broken::skip}) {
    const AsAnotherUser user;
    ImageFolder folder(dir_.path(), {.broken = broken});
    try {
      folder.get(0);
      ADD_FAILURE() << "a file that may not be read was read";
    } catch (const std::exception& error) {
      EXPECT_EQ(error.what(), "cannot read '" + (dir_ / "a/100.jpg").string() + "': Permission denied");
    }
    EXPECT_EQ(folder.get(1)["label"].item<int64_t>(), 1);
  }
}

TEST_F(ImageFolders, HoldAPathInItsNameAnd8Bytes) {
  constexpr int64_t count = 2000;
  const std::string long_name(200, 'n');
  for (int64_t i = 0; i < count; ++i) put_file(long_name + "/n01440764_" + std::to_string(10000 + i) + ".JPEG");
  const ImageFolder folder(dir_.path());
  EXPECT_EQ(folder.size(), count);
  EXPECT_LT(folder.list_bytes(), count * (20 + 8) + 2000);
}

TEST_F(ImageFolders, GiveSamplesWithImageAndLabel) {
  put_jpegs(4);
  put_file("c/1.png", encode_png(torch::full({1, 3, 2}, 7, torch::kByte)));
  ImageFolder folder(dir_.path());
  const auto sample = folder.get(2);
  EXPECT_TRUE(sample["image"].equal(read_image(dir_ / "b/102.jpg")));
  EXPECT_EQ(sample["label"].item<int64_t>(), 1);
  EXPECT_EQ(sample["label"].dim(), 0);
  EXPECT_FALSE(folder.batch_memory(2));
  ImageFolder grey(dir_.path(), {.image = {.mode = ImageMode::grey}});
  EXPECT_TRUE(grey.get(4)[0].equal(torch::full({1, 3, 2}, 7, torch::kByte)));
}

// Decoding a part of the image is to be no second way of augmenting.
TEST_F(ImageFolders, FuseTransformsWithoutChangingTheirValues) {
  put_jpegs(8);
  const auto chain = train_transform();
  const auto& steps = static_cast<const tf::Compose&>(*chain);
  ImageFolder folder(dir_.path(),
                     {.transform = chain, .image = {.apply_exif_orientation = true}, .scaled_decode = false});
  auto batch = *folder.batch_memory(8);
  for (int64_t i = 0; i < 8; ++i) {
    seed_thread(mix(1, i));
    const auto sample = folder.get(i);
    seed_thread(mix(1, i));
    folder.get_into(i, batch, 7 - i);
    EXPECT_TRUE(has_same_bits(sample[0], batch[0][7 - i])) << i;
    EXPECT_EQ(sample[1].item<int64_t>(), batch[1][7 - i].item<int64_t>());
    seed_thread(mix(1, i));
    const auto step_by_step = steps(read_image(folder.path(i), {.apply_exif_orientation = true}));
    // A level of uint8, divided by the least standard deviation.
    EXPECT_LE((sample[0] - step_by_step).abs().max().item<double>(), 1.001 / 255 / 0.2) << i;
    EXPECT_LE((sample[0] - step_by_step).abs().mean().item<double>(), 1e-4) << i;
  }
}

TEST_F(ImageFolders, DecodeLargeImagesAtAFractionOfTheirSize) {
  put_jpegs(8, 400, 500);
  const auto chain = std::make_shared<tf::Compose>(tf::Resize({50, 60}), tf::ToFloat());
  ImageFolder scaled(dir_.path(), {.transform = chain, .image = {.apply_exif_orientation = true}});
  ImageFolder exact(dir_.path(),
                    {.transform = chain, .image = {.apply_exif_orientation = true}, .scaled_decode = false});
  for (int64_t i = 0; i < 8; ++i) {
    const auto a = scaled.get(i)[0], b = exact.get(i)[0];
    EXPECT_FALSE(a.equal(b)) << i;
    EXPECT_LT((a - b).abs().mean().item<double>(), 2.0 / 255) << i;
    auto batch = *scaled.batch_memory(1);
    scaled.get_into(i, batch, 0);
    EXPECT_TRUE(has_same_bits(a, batch[0][0])) << i;
  }
}

TEST_F(ImageFolders, CallATransformThatCannotBeFused) {
  put_jpegs(2);
  const auto chain = std::make_shared<tf::Compose>(tf::Grayscale(), tf::RandomResizedCrop(8));
  ImageFolder folder(dir_.path(), {.transform = chain});
  EXPECT_FALSE(folder.batch_memory(2));
  seed_thread(5);
  const auto got = folder.get(1)[0];
  seed_thread(5);
  EXPECT_TRUE(got.equal((*chain)(read_image(folder.path(1)))));
}

TEST_F(ImageFolders, NameTheImageThatIsBroken) {
  put_jpegs(4);
  const auto whole = content_of(dir_ / "a/101.jpg");
  put_file("a/101.jpg", whole.substr(0, whole.size() - 1));
  ImageFolder folder(dir_.path());
  EXPECT_THAT(refusal([&] { folder.get(1); }), HasSubstr("a/101.jpg: the JPEG is cut off after"));
  EXPECT_EQ(folder.broken_count(), 0);
}

TEST_F(ImageFolders, LetTheNextOneStandInForABrokenImage) {
  put_jpegs(6);
  put_file("a/101.jpg", "");
  put_file("a/102.jpg", "\xFF\xD8 no JPEG");
  put_file("b/105.jpg", "x");
  ImageFolder folder(dir_.path(), {.broken = Broken::skip});
  const auto copy = std::static_pointer_cast<ImageFolder>(folder.replicate());
  EXPECT_TRUE(folder.get(1)[0].equal(folder.get(3)[0]));
  EXPECT_EQ(folder.get(1)[1].item<int64_t>(), 1);
  EXPECT_EQ(folder.label(1), 0);
  EXPECT_EQ(folder.broken_count(), 2);
  EXPECT_TRUE(copy->get(5)[0].equal(folder.get(0)[0]));
  EXPECT_THAT(folder.broken_paths(), ElementsAre(dir_ / "a/101.jpg", dir_ / "a/102.jpg", dir_ / "b/105.jpg"));
  std::filesystem::remove(dir_ / "b/104.jpg");
  EXPECT_THAT(refusal([&] { folder.get(4); }), HasSubstr("No such file or directory"));
  EXPECT_EQ(folder.broken_count(), 3);
  for (const char* name : {"a/100.jpg", "b/103.jpg", "b/104.jpg"}) put_file(name, "");
  EXPECT_THAT(refusal([&] { folder.get(2); }), HasSubstr("; neither can the 5 images after it be decoded"));
}

// P9: by 0, 1 and 3 fetchers, with broken images among those of every one.
TEST_F(ImageFolders, GiveTheSameBatchesForAnyNumberOfFetchers) {
  put_jpegs(12);
  put_file("a/103.jpg", "");
  put_file("b/108.jpg", "");
  const auto folder = std::make_shared<ImageFolder>(
      dir_.path(), ImageFolderOptions{.transform = train_transform(), .broken = Broken::skip});
  std::vector<int64_t> odd{1, 3, 5, 7, 9, 11};
  for (const std::shared_ptr<Dataset>& dataset :
       {std::shared_ptr<Dataset>(folder), std::shared_ptr<Dataset>(std::make_shared<Subset>(folder, odd))}) {
    const DataLoader loader(dataset, {.batch_size = 2});
    const int64_t batches = dataset->size() / 2;
    const auto made_by = [&](int64_t fetchers) {
      std::vector<Batch> out(static_cast<std::size_t>(batches));
      std::vector<std::thread> threads;
      for (int64_t fetcher = 0; fetcher < fetchers; ++fetcher) {
        threads.emplace_back([&, fetcher] {
          BatchMaker maker(loader, 17);
          for (int64_t k = fetcher; k < batches; k += fetchers) {
            out[static_cast<std::size_t>(k)] = *maker.make(2, k, {2 * k, 2 * k + 1});
          }
        });
      }
      for (auto& thread : threads) thread.join();
      return out;
    };
    const auto one = made_by(1), three = made_by(3);
    for (std::size_t k = 0; k < one.size(); ++k) {
      EXPECT_EQ(one[k][0].sizes(), (std::vector<int64_t>{2, 3, 24, 24}));
      EXPECT_TRUE(has_same_bits(one[k][0], three[k][0])) << k;
      EXPECT_TRUE(has_same_bits(one[k][1], three[k][1])) << k;
    }
    // A resumed epoch begins with any batch.
    BatchMaker maker(loader, 17);
    EXPECT_TRUE(has_same_bits(maker.make(2, 1, {2, 3})->operator[](0), one[1][0]));
  }
  EXPECT_EQ(folder->broken_count(), 2);
}

}  // namespace
}  // namespace troupe
