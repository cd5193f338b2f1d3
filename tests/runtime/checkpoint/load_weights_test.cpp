#include "troupe/runtime/checkpoint/load_weights.hpp"

#include "tests/support/python_output.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/modules/layers/tie_weights.hpp"
#include "troupe/runtime/checkpoint/load_from_checkpoint.hpp"
#include "troupe/runtime/weights/pth_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <map>
#include <string>

namespace troupe {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

/// Net of tests/python/write_pth.py.
struct NetOfPython : torch::nn::Module {
  NetOfPython() {
    register_module("embedding", embedding);
    register_module("layer", layer);
    register_module("norm", norm);
    register_module("decoder", decoder);
    tie_weights(*decoder, decoder->weight, embedding->weight);
    eval();
  }
  torch::Tensor forward(const torch::Tensor& x) {
    return norm(layer(x)).matmul(layer->weight).matmul(decoder->weight.t());
  }
  torch::nn::Embedding embedding{5, 4};
  torch::nn::Linear layer{4, 3};
  torch::nn::BatchNorm1d norm{3};
  torch::nn::Linear decoder{torch::nn::LinearOptions(4, 5).bias(false)};
};

using TensorMap = std::map<std::string, torch::Tensor>;

torch::nn::Linear linear_of(float weight) {
  torch::nn::Linear layer(2, 3);
  const torch::NoGradGuard no_gradients;
  layer->weight.fill_(weight);
  layer->bias.zero_();
  return layer;
}

TensorMap linear_weights() {
  return {{"weight", torch::arange(6.0F).reshape({3, 2})}, {"bias", torch::ones(3)}};
}

TEST(LoadWeights, OfPythonGiveTheOutputsOfPython) {
  const TempDir dir;
  python_output("write_pth.py", "'" + dir.path().string() + "' 2>/dev/null");
  const auto results = read_pth(dir / "results.pth");
  const auto x = results.find("x")->tensor(), y = results.find("y")->tensor();
  const torch::NoGradGuard no_gradients;
  for (const char* file : {"net.pth", "lightning.ckpt", "deflated.pth", "protocol4.pth"}) {
    NetOfPython net;
    const auto keys = load_weights(net, dir / file);
    EXPECT_TRUE(keys.missing_keys.empty() && keys.unexpected_keys.empty());
    EXPECT_TRUE(torch::allclose(net.forward(x), y, 1e-5, 1e-5)) << file;
    EXPECT_TRUE(net.decoder->weight.is_same(net.embedding->weight));
  }
  NetOfPython net;
  load_weights(net, dir / "results.pth", {.key = "net"});
  EXPECT_TRUE(torch::allclose(net.forward(x), y, 1e-5, 1e-5));
}

TEST(LoadWeights, TakesEitherNameOfATiedTensor) {
  TensorMap weights;
  NetOfPython from, to;
  for (const auto& item : from.named_parameters()) weights.emplace(item.key(), item.value().detach());
  for (const auto& item : from.named_buffers()) weights.emplace(item.key(), item.value());
  for (const char* name : {"decoder.weight", "embedding.weight"}) {
    auto one = weights;
    one.erase(name);
    load_weights(to, one);
    EXPECT_TRUE(torch::equal(to.decoder->weight, from.embedding->weight));
  }
  weights["decoder.weight"] = weights["decoder.weight"] + 1;
  EXPECT_THAT(refusal([&] { load_weights(to, weights); }),
              HasSubstr("embedding.weight and decoder.weight are one tensor here and two that differ in it"));
}

TEST(LoadWeights, RenamesStripsAndTransposes) {
  auto layer = linear_of(0);
  const auto weights = linear_weights();
  const TensorMap other = {{"model.h.0.w", weights.at("weight").t()},
                           {"model.h.0.b", weights.at("bias")},
                           {"model.head", torch::ones(1)},
                           {"optimizer.x", torch::ones(1)}};
  // A name of which nothing is left does not come back by a later pattern.
  load_weights(*torch::nn::Sequential(layer), weights,
               {.rename = {{"^(other|bias)$", ""}, {"^", "0."}}, .strict = false});
  EXPECT_EQ(layer->bias.abs().sum().item<float>(), 0);
  load_weights(*layer, other,
               {.prefix = "model.",
                .rename = {{R"(^h\.\d+\.)", ""}, {"^w$", "weight"}, {"^(b)$", "$1ias"}, {"^head$", ""}},
                .transpose = {"^weight$"}});
  EXPECT_TRUE(torch::equal(layer->weight, weights.at("weight")));
  EXPECT_TRUE(torch::equal(layer->bias, weights.at("bias")));
}

TEST(LoadWeights, ListWhatDiffersAndChangeNothing) {
  auto layer = linear_of(5);
  TensorMap weights = {{"weight", torch::ones({2, 3})}};
  for (int i = 0; i < 12; ++i) weights.emplace("other" + std::to_string(10 + i), torch::ones(1));
  const auto text = refusal([&] { load_weights(*layer, weights); });
  EXPECT_THAT(text,
              AllOf(HasSubstr("the map of tensors does not fit the module, which is unchanged: "),
                    HasSubstr("1 missing in it: bias; "), HasSubstr("12 left over in it: other10, "),
                    HasSubstr("other19 and 2 more; "),
                    HasSubstr("1 that differs: weight is [2, 3] Float in it and [3, 2] Float here (see transpose)")));
  EXPECT_EQ(layer->weight.sum().item<float>(), 30);
  weights = {{"weight", torch::ones({3, 2})}, {"other", torch::ones(1)}};
  const auto keys = load_weights(*layer, weights, {.strict = false});
  EXPECT_THAT(keys.missing_keys, ElementsAre("bias"));
  EXPECT_THAT(keys.unexpected_keys, ElementsAre("other"));
  EXPECT_EQ(layer->weight.sum().item<float>(), 6);
}

TEST(LoadWeights, ConvertTypesOnRequestOnly) {
  auto layer = linear_of(0);
  auto weights = linear_weights();
  weights["weight"] = weights["weight"].to(torch::kBFloat16);
  EXPECT_THAT(refusal([&] { load_weights(*layer, weights); }), HasSubstr("(convert_dtype = true converts it)"));
  load_weights(*layer, weights, {.convert_dtype = true});
  EXPECT_TRUE(torch::equal(layer->weight, linear_weights().at("weight")));
  weights["weight"] = weights["weight"].to(torch::kComplexFloat);
  EXPECT_THAT(refusal([&] { load_weights(*layer, weights, {.convert_dtype = true}); }),
              HasSubstr("ComplexFloat in it"));
}

TEST(LoadWeights, RefuseAnEmptyPathAndTakeAnEmptyMap) {
  auto layer = linear_of(0);
  const auto refused = [&](const auto& path) { return refusal([&] { load_weights(*layer, path); }); };
  EXPECT_EQ(refused(""), "load_weights: the path of the weights is empty");
  EXPECT_EQ(refused(std::string()), refused(""));
  EXPECT_EQ(refused(std::filesystem::path()), refused(""));
  EXPECT_THAT(refusal([&] { load_weights(*layer, NamedTensors{}); }), HasSubstr("2 missing in it: weight, bias"));
}

TEST(LoadWeights, NamePatternsThatCannotBeMeant) {
  auto layer = linear_of(0);
  const auto refused = [&](const WeightsMapping& mapping) {
    return refusal([&] { load_weights(*layer, linear_weights(), mapping); });
  };
  EXPECT_THAT(refused({.rename = {{"(w", "x"}}}), HasSubstr("the pattern '(w' of rename is no regular expression"));
  EXPECT_THAT(refused({.rename = {{"^.*$", "x"}}}), HasSubstr("'bias' and 'weight' both become 'x'"));
  EXPECT_THAT(refused({.transpose = {"^bias$"}}), HasSubstr("has the shape [3], and is no matrix"));
  EXPECT_THAT(refused({.transpose = {"c_attn"}}), HasSubstr("no name matches the pattern 'c_attn' of transpose"));
  EXPECT_THAT(refused({.prefix = "model."}),
              HasSubstr("no name begins with the prefix 'model.'; the first one is 'bias'"));
}

}  // namespace
}  // namespace troupe
