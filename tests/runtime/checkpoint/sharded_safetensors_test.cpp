// Held against huggingface_hub and Python's safetensors package, both ways.
#include "troupe/runtime/checkpoint/sharded_safetensors.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/python_output.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/same_bits.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/base/failure.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/checkpoint/load_from_checkpoint.hpp"
#include "troupe/runtime/checkpoint/safetensors_index.hpp"
#include "troupe/runtime/weights/any_weights.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include <map>
#include <sstream>

namespace troupe {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

/// Three tensors in two shards, of which the second lies in a folder of its own.
class ShardedSafetensorsTest : public testing::Test {
 protected:
  ShardedSafetensorsTest() {
    write("one.safetensors", {{"a", torch::ones(2)}, {"b", torch::full({2, 2}, 2)}});
    write("more/two.safetensors", {{"c", torch::arange(3)}});
    index({{"a", "one.safetensors"}, {"b", "one.safetensors"}, {"c", "more/two.safetensors"}});
  }

  fs::path path(const std::string& name) const { return dir_ / name; }
  void write(const std::string& name, const NamedTensors& tensors) const {
    fs::create_directories(path(name).parent_path());
    fs::remove(path(name));
    write_safetensors(*real_file_system().create(path(name)), tensors, {});
  }
  void index(const nlohmann::json& weight_map) const {
    put(path("model.safetensors.index.json"), nlohmann::json{{"weight_map", weight_map}}.dump());
  }
  std::string error() const {
    return refusal([&] { (void)ShardedSafetensors(dir_.path()).read_all(); });
  }
  /// Why an index that has `a` in `shard` is refused.
  std::string error_of_shard(const std::string& shard) const {
    index({{"a", shard}});
    return error();
  }

  TempDir dir_;
};

std::vector<std::string> names_in(const NamedTensors& tensors) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) names.push_back(name);
  return names;
}

std::string bytes_in_hex(const torch::Tensor& tensor) {
  std::string out;
  const auto bytes = tensor.contiguous();
  for (const auto byte :
       std::span(static_cast<const unsigned char*>(bytes.const_data_ptr()), static_cast<std::size_t>(bytes.nbytes()))) {
    constexpr std::string_view digits = "0123456789abcdef";
    out += {digits[byte >> 4], digits[byte & 15]};
  }
  return out;
}

