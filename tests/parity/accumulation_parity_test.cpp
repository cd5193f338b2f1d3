// 50 steps of accumulated and of clipped gradients against PyTorch's: losses and weights to 1e-10 in float64, to 1e-5
// in float32. Windows that are one batch compute the same bits; a large batch cut in parts is summed in another order.
#include "tests/parity/parity.hpp"

namespace troupe {
namespace {

struct AccumulationCase {
  const char* name;
  int64_t samples, window;
};
// As in accumulation.py, batches of 8.
const std::vector<AccumulationCase> accumulated = {
    {"full", 48, 3}, {"short_window", 56, 3}, {"short_batch", 45, 3}, {"both", 53, 3}, {"one_window", 53, 10}};
const std::vector<AccumulationCase> clipped = {{"full", 48, 3}, {"both", 53, 3}, {"single", 53, 1}};
constexpr int64_t batch_size = 8;

const std::map<std::string, Perceptron::MakeOptimizers>& optimizers() {
  static const std::map<std::string, Perceptron::MakeOptimizers> all = {
      {"sgd", [](std::vector<torch::Tensor> p) { return optim::sgd(std::move(p), {.lr = 0.1, .momentum = 0.9}); }},
      {"adamw", [](std::vector<torch::Tensor> p) { return optim::adamw(std::move(p), {.lr = 0.01}); }}};
  return all;
}

// The mean over the samples of each window, from the losses of its batches.
std::vector<torch::Tensor> of_windows(const std::vector<torch::Tensor>& losses, const AccumulationCase& c) {
  std::vector<torch::Tensor> means;
  for (std::size_t i = 0; i < losses.size();) {
    torch::Tensor sum;
    int64_t samples = 0, begin = 0;
    const int64_t per_epoch = (c.samples + batch_size - 1) / batch_size;
    for (int64_t batch = static_cast<int64_t>(i) % per_epoch, n = 0; batch < per_epoch && n < c.window; ++batch, ++n) {
      begin = batch * batch_size;
      const int64_t size = std::min(batch_size, c.samples - begin);
      const auto part = losses.at(i++) * static_cast<double>(size);
      sum = sum.defined() ? sum + part : part;
      samples += size;
    }
    means.push_back(sum / static_cast<double>(samples));
  }
  return means;
}

class AccumulationParity : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { reference_ = pytorch_reference("accumulation.py"); }
  static void TearDownTestSuite() { reference_.clear(); }

  // Every case in both formats, one of them with AdamW too.
  void compare(const std::string& way, const std::vector<AccumulationCase>& cases, const TrainerOptions& options) {
    for (const auto& c : cases) {
      for (const auto& [optimizer, make] : optimizers()) {
        if (optimizer == "adamw" && c.name != std::string("both")) continue;
        for (const auto& type : number_types) {
          const std::string key = std::string(c.name) + "." + way + "." + optimizer + "." + type.name;
          SCOPED_TRACE(key);
          auto changed = bare(type.precision, options);
          changed.max_steps = 50;
          changed.accumulate_grad_batches = c.window;
          Trainer trainer(changed);
          const auto model = trainer.fit(std::make_shared<Perceptron>(reference_, type.type, make),
                                         batches_of(reference_, type.type, batch_size, c.samples));
          EXPECT_EQ(trainer.global_step(), 50);
          const bool whole_batches = options.accumulate_grad_weighting == GradWeighting::samples;
          expect_losses(whole_batches ? of_windows(model->losses, c) : model->losses, reference_, key, type.tolerance);
          expect_weights(*model->net, reference_, key, type.tolerance);
        }
      }
    }
  }

  static Tensors reference_;
};
Tensors AccumulationParity::reference_;

TEST_F(AccumulationParity, AWindowIsOneLargeBatchAlsoWhereItOrItsLastBatchIsShort) {
  compare("samples", accumulated, {});
}

TEST_F(AccumulationParity, LightningsWayDividesEachLossByTheWindow) {
  compare("batches", accumulated, {.accumulate_grad_weighting = GradWeighting::batches});
}

TEST_F(AccumulationParity, TheTwoWaysDifferWhereAWindowIsShort) {
  for (const auto& [case_name, differ] :
       {std::pair{"full", false}, {"short_window", true}, {"short_batch", true}, {"both", true}}) {
    const std::string key = case_name;
    const auto difference = largest_difference(reference_.at(key + ".samples.sgd.float64.0.weight"),
                                               reference_.at(key + ".batches.sgd.float64.0.weight"));
    EXPECT_EQ(difference > 1e-3, differ) << key << " " << difference;
  }
}

TEST_F(AccumulationParity, TheNormOfAWindowsGradientIsBounded) {
  compare("norm", clipped, {.gradient_clip_val = 0.35});
}

TEST_F(AccumulationParity, EveryElementOfAWindowsGradientIsBounded) {
  compare("value", clipped, {.gradient_clip_val = 0.05, .gradient_clip_algorithm = GradientClipAlgorithm::value});
}

}  // namespace
}  // namespace troupe
