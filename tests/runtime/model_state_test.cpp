#include "troupe/runtime/checkpoint/model_state.hpp"
#include "troupe/modules/failure.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>
#include <torch/utils.h>

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

torch::nn::Sequential net(int64_t width = 4) {
  return torch::nn::Sequential(torch::nn::Linear(3, width), torch::nn::BatchNorm1d(width));
}

std::string error_of(const Checkpoint& checkpoint, torch::nn::Module& module, bool strict = true) {
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
  EXPECT_THAT(error_of(checkpoint, *to),
              AllOf(HasSubstr("the checkpoint belongs to another model: missing in the checkpoint: 0.weight"),
                    HasSubstr("left over in the checkpoint: \\x01head.weight"),
                    HasSubstr("0.bias is [4] Float in the checkpoint and [5] Float here"),
                    testing::Not(HasSubstr("optimizer"))));
  EXPECT_TRUE(torch::equal(before, to->parameters()[3]));
}

TEST(ModelState, WithoutStrictOnlyShapesMustFit) {
  auto from = net(), to = net();
  Checkpoint checkpoint;
  append_model_state(checkpoint, *from);
  checkpoint.tensors[0].first = "model.gone";
  load_model_state(checkpoint, *to, false);
  EXPECT_TRUE(torch::equal(from->parameters()[1], to->parameters()[1]));
  EXPECT_THAT(error_of(checkpoint, *net(6), false), HasSubstr("0.bias is [4] Float"));
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
  EXPECT_THAT(error_of(checkpoint, *model), HasSubstr("0.bias is [4] Long in the checkpoint and [4] Float here"));
}

TEST(ModelState, ACheckpointWithoutWeightsNamesWhatIsMissing) {
  EXPECT_THAT(error_of({}, *net()), HasSubstr("missing in the checkpoint: 0.weight, 0.bias"));
}

}  // namespace
}  // namespace troupe