TEST_F(ShardedSafetensorsTest, ListsWithoutReadingAndReadsWhatIsWanted) {
  const ShardedSafetensors weights(dir_.path());
  ASSERT_EQ(weights.entries().size(), 3U);
  EXPECT_EQ(weights.find("c")->dtype, torch::kLong);
  EXPECT_EQ(weights.find("b")->shape, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(weights.total_size(), 8U + 32 + 24);
  EXPECT_EQ(weights.find("x"), nullptr);
  EXPECT_TRUE(weights.read("c").equal(torch::arange(3)));
  EXPECT_THAT(names_in(weights.read(std::vector<std::string>{"c", "a"})), ElementsAre("c", "a"));
  EXPECT_THAT(names_in(weights.read_matching("[ab]")), ElementsAre("a", "b"));
  EXPECT_EQ(weights.read_all().size(), 3U);
  EXPECT_THAT(refusal([&] { (void)weights.read("d"); }), HasSubstr("has no tensor 'd'; did you mean"));
  EXPECT_THAT(refusal([&] { (void)weights.read_matching("layers.*"); }),
              HasSubstr("none of its 3 tensors matches 'layers.*'; the first is 'c'"));
}

TEST_F(ShardedSafetensorsTest, TakesAFileAnIndexOrAFolder) {
  EXPECT_EQ(ShardedSafetensors(path("one.safetensors")).entries().size(), 2U);
  EXPECT_EQ(ShardedSafetensors(path("model.safetensors.index.json")).entries().size(), 3U);
  EXPECT_EQ(ShardedSafetensors(path("more")).path(), path("more/two.safetensors"));
  fs::rename(path("model.safetensors.index.json"), path("other.safetensors.index.json"));
  EXPECT_EQ(ShardedSafetensors(dir_.path()).entries().size(), 3U);
  write("model.safetensors", {{"z", torch::ones(1)}});
  EXPECT_EQ(ShardedSafetensors(dir_.path()).path(), path("model.safetensors"));
}

TEST_F(ShardedSafetensorsTest, SaysWhatAFolderHasInPlaceOfAModel) {
  fs::create_directories(path("empty"));
  EXPECT_THAT(refusal([&] { ShardedSafetensors{path("empty")}; }), HasSubstr("has no *.safetensors file"));
  write("more/three.safetensors", {});
  EXPECT_THAT(refusal([&] { ShardedSafetensors{path("more")}; }),
              HasSubstr("several files and no index; name one of them: three.safetensors, two.safetensors"));
  EXPECT_THAT(refusal([&] { ShardedSafetensors{path("nowhere")}; }), HasSubstr("No such file"));
}

TEST_F(ShardedSafetensorsTest, MapsTheFilesOrCopiesThem) {
  const auto before = content_of(path("one.safetensors"));
  auto mapped = ShardedSafetensors(dir_.path()).read("a");
  const auto copied = ShardedSafetensors(dir_.path(), TensorMemory::copied).read("a");
  write("one.safetensors", {});  // another file of that name
  EXPECT_TRUE(mapped.equal(copied));
  mapped.zero_();
  EXPECT_TRUE(copied.equal(torch::ones(2)));
}

TEST_F(ShardedSafetensorsTest, HasTensorsThatTheIndexDoesNotName) {
  index({{"a", "one.safetensors"}, {"c", "more/two.safetensors"}});
  const ShardedSafetensors weights(dir_.path());
  EXPECT_THAT(weights.unindexed(), ElementsAre("b"));
  EXPECT_TRUE(weights.read("b").equal(torch::full({2, 2}, 2)));
  // Of two the index says which is meant; where it does not, none is.
  write("more/two.safetensors", {{"c", torch::arange(3)}, {"a", torch::zeros(1)}, {"b", torch::zeros(1)}});
  EXPECT_THAT(error(), HasSubstr("tensor 'b' is in several shards"));
  index({{"a", "one.safetensors"}, {"b", "one.safetensors"}, {"c", "more/two.safetensors"}});
  EXPECT_TRUE(ShardedSafetensors(dir_.path()).read("a").equal(torch::ones(2)));
}

TEST_F(ShardedSafetensorsTest, RefusesShardsOutsideOfTheFolder) {
  for (const char* shard : {"../one.safetensors", "more/../../x/one.safetensors", "/one.safetensors",
                            "C:one.safetensors", "..\\one.safetensors", "\\one.safetensors"}) {
    EXPECT_THAT(error_of_shard(shard), AllOf(HasSubstr("may leave the folder"), HasSubstr("index.json"))) << shard;
  }
  const TempDir other;
  write_safetensors(*real_file_system().create(other / "far.safetensors"), {}, {});
  fs::create_symlink(other / "far.safetensors", path("link.safetensors"));
  EXPECT_THAT(error_of_shard("link.safetensors"), AllOf(HasSubstr("is a link out of the folder"), HasSubstr("far")));
  fs::create_directory_symlink(other.path(), path("folder"));
  EXPECT_THAT(error_of_shard("folder/far.safetensors"), HasSubstr("is a link out of the folder"));
  fs::create_symlink("one.safetensors", path("near.safetensors"));
  EXPECT_EQ(error_of_shard("near.safetensors"), "accepted");
}

TEST_F(ShardedSafetensorsTest, ReadsTheCacheOfTheHub) {
  const auto snapshot = path("models--x/snapshots/0123"), blobs = path("models--x/blobs");
  fs::create_directories(snapshot);
  fs::create_directories(blobs);
  fs::rename(path("one.safetensors"), blobs / "aa");
  put(blobs / "bb", R"({"weight_map": {"a": "one.safetensors"}})");
  fs::create_symlink("../../blobs/aa", snapshot / "one.safetensors");
  fs::create_symlink("../../blobs/bb", snapshot / "model.safetensors.index.json");
  EXPECT_TRUE(ShardedSafetensors(snapshot).read("a").equal(torch::ones(2)));
}

TEST_F(ShardedSafetensorsTest, RefusesAnIndexThatDoesNotFitItsShards) {
  EXPECT_THAT(error_of_shard("three.safetensors"), HasSubstr("its shard 'three.safetensors' is missing"));
  EXPECT_THAT(error_of_shard("one.bin"), HasSubstr("is no *.safetensors file"));
  EXPECT_THAT(error_of_shard(""), HasSubstr("is no *.safetensors file"));
  index({{"a", "one.safetensors"}, {"x", "one.safetensors"}, {"y", "more/two.safetensors"}});
  EXPECT_THAT(error(), HasSubstr("'one.safetensors' has the tensor 'x', which is not there; missing in all: 'x', 'y'"));
  index({{"c", "one.safetensors"}, {"b", "more/two.safetensors"}});
  EXPECT_THAT(error(), HasSubstr("'more/two.safetensors' has the tensor 'b', which is not there"));
  put(path("cut.safetensors"), content_of(path("one.safetensors")).substr(0, 60));
  EXPECT_THAT(error_of_shard("cut.safetensors"), AllOf(HasSubstr("cut.safetensors'"), HasSubstr("truncated")));
  fs::create_directory(path("folder.safetensors"));
  EXPECT_THAT(error_of_shard("folder.safetensors"), HasSubstr("Is a directory"));
}

TEST_F(ShardedSafetensorsTest, RefusesAnIndexThatIsNone) {
  const auto error_of_text = [&](const std::string& text) {
    put(path("model.safetensors.index.json"), text);
    return error();
  };
  EXPECT_THAT(error_of_text("{"),
              AllOf(HasSubstr("it is not JSON: it ends in the middle"), Not(HasSubstr("json.exception"))));
  EXPECT_THAT(error_of_text(" \n"), HasSubstr("it is not JSON: it is empty"));
  EXPECT_THAT(error_of_text("{\n  \"a\": nul\n}"), HasSubstr("it goes wrong at line 2, byte 11, '"));
  EXPECT_THAT(error_of_text("{\"metadata\":{\"total_size\":1e400}}"),
              testing::EndsWith("it has a number that is too large: '1e400'"));
  EXPECT_THAT(error_of_text("<html>"), HasSubstr("this is not an index of shards but a page of HTML"));
  EXPECT_THAT(error_of_text("[]"), HasSubstr("no object 'weight_map'"));
  EXPECT_THAT(error_of_text("{\"weight_map\":[]}"), HasSubstr("no object 'weight_map'"));
  EXPECT_THAT(error_of_text("{\"weight_map\":{\"a\":1}}"), HasSubstr("has for 'a' no text but 1"));
  EXPECT_THAT(error_of_text(R"({"weight_map":{"a":"one.safetensors","a":"x"}})"), HasSubstr("'a' twice"));
  EXPECT_THAT(error_of_text(std::string(1'000'000, '[')), HasSubstr("nested more than 100 deep"));
  put(path("model.safetensors.index.json"), "");
  fs::resize_file(path("model.safetensors.index.json"), max_safetensors_index + 1);
  EXPECT_THAT(error(), HasSubstr("more than the 100 MB"));
  // Metadata are anything.
  EXPECT_EQ(error_of_text(R"({"metadata":{"total_size":1.5e10},"weight_map":{"a":"one.safetensors"},"x":[1]})"),
            "accepted");
}

TEST_F(ShardedSafetensorsTest, PassesEveryTypeToHuggingFaceAndBackBitForBit) {
  python_output("sharded_model.py", "make " + path("hub").string());
  const ShardedSafetensors weights(path("hub"));
  EXPECT_EQ(weights.shards().size(), 3U);
  ASSERT_EQ(weights.entries().size(), 20U);
  const auto bits = torch::arange(48, torch::kByte).view({2, 24});
  for (const auto& entry : weights.entries()) {
    const auto expected = entry.name == "bool" ? torch::tensor({true, false}) : bits.view(entry.dtype);
    EXPECT_TRUE(has_same_bits(weights.read(entry), expected)) << entry.name;
  }
  EXPECT_EQ(weights.tied().at("tied"), "float32");
  EXPECT_EQ(weights.metadata().at("format"), "pt");
  const auto tensors = weights.read_all();
  std::map<std::string, torch::Tensor> by_name(tensors.begin(), tensors.end());
  EXPECT_EQ(by_name.at("tied").const_data_ptr(), by_name.at("float32").const_data_ptr());

  const auto written = write_sharded_safetensors(tensors, path("ours"), {.max_shard_bytes = 400});
  EXPECT_EQ(nlohmann::json::parse(content_of(written.files.back())),
            nlohmann::json::parse(content_of(path("hub") / "model.safetensors.index.json")));
  std::string files;
  for (const auto& file : written.files) files += file.extension() == ".json" ? "" : " " + file.string();
  std::istringstream lines(python_output("sharded_model.py", "bits" + files));
  std::size_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const auto row = nlohmann::json::parse(line);
    const auto& tensor = by_name.at(row[0]);
    EXPECT_EQ(row[1], "torch." + row[0].get<std::string>());
    EXPECT_EQ(row[2], tensor.sizes().vec());
    EXPECT_EQ(row[3], bytes_in_hex(tensor)) << row[0];
  }
  EXPECT_EQ(count, 20U);
}

