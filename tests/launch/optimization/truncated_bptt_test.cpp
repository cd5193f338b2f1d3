// Truncated back-propagation through time.
#include "tests/launch/optimization/optimization.hpp"

namespace troupe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class RecurrentInChunks : public Module {
 public:
  RecurrentInChunks() {
    lstm_ = register_module("lstm", torch::nn::LSTM(torch::nn::LSTMOptions(1, 3).batch_first(true)));
    truncated_bptt_steps = 2;
  }
  StepOutput training_step(const Batch& part, int64_t, const StepOutput& hiddens) override {
    std::optional<std::tuple<torch::Tensor, torch::Tensor>> state;
    if (!hiddens.empty()) {
      EXPECT_FALSE(hiddens["hidden_c"].requires_grad());
      state = {hiddens["hidden_h"], hiddens["hidden_c"]};
    }
    lengths.push_back(part[0].size(1));
    begins_anew.push_back(hiddens.empty());
    const auto [out, next] = lstm_(part[0], state);
    return {{"loss", out.square().mean()}, {"hidden_h", std::get<0>(next)}, {"hidden_c", std::get<1>(next)}};
  }
  Optimizers configure_optimizers() override { return torch::optim::SGD(parameters(), 0.1); }
  EpochControl on_train_batch_start(const Batch& batch, int64_t) override {
    starts.push_back(batch[0].size(1));
    return EpochControl::proceed;
  }
  void on_train_batch_end(const StepOutput&, const Batch& batch, int64_t) override { ends.push_back(batch[0].size(1)); }
  std::vector<int64_t> lengths, starts, ends;
  std::vector<bool> begins_anew;

 private:
  torch::nn::LSTM lstm_{nullptr};
};

TEST_F(Optimization, PartsOfASequenceAreSteppedOneByOneWithinOneBatch) {
  auto options = quiet(dir_);
  options.max_epochs = 1;
  Trainer trainer(options);
  const auto data = std::make_shared<TensorDataset>(torch::linspace(0, 1, 20).reshape({4, 5, 1}));
  const auto model = trainer.fit(std::make_shared<RecurrentInChunks>(), DataLoader(data, {.batch_size = 2}));
  EXPECT_THAT(model->lengths, ElementsAre(2, 2, 1, 2, 2, 1));
  EXPECT_THAT(model->begins_anew, ElementsAre(true, false, false, true, false, false));
  EXPECT_THAT(model->starts, ElementsAre(5, 5));
  EXPECT_THAT(model->ends, ElementsAre(5, 5));
  EXPECT_EQ(trainer.global_step(), 6);
  options.accumulate_grad_batches = 2;
  Trainer accumulating(options);
  EXPECT_THAT(
      error_of([&] { accumulating.fit(std::make_shared<RecurrentInChunks>(), DataLoader(data, {.batch_size = 2})); }),
      HasSubstr("accumulate_grad_batches = 2"));
}

}  // namespace
}  // namespace troupe
