// What differs between the versions of ONNX's operators: the operators that some have, and the types that they take.
#include "tests/runtime/export/check_exported.hpp"
#include "tests/runtime/export/model_cases.hpp"
#include "tests/support/file_content.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/export/export_request.hpp"
#include "troupe/runtime/export/onnx_lowering.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <set>

namespace troupe {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

const std::vector<int64_t> all_opsets{17, 18, 19, 20, 21, 22, 23};

std::set<std::string> op_types(Net::Function function, const torch::Tensor& x, int64_t opset_version) {
  Net net(std::move(function));
  const auto graph = lower_to_onnx(trace_model(export_request("test", net, x, OnnxOptions{})), {}, opset_version);
  std::set<std::string> types;
  for (const auto& node : graph.nodes) types.insert(node.op_type);
  return types;
}

void expect_from(int64_t first, const std::string& op_type, const Net::Function& function, const torch::Tensor& x) {
  for (const auto opset : all_opsets) {
    const auto types = op_types(function, x, opset);
    EXPECT_EQ(types.contains(op_type), opset >= first) << op_type << " in version " << opset;
    if (opset < first) continue;
    EXPECT_EQ(types.size(), 2) << "besides the Identity of the output, version " << opset;
  }
}

TEST(OnnxVersions, HaveTheirOwnOperatorsForWhatWasWrittenInPartsBefore) {
  const auto x = torch::randn({2, 3, 4, 8});
  expect_from(
      20, "Gelu", [](const torch::Tensor& x) { return torch::gelu(x); }, x);
  expect_from(
      20, "Gelu", [](const torch::Tensor& x) { return at::gelu(x, "tanh"); }, x);
  expect_from(
      23, "RMSNormalization", [](const torch::Tensor& x) { return at::rms_norm(x, {8}); }, x);
  expect_from(
      23, "Attention", [](const torch::Tensor& x) { return at::scaled_dot_product_attention(x, x, x, {}, 0., true); },
      x);
  expect_from(
      17, "LayerNormalization", [](const torch::Tensor& x) { return torch::layer_norm(x, {8}); }, x);
}

// onnxruntime 1.31 computes it with several threads that write to one place.
TEST(OnnxVersions, SumBagsOfEmbeddingsWithoutScatterND) {
  torch::nn::EmbeddingBag bag(torch::nn::EmbeddingBagOptions(7, 5).mode(torch::kMean));
  bag->weight.detach_();
  for (const auto opset : all_opsets) {
    const auto types =
        op_types([&](const torch::Tensor& x) { return bag(x); }, torch::ones({2, 4}, torch::kLong), opset);
    EXPECT_THAT(types, testing::AllOf(Contains("ScatterElements"), Not(Contains("ScatterND")))) << opset;
  }
}

TEST(OnnxVersions, KeepThePartsForDoublesWhichTheOperatorsRound) {
  const auto x = torch::randn({2, 3, 4, 8}, torch::kFloat64);
  EXPECT_THAT(op_types([](const torch::Tensor& x) { return at::rms_norm(x, {8}); }, x, 23),
              Not(Contains("RMSNormalization")));
  EXPECT_THAT(op_types([](const torch::Tensor& x) { return at::scaled_dot_product_attention(x, x, x); }, x, 23),
              Not(Contains("Attention")));
}

void add_attention_masks(ExportCases& add) {
  const auto masked = [&](const std::string& name, const torch::Tensor& mask) {
    add.function("attention_mask_" + name, {2, 5, 8},
                 [=](const torch::Tensor& x) { return at::scaled_dot_product_attention(x, x * 2, x + 1, mask); });
  };
  const auto infinity = std::numeric_limits<float>::infinity();
  masked("keys", torch::tensor({{true, true, false, true, false}}));
  masked("queries", torch::randn({5, 1}));
  masked("heads", torch::randn({2, 5, 5}));
  masked("rows", torch::randn({1, 1, 1, 5}));
  auto hidden = torch::randn({5, 5});
  hidden.select(0, 1).fill_(-infinity);
  masked("hidden_row", hidden);
  add.function("attention_mask_of_input", {2, 5, 8}, [](const torch::Tensor& x) {
    return at::scaled_dot_product_attention(x, x, x, x.narrow(3, 0, 5) > 1);  // some query looks at nothing
  });
  add.function("attention_float_mask_of_input", {2, 5, 8}, [infinity](const torch::Tensor& x) {
    const auto mask = x.narrow(3, 0, 1);
    return at::scaled_dot_product_attention(x, x, x, mask.masked_fill(mask > 0, -infinity));
  });
}

void add_attention_sizes(ExportCases& add) {
  add.function("attention_one_head", {5, 8}, [](const torch::Tensor& x) {
    return at::scaled_dot_product_attention(x, x * 2, x + 1, x.narrow(2, 0, 5)) +
           at::scaled_dot_product_attention(x, x * 2, x + 1, {}, 0., true);
  });
  add.function("attention_five_axes", {2, 3, 5, 8},
               [](const torch::Tensor& x) { return at::scaled_dot_product_attention(x, x * 2, x + 1); });
  add.function("attention_other_lengths", {2, 7, 8}, [](const torch::Tensor& x) {
    const auto few = x.narrow(2, 0, 3);
    return at::scaled_dot_product_attention(few, x, x.narrow(3, 0, 4), {}, 0., true).sum(2, true) +
           at::scaled_dot_product_attention(x, few, few.narrow(3, 0, 4), {}, 0., true, 2.);
  });
  add.function("attention_shared_keys", {6, 5, 8}, [](const torch::Tensor& x) {
    const auto keys = x.narrow(1, 0, 3), one = x.narrow(1, 1, 1);
    return at::scaled_dot_product_attention(x, keys, keys * 2, {}, 0., true, {}, true) +
           at::scaled_dot_product_attention(x, one, one, {}, 0., false, 0.4, true);
  });
  add.function("attention_longer", {2, 5, 8},
               [](const torch::Tensor& x) { return at::scaled_dot_product_attention(x, x, x, {}, 0., true); });
  auto& longer = add.cases.back();
  longer.samples = {{torch::randn({2, 2, 6, 8})}, {torch::randn({3, 2, 4, 8})}, {torch::randn({1, 2, 1, 8})}};
  longer.options.dynamic_axes = {{"input", {{2, "time"}}}};
}

/// Rotary embeddings as models write them (Su et al. 2021, https://arxiv.org/abs/2104.09864), halves and pairs.
void add_rotary(ExportCases& add) {
  const auto angles = torch::arange(7).unsqueeze(1) * torch::tensor({1.f, 0.1f, 0.01f});
  const auto cos = angles.cos(), sin = angles.sin();
  add.function("rotary_halves", {2, 7, 6}, [=](const torch::Tensor& x) {
    const auto time = x.size(2);
    const auto wide = [&](const torch::Tensor& table) { return torch::cat({table, table}, 1).slice(0, 0, time); };
    const auto parts = x.chunk(2, -1);
    return x * wide(cos) + torch::cat({-parts[1], parts[0]}, -1) * wide(sin);
  });
  add.function("rotary_pairs", {2, 7, 6}, [=](const torch::Tensor& x) {
    const auto time = x.size(2);
    const auto even = x.slice(3, 0, 6, 2), odd = x.slice(3, 1, 6, 2);
    const auto c = cos.slice(0, 0, time), s = sin.slice(0, 0, time);
    return torch::stack({even * c - odd * s, even * s + odd * c}, -1).flatten(3);
  });
  for (auto* one : {&add.cases[add.cases.size() - 2], &add.cases.back()}) {
    one->samples = {{torch::randn({2, 2, 7, 6})}, {torch::randn({3, 2, 4, 6})}, {torch::randn({1, 2, 1, 6})}};
    one->options.dynamic_axes = {{"input", {{2, "time"}}}};
  }
}

TEST(OnnxVersions, GiveEqualOutputs) {
  torch::manual_seed(4);
  ExportCases add;
  add.function("gelu", {6}, [](const torch::Tensor& x) { return torch::gelu(x * 3) + at::gelu(x * 3, "tanh"); });
  add.function("rms_norm", {4, 6}, [](const torch::Tensor& x) {
    const auto weight = torch::linspace(0.5, 2, 6);
    return at::rms_norm(x, {6}, weight, 1e-5) + at::rms_norm(x, {4, 6}) + at::rms_norm(x, {6}, weight * 2);
  });
  add.function("rms_norm_double", {6}, [](const torch::Tensor& x) {
    return at::rms_norm(x.to(torch::kFloat64), {6}, torch::linspace(0.5, 2, 6).to(torch::kFloat64));
  });
  add_attention_masks(add);
  add_attention_sizes(add);
  add_rotary(add);
  EXPECT_EQ(problems_of(add.cases, all_opsets), "");
}

TEST(OnnxVersions, GiveEqualOutputsForAnMlpACnnAndAGpt) {
  std::vector<ExportCase> three;
  for (const auto& one : model_cases()) {
    if (one.name == "autoencoder" || one.name == "digits" || one.name == "example_gpt") three.push_back(one);
  }
  EXPECT_EQ(three.size(), 3);
  EXPECT_EQ(problems_of(three, all_opsets), "");
}

TEST(OnnxVersions, AreWrittenWithTheirVersionOfTheFormat) {
  const TempDir dir;
  const std::map<int64_t, char> ir_versions{{17, 8}, {18, 8}, {19, 9}, {20, 9}, {21, 10}, {22, 10}, {23, 11}};
  for (const auto& [opset, ir_version] : ir_versions) {
    Net net([](const torch::Tensor& x) { return x + 1; });
    net.to_onnx(dir / "model.onnx", torch::ones({2, 4}), {.opset_version = opset});
    // The first field of the model is number 1, a varint.
    EXPECT_THAT(content_of(dir / "model.onnx"), testing::StartsWith(std::string("\x08") + ir_version)) << opset;
  }
}

/// What the export of a convolution in `dtype` says: refused, or warned of.
std::string convolution_in(torch::ScalarType dtype, int64_t opset_version) {
  const TempDir dir;
  torch::nn::Conv1d layer(2, 3, 1);
  Net net([&](const torch::Tensor& x) { return layer(x); }, {layer.ptr()});
  net.to(dtype);
  testing::internal::CaptureStderr();
  const auto text = refusal([&] {
    net.to_onnx(dir / "model.onnx", torch::ones({2, 2, 4}, dtype), {.opset_version = opset_version});
  });
  const auto warnings = testing::internal::GetCapturedStderr();
  return text == "accepted" ? warnings : text;
}

TEST(OnnxVersions, AreRefusedIfTheirOperatorsTakeNoBfloat16) {
  const auto text = convolution_in(torch::kBFloat16, 20);
  EXPECT_THAT(text, HasSubstr("aten::_convolution has no mapping to ONNX here: ONNX's Conv takes bfloat16 from "
                              "opset_version 22 on; in the module 'layer0', node "));
  EXPECT_THAT(refusal([] {
                op_types([](const torch::Tensor& x) { return std::get<0>(x.topk(2)); },
                         torch::ones({2, 4}, torch::kBFloat16), 23);
              }),
              HasSubstr("ONNX's TopK takes no bfloat16"));
}

TEST(OnnxVersions, TakeWholeNumbersOfSizesBesideBfloat16) {
  const auto text = refusal([] {
    testing::internal::CaptureStderr();
    op_types([](const torch::Tensor& x) { return x.unfold(1, 2, 1); }, torch::ones({2, 4}, torch::kBFloat16), 22);
  });
  testing::internal::GetCapturedStderr();
  EXPECT_EQ(text, "accepted");
}

TEST(OnnxVersions, WarnThatOnnxruntimeRunsNoBfloat16) {
  EXPECT_THAT(convolution_in(torch::kBFloat16, 22),
              testing::AllOf(HasSubstr("troupe: warning: to_onnx: "), HasSubstr("model.onnx computes in bfloat16"),
                             HasSubstr("to(torch::kFloat32) before the export")));
  EXPECT_EQ(convolution_in(torch::kFloat32, 20), "");
}

}  // namespace
}  // namespace troupe