TEST_F(ShardedSafetensorsTest, DividesAsHuggingFaceDoes) {
  const std::vector<int64_t> counts = {10, 30, 10, 10, 1, 24, 0, 25, 5};
  NamedTensors tensors;
  std::string words = "100";
  for (const auto count : counts) {
    tensors.emplace_back("t" + std::to_string(tensors.size()), torch::zeros(count));
    words += " " + std::to_string(count);
  }
  const auto written = write_sharded_safetensors(tensors, path("ours"), {.max_shard_bytes = 100});
  const auto theirs = nlohmann::json::parse(python_output("sharded_model.py", "split " + words));
  EXPECT_EQ(nlohmann::json::parse(content_of(written.files.back()))["weight_map"], theirs[0]);
  EXPECT_EQ(written.total_size, theirs[1]);
}

TEST_F(ShardedSafetensorsTest, WritesATiedModelThatHuggingFaceLoads) {
  const auto weight = torch::arange(16, torch::kFloat).view({4, 4});
  const NamedTensors tensors = {{"a.bias", torch::ones(4)}, {"b.weight", weight}, {"a.weight", weight.view({4, 4})}};
  for (const uint64_t size : {uint64_t{50}, uint64_t{5000}}) {
    const auto folder = path("tied" + std::to_string(size));
    const auto written = write_sharded_safetensors(tensors, folder, {.max_shard_bytes = size});
    EXPECT_EQ(written.files.size(), size == 50 ? 3U : 1U);
    EXPECT_EQ(written.tied.at("b.weight"), "a.weight");
    const auto read = read_any_weights(folder).tensors;
    EXPECT_EQ(read.size(), 3U);
    const std::map<std::string, torch::Tensor> by_name(read.begin(), read.end());
    EXPECT_EQ(by_name.at("a.weight").const_data_ptr(), by_name.at("b.weight").const_data_ptr());
  }
  std::istringstream lines(
      python_output("sharded_model.py", "load " + path("tied50").string() + " " + path("tied5000").string()));
  std::size_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const auto loaded = nlohmann::json::parse(line);
    EXPECT_EQ(loaded[0][5], 5.0);
    EXPECT_EQ(loaded[1][0], 1.0);
    EXPECT_EQ(loaded[3], nlohmann::json::array());
  }
  EXPECT_EQ(count, 2U);
}

