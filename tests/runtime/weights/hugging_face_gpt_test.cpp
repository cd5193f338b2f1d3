// The GPT of examples/gpt and the GPT-2 of transformers exchange folders, and have the same logits.
#include "examples/gpt/gpt.hpp"
#include "tests/support/file_content.hpp"
#include "tests/support/python_output.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace troupe {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

class HuggingFaceGpt : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    made_ = new TempDir;
    python_output("hugging_face_gpt.py", "make '" + made_->path().string() + "' 2>/dev/null");
  }
  static void TearDownTestSuite() {
    delete made_;
    made_ = nullptr;
  }

  static fs::path made(const std::string& name) { return *made_ / name; }
  static torch::Tensor result(const char* name) {
    return ShardedSafetensors(made("results.safetensors"), TensorMemory::copied).read(name);
  }
  static torch::Tensor logits(Gpt& model) {
    const torch::NoGradGuard no_gradients;
    model.eval();
    return model.forward(result("tokens"));
  }
  /// Why a copy of the folder is refused after `change`, with `options`.
  std::string error(const char* name, const std::function<void(const fs::path&)>& change, GptOptions options = {}) {
    const auto copy = dir_ / "copy";
    fs::remove_all(copy);
    fs::copy(made(name), copy, fs::copy_options::recursive);
    change(copy);
    options.from_pretrained = copy;
    return refusal([&] { Gpt{options}; });
  }
  std::string error_of_config(const nlohmann::json& patch) {
    return error("one", [&](const fs::path& folder) {
      auto config = nlohmann::json::parse(content_of(folder / "config.json"));
      config.merge_patch(patch);
      put(folder / "config.json", config.dump());
    });
  }

  TempDir dir_;

 private:
  static inline TempDir* made_ = nullptr;
};

