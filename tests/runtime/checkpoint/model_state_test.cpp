#include "troupe/runtime/checkpoint/model_state.hpp"
#include "troupe/base/failure.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>
#include <torch/torch.h>

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

torch::nn::Sequential net(int64_t width = 4) {
  return torch::nn::Sequential(torch::nn::Linear(3, width), torch::nn::BatchNorm1d(width));
}

std::string loading_error(const Checkpoint& checkpoint, torch::nn::Module& module, bool strict = true) {
  try {
    load_model_state(checkpoint, module, strict);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

TEST(ModelState, HoldsParametersAndBuffersUnderTheirNames) {
  Checkpoint checkpoint;
  append_model_state(checkpoint, *net());
  std::vector<std::string> names;
  for (const auto& [name, tensor] : checkpoint.tensors) names.push_back(name);
  EXPECT_THAT(names, testing::UnorderedElementsAre("model.0.weight", "model.0.bias", "model.1.weight", "model.1.bias",
                                                   "model.1.running_mean", "model.1.running_var",
                                                   "model.1.num_batches_tracked"));
}

TEST(ModelState, ComesBackInPlace) {
  auto from = net(), to = net();
  from->forward(torch::randn({5, 3}));  // moves the buffers
  Checkpoint checkpoint;
  append_model_state(checkpoint, *from);
  const auto* address = to->parameters()[0].data_ptr();
  load_model_state(checkpoint, *to, true);
  EXPECT_EQ(to->parameters()[0].data_ptr(), address);
  EXPECT_TRUE(to->parameters()[0].requires_grad());
  for (const auto& item : from->named_parameters()) {
    EXPECT_TRUE(torch::equal(item.value(), to->named_parameters()[item.key()])) << item.key();
  }
  for (const auto& item : from->named_buffers()) {
    EXPECT_TRUE(torch::equal(item.value(), to->named_buffers()[item.key()])) << item.key();
  }
}

TEST(ModelState, AnotherModelIsRefusedWithAllThatDiffersAndNothingChanged) {
  auto from = net(4), to = net(5);
  Checkpoint checkpoint;
  append_model_state(checkpoint, *from);
  checkpoint.tensors[0].first = "model.\x01head.weight";
  checkpoint.tensors.emplace_back("optimizer.0.x.step", torch::zeros({}));
  const auto before = to->parameters()[3].clone();
  EXPECT_THAT(loading_error(checkpoint, *to),
              AllOf(HasSubstr("the checkpoint belongs to another model: 1 missing in it: 0.weight; "),
                    HasSubstr("1 left over in it: \\x01head.weight; "),
                    HasSubstr("0.bias is [4] Float in it and [5] Float here"), testing::Not(HasSubstr("optimizer"))));
  EXPECT_TRUE(torch::equal(before, to->parameters()[3]));
}

TEST(ModelState, OfManyDifferencesTheFirstTenAreNamedAndAllCounted) {
  torch::nn::Sequential from, to;
  for (int i = 0; i < 12; ++i) from->push_back(torch::nn::Linear(torch::nn::LinearOptions(1, 2).bias(false)));
  for (int i = 0; i < 12; ++i) to->push_back(torch::nn::Linear(torch::nn::LinearOptions(1, 3).bias(false)));
  Checkpoint checkpoint;
  append_model_state(checkpoint, *from);
  for (int i = 0; i < 30; ++i) checkpoint.tensors.emplace_back("model.more" + std::to_string(100 + i), torch::ones(1));
  const auto text = loading_error(checkpoint, *to);
  EXPECT_THAT(text, AllOf(HasSubstr("30 left over in it: more100, more101, "), HasSubstr("more109 and 20 more; "),
                          HasSubstr("12 that differ: 0.weight is [2, 1] Float in it and [3, 1] Float here, "),
                          HasSubstr("9.weight is [2, 1] Float in it and [3, 1] Float here and 2 more")));
  EXPECT_THAT(text, testing::Not(testing::AnyOf(HasSubstr("more110"), HasSubstr("10.weight"))));
}

TEST(ModelState, WithoutStrictOnlyShapesMustFit) {
  auto from = net(), to = net();
  Checkpoint checkpoint;
  append_model_state(checkpoint, *from);
  checkpoint.tensors[0].first = "model.gone";
  load_model_state(checkpoint, *to, false);
  EXPECT_TRUE(torch::equal(from->parameters()[1], to->parameters()[1]));
  EXPECT_THAT(loading_error(checkpoint, *net(6), false), HasSubstr("0.bias is [4] Float"));
}

TEST(ModelState, FloatingTypesAreConvertedAndOthersRefused) {
  auto model = net();
  Checkpoint checkpoint;
  append_model_state(checkpoint, *model);
  for (auto& [name, tensor] : checkpoint.tensors) {
    if (name == "model.0.bias") tensor = torch::full({4}, 0.5, torch::kFloat64);
  }
  load_model_state(checkpoint, *model, true);
  EXPECT_EQ(model->named_parameters()["0.bias"][0].item<float>(), 0.5f);
  for (auto& [name, tensor] : checkpoint.tensors) {
    if (name == "model.0.bias") tensor = torch::ones({4}, torch::kInt64);
  }
  EXPECT_THAT(loading_error(checkpoint, *model), HasSubstr("0.bias is [4] Long in it and [4] Float here"));
}

TEST(ModelState, ACheckpointWithoutWeightsNamesWhatIsMissing) {
  EXPECT_THAT(loading_error({}, *net()), HasSubstr("7 missing in it: 0.weight, 0.bias, "));
}

// --- What other programs write, and what a module may hold ---

class Holder : public torch::nn::Module {
 public:
  explicit Holder(const torch::Tensor& b) {
    weight = register_parameter("w", torch::zeros(2));
    buffer = register_buffer("b", b);
  }
  torch::Tensor weight, buffer;
};

TEST(ModelState, ATensorThatCannotBeReadIsMissedOnlyByAModelThatHasIt) {
  Checkpoint checkpoint;
  checkpoint.tensors = {{"model.w", torch::ones(2)}};
  checkpoint.unreadable = {{"model.ids", "has the unknown dtype 'F4'"}};
  torch::nn::Module module;
  module.register_parameter("w", torch::zeros(2));
  EXPECT_THAT(loading_error(checkpoint, module), HasSubstr("1 left over in it: ids"));
  const auto keys = load_model_state(checkpoint, module, false);
  EXPECT_EQ(keys.unexpected_keys, std::vector<std::string>{"ids"});
  EXPECT_EQ(module.named_parameters()["w"].sum().item<float>(), 2);
  module.register_buffer("ids", torch::zeros(1));
  EXPECT_THAT(loading_error(checkpoint, module, false), HasSubstr("1 that differs: ids has the unknown dtype 'F4'"));
}

TEST(ModelState, ComesBackIntoABufferWhoseElementsSharedMemory) {
  Holder module(torch::full({1, 3}, 0.5).expand({2, 3}));
  Checkpoint checkpoint;
  checkpoint.tensors = {{"model.w", torch::ones(2)}, {"model.b", torch::arange(6.F).reshape({2, 3})}};
  load_model_state(checkpoint, module, true);
  EXPECT_TRUE(torch::equal(module.buffer, torch::arange(6.F).reshape({2, 3}))) << "the member is the registered one";
  EXPECT_TRUE(torch::equal(module.named_buffers()["b"], module.buffer));
}

TEST(ModelState, ElementsThatShareMemoryGetTheirOwnAndKeepTheirValues) {
  Holder module(torch::tensor({1.F, 2.F}).expand({3, 2}));
  separate_elements(module);
  module.buffer.add_(1);
  EXPECT_TRUE(torch::equal(module.buffer, torch::tensor({{2.F, 3.F}, {2.F, 3.F}, {2.F, 3.F}})));
  const auto* address = module.weight.const_data_ptr();
  separate_elements(module);
  EXPECT_EQ(module.weight.const_data_ptr(), address);
}

TEST(ModelState, WhatCannotBeStoredIsNamed) {
  const auto error = [](const torch::Tensor& buffer) {
    try {
      check_model_storable(Holder(buffer));
    } catch (const UsageError& refusal) {
      return std::string(refusal.what());
    }
    return std::string();
  };
  EXPECT_EQ(error(torch::ones(2, torch::kComplexFloat)), "");
  EXPECT_EQ(error(torch::ones(2).to(torch::kFloat8_e4m3fn)), "");
  EXPECT_EQ(error(torch::ones(1).expand(5)), "");
  EXPECT_THAT(error(torch::ones(2, torch::kComplexDouble)), AllOf(HasSubstr("'model.b'"), HasSubstr("ComplexDouble")));
  EXPECT_THAT(error(torch::eye(2).to_sparse()), AllOf(HasSubstr("'model.b'"), HasSubstr("Sparse")));
  EXPECT_THAT(error(torch::quantize_per_tensor(torch::ones(1), 0.1, 0, torch::kQInt8)),
              AllOf(HasSubstr("'model.b'"), HasSubstr("QInt8")));
}

TEST(ModelState, AComplexTensorDoesNotBecomeARealOne) {
  Holder module(torch::zeros(2));
  Checkpoint checkpoint;
  checkpoint.tensors = {{"model.w", torch::ones(2)}, {"model.b", torch::ones(2, torch::kComplexFloat)}};
  EXPECT_THAT(loading_error(checkpoint, module), HasSubstr("b is [2] ComplexFloat in it and [2] Float here"));
}

}  // namespace
}  // namespace troupe