TEST_F(ShardedSafetensorsTest, StoresOtherViewsOfOneMemoryWhole) {
  const auto memory = torch::arange(4, torch::kFloat).view({2, 2});
  const auto written =
      write_sharded_safetensors(NamedTensors{{"x", memory}, {"t", memory.t()}, {"part", memory[1]}}, path("views"));
  EXPECT_TRUE(written.tied.empty());
  EXPECT_TRUE(ShardedSafetensors(path("views")).read("t").equal(memory.t()));
}

TEST_F(ShardedSafetensorsTest, ConvertsPlainFloatsAlone) {
  const NamedTensors tensors = {{"f64", torch::ones(2, torch::kFloat64)},
                                {"bf16", torch::ones(2, torch::kBFloat16)},
                                {"f8", torch::ones(2).to(torch::kFloat8_e4m3fn)},
                                {"i64", torch::ones(2, torch::kLong)}};
  const auto written = write_sharded_safetensors(tensors, path("half"), {.dtype = torch::kBFloat16});
  EXPECT_EQ(written.total_size, 4U + 4 + 2 + 16);
  const ShardedSafetensors read(path("half"));
  EXPECT_EQ(read.read("f64").scalar_type(), torch::kBFloat16);
  EXPECT_EQ(read.read("f8").scalar_type(), torch::kFloat8_e4m3fn);
  EXPECT_EQ(read.read("i64").scalar_type(), torch::kLong);
  EXPECT_EQ(read.total_size(), written.total_size);
}

TEST_F(ShardedSafetensorsTest, ReplacesAModelOnlyIfToldTo) {
  const NamedTensors two = {{"a", torch::ones(2)}, {"b", torch::ones(2)}};
  const auto folder = path("out");
  const auto names = [&] {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(folder)) found.push_back(entry.path().filename().string());
    std::ranges::sort(found);
    return found;
  };
  (void)write_sharded_safetensors(two, folder, {.max_shard_bytes = 8});
  put(folder / "model-00001-of-00002.safetensors.backup", "mine");
  EXPECT_THAT(refusal([&] { (void)write_sharded_safetensors(two, folder); }), HasSubstr("is there already"));
  (void)write_sharded_safetensors(two, folder, {.name = "other"});
  (void)write_sharded_safetensors(two, folder, {.overwrite = true});
  EXPECT_THAT(names(),
              ElementsAre("model-00001-of-00002.safetensors.backup", "model.safetensors", "other.safetensors"));
  (void)write_sharded_safetensors(two, folder, {.max_shard_bytes = 8, .overwrite = true});
  EXPECT_THAT(names(),
              ElementsAre("model-00001-of-00002.safetensors", "model-00001-of-00002.safetensors.backup",
                          "model-00002-of-00002.safetensors", "model.safetensors.index.json", "other.safetensors"));
}

