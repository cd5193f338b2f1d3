// The GPT of examples/gpt, without dropout, on the bytes of the licence: the losses of 200 steps in float32 are those
// of a GPT written in PyTorch, to 5e-4, with its groups of parameters, its warm-up and its cosine.
#include "examples/gpt/gpt.hpp"

#include "tests/parity/parity.hpp"

namespace troupe {
namespace {

class RecordedGpt : public Gpt {
 public:
  using Gpt::Gpt;
  void on_train_batch_end(const StepOutput& output, const Batch&, int64_t) override { losses.push_back(output.loss()); }
  std::vector<torch::Tensor> losses;
};

TEST(GptParity, TwoHundredLossesArePyTorchs) {
  const auto reference = pytorch_reference("gpt.py");
  const auto model = std::make_shared<RecordedGpt>(
      GptOptions{.layers = 2, .heads = 2, .width = 32, .context = 32, .dropout = 0, .warmup_steps = 50});
  start_from(*model, reference);
  const auto windows =
      std::make_shared<TensorDataset>(Batch{{"input", reference.at("input")}, {"target", reference.at("target")}});
  Trainer trainer(bare(Precision::float32, {.max_steps = 200}));
  trainer.fit(model, DataLoader(windows, {.batch_size = 8}));
  ASSERT_EQ(trainer.global_step(), 200);
  expect_losses(model->losses, reference, "gpt", 5e-4);
  EXPECT_LT(model->losses.back().item<double>(), 0.7 * model->losses.front().item<double>()) << "nothing was learned";
}

}  // namespace
}  // namespace troupe
