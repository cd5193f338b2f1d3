#include "troupe/runtime/inference/predictor.hpp"

#include "tests/support/refusal.hpp"
#include "tests/support/same_bits.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace troupe {
namespace {

using testing::AllOf;
using testing::HasSubstr;

namespace nn = torch::nn;

struct PredictedOptions {
  int64_t hidden = 16;
};
TROUPE_OPTIONS(PredictedOptions, (hidden, "units"))

class PredictedMlp : public ModuleWith<PredictedOptions> {
 public:
  explicit PredictedMlp(const PredictedOptions& options = {}) : ModuleWith(options) {
    net_ = register_module("net", nn::Sequential(nn::Flatten(), nn::Linear(12, options.hidden), nn::ReLU(),
                                                 nn::Dropout(0.5), nn::Linear(options.hidden, 3)));
    example_input_array = torch::rand({2, 1, 3, 4});
  }
  torch::Tensor forward(torch::Tensor x) override { return net_->forward(x); }

 private:
  nn::Sequential net_{nullptr};
};

/// forward as a lambda.
class Computed : public Module {
 public:
  explicit Computed(std::function<torch::Tensor(const torch::Tensor&)> compute, torch::Tensor example = {})
      : compute_(std::move(compute)) {
    example_input_array = std::move(example);
  }
  torch::Tensor forward(torch::Tensor x) override { return compute_(x); }

 private:
  std::function<torch::Tensor(const torch::Tensor&)> compute_;
};

/// What the module's own forward gives for it.
torch::Tensor plain(Module& module, const torch::Tensor& input) {
  const torch::NoGradGuard no_gradients;
  return module.forward(input).clone();
}

TEST(Predictor, GivesForwardInEvalModeWithoutGradients) {
  const auto module = std::make_shared<PredictedMlp>();
  const Predictor predictor(module);
  EXPECT_FALSE(module->is_training());
  const auto x = torch::rand({5, 1, 3, 4});
  const auto y = predictor.predict(x);
  EXPECT_FALSE(y.requires_grad());
  EXPECT_TRUE(torch::allclose(y, plain(*module, x), 1e-6, 1e-6));
}

TEST(Predictor, LoadsAModuleWithItsSavedOptions) {
  const TempDir dir;
  PredictedMlp trained({.hidden = 24});
  Checkpoint checkpoint;
  append_model_state(checkpoint, trained);
  checkpoint.metadata[metadata_key::hparams] = trained.hparams();
  write_checkpoint(checkpoint, dir / "last.safetensors");
  const auto predictor = Predictor::load<PredictedMlp>(dir / "last.safetensors", {.exact = true});
  trained.eval();
  const auto x = torch::rand({3, 1, 3, 4});
  EXPECT_TRUE(has_same_bits(predictor.predict(x), plain(trained, x)));
}

TEST(Predictor, SaysWhichFileItCannotLoad) {
  const TempDir dir;
  EXPECT_THAT(refusal([&] { Predictor::load<PredictedMlp>(dir / "missing.safetensors"); }),
              HasSubstr("missing.safetensors"));
  std::ofstream(dir / "notes.txt") << "no checkpoint";
  EXPECT_THAT(refusal([&] { Predictor::load<PredictedMlp>(dir / "notes.txt"); }), HasSubstr("notes.txt"));
}

TEST(Predictor, RefusesInputsUnlikeTheExample) {
  const Predictor predictor(std::make_shared<PredictedMlp>());
  EXPECT_EQ(predictor.input_shape(), (std::vector<int64_t>{-1, 1, 3, 4}));
  EXPECT_EQ(refusal([&] {
              predictor.predict(torch::rand({2, 12}));
            }),
            "the input has the shape [2, 12], and the model takes [any, 1, 3, 4]");
  EXPECT_EQ(refusal([&] {
              predictor.predict(torch::rand({2, 1, 4, 3}));
            }),
            "the input has the shape [2, 1, 4, 3], and the model takes [any, 1, 3, 4]");
  EXPECT_EQ(refusal([&] {
              predictor.predict(torch::rand({2, 1, 3, 4}, torch::kDouble));
            }),
            "the input is Double, and the model takes Float");
  EXPECT_EQ(refusal([&] { predictor.predict({}); }), "the input is an undefined tensor");
}

TEST(Predictor, RefusesOptionsThatDoNotFit) {
  const auto refused = [](const PredictorOptions& options) {
    return refusal([&] { Predictor(std::make_shared<PredictedMlp>(), options); });
  };
  EXPECT_EQ(refused({.max_batch = -1}), "max_batch is -1; it is at least 1, or 0 for no bound");
  EXPECT_EQ(refused({.warm_up = {0}}), "warm_up has the batch size 0; it is at least 1");
  EXPECT_EQ(refused({.dynamic_axes = {4}}), "dynamic_axes names axis 4, and the example has the shape [2, 1, 3, 4]");
  EXPECT_EQ(refused({.dtype = torch::kLong}), "dtype is Long; parameters can be Float, Double, BFloat16 or Half");
  EXPECT_THAT(refusal([] { Predictor(nullptr); }), HasSubstr("null"));
  const auto no_example = std::make_shared<Computed>([](const torch::Tensor& x) { return x + 1; });
  EXPECT_THAT(refusal([&] { Predictor(no_example, {.warm_up = {1}}); }), HasSubstr("example_input_array"));
}

TEST(Predictor, ConvertsTheModule) {
  const Predictor predictor(std::make_shared<PredictedMlp>(), {.dtype = torch::kDouble});
  EXPECT_EQ(predictor.predict(torch::rand({2, 1, 3, 4}, torch::kDouble)).scalar_type(), torch::kDouble);
}

TEST(Predictor, CutsLargeBatchesIntoPieces) {
  const auto most = std::make_shared<int64_t>(0);
  const auto module = std::make_shared<Computed>([most](const torch::Tensor& x) {
    *most = std::max(*most, x.size(0));
    return 2 * x;
  });
  const Predictor predictor(module, {.capture = CaptureStep::off, .max_batch = 3});
  const auto x = torch::rand({8, 2});
  EXPECT_TRUE(has_same_bits(predictor.predict(x), 2 * x));
  EXPECT_EQ(*most, 3);
  const Predictor sums(std::make_shared<Computed>([](const torch::Tensor& x) { return x.sum(); }), {.max_batch = 3});
  EXPECT_THAT(refusal([&] { sums.predict(x); }), HasSubstr("set max_batch = 0"));
}

TEST(Predictor, GivesResultsThatAreTheCallers) {
  auto predictor = std::make_unique<Predictor>(std::make_shared<PredictedMlp>());
  const auto x = torch::rand({2, 1, 3, 4});
  const auto first = predictor->predict(x);
  const auto copy = first.clone();
  for (int i = 0; i < 4; ++i) predictor->predict(torch::rand({2, 1, 3, 4}));
  predictor.reset();
  EXPECT_TRUE(has_same_bits(first, copy));
  const Predictor same(std::make_shared<Computed>([](const torch::Tensor& x) { return x; }));
  for (int i = 0; i < 4; ++i) EXPECT_FALSE(same.predict(x).is_alias_of(x));
}

}  // namespace
}  // namespace troupe
