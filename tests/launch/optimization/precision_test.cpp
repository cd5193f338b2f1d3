// What each precision computes in.
#include "tests/launch/optimization/optimization.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

namespace troupe {
namespace {

class Typed : public Line {
 public:
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    batch_type = batch[0].scalar_type();
    output_type = forward(batch[0]).scalar_type();
    parameter_type = layer_->weight.scalar_type();
    default_type = torch::ones({1}).scalar_type();
    bits = precision();
    amp = use_amp();
    return Line::training_step(batch, batch_idx);
  }
  torch::ScalarType batch_type, output_type, parameter_type, default_type;
  int bits = 0;
  bool amp = false;
};

TEST_F(Optimization, EachPrecisionComputesInItsFormat) {
  struct Expected {
    Precision precision;
    torch::ScalarType parameter, batch, output, fresh;
    int bits;
    bool amp;
  };
  using namespace torch;
  const std::vector<Expected> all = {{Precision::float32, kFloat32, kFloat32, kFloat32, kFloat32, 32, false},
                                     {Precision::float64, kFloat64, kFloat64, kFloat64, kFloat64, 64, false},
                                     {Precision::bfloat16_mixed, kFloat32, kFloat32, kBFloat16, kFloat32, 16, true},
                                     {Precision::float16_mixed, kFloat32, kFloat32, kFloat16, kFloat32, 16, true},
                                     {Precision::bfloat16_true, kBFloat16, kBFloat16, kBFloat16, kBFloat16, 16, false},
                                     {Precision::float16_true, kFloat16, kFloat16, kFloat16, kFloat16, 16, false}};
  for (const auto& expected : all) {
    SCOPED_TRACE(name_of(expected.precision));
    auto options = quiet(dir_);
    options.precision = expected.precision;
    options.max_epochs = 40;
    Trainer trainer(options);
    const auto model = trainer.fit(std::make_shared<Typed>(), points(), points());
    EXPECT_EQ(model->parameter_type, expected.parameter);
    EXPECT_EQ(model->batch_type, expected.batch);
    EXPECT_EQ(model->output_type, expected.output);
    EXPECT_EQ(model->default_type, expected.fresh);
    EXPECT_EQ(model->bits, expected.bits);
    EXPECT_EQ(model->amp, expected.amp);
    const auto end = model->named_parameters()["layer.weight"].to(kFloat64).item<double>();
    EXPECT_NEAR(end, 2, expected.bits == 16 ? 0.1 : 0.01);
    EXPECT_EQ(torch::ones({1}).scalar_type(), kFloat32);
  }
}

class Overflowing : public Line {
 public:
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    const auto loss = Line::error(batch);
    if (batch_idx == 1) return loss * std::numeric_limits<float>::infinity();
    return loss;
  }
};

TEST_F(Optimization, AnOverflowIn16MixedLeavesOutTheStep) {
  auto options = quiet(dir_);
  options.precision = Precision::float16_mixed;
  options.max_epochs = 1;
  Trainer trainer(options);
  const auto model = trainer.fit(std::make_shared<Overflowing>(), points());
  EXPECT_TRUE(std::isfinite(model->weight()));
  const auto last = read_checkpoint(trainer.run_dir() / "checkpoints/last.safetensors");
  // The first scale is too large for this loss as well, so more than one step may be left out.
  const int64_t skipped = last.metadata["grad_scaler"]["skipped_steps"];
  EXPECT_GE(skipped, 1);
  EXPECT_EQ(last.metadata["grad_scaler"]["scale"], std::ldexp(65536, static_cast<int>(-skipped)));
}

}  // namespace
}  // namespace troupe
