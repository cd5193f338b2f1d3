// Values and gradients with activation checkpoints are those without, to the bit.
#include "tests/support/ddp.hpp"

#include "bench/allocated.hpp"
#include "troupe/modules/layers/activation_checkpoint.hpp"
#include "troupe/runtime/precision/autocast.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <tuple>
#include <vector>

namespace troupe {
namespace {

namespace nn = torch::nn;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Function = std::function<torch::Tensor(const torch::Tensor&)>;

nn::Sequential block(int64_t width = 8) {
  return nn::Sequential(nn::Linear(width, 4 * width), nn::GELU(), nn::Dropout(0.3), nn::Linear(4 * width, width));
}

// The loss, and the gradients of all parameters and of the input.
std::vector<torch::Tensor> gradients(const Function& forward, const std::vector<torch::Tensor>& parameters,
                                     bool input_needs_gradient = true) {
  for (const auto& parameter : parameters) parameter.mutable_grad().reset();
  torch::manual_seed(5);
  const auto x = torch::randn({6, 8}).requires_grad_(input_needs_gradient);
  const auto loss = forward(x).pow(2).sum();
  loss.backward();
  std::vector<torch::Tensor> all = {loss.detach()};
  if (input_needs_gradient) all.push_back(x.grad());
  for (const auto& parameter : parameters) all.push_back(parameter.grad().clone());
  all.push_back(torch::rand({3}));  // what is drawn next
  return all;
}

void expect_equal_gradients(const std::vector<torch::Tensor>& a, const std::vector<torch::Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(a[i].equal(b[i])) << i;
}

TEST(ActivationCheckpoint, HasThePlainCallsGradientsAndRandomNumbers) {
  torch::manual_seed(1);
  auto net = block();
  const Function plain = [net](const auto& x) mutable { return net->forward(x); };
  const Function checkpointed = [plain](const auto& x) { return activation_checkpoint(plain, x); };
  expect_equal_gradients(gradients(checkpointed, net->parameters()), gradients(plain, net->parameters()));
  expect_equal_gradients(gradients(checkpointed, net->parameters(), false), gradients(plain, net->parameters(), false));
}

TEST(ActivationCheckpoint, CallsTheFunctionOnceMoreInTheBackwardPassAndNotWithoutGradients) {
  int calls = 0;
  const auto square = [&calls](const torch::Tensor& x) {
    ++calls;
    return x.pow(3).sin();
  };
  const auto x = torch::ones({2}).requires_grad_();
  const auto y = activation_checkpoint(square, x).sum();
  EXPECT_EQ(calls, 1);
  y.backward();
  EXPECT_EQ(calls, 2);
  const torch::NoGradGuard no_gradients;
  activation_checkpoint(square, x);
  EXPECT_EQ(calls, 3);
}

TEST(ActivationCheckpoint, KeepsNothingButItsInput) {
  torch::manual_seed(1);
  auto net = block(64);
  const auto x = torch::randn({128, 64});
  const auto kept = [&](bool checkpoints) {
    const Function plain = [net](const auto& x) mutable { return net->forward(x); };
    const bench::Allocated allocated;
    const auto y = checkpoints ? activation_checkpoint(plain, x) : plain(x);
    return allocated.bytes() - static_cast<int64_t>(y.nbytes());
  };
  EXPECT_GE(kept(false), int64_t{3} * 128 * 256 * 4);  // of GELU, dropout and the second layer
  EXPECT_LT(kept(true), 10'000);                       // the state of the random generator
}

TEST(ActivationCheckpoint, MayBeNested) {
  torch::manual_seed(1);
  auto first = block(), second = block();
  auto parameters = first->parameters();
  for (const auto& parameter : second->parameters()) parameters.push_back(parameter);
  const Function plain = [=](const auto& x) mutable { return second->forward(first->forward(x).tanh()); };
  const Function nested = [=](const auto& x) {
    return activation_checkpoint(
        [=](const torch::Tensor& x) mutable {
          const auto inner = [first](const torch::Tensor& x) mutable { return first->forward(x); };
          return second->forward(activation_checkpoint(inner, x).tanh());
        },
        x);
  };
  expect_equal_gradients(gradients(nested, parameters), gradients(plain, parameters));
}

TEST(ActivationCheckpoint, TakesAndReturnsSeveralTensors) {
  const auto a = torch::randn({3}).requires_grad_(), b = torch::randn({3}).requires_grad_();
  const auto both = [](const torch::Tensor& a, const torch::Tensor& b) { return std::tuple(a * b, (a / b).exp()); };
  const auto loss = [](const auto& outputs) { return (std::get<0>(outputs) + std::get<1>(outputs)).sum(); };
  const auto plain = torch::autograd::grad({loss(both(a, b))}, {a, b});
  const auto checkpointed = torch::autograd::grad({loss(activation_checkpoint(both, a, b))}, {a, b});
  expect_equal_gradients(checkpointed, plain);
}

TEST(ActivationCheckpoint, ServesSeveralBackwardPasses) {
  const auto x = torch::randn({4}).requires_grad_();
  const auto y = activation_checkpoint([](const torch::Tensor& x) { return x.sin().exp(); }, x).sum();
  const auto once = torch::autograd::grad({y}, {x}, {}, /*retain_graph=*/true);
  expect_equal_gradients(torch::autograd::grad({y}, {x}), once);
}

TEST(ActivationCheckpoint, ComputesAgainInTheSamePrecision) {
  torch::manual_seed(1);
  auto net = block();
  const auto in_bfloat16 = [](Function forward) -> Function {
    return [forward = std::move(forward)](const auto& x) {
      const Autocast autocast(Precision::bfloat16_mixed, torch::kCPU);
      return forward(x).to(torch::kFloat32);
    };
  };
  const Function plain = [net](const auto& x) mutable { return net->forward(x); };
  const Function checkpointed = [plain](const auto& x) { return activation_checkpoint(plain, x); };
  const auto expected = gradients(in_bfloat16(plain), net->parameters());
  expect_equal_gradients(gradients(in_bfloat16(checkpointed), net->parameters()), expected);
  EXPECT_FALSE(expected[1].equal(gradients(plain, net->parameters())[1]));  // it is another computation
  EXPECT_FALSE(at::autocast::is_autocast_enabled(torch::kCPU));
}

TEST(ActivationCheckpoint, WithoutTheRandomStateDrawsOtherNumbers) {
  auto dropout = nn::Dropout(0.5);
  const auto x = torch::ones({100}).requires_grad_();
  const auto masks_agree = [&](bool preserves) {
    x.mutable_grad().reset();
    const auto y = activation_checkpoint(
        {.preserve_random_state = preserves}, [dropout](const torch::Tensor& x) mutable { return dropout(x); }, x);
    y.sum().backward();
    return y.detach().equal(x.grad());  // both are 0 or 2
  };
  EXPECT_TRUE(masks_agree(true));
  EXPECT_FALSE(masks_agree(false));
}

TEST(ActivationCheckpoint, RefusesASecondCallThatIsNotLikeTheFirst) {
  const auto refusal = [](const std::function<torch::Tensor(const torch::Tensor&, int)>& function) {
    const auto x = torch::ones({2, 3}).requires_grad_();
    const auto y = activation_checkpoint(
        [calls = std::make_shared<int>(0), function](const torch::Tensor& x) { return function(x, (*calls)++); }, x);
    return error_of([&] { y.sum().backward(); });
  };
  EXPECT_THAT(refusal([](const auto& x, int call) { return call == 0 ? x.sin() : x.sin().cos(); }),
              HasSubstr("it saves 2 tensors, and the first one saved 1"));
  EXPECT_THAT(refusal([](const auto& x, int call) {
                return (call == 0 ? x : x.reshape({3, 2})).sin();
              }),
              HasSubstr("tensor 0 that it saves is Float [3, 2], and was Float [2, 3]"));
  EXPECT_THAT(refusal([](const auto& x, int) { return x.sin(); }), IsEmpty());
}

// --- Runs ---

class Deep : public Net {
 public:
  explicit Deep(NetOptions options = {}) : Net(options) {
    for (int i = 0; i < 3; ++i) {
      blocks_.push_back(register_module("block" + std::to_string(i), block(4)));
    }
  }
  torch::Tensor forward(torch::Tensor x) override {
    for (auto& each : blocks_) {
      auto call = [each](const torch::Tensor& x) mutable { return x + each->forward(x); };
      x = checkpoints ? activation_checkpoint(call, x) : call(x);
    }
    return net_->forward(x);
  }

  inline static bool checkpoints = false;

 private:
  std::vector<nn::Sequential> blocks_;
};

TEST(ActivationCheckpoint, TrainsToTheSameWeightsOnOneDeviceAndOnTwo) {
  const DataLoader train(samples(48), {.batch_size = 4, .shuffle = true}), validation(samples(8), {.batch_size = 4});
  for (const int64_t devices : {1, 2}) {
    const auto weights = [&](bool checkpoints) {
      const TempDir dir;
      Deep::checkpoints = checkpoints;
      Trainer trainer(exact(dir, devices));
      return trainer.fit<Deep>({}, train, validation)->weights();
    };
    EXPECT_TRUE(weights(true).equal(weights(false))) << devices;
  }
}

}  // namespace
}  // namespace troupe