double largest_logit_difference(const torch::Tensor& a, const torch::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

TEST_F(HuggingFaceGpt, HasTheLogitsOfTransformers) {
  EXPECT_GT(largest_logit_difference(result("one"), result("shards")), 1);
  for (const char* name : {"one", "shards"}) {
    Gpt model({.from_pretrained = made(name)});
    EXPECT_EQ(model.options().vocabulary, 96);
    EXPECT_EQ(model.options().activation, GptActivation::gelu_new);
    EXPECT_TRUE(model.options().from_pretrained.empty()) << "a checkpoint would need the folder";
    EXPECT_LT(largest_logit_difference(logits(model), result(name)), 1e-5) << name;
  }
}

TEST_F(HuggingFaceGpt, WritesWhatTransformersLoads) {
  const GptOptions whole{.layers = 3, .heads = 4, .width = 32, .context = 16, .vocabulary = 96};
  auto in_shards = whole;
  in_shards.activation = GptActivation::gelu_new, in_shards.max_shard_bytes = 40'000;
  std::map<std::string, std::shared_ptr<Gpt>> models;
  for (const auto& [name, options] : {std::pair("whole", whole), std::pair("in_shards", in_shards)}) {
    const auto model = models[name] = std::make_shared<Gpt>(options);
    const torch::NoGradGuard no_gradients;
    for (auto& each : model->parameters()) each.add_(torch::randn_like(each), 0.2);
    gpt::save_pretrained(*model, whole, dir_ / name);
    gpt::save_pretrained(*model, options, dir_ / name);  // in its place
    EXPECT_EQ(fs::exists(dir_ / name / "model.safetensors"), name == std::string("whole"));
    EXPECT_EQ(fs::exists(dir_ / name / "model.safetensors.index.json"), name == std::string("in_shards"));
  }
  const auto file = dir_ / "results.safetensors";
  fs::copy_file(made("results.safetensors"), file);
  EXPECT_EQ(python_output("hugging_face_gpt.py", "logits '" + file.string() + "' whole in_shards 2>/dev/null"),
            "[] [] []\n[] [] []\n");
  for (const auto& [name, model] : models) {
    EXPECT_LT(largest_logit_difference(logits(*model), ShardedSafetensors(file).read(name)), 1e-5) << name;
    Gpt again({.from_pretrained = dir_ / name});
    EXPECT_EQ(largest_logit_difference(logits(*model), logits(again)), 0) << name;
  }
}

TEST_F(HuggingFaceGpt, ReadsFoldersOfTorchSaveAlone) {
  const auto weights = ShardedSafetensors(made("one")).read_all();
  const auto half = weights.begin() + static_cast<std::ptrdiff_t>(weights.size() / 2);
  const NamedTensors first(weights.begin(), half), second(half, weights.end());
  for (const char* name : {"bin", "bins"}) {
    fs::create_directory(dir_ / name);
    fs::copy_file(made("one/config.json"), dir_ / name / "config.json");
  }
  write_pth(weights, dir_ / "bin/pytorch_model.bin");
  nlohmann::json map;
  for (const auto& [name, tensor] : first) map[name] = "pytorch_model-00001-of-00002.bin";
  for (const auto& [name, tensor] : second) map[name] = "pytorch_model-00002-of-00002.bin";
  write_pth(first, dir_ / "bins/pytorch_model-00001-of-00002.bin");
  write_pth(second, dir_ / "bins/pytorch_model-00002-of-00002.bin");
  put(dir_ / "bins/pytorch_model.bin.index.json", nlohmann::json{{"weight_map", map}}.dump());
  for (const char* name : {"bin", "bins"}) {
    Gpt model({.from_pretrained = dir_ / name});
    EXPECT_LT(largest_logit_difference(logits(model), result("one")), 1e-5) << name;
  }
  EXPECT_THAT(refusal([&] { ShardedSafetensors{dir_ / "bin"}; }),
              HasSubstr("load_weights reads its pytorch_model.bin, and troupe checkpoint convert"));
  write_pth(first, dir_ / "bins/pytorch_model-00002-of-00002.bin");
  EXPECT_THAT(refusal([&] { (void)read_any_weights(dir_ / "bins"); }),
              AllOf(HasSubstr("it says that 'pytorch_model-00002-of-00002.bin' has the tensor"),
                    HasSubstr("which is not there; missing in all: ")));
  fs::remove(dir_ / "bins/pytorch_model-00002-of-00002.bin");
  EXPECT_THAT(refusal([&] { (void)read_any_weights(dir_ / "bins"); }), HasSubstr("-00002-of-00002.bin' is missing"));
  map[second[0].first] = "../x.bin";
  put(dir_ / "bins/pytorch_model.bin.index.json", nlohmann::json{{"weight_map", map}}.dump());
  EXPECT_THAT(refusal([&] { (void)read_any_weights(dir_ / "bins"); }), HasSubstr("may leave the folder"));
}

TEST_F(HuggingFaceGpt, WritesTheTokenIdsThatItHasRead) {
  const auto ids_in = [&](const char* name) {
    const auto config = nlohmann::json::parse(content_of(dir_ / name / "config.json"));
    return std::vector<nlohmann::json>{config.at("bos_token_id"), config.at("eos_token_id"),
                                       config.value("pad_token_id", nlohmann::json())};
  };
  fs::copy(made("one"), dir_ / "given", fs::copy_options::recursive);
  auto config = nlohmann::json::parse(content_of(dir_ / "given/config.json"));
  config.merge_patch({{"bos_token_id", 3}, {"eos_token_id", 5}, {"pad_token_id", 7}});
  put(dir_ / "given/config.json", config.dump());
  const auto tuned = [&](Gpt& model, const char* name) {
    nlohmann::json checkpoint;
    model.on_save_checkpoint(checkpoint);
    Gpt again({.layers = 1, .heads = 1, .width = 4, .vocabulary = 8, .save_pretrained = dir_ / name});
    again.on_load_checkpoint(checkpoint);
    again.on_fit_end();
  };
  Gpt model({.from_pretrained = dir_ / "given"}), fresh({.width = 8, .vocabulary = 8});
  tuned(model, "tuned");
  EXPECT_THAT(ids_in("tuned"), testing::ElementsAre(3, 5, 7));
  tuned(fresh, "fresh");
  EXPECT_THAT(ids_in("fresh"), testing::ElementsAre(nullptr, nullptr, nullptr));
}

TEST_F(HuggingFaceGpt, NamesAFileThatIsGivenAsAFolder) {
  const auto file = dir_ / "file";
  put(file, "");
  EXPECT_THAT(refusal([&] { Gpt({.heads = 1, .width = 4, .save_pretrained = file}).setup(Stage::fit); }),
              HasSubstr("model.save_pretrained = " + file.string() + " cannot be a folder: it is a file"));
  EXPECT_THAT(refusal([&] { Gpt({.from_pretrained = made("one/model.safetensors")}); }),
              HasSubstr("model.safetensors is a file; name the folder"));
  EXPECT_THAT(refusal([&] { Gpt({.from_pretrained = made("oen")}); }),
              HasSubstr("did you mean '" + made("one").string()));
}

TEST_F(HuggingFaceGpt, LoadsTheNamesOfOpenAisFilesInBfloat16) {
  NamedTensors old;
  for (auto& [name, tensor] : ShardedSafetensors(made("one")).read_all()) {
    old.emplace_back(name.substr(std::string("transformer.").size()), tensor.to(torch::kBFloat16));
  }
  for (const char* layer : {"h.0.attn.bias", "h.1.attn.bias"}) old.emplace_back(layer, torch::ones({1, 1, 48, 48}));
  write_sharded_safetensors(old, dir_ / "old");
  fs::copy_file(made("one/config.json"), dir_ / "old/config.json");
  Gpt model({.from_pretrained = dir_ / "old"});
  const auto scale = result("one").abs().max().item<double>();
  EXPECT_LT(largest_logit_difference(logits(model), result("one")), 0.05 * scale);
}

TEST_F(HuggingFaceGpt, RefusesWhatDoesNotFit) {
  const auto keep = [](const fs::path&) {};
  EXPECT_THAT(error_of_config({{"vocab_size", 50257}}),
              HasSubstr("says that wte.weight is [50257, 32], but in model.safetensors it is [96, 32]"));
  EXPECT_THAT(error_of_config({{"n_embd", 1'000'000'000}}), HasSubstr("says that wte.weight is [96, 1000000000]"));
  EXPECT_THAT(error_of_config({{"n_layer", 1'000'000'000}}), HasSubstr("h.2.ln_1.weight is [32], but in"));
  EXPECT_THAT(error_of_config({{"n_layer", 1}}),
              AllOf(HasSubstr("does not fit the module, which is unchanged: 12 left over in it: transformer.h.1."),
                    HasSubstr(" and 2 more")));
  EXPECT_THAT(error_of_config({{"n_head", 3}}), HasSubstr("model.heads = 3 does not divide model.width = 32; 2 does"));
  EXPECT_THAT(error_of_config({{"n_head", "two"}}), HasSubstr(R"(has n_head = "two"; it is a whole number)"));
  EXPECT_THAT(error_of_config({{"n_embd", 0}}), HasSubstr("has n_embd = 0; it is a whole number"));
  EXPECT_THAT(error_of_config({{"model_type", "llama"}}),
              HasSubstr(R"(has model_type = "llama"; the GPT here knows "gpt2")"));
  EXPECT_THAT(error_of_config({{"activation_function", "gelu_old"}}), HasSubstr("activation_function"));
  EXPECT_THAT(error_of_config({{"n_inner", 100}}), HasSubstr("has n_inner = 100; the GPT here knows 128"));
  EXPECT_THAT(error_of_config({{"tie_word_embeddings", false}}), HasSubstr("has tie_word_embeddings = false"));
  EXPECT_THAT(error("one", keep, {.layers = 5}),
              AllOf(HasSubstr("model.layers = 5, but n_layer in"), HasSubstr("is 2; leave the option out")));
  EXPECT_THAT(error("one", [](const fs::path& folder) { put(folder / "config.json", "[1"); }),
              HasSubstr("config.json is not an object of JSON"));
  EXPECT_THAT(error("one", [](const fs::path& folder) { fs::remove(folder / "config.json"); }),
              HasSubstr("config.json"));
  EXPECT_THAT(error("shards", [](const fs::path& folder) { fs::remove(folder / "model-00002-of-00004.safetensors"); }),
              HasSubstr("model-00002-of-00004.safetensors"));
}

}  // namespace
}  // namespace troupe
