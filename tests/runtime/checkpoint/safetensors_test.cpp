// Held against the reference implementation through Python's safetensors package, both ways.
#include "troupe/runtime/checkpoint/safetensors.hpp"
#include "tests/support/same_bits.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/python_output.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include <array>
#include <fstream>
#include <sstream>

namespace troupe {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;

void write(const fs::path& path, const NamedTensors& tensors, const SafetensorsMetadata& metadata = {}) {
  const auto file = real_file_system().create(path);
  write_safetensors(*file, tensors, metadata);
}

/// A file of `header` and `data`; the header's length is as it should be unless given.
void put_safetensors(const fs::path& path, const std::string& header, const std::string& data, int64_t length = -1) {
  std::string text;
  const auto claimed = static_cast<uint64_t>(length < 0 ? static_cast<int64_t>(header.size()) : length);
  for (int i = 0; i < 8; ++i) text += static_cast<char>(claimed >> (8 * i) & 0xff);
  std::ofstream(path, std::ios::binary) << text << header << data;
}

std::string error_of_file(const fs::path& path) {
  try {
    const SafetensorsFile file(path);
    for (const auto& entry : file.entries()) file.read(entry);
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

std::string error_of_reading(const std::string& header, const std::string& data = "") {
  TempDir dir;
  put_safetensors(dir / "f.safetensors", header, data);
  const auto error = error_of_file(dir / "f.safetensors");
  EXPECT_THAT(error, HasSubstr((dir / "f.safetensors").string()));
  return error;
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape + "],\"data_offsets\":[" + offsets + "]}";
}

torch::Tensor named(const SafetensorsFile& file, const std::string& name) {
  for (const auto& entry : file.entries()) {
    if (entry.name == name) return file.read(entry);
  }
  return {};
}

const std::vector<std::pair<torch::ScalarType, std::string>>& dtypes() {
  static const std::vector<std::pair<torch::ScalarType, std::string>> all = {
      {torch::kFloat64, "float64"},
      {torch::kFloat32, "float32"},
      {torch::kFloat16, "float16"},
      {torch::kBFloat16, "bfloat16"},
      {torch::kInt64, "int64"},
      {torch::kInt32, "int32"},
      {torch::kInt16, "int16"},
      {torch::kInt8, "int8"},
      {torch::kUInt8, "uint8"},
      {torch::kUInt16, "uint16"},
      {torch::kUInt32, "uint32"},
      {torch::kUInt64, "uint64"},
      {torch::kComplexFloat, "complex64"},
      {torch::kFloat8_e4m3fn, "float8_e4m3fn"},
      {torch::kFloat8_e5m2, "float8_e5m2"},
      {torch::kFloat8_e4m3fnuz, "float8_e4m3fnuz"},
      {torch::kFloat8_e5m2fnuz, "float8_e5m2fnuz"},
      {torch::kBool, "bool"}};
  return all;
}

TEST(Safetensors, ReadsBackWhatItWroteInTheOrderGiven) {
  TempDir dir;
  NamedTensors tensors;
  for (const auto& [dtype, name] : dtypes()) tensors.emplace_back(name, torch::tensor({0, 1, 1}).to(dtype));
  std::reverse(tensors.begin(), tensors.end());
  tensors.emplace_back("scalar", torch::tensor(2.5));
  tensors.emplace_back("empty", torch::zeros({0, 3}));
  tensors.emplace_back("transposed", torch::arange(6).reshape({2, 3}).t());
  tensors.emplace_back("a \"name\" with \\ and \n", torch::ones(1));
  write(dir / "f", tensors, {{"key", "v\u00e4lue \"x\""}});
  const SafetensorsFile file(dir / "f");
  ASSERT_EQ(file.entries().size(), tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_EQ(file.entries()[i].name, tensors[i].first);
    const auto read = file.read(file.entries()[i]);
    EXPECT_TRUE(has_same_bits(read, tensors[i].second)) << tensors[i].first;
  }
  EXPECT_EQ(file.metadata().at("key"), "v\u00e4lue \"x\"");
}

TEST(Safetensors, AlignsEachTensorToItsElementAndTheDataToEight) {
  TempDir dir;
  write(dir / "f", {{"a", torch::ones(3, torch::kUInt8)}, {"b", torch::ones(3)}, {"c", torch::ones(1, torch::kInt64)}});
  const SafetensorsFile file(dir / "f");
  EXPECT_EQ(file.entries()[2].begin % 8, 0u);
  EXPECT_EQ(file.entries()[1].begin, file.entries()[2].end);
  EXPECT_EQ(file.entries()[0].begin, file.entries()[1].end);
}

TEST(Safetensors, WritesAFileOfNothing) {
  TempDir dir;
  write(dir / "f", {});
  EXPECT_TRUE(SafetensorsFile(dir / "f").entries().empty());
  EXPECT_EQ(content_of(dir / "f").size(), 16u);
}

TEST(Safetensors, WritesFilesThatPythonReads) {
  TempDir dir;
  NamedTensors tensors;
  for (const auto& [dtype, name] : dtypes()) tensors.emplace_back(name, torch::tensor({{0, 1}, {1, 1}}).to(dtype));
  tensors.emplace_back("scalar", torch::tensor(2.5));
  tensors.emplace_back("empty", torch::zeros({0, 3}));
  write(dir / "f.safetensors", tensors, {{"format", "pt"}});
  std::istringstream lines(python_output("safetensors_file.py", "dump " + (dir / "f.safetensors").string()));
  std::map<std::string, nlohmann::json> read;
  std::string line;
  while (std::getline(lines, line)) {
    const auto row = nlohmann::json::parse(line);
    read[row[0]] = row;
  }
  for (const auto& [dtype, name] : dtypes()) {
    EXPECT_EQ(read[name], nlohmann::json({name, "torch." + name, {2, 2}, {0.0, 1.0, 1.0, 1.0}}));
  }
  EXPECT_EQ(read["scalar"], nlohmann::json::parse(R"(["scalar", "torch.float32", [], [2.5]])"));
  EXPECT_EQ(read["empty"], nlohmann::json::parse(R"(["empty", "torch.float32", [0, 3], []])"));
  EXPECT_TRUE(read.contains("format"));
}

TEST(Safetensors, ReadsFilesThatPythonWrote) {
  TempDir dir;
  python_output("safetensors_file.py", "make " + (dir / "f.safetensors").string());
  const SafetensorsFile file(dir / "f.safetensors");
  EXPECT_EQ(file.entries().size(), dtypes().size() + 2);
  for (const auto& [dtype, name] : dtypes()) {
    EXPECT_TRUE(has_same_bits(named(file, name), torch::tensor({{0, 1, 1}, {1, 0, 1}}).to(dtype))) << name;
  }
  EXPECT_TRUE(torch::equal(named(file, "scalar"), torch::tensor(2.5)));
  EXPECT_EQ(named(file, "empty").sizes(), (std::vector<int64_t>{0, 3}));
  EXPECT_EQ(file.metadata().at("who"), "J\u00f8rgen \"x\"");
}

TEST(Safetensors, RefusesEveryTruncation) {
  TempDir dir;
  write(dir / "f", {{"a", torch::ones(3)}, {"b", torch::ones(5, torch::kUInt8)}}, {{"k", "v"}});
  const auto whole = content_of(dir / "f");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    std::ofstream(dir / "cut", std::ios::binary) << whole.substr(0, size);
    EXPECT_THAT(error_of_file(dir / "cut"), AllOf(HasSubstr("cut'"), HasSubstr("truncated"))) << size;
  }
  std::ofstream(dir / "long", std::ios::binary) << whole << "x";
  EXPECT_THAT(error_of_file(dir / "long"), HasSubstr("1 byte follows the last tensor"));
}

TEST(Safetensors, RefusesHeadersThatAreTooLongBeforeReadingThem) {
  TempDir dir;
  put_safetensors(dir / "f", "{}", "", 100'000'001);
  EXPECT_THAT(error_of_file(dir / "f"), HasSubstr("more than 100 MB"));
  put_safetensors(dir / "f", "{}", "", 99'999'999);
  EXPECT_THAT(error_of_file(dir / "f"), HasSubstr("truncated"));
}

TEST(Safetensors, SaysWhatAnotherFileIsWhateverItsSize) {
  using namespace std::string_literals;
  const TempDir dir;
  const std::vector<std::pair<std::string, const char*>> cases = {
      {"PK\x03\x04\x14\0"s, "a zip archive, such as torch.save writes: load_weights reads it"},
      {"\x80\x02\x8a\x0a"s, "a pickle"},
      {"\x1f\x8b\x08\0\0\0\0\0\0\x03"s, "packed by gzip"},  // as a length it is one of less than 100 MB
      {"\x93NUMPY\x01\0"s, "an array of numpy's"},
      {"GGUF\x03\0\0\0"s, "a GGUF file"},
      {"\n <!DOCTYPE html><html>", "a page of HTML, as a failed download leaves"},
      {"{\"error\": \"not found\"}", "JSON text"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
       "a pointer of Git LFS in place of the file; git lfs pull fetches it"}};
  for (const auto& [beginning, text] : cases) {
    for (const std::size_t more : {0, 10, 600'000}) {
      std::ofstream(dir / "f", std::ios::binary) << beginning << std::string(more, '\0');
      EXPECT_THAT(error_of_file(dir / "f"),
                  AllOf(HasSubstr("f': this is not a safetensors file but "), HasSubstr(text)))
          << more;
    }
  }
}

TEST(Safetensors, NamesTheFileThatMayBeMeant) {
  const TempDir dir;
  write(dir / "model.safetensors", {});
  for (const char* absent : {"modle.safetensors", "model.safetensor", "model.bin"}) {
    EXPECT_THAT(error_of_file(dir / absent),
                HasSubstr(": No such file or directory; did you mean '" + (dir / "model.safetensors").string() + "'?"));
  }
  EXPECT_THAT(error_of_file(dir / "other.safetensors"), EndsWith("No such file or directory"));
  std::filesystem::create_directory(dir / "weights");
  EXPECT_THAT(error_of_file(dir / "weihgts/model.safetensors"),
              EndsWith("did you mean '" + (dir / "weights").string() + "'?"));
}

TEST(Safetensors, RefusesHeadersThatAreNotTheOneShape) {
  EXPECT_THAT(error_of_reading("not json"), HasSubstr("does not begin with '{'"));
  EXPECT_THAT(error_of_reading("{\"a\":"), HasSubstr("not JSON"));
  EXPECT_THAT(error_of_reading("{\"\xff\":{}}"), HasSubstr("not JSON"));
  EXPECT_THAT(error_of_reading("{} {}"), HasSubstr("not JSON"));
  EXPECT_THAT(error_of_reading(std::string("{}\0 {}", 6)), HasSubstr("not JSON (byte 2)"));
  EXPECT_THAT(error_of_reading("{\"a\":1}"), HasSubstr("'a' is the number 1 instead of an object"));
  EXPECT_THAT(error_of_reading("{\"a\":{}}"), HasSubstr("tensor 'a': has no 'dtype'"));
  EXPECT_THAT(error_of_reading("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}"), HasSubstr("'dtype' twice"));
  EXPECT_THAT(error_of_reading("{\"a\":{\"size\":1}}"), HasSubstr("unknown key 'size'"));
  EXPECT_THAT(error_of_reading("{\"__metadata__\":{\"a\":1}}"), HasSubstr("__metadata__ has the number 1 at 'a'"));
  EXPECT_THAT(error_of_reading("{\"__metadata__\":{\"a\":\"\",\"a\":\"\"}}"), HasSubstr("twice"));
  EXPECT_THAT(error_of_reading("{" + entry("a", "F32", "[1]", "0,0") + "}"), HasSubstr("has a list at 'shape'"));
  EXPECT_THAT(error_of_reading("{" + entry("a", "F32", "1", "0") + "}"), HasSubstr("fewer than two"));
  EXPECT_THAT(error_of_reading("{" + entry("a", "F32", "1", "0,1,2") + "}"), HasSubstr("more than two"));
  EXPECT_THAT(error_of_reading("{" + entry("a", "F32", "-1", "0,4") + "}", "1234"), HasSubstr("the number -1"));
  EXPECT_THAT(error_of_reading("{" + entry("a", "F32", "1.0", "0,4") + "}", "1234"), HasSubstr("the number 1.0"));
}

TEST(Safetensors, ReadsTheTensorsBesideOneOfATypeThatItDoesNotHave) {
  const TempDir dir;
  const std::vector<std::array<std::string, 3>> cases = {
      {"F6_E2M3", "4,4", "dtype 'F6_E2M3', which LibTorch does not have; convert it to BF16"},
      {"F6_E3M2", "16", "dtype 'F6_E3M2', which LibTorch does not have"},
      {"F4", "8,3",
       "dtype 'F4' and the shape [8, 3]: LibTorch holds two F4 in a byte, so the last size has to be even"},
      {"I128", "3,5", "dtype 'I128', which is unknown; the format's that LibTorch has are F64"},
      {"", "3,5", "dtype '', which is unknown"}};
  for (const auto& [dtype, shape, why] : cases) {
    put_safetensors(dir / "f", "{" + entry("ids", dtype, shape, "0,12") + "," + entry("w", "F32", "1", "12,16") + "}",
                    std::string("123456789012\0\0\x80\x3f", 16));
    const SafetensorsFile file(dir / "f");
    EXPECT_EQ(named(file, "w").item<float>(), 1) << dtype;
    EXPECT_EQ(file.entries()[0].dtype_name, dtype);
    EXPECT_THAT(error_of_file(dir / "f"), HasSubstr("tensor 'ids' has the " + why));
  }
  // Where it lies is checked all the same, and how long it is where a type says it.
  EXPECT_THAT(error_of_reading("{" + entry("a", "I128", "16", "0,9") + "}", "12345678"),
              HasSubstr("reach beyond the 8 bytes"));
  EXPECT_THAT(error_of_reading("{" + entry("a", "I128", "16", "1,8") + "}", "12345678"), HasSubstr("behind a hole"));
  EXPECT_THAT(error_of_reading("{" + entry("a", "F6_E2M3", "4", "0,4") + "}", "1234"), HasSubstr("shape takes 3"));
  for (const char* const shape : {"", "3", "3,5"}) {
    EXPECT_THAT(error_of_reading("{" + entry("a", "F4", shape, "0,8") + "}", "12345678"),
                HasSubstr("its elements of 4 bits do not fill whole bytes"));
  }
}

TEST(Safetensors, HoldsTwoF4InAnElement) {
  const TempDir dir;
  const auto f4 = torch::arange(12, torch::kByte).view({4, 3}).view(torch::kFloat4_e2m1fn_x2);
  write(dir / "f", {{"f4", f4}, {"transposed", f4.t()}});
  EXPECT_THAT(content_of(dir / "f"), HasSubstr(R"("dtype":"F4","shape":[4,6])"));
  const SafetensorsFile file(dir / "f");
  EXPECT_TRUE(has_same_bits(named(file, "f4"), f4));
  EXPECT_TRUE(has_same_bits(named(file, "transposed"), f4.t()));
  EXPECT_THROW(write(dir / "g", {{"f4", f4[0][0]}}), UsageError);
}

TEST(Safetensors, TakesNullForNoMetadataAndBlanksBehindTheHeader) {
  const TempDir dir;
  put_safetensors(dir / "f", "{\"__metadata__\":null," + entry("a", "U8", "1", "0,1") + "}   \n\t ", "7");
  EXPECT_EQ(named(SafetensorsFile(dir / "f"), "a").item<int64_t>(), '7');
}

TEST(Safetensors, MapsTensorsThatOutliveTheFile) {
  const TempDir dir;
  put_safetensors(dir / "f",
                  "{" + entry("flag", "BOOL", "1", "0,1") + "," + entry("odd", "F32", "1", "1,5") + "," +
                      entry("none", "F32", "0,2", "5,5") + "," + entry("bytes", "U8", "3", "5,8") + "}  ",
                  std::string("\x01\0\0\x80\x3f"
                              "abc",
                              8));
  torch::Tensor flag, odd, none, bytes;
  {
    const SafetensorsFile file(dir / "f", TensorMemory::mapped);
    flag = named(file, "flag"), odd = named(file, "odd"), none = named(file, "none"), bytes = named(file, "bytes");
    EXPECT_EQ(named(file, "bytes").const_data_ptr(), bytes.const_data_ptr());
    EXPECT_NE(named(file, "odd").const_data_ptr(), odd.const_data_ptr());  // not aligned: copied
  }
  const auto before = content_of(dir / "f");
  fs::remove(dir / "f");
  put_safetensors(dir / "f", "{}", "");
  EXPECT_TRUE(flag.item<bool>());
  EXPECT_EQ(odd.item<float>(), 1);
  EXPECT_EQ(none.sizes(), (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(bytes[0].item<int64_t>(), 'a');
  std::ofstream(dir / "g", std::ios::binary) << before;
  named(SafetensorsFile(dir / "g", TensorMemory::mapped), "bytes").zero_();
  EXPECT_EQ(content_of(dir / "g"), before);
}

TEST(Safetensors, StoresNumbersWhoseConjugateOrNegativeIsOnlyNotedDown) {
  const TempDir dir;
  const auto numbers = torch::complex(torch::tensor({1.F, 2.F}), torch::tensor({3.F, 4.F}));
  ASSERT_TRUE(numbers.conj().is_conj());
  ASSERT_TRUE(torch::imag(numbers.conj()).is_neg());
  write(dir / "f", {{"conjugate", numbers.conj()}, {"negative", torch::imag(numbers.conj())}});
  const SafetensorsFile file(dir / "f");
  EXPECT_TRUE(
      torch::equal(named(file, "conjugate"), torch::complex(torch::tensor({1.F, 2.F}), torch::tensor({-3.F, -4.F}))));
  EXPECT_TRUE(torch::equal(named(file, "negative"), torch::tensor({-3.F, -4.F})));
}

TEST(Safetensors, RefusesDeepNestingWithoutFollowingIt) {
  const std::string deep(1'000'000, '[');
  EXPECT_THAT(error_of_reading("{\"a\":" + deep), HasSubstr("a list"));
  std::string objects = "{";
  for (int i = 0; i < 100'000; ++i) objects += "\"a\":{";
  EXPECT_THAT(error_of_reading(objects), HasSubstr("unknown key 'a'"));
}

TEST(Safetensors, RefusesTensorsWhosePlacesDoNotFit) {
  const auto four = [](const std::string& entries) { return error_of_reading("{" + entries + "}", "12345678"); };
  EXPECT_THAT(four(entry("a", "F32", "2", "0,8") + "," + entry("a", "F32", "2", "0,8")), HasSubstr("twice"));
  EXPECT_THAT(four(entry("a", "F32", "3", "0,8")), HasSubstr("hold 8 bytes, its shape takes 12"));
  EXPECT_THAT(four(entry("a", "F32", "2", "8,0")), HasSubstr("run backwards"));
  EXPECT_THAT(four(entry("a", "F32", "3", "0,12")), HasSubstr("reach beyond the 8 bytes"));
  EXPECT_THAT(four(entry("a", "F32", "1", "4,8")), HasSubstr("behind a hole that begins at 0"));
  EXPECT_THAT(four(entry("a", "F32", "2", "0,8") + "," + entry("b", "F32", "1", "4,8")), HasSubstr("inside of"));
  EXPECT_THAT(four(entry("a", "F32", "1", "0,4")), HasSubstr("4 bytes follow the last tensor"));
}

TEST(Safetensors, RefusesShapesWhoseProductOverflows) {
  const std::string half = "4611686018427387904";
  EXPECT_THAT(error_of_reading("{" + entry("a", "U8", half + ",4", "0,0") + "}"), HasSubstr("too large"));
  EXPECT_THAT(error_of_reading("{" + entry("a", "F64", half, "0,0") + "}"), HasSubstr("too large"));
  EXPECT_THAT(error_of_reading("{" + entry("a", "U8", "0," + half + "," + half, "0,0") + "}"), HasSubstr("too large"));
  EXPECT_THAT(error_of_reading("{" + entry("a", "U8", "18446744073709551615", "0,0") + "}"), HasSubstr("too large"));
  std::string ones = "1";
  for (int i = 0; i < 64; ++i) ones += ",1";
  EXPECT_THAT(error_of_reading("{" + entry("a", "U8", ones, "0,1") + "}", "x"), HasSubstr("64 dimensions"));
}

TEST(Safetensors, RefusesBooleansThatAreNone) {
  EXPECT_THAT(error_of_reading("{" + entry("a", "BOOL", "2", "0,2") + "}", "\x01\x02"), HasSubstr("neither 0 nor 1"));
}

TEST(Safetensors, RefusesToStoreWhatTheFormatDoesNotHave) {
  TempDir dir;
  EXPECT_THROW(write(dir / "a", {{"c", torch::ones(1, torch::kComplexDouble)}}), UsageError);
  EXPECT_THROW(write(dir / "q", {{"q", torch::quantize_per_tensor(torch::ones(1), 0.1, 0, torch::kQInt8)}}),
               UsageError);
  EXPECT_THROW(write(dir / "m", {{"m", torch::empty(1, torch::kMeta)}}), UsageError);
  EXPECT_THROW(write(dir / "b", {{"s", torch::eye(2).to_sparse()}}), UsageError);
  EXPECT_THROW(write(dir / "csr", {{"s", torch::eye(2).to_sparse_csr()}}), UsageError);
  EXPECT_THROW(write(dir / "c", {{"u", torch::Tensor()}}), UsageError);
  EXPECT_THROW(write(dir / "d", {{"x", torch::ones(1)}, {"x", torch::ones(1)}}), UsageError);
  EXPECT_THROW(write(dir / "e", {{"__metadata__", torch::ones(1)}}), UsageError);
  EXPECT_THAT(refusal([&] {
                write(dir / "f", {}, {{"k", "\xff"}});
              }),
              std::string("the metadata 'k' cannot be stored: not UTF-8"));
}

TEST(Safetensors, SaysThatAFileIsMissing) {
  EXPECT_THAT(error_of_file(fs::path("/nowhere/f.safetensors")),
              AllOf(HasSubstr("'/nowhere/f.safetensors'"), HasSubstr("No such file")));
}

}  // namespace
}  // namespace troupe
