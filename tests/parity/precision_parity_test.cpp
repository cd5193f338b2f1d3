// Every precision against PyTorch's, over 50 steps: 64-true to 1e-10 and 32-true to 1e-5, losses and weights. The
// 16-bit ones have to be equal to the last bit: both sides call the same kernels of the same library on the same
// numbers, so that a difference would be one of what is computed (an operation in another format, a step more or less),
// and any tolerance wide enough for the rounding of 16 bits, 2^-8 for bfloat16, would hide it.
#include "tests/parity/parity.hpp"

namespace troupe {
namespace {

using MakePrecise = Perceptron::MakeOptimizers;

const std::map<std::string, MakePrecise>& precise_optimizers() {
  using Parameters = std::vector<torch::Tensor>;
  static const std::map<std::string, MakePrecise> all = {
      {"sgd", [](Parameters p) { return optim::sgd(std::move(p), {.lr = 0.05, .momentum = 0.9}); }},
      {"adamw", [](Parameters p) { return optim::adamw(std::move(p), {.lr = 0.01}); }},
      {"plain",
       [](Parameters p) { return torch::optim::SGD(std::move(p), torch::optim::SGDOptions(0.05).momentum(0.9)); }}};
  return all;
}

// Sees the loss before and after it is scaled: the scale is a power of two, so that their quotient is exact.
class Scaled : public Perceptron {
 public:
  using Perceptron::Perceptron;
  void on_before_backward(const torch::Tensor& loss) override { loss_ = loss.item<double>(); }
  void backward(const torch::Tensor& loss, torch::optim::Optimizer&, int64_t) override {
    scale_ = loss.item<double>() / loss_;
    loss.backward();
  }
  // One for each window, whose step may be left out; PyTorch's loop counts those too.
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t batch_idx) override {
    constexpr int64_t last = 6;  // of an epoch
    const auto& options = trainer().options();
    if (batch_idx != last && (batch_idx + 1) % options.accumulate_grad_batches != 0) return;
    scales.push_back(torch::tensor(scale_));
    if (static_cast<int64_t>(scales.size()) == options.max_steps) trainer().request_stop("all windows are over");
  }
  void on_train_end() override { trainer().save_checkpoint(dir_ / "end.safetensors"); }
  void on_save_checkpoint(nlohmann::json& checkpoint) override { scaler = checkpoint.at("grad_scaler"); }

  std::vector<torch::Tensor> scales;  // of each window
  nlohmann::json scaler;              // its state at the end

 private:
  TempDir dir_;
  double loss_ = 1, scale_ = 1;
};

class PrecisionParity : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { reference_ = pytorch_reference("precision.py"); }
  static void TearDownTestSuite() { reference_.clear(); }

  // Weights begin in float64 or float32, as do the batches; the Trainer converts both.
  template <class M>
  std::shared_ptr<M> fit(Precision precision, const std::string& optimizer, TrainerOptions options = {}) {
    const std::string targets = precision == Precision::float16_mixed ? "y.wild" : "y";
    const auto given = precision == Precision::float64 ? torch::kFloat64 : torch::kFloat32;
    options = bare(precision, std::move(options));
    if (options.max_steps < 0) options.max_steps = 50;
    const auto data = std::make_shared<TensorDataset>(reference_.at("x").to(given), reference_.at(targets).to(given));
    Trainer trainer(options);
    return trainer.fit(std::make_shared<M>(reference_, given, precise_optimizers().at(optimizer)),
                       DataLoader(data, {.batch_size = 8}));
  }

  void expect_equal(const Perceptron& model, const std::string& key, double tolerance) {
    expect_losses(model.losses, reference_, key, tolerance);
    expect_weights(*model.net, reference_, key, tolerance);
  }

  // The scales of all steps, and the number of steps that were left out, which is returned.
  double expect_scales(const Scaled& model, const std::string& key) {
    const auto& scales = reference_.at(key + ".scales");
    const bool as_many = static_cast<int64_t>(model.scales.size()) == scales.size(0);
    EXPECT_TRUE(as_many) << model.scales.size();
    if (as_many) EXPECT_EQ(largest_difference(torch::stack(model.scales), scales), 0);
    const auto skipped = reference_.at(key + ".skipped").item<double>();
    EXPECT_EQ(model.scaler["skipped_steps"].get<double>(), skipped);
    return skipped;
  }

  static Tensors reference_;
};
Tensors PrecisionParity::reference_;

TEST_F(PrecisionParity, OneFormatThroughoutGivesItsNumbers) {
  for (const auto& [precision, tolerance] : std::map<Precision, double>{{Precision::float64, 1e-10},
                                                                        {Precision::float32, 1e-5},
                                                                        {Precision::bfloat16_true, 0},
                                                                        {Precision::float16_true, 0}}) {
    for (const auto& [optimizer, make] : precise_optimizers()) {
      // LibTorch's SGD in C++ rounds otherwise than Python's in 16 bits, also without a Trainer.
      if (optimizer == "plain" && tolerance == 0) continue;
      const auto key = name_of(precision) + "." + optimizer;
      SCOPED_TRACE(key);
      expect_equal(*fit<Perceptron>(precision, optimizer), key, tolerance);
    }
  }
}

TEST_F(PrecisionParity, Bfloat16MixedIsAutocast) {
  for (const auto& [optimizer, make] : precise_optimizers()) {
    SCOPED_TRACE(optimizer);
    const auto model = fit<Perceptron>(Precision::bfloat16_mixed, optimizer);
    expect_equal(*model, "bf16-mixed." + optimizer, 0);
    EXPECT_GT(largest_difference(torch::stack(model->losses), reference_.at("32-true." + optimizer + ".losses")), 1e-5);
  }
}

TEST_F(PrecisionParity, Float16MixedIsAutocastWithAGradientScaler) {
  for (const auto& [optimizer, make] : precise_optimizers()) {
    const auto key = "16-mixed." + optimizer;
    SCOPED_TRACE(key);
    const auto model = fit<Scaled>(Precision::float16_mixed, optimizer);
    expect_equal(*model, key, 0);
    EXPECT_GE(expect_scales(*model, key), 1) << "nothing overflowed";
  }
}

// Of four batches, whose losses are divided exactly; the last window of an epoch has three.
TEST_F(PrecisionParity, MixedFormatsAccumulateAndClipUnscaledGradients) {
  const TrainerOptions options{
      .accumulate_grad_batches = 4, .accumulate_grad_weighting = GradWeighting::batches, .gradient_clip_val = 0.3};
  expect_equal(*fit<Perceptron>(Precision::bfloat16_mixed, "sgd", options), "bf16-mixed.sgd.4", 0);
  const auto model = fit<Scaled>(Precision::float16_mixed, "sgd", options);
  expect_equal(*model, "16-mixed.sgd.4", 0);
  expect_scales(*model, "16-mixed.sgd.4");
}

// Over 2,400 steps: the scale grows after 2,000 without an overflow, and the next overflow takes it back.
TEST_F(PrecisionParity, TheScaleShrinksAndGrowsAtTheSameSteps) {
  const auto model = fit<Scaled>(Precision::float16_mixed, "plain", {.max_steps = 2400});
  expect_equal(*model, "16-mixed.plain.long", 0);
  EXPECT_GE(expect_scales(*model, "16-mixed.plain.long"), 1) << "nothing overflowed";
}

}  // namespace
}  // namespace troupe
