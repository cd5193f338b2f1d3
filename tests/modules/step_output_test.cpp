#include "troupe/modules/step_output.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace troupe {
namespace {

TEST(StepOutput, IsALossADictionaryOrNothing) {
  const StepOutput loss = torch::tensor(2.0);
  EXPECT_EQ(loss.loss().item<double>(), 2.0);
  const StepOutput more{{"loss", torch::tensor(1.0)}, {"pred", torch::ones({3})}};
  EXPECT_EQ(more["pred"].numel(), 3);
  EXPECT_TRUE(StepOutput().empty());
  EXPECT_FALSE(StepOutput(torch::Tensor()).empty()) << "an undefined tensor is not nothing";
}

TEST(StepOutput, NamesItsKeysWhenAskedForAnother) {
  const StepOutput output{{"loss", torch::tensor(1.0)}, {"pred", torch::ones({3})}};
  try {
    output["prediction"];
    FAIL() << "an unknown key was accepted";
  } catch (const std::out_of_range& error) {
    EXPECT_STREQ(error.what(), "no 'prediction' in the step's output; it holds: loss, pred");
  }
}

TEST(StepOutput, DetachedKeepsNoGraph) {
  const auto weight = torch::ones({2}, torch::requires_grad());
  const StepOutput output = (weight * 2).sum();
  ASSERT_TRUE(output.loss().requires_grad());
  EXPECT_FALSE(output.detach().loss().requires_grad());
}

TEST(EpochOutputs, IterateOverOneLoaderAndSplitSeveral) {
  EpochOutputs outputs;
  EXPECT_TRUE(outputs.empty());
  outputs.add(0, torch::tensor(1.0));
  outputs.add(0, torch::tensor(2.0));
  double sum = 0;
  for (const auto& output : outputs) sum += output.loss().item<double>();
  EXPECT_EQ(sum, 3.0);
  outputs.add(1, torch::tensor(4.0));
  EXPECT_THROW(outputs.begin(), std::logic_error);
  ASSERT_EQ(outputs.by_loader().size(), 2u);
  EXPECT_EQ(outputs.size(), 3u);
  EXPECT_EQ(outputs.bytes(), 12u);
}

}  // namespace
}  // namespace troupe
