#include "troupe/runtime/inference/predictor.hpp"

#include "tests/support/refusal.hpp"
#include "tests/support/same_bits.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <atomic>
#include <fstream>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace troupe {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

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
  EXPECT_EQ(refusal([&] {
              predictor.predict(torch::rand({2, 1, 3, 4}).to_sparse());
            }),
            "the input has the layout Sparse, and the model takes Strided; input.to_dense() makes it so");
}

TEST(Predictor, RefusesOptionsThatDoNotFit) {
  const auto refused = [](const PredictorOptions& options) {
    return refusal([&] { Predictor(std::make_shared<PredictedMlp>(), options); });
  };
  EXPECT_EQ(refused({.max_batch = -1}), "max_batch is -1; it is at least 1, or 0 for no bound");
  EXPECT_EQ(refused({.warm_up = {0}}), "warm_up has the batch size 0; it is at least 1");
  EXPECT_EQ(refused({.dynamic_axes = {4}}), "dynamic_axes names axis 4, and the example has the shape [2, 1, 3, 4]");
  EXPECT_EQ(refused({.dtype = torch::kLong}), "dtype is Long; parameters can be Float, Double, BFloat16 or Half");
  if (!torch::cuda::is_available()) {
    EXPECT_THAT(refused({.device = torch::kCUDA}),
                AllOf(StartsWith("device is cuda, but "), HasSubstr("leave it out for the CPU")));
  }
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

// --- Replays ---

/// All kinds of layers that have kernels of their own.
class PredictedCnn : public Module {
 public:
  PredictedCnn() {
    net_ = register_module(
        "net", nn::Sequential(nn::Conv2d(nn::Conv2dOptions(2, 5, 3).padding(1)), nn::BatchNorm2d(5), nn::ReLU(),
                              nn::MaxPool2d(2), nn::Conv2d(nn::Conv2dOptions(5, 20, {3, 2}).bias(false)),
                              nn::ReLU(nn::ReLUOptions(true)), nn::Conv2d(nn::Conv2dOptions(20, 4, 1).stride(2)),
                              nn::Flatten(), nn::Linear(16, 9), nn::ReLU(), nn::Dropout(0.5), nn::Linear(9, 3)));
    example_input_array = torch::rand({1, 2, 10, 9});
    const torch::NoGradGuard no_gradients;
    auto* norm = net_[1]->as<nn::BatchNorm2d>();
    norm->running_mean.uniform_(-1, 1);
    norm->running_var.uniform_(0.5, 2);
    norm->weight.uniform_(-1, 1);
    norm->bias.uniform_(-1, 1);
  }
  torch::Tensor forward(torch::Tensor x) override { return net_->forward(x); }

 private:
  nn::Sequential net_{nullptr};
};

int64_t replays_of(const Predictor& predictor) {
  return predictor.captured().replays("forward");
}

TEST(Predictor, GivesTheBitsOfForwardForBatchesOfAnySize) {
  for (const std::shared_ptr<Module>& module : {std::shared_ptr<Module>(std::make_shared<PredictedMlp>()),
                                                std::shared_ptr<Module>(std::make_shared<PredictedCnn>())}) {
    const Predictor predictor(module, {.exact = true, .max_callers = 1});
    auto sizes = predictor.input_shape();
    for (int round = 0; round < 6; ++round) {
      for (const int64_t batch : {1, 2, 7, 32, 33}) {
        sizes[0] = batch;
        const auto x = torch::randn(sizes);
        ASSERT_TRUE(has_same_bits(predictor.predict(x), plain(*module, x))) << batch;
      }
    }
    EXPECT_EQ(predictor.captured().programs.size(), 5);
    EXPECT_EQ(replays_of(predictor), 5 * 3);
    EXPECT_THAT(predictor.captured().refusals, testing::IsEmpty());
  }
}

// LibTorch's products add up otherwise if a matrix does not begin at a multiple of 16 bytes.
TEST(Predictor, GivesTheBitsOfForwardForPartsOfLargerTensors) {
  const torch::NoGradGuard no_gradients;
  auto net = nn::Sequential(nn::Linear(101, 64), nn::ReLU(), nn::Linear(64, 33));
  const auto compute = [&net](const torch::Tensor& x) { return net->forward(x); };
  const auto module = std::make_shared<Computed>(compute, torch::rand({4, 101}));
  for (const int64_t rows : {1, 3, 8}) {
    const Predictor predictor(module, {.exact = true});
    for (int64_t call = 0; call < 12; ++call) {
      const int64_t before = (call + 1) % 5;
      const auto x = torch::randn({rows * 101 + before}).narrow(0, before, rows * 101).view({rows, 101});
      EXPECT_TRUE(has_same_bits(predictor(x), compute(x))) << rows << " rows, call " << call;
    }
  }
}

TEST(Predictor, GivesForwardWithKernelsOfItsOwn) {
  const auto module = std::make_shared<PredictedCnn>();
  const Predictor predictor(module, {.capture = CaptureStep::require, .max_callers = 1});
  for (const int64_t batch : {1, 2, 7, 32}) {
    for (int round = 0; round < 5; ++round) {
      const auto x = torch::randn({batch, 2, 10, 9});
      const auto expected = plain(*module, x);
      EXPECT_LT((predictor.predict(x) - expected).abs().max().item<double>(),
                2e-6 * expected.abs().max().item<double>());
    }
  }
  const auto program = predictor.captured().programs.at(0);
  EXPECT_EQ(program.replays, 2);
  EXPECT_LT(program.operators, 6);  // two groups of layers, a convolution with a stride, and what flattens
}

TEST(Predictor, KeepsNaNAndInfinity) {
  const auto module = std::make_shared<PredictedCnn>();
  const Predictor predictor(module, {.warm_up = {1}});
  auto x = torch::rand({1, 2, 10, 9});
  x[0][1][4][4] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(torch::equal(predictor.predict(x).isnan(), plain(*module, x).isnan()));
  EXPECT_TRUE(predictor.predict(x).isnan().any().item<bool>());
}

TEST(Predictor, ReplaysFromTheFirstRequestOnAfterAWarmUp) {
  const Predictor predictor(std::make_shared<PredictedMlp>(), {.warm_up = {1, 4}});
  EXPECT_EQ(predictor.captured().programs.size(), 2);
  const auto before = replays_of(predictor);
  predictor.predict(torch::rand({4, 1, 3, 4}));
  EXPECT_EQ(replays_of(predictor), before + 1);
}

TEST(Predictor, SaysWhyForwardIsNotCaptured) {
  const auto reasons = [](const std::function<torch::Tensor(const torch::Tensor&)>& compute) {
    const auto module = std::make_shared<Computed>(compute, torch::rand({2, 3}));
    const Predictor predictor(module, {.warm_up = {2}});
    const auto x = torch::rand({2, 3});
    predictor.predict(x);
    EXPECT_EQ(replays_of(predictor), 0);
    return joined(predictor.captured().refusals);
  };
  EXPECT_THAT(reasons([](const torch::Tensor& x) { return x.sum().item<float>() > 3 ? x + 1 : x - 1; }),
              AllOf(HasSubstr("forward of Float [2, 3] is not captured"), HasSubstr("reads a number back")));
  EXPECT_THAT(reasons([](const torch::Tensor& x) { return x + torch::rand({3}); }), HasSubstr("draws random numbers"));
  int calls = 0;
  EXPECT_THAT(reasons([&calls](const torch::Tensor& x) { return x + ++calls; }), HasSubstr("two calls differ"));
  auto kept = torch::zeros({2, 3});
  EXPECT_THAT(reasons([kept](const torch::Tensor& x) { return kept.add_(x).clone(); }),
              HasSubstr("writes to a tensor that the module keeps"));
  const auto module =
      std::make_shared<Computed>([](const torch::Tensor& x) { return x + torch::rand({3}); }, torch::rand({2, 3}));
  EXPECT_THAT(refusal([&] { Predictor(module, {.capture = CaptureStep::require, .warm_up = {2}}); }),
              HasSubstr("random numbers"));
}

// What a convolution gives may be read in another shape, where it is another image.
TEST(Predictor, ComputesConvolutionsOfAnotherShapeOfTheSameNumbers) {
  nn::Sequential first(nn::Conv2d(nn::Conv2dOptions(1, 4, 3))), second(nn::Conv2d(nn::Conv2dOptions(1, 2, 3)));
  nn::BatchNorm2d norm(1);
  norm->eval();
  const std::vector<std::function<torch::Tensor(const torch::Tensor&)>> functions = {
      [&](const torch::Tensor& x) {
        return second->forward(first->forward(x).view({x.size(0), 1, 24, 6}));
      },
      [&](const torch::Tensor& x) {
        return second->forward(first->forward(x).view({x.size(0) * 4, 1, 6, 6}));
      },
      [&](const torch::Tensor& x) {
        return norm->forward(first->forward(x).view({x.size(0), 1, 24, 6}));
      },
      [&](const torch::Tensor& x) {
        return torch::max_pool2d(first->forward(x).view({x.size(0), 1, 24, 6}), 2);
      }};
  for (const auto& function : functions) {
    const torch::NoGradGuard no_gradients;
    const Predictor predictor(std::make_shared<Computed>(function), {.example_input = torch::rand({2, 1, 8, 8})});
    for (int call = 0; call < 5; ++call) {
      const auto x = torch::randn({3, 1, 8, 8});
      EXPECT_TRUE(torch::allclose(predictor.predict(x), function(x), 1e-5, 1e-6));
    }
    EXPECT_GT(predictor.captured().replays("forward"), 0);
  }
}

// Its operator is tagged as random, for the dropout of training.
TEST(Predictor, CapturesAttentionWithoutDropout) {
  const auto attend = [](double dropout) {
    return Predictor(std::make_shared<Computed>([dropout](const torch::Tensor& x) {
                       return at::scaled_dot_product_attention(x, x, x, {}, dropout);
                     }),
                     {.exact = true, .example_input = torch::rand({2, 3, 5, 8})});
  };
  const auto predictor = attend(0);
  for (int call = 0; call < 6; ++call) {
    const auto x = torch::randn({2, 3, 5, 8});
    EXPECT_TRUE(has_same_bits(predictor.predict(x), at::scaled_dot_product_attention(x, x, x)));
  }
  EXPECT_GT(predictor.captured().replays("forward"), 0);
}

TEST(Predictor, FindsWhatAReplayCannotSeeWhenItChecks) {
  auto added = std::make_shared<float>(1.0F);
  const auto module =
      std::make_shared<Computed>([added](const torch::Tensor& x) { return x + *added; }, torch::rand({2, 3}));
  const Predictor predictor(module, {.capture = CaptureStep::check, .warm_up = {2}});
  *added = 2;
  EXPECT_THAT(refusal([&] { predictor.predict(torch::rand({2, 3})); }), HasSubstr("differs from forward"));
}

TEST(Predictor, KeepsNoMoreShapesThanItMay) {
  const auto module = std::make_shared<PredictedMlp>();
  const Predictor predictor(module, {.exact = true, .max_shapes = 2, .max_callers = 1});
  for (int round = 0; round < 40; ++round) {
    for (int64_t batch = 1; batch <= 5; ++batch) {
      const auto x = torch::rand({batch, 1, 3, 4});
      ASSERT_TRUE(has_same_bits(predictor.predict(x), plain(*module, x)));
    }
  }
}

TEST(Predictor, AnswersSeveralThreadsAtOnce) {
  for (const std::size_t callers : {1, 2, 4}) {
    const auto module = std::make_shared<PredictedCnn>();
    const Predictor predictor(module, {.exact = true, .max_callers = callers});
    std::vector<std::thread> threads;
    std::atomic<int> differences = 0;
    for (int64_t number = 0; number < 4; ++number) {
      threads.emplace_back([&, number] {
        for (int64_t i = 0; i < 60; ++i) {
          const auto x = torch::full({1 + (i + number) % 3, 2, 10, 9}, 0.01 * static_cast<double>(i * 4 + number));
          const torch::NoGradGuard no_gradients;
          const auto result = predictor.predict(x);
          if (!has_same_bits(result, module->forward(x))) ++differences;
        }
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(differences, 0);
    EXPECT_GT(replays_of(predictor), 0);
  }
}

}  // namespace
}  // namespace troupe