TEST_F(ShardedSafetensorsTest, RefusesBeforeItWrites) {
  const auto error_of = [&](const NamedTensors& tensors, const ShardOptions& options) {
    return refusal([&] { (void)write_sharded_safetensors(tensors, path("none"), options); });
  };
  const NamedTensors good = {{"a", torch::ones(1)}};
  EXPECT_THAT(error_of(good, {.max_shard_bytes = 0}), HasSubstr("max_shard_bytes is 0"));
  EXPECT_THAT(error_of(good, {.name = "../model"}), HasSubstr("name is '../model'"));
  EXPECT_THAT(error_of(good, {.metadata = {{"k", "\xff"}}}), HasSubstr("not UTF-8"));
  EXPECT_THAT(error_of(good, {.dtype = torch::kLong}), HasSubstr("dtype is Long"));
  EXPECT_THAT(error_of({{"a", torch::ones(1)}, {"a", torch::ones(1)}}, {}), HasSubstr("twice"));
  EXPECT_THAT(error_of({{"a", torch::ones(1)}, {"s", torch::eye(2).to_sparse()}}, {}),
              HasSubstr("'s' cannot be stored"));
  EXPECT_FALSE(fs::exists(path("none")));
}

TEST_F(ShardedSafetensorsTest, IsLoadedIntoAModel) {
  struct Line : Module {
    Line() { layer = register_module("layer", torch::nn::Linear(1, 1)); }
    torch::nn::Linear layer{nullptr};
  };
  write("one.safetensors", {{"layer.weight", torch::full({1, 1}, 2.5)}});
  write("more/two.safetensors", {{"layer.bias", torch::full({1}, 0.5)}});
  index({{"layer.weight", "one.safetensors"}, {"layer.bias", "more/two.safetensors"}});
  for (const auto& source : {dir_.path(), path("model.safetensors.index.json")}) {
    Line line;
    load_from_checkpoint(source, line);
    EXPECT_EQ(line.layer->weight.item<float>(), 2.5F);
    EXPECT_EQ(line.layer->bias.item<float>(), 0.5F);
  }
}

TEST_F(ShardedSafetensorsTest, NamesWeightsOfTypesThatLibTorchDoesNotHave) {
  const std::string header =
      R"({"__metadata__":{"tied":"six"},"six":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}})";
  put(path("more/two.safetensors"), static_cast<char>(header.size()) + std::string(7, '\0') + header + "123");
  index({{"a", "one.safetensors"}, {"six", "more/two.safetensors"}});
  const auto weights = read_any_weights(dir_.path());
  EXPECT_EQ(weights.tensors.size(), 2U);
  EXPECT_THAT(weights.unreadable.at("six"), HasSubstr("'F6_E2M3', which LibTorch does not have"));
  EXPECT_TRUE(weights.unreadable.contains("tied"));
  EXPECT_THAT(error(), HasSubstr("tensor 'six' has the dtype 'F6_E2M3'"));
}

TEST_F(ShardedSafetensorsTest, GivesTheWeightsOfACheckpointTheirOwnNames) {
  Checkpoint checkpoint;
  checkpoint.tensors = {{"model.layer.weight", torch::ones(2)}, {"optimizer.0.layer.weight.exp_avg", torch::ones(2)}};
  write_checkpoint(checkpoint, path("last.safetensors"));
  const auto weights = read_any_weights(path("last.safetensors")).tensors;
  ASSERT_THAT(names_in(weights), ElementsAre("layer.weight"));
  auto bytes = content_of(path("last.safetensors"));
  bytes[bytes.size() - 4] ^= 1;  // the optimizer's, which nobody reads here
  put(path("last.safetensors"), bytes);
  EXPECT_EQ(read_any_weights(path("last.safetensors")).tensors.size(), 1U);
  bytes[bytes.size() - 12] ^= 1;
  put(path("last.safetensors"), bytes);
  EXPECT_THAT(refusal([&] { (void)read_any_weights(path("last.safetensors")); }), HasSubstr("checksum differs"));
}

}  // namespace
}  // namespace troupe
