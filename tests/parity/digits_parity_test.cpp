// The network of examples/digits, without dropout, on real digits: the losses of 200 steps in float32 are those of a
// network written in PyTorch, to 1e-4.
#include "examples/digits/digits.hpp"

#include "tests/parity/parity.hpp"

namespace troupe {
namespace {

class Recorded : public Digits {
 public:
  using Digits::Digits;
  void on_train_batch_end(const StepOutput& output, const Batch&, int64_t) override { losses.push_back(output.loss()); }
  std::vector<torch::Tensor> losses;
};

TEST(DigitsParity, TwoHundredLossesArePyTorchs) {
  const auto reference = pytorch_reference("digits.py");
  const auto model = std::make_shared<Recorded>(DigitsOptions{.dropout = 0});
  start_from(*model, reference);
  Trainer trainer(bare(Precision::float32, {.max_epochs = 2}));
  trainer.fit(model, DataLoader(to_dataset({reference.at("images"), reference.at("labels")}), {.batch_size = 32}));
  ASSERT_EQ(trainer.global_step(), 200);
  expect_losses(model->losses, reference, "digits", 1e-4);
  EXPECT_LT(model->losses.back().item<double>(), 0.5 * model->losses.front().item<double>()) << "nothing was learned";
}

}  // namespace
}  // namespace troupe
