#include "troupe/runtime/data/images/image_decoder.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/jpeg_bytes.hpp"
#include "tests/support/png_bytes.hpp"
#include "tests/support/python_output.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/data/images/exif.hpp"
#include "troupe/runtime/data/images/image_reader.hpp"
#include "troupe/runtime/sinks/png.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <torch/torch.h>

#include <cstring>
#include <sstream>
#include <string>

namespace troupe {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::MatchesRegex;

ImageOptions decode_options(const std::string& mode) {
  return {.mode = mode == "grey" ? ImageMode::grey : ImageMode::rgb, .apply_exif_orientation = mode == "upright"};
}

torch::Tensor bytes_as_image(const std::string& bytes, std::vector<int64_t> shape) {
  return torch::from_blob(const_cast<char*>(bytes.data()), shape, torch::kByte).clone();
}

std::string file_of_png(int64_t height, int64_t width, int seed = 0) {
  return encode_png(smooth_picture(height, width, seed).permute({2, 0, 1}));
}

// A PNG's header with another size, and a checksum that fits.
std::string png_of_claimed_size(std::string png, uint32_t width, uint32_t height) {
  return with_checksums(png.replace(16, 8, big_endian(width) + big_endian(height)));
}

// A JPEG's header with another size.
std::string jpeg_of_claimed_size(std::string jpeg, uint16_t width, uint16_t height) {
  const auto at = jpeg.find("\xFF\xC0");
  jpeg[at + 5] = static_cast<char>(height >> 8), jpeg[at + 6] = static_cast<char>(height);
  jpeg[at + 7] = static_cast<char>(width >> 8), jpeg[at + 8] = static_cast<char>(width);
  return jpeg;
}

std::string decode_refusal(const std::string& bytes, const ImageOptions& options = {}) {
  return refusal([&] { decode_image(as_bytes(bytes), options, "x.img"); });
}

TEST(ImageDecoder, GivesThePixelsThatPillowGives) {
  const TempDir dir;
  std::istringstream lines(python_output("images.py", "'" + dir.path().string() + "'"));
  std::string name, mode;
  int64_t channels = 0, height = 0, width = 0, images = 0;
  while (lines >> name >> mode >> channels >> height >> width) {
    ++images;
    const auto got = read_image(dir / name, decode_options(mode));
    const auto expected = bytes_as_image(content_of(dir / (name + "." + mode)), {channels, height, width});
    ASSERT_EQ(got.sizes(), expected.sizes()) << name << " " << mode;
    // Other versions of libjpeg-turbo may round otherwise; this one and Pillow's agree in all values.
    const int64_t tolerance = name.ends_with(".jpg") ? 1 : 0;
    EXPECT_LE((got.to(torch::kInt) - expected.to(torch::kInt)).abs().max().item<int64_t>(), tolerance)
        << name << " " << mode;
  }
  EXPECT_EQ(images, 5 * 2 * (10 + 11) + 16);
}

TEST(ImageDecoder, KeepsTheChannelsOfTheFileIfAsked) {
  const ImageOptions unchanged{.mode = ImageMode::unchanged};
  const auto rgba = torch::randint(0, 256, {4, 5, 7}, torch::kByte);
  EXPECT_TRUE(decode_image(as_bytes(encode_png(rgba)), unchanged).equal(rgba));
  const auto grey = torch::randint(0, 256, {1, 5, 7}, torch::kByte);
  EXPECT_TRUE(decode_image(as_bytes(encode_png(grey)), unchanged).equal(grey));
  EXPECT_TRUE(decode_image(as_bytes(encode_png(grey))).equal(grey.expand({3, 5, 7})));
  const auto grey_jpeg = jpeg_bytes(smooth_picture(9, 8).slice(2, 0, 1));
  EXPECT_EQ(decode_image(as_bytes(grey_jpeg), unchanged).size(0), 1);
  EXPECT_EQ(decode_image(as_bytes(jpeg_bytes(smooth_picture(9, 8))), unchanged).size(0), 3);
}

// Chroma is interpolated, so that a part could differ at its edges.
TEST(ImageDecoder, GivesAPartTheValuesOfTheWhole) {
  torch::manual_seed(3);
  const auto within = [](int64_t limit) { return torch::randint(limit, {1}).item<int64_t>(); };
  std::vector<std::string> files;
  for (int orientation : {0, 3, 5, 6}) {
    for (bool progressive : {false, true}) {
      files.push_back(jpeg_bytes(smooth_picture(61, 83), {.progressive = progressive, .orientation = orientation}));
    }
  }
  files.push_back(file_of_png(41, 57));
  for (const auto& file : files) {
    for (int by : {1, 2, 4, 8}) {
      ImageReader whole_reader({.apply_exif_orientation = true}), reader({.apply_exif_orientation = true});
      whole_reader.open(as_bytes(file), "whole");
      if (by > 1 && !whole_reader.can_scale()) continue;
      const int64_t height = whole_reader.height(), width = whole_reader.width();
      const auto whole = whole_reader.decode({.height = height, .width = width}, by);
      for (int i = 0; i < 20; ++i) {
        PixelRegion region{.height = 1 + within(height), .width = 1 + within(width)};
        region.top = within(height - region.height + 1), region.left = within(width - region.width + 1);
        reader.open(as_bytes(file), "part");
        const auto part = reader.decode(region, by);
        ASSERT_LE(part.top, region.top);
        ASSERT_GE(part.top + part.pixels.height * by, region.top + region.height);
        for (int64_t y = 0; y < part.pixels.height; ++y) {
          const int64_t row = (part.top - whole.top) / by + y, column = (part.left - whole.left) / by;
          ASSERT_EQ(0, std::memcmp(part.pixels.data + y * part.pixels.row_stride,
                                   whole.pixels.data + row * whole.pixels.row_stride + 3 * column,
                                   static_cast<std::size_t>(3 * part.pixels.width)))
              << "at 1/" << by << ", " << region.top << " " << region.left << " " << region.height << " "
              << region.width;
        }
      }
    }
  }
}

TEST(ImageDecoder, RefusesFilesThatAreCutOff) {
  for (const bool progressive : {false, true}) {
    const auto jpeg = jpeg_bytes(smooth_picture(20, 30), {.progressive = progressive, .orientation = 1});
    for (std::size_t length = 2; length < jpeg.size(); ++length) {
      ASSERT_THAT(decode_refusal(jpeg.substr(0, length)), HasSubstr("x.img: the JPEG is cut off after"))
          << length << " of " << jpeg.size();
    }
  }
  const auto png = file_of_png(20, 30);
  for (std::size_t length = 8; length < png.size(); ++length) {
    ASSERT_THAT(decode_refusal(png.substr(0, length)), MatchesRegex("cannot decode x.img: the PNG.*(cut|ends).*"));
  }
}

TEST(ImageDecoder, RefusesDamagedData) {
  auto png = file_of_png(20, 30);
  png[png.size() / 2] = static_cast<char>(png[png.size() / 2] ^ 1);
  EXPECT_EQ(decode_refusal(png),
            "cannot decode x.img: the PNG's chunk 'IDAT' at offset 33 is damaged: its checksum differs");
  EXPECT_EQ(decode_refusal(png_bytes(2, 1, std::string(6, '\0'))),
            "cannot decode x.img: its data ends after 6 of 7 bytes");
  EXPECT_EQ(decode_refusal(png_bytes(2, 1, std::string(7 + 1000, '\0'))), "accepted");  // as other readers do
  EXPECT_EQ(decode_refusal(png_bytes(2, 1, std::string(7 + 100'000, '\0'))),
            "cannot decode x.img: its data goes on far behind its last row");
  EXPECT_EQ(decode_refusal(png_bytes(2, 1, "\5" + std::string(6, '\0'))),
            "cannot decode x.img: row 0 has filter 5, and filters are 0 to 4");
  EXPECT_EQ(decode_refusal(png_bytes(2, 1, std::string(3, '\0'), {.color_type = 3})),
            "cannot decode x.img: the PNG's palette has 0 bytes; 3 for each of 1 to 256 colors were expected");
  EXPECT_THAT(decode_refusal(png_bytes(2, 1, std::string(6, '\0'), {.interlaced = true})),
              HasSubstr("cannot decode x.img: libpng says '"));
  EXPECT_THAT(decode_refusal(png_bytes(2, 1, std::string(7, '\0'), {.depth = 7})), HasSubstr("bit depth 7"));
  auto jpeg = jpeg_bytes(smooth_picture(20, 30));
  jpeg[jpeg.find("\xFF\xC4") + 5] = '\x7F';  // a table of codes with too many
  EXPECT_THAT(decode_refusal(jpeg), HasSubstr("cannot decode x.img: libjpeg says '"));
}

TEST(ImageDecoder, RefusesASizeBeforeItAsksForMemory) {
  const auto png = png_of_claimed_size(file_of_png(4, 4), 60000, 60000);
  EXPECT_EQ(decode_refusal(png), "cannot decode x.img: it has 60000 x 60000 pixels, more than most_pixels = 178956970");
  EXPECT_THAT(decode_refusal(png, {.most_pixels = int64_t{1} << 40}),
              AllOf(HasSubstr("its header says 60000 x 60000 pixels, which its "), HasSubstr("cannot hold")));
  EXPECT_THAT(decode_refusal(png_of_claimed_size(png, 0xFFFFFFFF, 1)), HasSubstr("header says 4294967295 x 1 pixels"));
  EXPECT_THAT(decode_refusal(png_of_claimed_size(png, 0x7FFFFFFF, 0x7FFFFFFF), {.most_pixels = INT64_MAX}),
              HasSubstr("cannot hold"));
  const auto jpeg = jpeg_of_claimed_size(jpeg_bytes(smooth_picture(8, 8)), 10000, 10000);
  EXPECT_THAT(decode_refusal(jpeg, {.most_pixels = 99'999'999}),
              HasSubstr("it has 10000 x 10000 pixels, more than most_pixels = 99999999"));
  EXPECT_THAT(decode_refusal(jpeg), AllOf(HasSubstr("its header says 10000 x 10000"), HasSubstr("cannot hold")));
  EXPECT_EQ(refusal([] { read_image("x.png", {.most_pixels = 0}); }), "most_pixels is 0; it must be at least 1");
}

TEST(ImageDecoder, NamesFilesThatAreNoImages) {
  const TempDir dir;
  const auto told = [&dir](const std::string& name) {
    const auto said = refusal([&] { read_image(dir / name); });
    const auto at = said.find(dir.path().string());
    return at == std::string::npos ? said : said.substr(0, at) + said.substr(at + dir.path().string().size() + 1);
  };
  put(dir / "empty.jpg", "");
  put(dir / "gif.jpg", "GIF89a\x01\x02 and so on");
  std::filesystem::create_directory(dir / "folder.jpg");
  EXPECT_EQ(told("empty.jpg"), "cannot decode empty.jpg: it is empty");
  EXPECT_EQ(told("gif.jpg"),
            "cannot decode gif.jpg: it is neither a JPEG nor a PNG, but begins with 'GIF89a\\x01\\x02'");
  EXPECT_EQ(told("folder.jpg"), "cannot read 'folder.jpg': Is a directory");
  EXPECT_EQ(told("missing.jpg"), "cannot read 'missing.jpg': No such file or directory");
  ASSERT_EQ(::mkfifo((dir / "pipe.jpg").c_str(), 0600), 0);
  EXPECT_EQ(told("pipe.jpg"), "cannot read 'pipe.jpg': Invalid argument");
  std::filesystem::resize_file(dir / "empty.jpg", int64_t{1} << 40);
  EXPECT_EQ(told("empty.jpg"), "cannot decode empty.jpg: it has 1099511627776 bytes, more than 1 GiB");
}

TEST(Exif, IsUprightIfTheTagIsDamaged) {
  const auto tiff = exif_segment(6).substr(6);
  EXPECT_EQ(exif_orientation(as_bytes(tiff)), 6);
  for (std::size_t length = 0; length < 22; ++length) {
    EXPECT_EQ(exif_orientation(as_bytes(tiff.substr(0, length))), 1) << length;
  }
  const auto with = [&tiff](std::size_t at, const std::string& bytes) {
    auto changed = tiff;
    changed.replace(at, bytes.size(), bytes);
    return exif_orientation(as_bytes(changed));
  };
  EXPECT_EQ(with(18, "\x09"), 1);                // no orientation
  EXPECT_EQ(with(18, std::string(1, '\0')), 1);  // nor this
  EXPECT_EQ(with(4, "\xFF\xFF\xFF\xFF"), 1);     // the directory lies beyond the end
  EXPECT_EQ(with(8, "\xFF\xFF"), 6);             // more entries than there are
  EXPECT_EQ(with(0, "XX"), 1);                   // no TIFF
  EXPECT_EQ(exif_orientation(as_bytes(std::string("MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0", 22))), 8);
}

}  // namespace
}  // namespace troupe
