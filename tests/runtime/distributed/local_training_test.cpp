// Local training by itself: the exchange, the mean that is shown, the state.
#include "troupe/runtime/distributed/local_training.hpp"

#include "tests/support/ranks_in_memory.hpp"
#include "tests/support/same_bits.hpp"
#include "troupe/base/failure.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <mutex>
#include <vector>

namespace troupe {
namespace {

// Two parameters and a buffer of a rank.
struct Weights {
  explicit Weights(torch::ScalarType type = torch::kFloat64)
      : matrix(torch::arange(6, type).view({2, 3}).set_requires_grad(true)),
        vector(torch::ones({4}, type).set_requires_grad(true)),
        buffer(torch::zeros({2}, type)) {}
  void give_to(LocalTraining& local) const {
    local.add({{"matrix", matrix}, {"vector", vector}});
    local.set_buffers({buffer});
  }
  // What an inner step may do.
  void move(Peers& peers, double by) {
    const torch::NoGradGuard no_gradients;
    const double own = by * (1 + static_cast<double>(peers.place().global_rank));
    matrix.sub_(own), vector.add_(own), buffer.add_(own);
  }
  double at() const { return vector[0].item<double>(); }

  torch::Tensor matrix, vector, buffer;
};

TEST(LocalTraining, ExchangesAfterEveryNthStep) {
  on_ranks(2, [](Peers& peers) {
    Weights weights;
    LocalTraining local(peers, {.steps = 3});
    weights.give_to(local);
    const double own = 1 + static_cast<double>(peers.place().global_rank);
    for (int step = 1; step <= 2; ++step) {
      weights.move(peers, 1);
      local.count_step();
      EXPECT_EQ(weights.at(), 1 + step * own);
      EXPECT_EQ(local.steps_since_exchange(), step);
    }
    weights.move(peers, 1);
    local.count_step();
    EXPECT_EQ(local.steps_since_exchange(), 0);
    EXPECT_EQ(weights.at(), 1 + (3 + 6) / 2.0);  // the mean
    EXPECT_EQ(weights.matrix[1][2].item<double>(), 5 - 4.5);
    EXPECT_EQ(weights.buffer[0].item<double>(), 3);  // rank zero's
    EXPECT_TRUE(weights.matrix.requires_grad());
  });
}

// Nesterov's SGD by hand, for a gradient of what the ranks have moved.
TEST(LocalTraining, AnOuterOptimizerStepsTheWeights) {
  on_ranks(2, [](Peers& peers) {
    Weights weights;
    LocalTraining local(peers, {.steps = 1, .lr = 0.7, .momentum = 0.9});
    weights.give_to(local);
    double expected = 1, momentum = 0;
    for (const double by : {1.0, -0.5, 0.25}) {
      weights.move(peers, by);
      local.count_step();
      const double gradient = -1.5 * by;
      momentum = 0.9 * momentum + gradient;
      expected -= 0.7 * (gradient + 0.9 * momentum);
      EXPECT_NEAR(weights.at(), expected, 1e-12);
    }
  });
}

TEST(LocalTraining, AllRanksHaveTheSameBitsAfterAnExchange) {
  for (const auto compression : {GradientCompression::none, GradientCompression::fp16, GradientCompression::bf16}) {
    for (const auto type : {torch::kFloat32, torch::kBFloat16}) {
      std::mutex mutex;
      std::vector<torch::Tensor> results;
      on_ranks(3, [&](Peers& peers) {
        auto weight = torch::linspace(-1, 1, 1000, torch::kFloat32).to(type);
        LocalTraining local(peers,
                            {.steps = 2, .lr = 0.7, .momentum = 0.9, .bucket_bytes = 64, .compression = compression});
        local.add({{"weight", weight}, {"other", torch::ones({30}, type)}});
        for (int step = 0; step < 6; ++step) {
          const auto seed = static_cast<uint64_t>(10 * step + peers.place().global_rank);
          weight.add_(torch::randn({1000}, at::make_generator<at::CPUGeneratorImpl>(seed), torch::kFloat32).mul(0.01));
          local.count_step();
        }
        const std::lock_guard lock(mutex);
        results.push_back(weight);
      });
      EXPECT_TRUE(has_same_bits(results[0], results[1]) && has_same_bits(results[0], results[2]));
    }
  }
}

TEST(LocalTraining, TheMeanIsShownAndTakenAway) {
  on_ranks(2, [](Peers& peers) {
    Weights weights;
    LocalTraining local(peers, {.steps = 10, .lr = 0.7, .momentum = 0.9});
    weights.give_to(local);
    local.show_mean();  // nothing has moved
    EXPECT_FALSE(local.shows_mean());
    weights.move(peers, 1);
    local.count_step();
    const double own = weights.at();
    local.show_mean();
    EXPECT_EQ(weights.at(), 1 + 1.5);
    EXPECT_EQ(weights.buffer[0].item<double>(), 1);
    EXPECT_EQ(local.own(weights.vector)[0].item<double>(), own);
    local.show_mean();  // is shown already
    local.show_own();
    EXPECT_EQ(weights.at(), own);
    EXPECT_EQ(weights.buffer[0].item<double>(), own - 1);
    local.adopt_mean();
    EXPECT_EQ(weights.at(), 1 + 1.5);
    EXPECT_EQ(local.steps_since_exchange(), 0);
    local.show_own();
    EXPECT_EQ(weights.at(), 1 + 1.5);
  });
}

// Whether somebody looked in between or not.
TEST(LocalTraining, WhatIsTrainedDoesNotDependOnWhoLooks) {
  on_ranks(3, [](Peers& peers) {
    torch::Tensor results[2];
    for (const bool looks : {false, true}) {
      Weights weights(torch::kFloat32);
      LocalTraining local(peers, {.steps = 3, .lr = 0.7, .momentum = 0.9});
      weights.give_to(local);
      for (int step = 0; step < 7; ++step) {
        weights.move(peers, 0.1 * step);
        local.count_step();
        if (looks) local.show_mean(), local.show_own();
      }
      results[looks] = weights.matrix.detach().clone();
    }
    EXPECT_TRUE(has_same_bits(results[0], results[1]));
  });
}

TEST(LocalTraining, GoesOnFromItsStateWithTheSameBits) {
  on_ranks(2, [](Peers& peers) {
    const LocalTrainingOptions options{.steps = 3, .lr = 0.7, .momentum = 0.9};
    for (const int cut : {3, 5, 7}) {
      Weights straight, first, second;
      LocalTraining whole(peers, options), before(peers, options), after(peers, options);
      straight.give_to(whole), first.give_to(before);
      for (int step = 0; step < 8; ++step) straight.move(peers, 0.3 * step), whole.count_step();
      for (int step = 0; step < cut; ++step) first.move(peers, 0.3 * step), before.count_step();
      Checkpoint shared, own;
      before.show_mean();
      before.append_shared(shared), before.append_own(own);
      EXPECT_EQ(own.tensors.empty(), cut == 3);  // an exchange has just been
      {
        const torch::NoGradGuard no_gradients;  // as a checkpoint gives the model back
        second.matrix.copy_(first.matrix), second.vector.copy_(first.vector);
      }
      second.give_to(after);
      after.load(shared, &own);
      for (int step = cut; step < 8; ++step) second.move(peers, 0.3 * step), after.count_step();
      EXPECT_TRUE(has_same_bits(second.matrix, straight.matrix)) << cut;
      EXPECT_TRUE(has_same_bits(second.vector, straight.vector)) << cut;
    }
  });
}

TEST(LocalTraining, DamagedStateIsRefused) {
  on_ranks(1, [](Peers& peers) {
    Weights weights;
    LocalTraining local(peers, {.momentum = 0.9});
    weights.give_to(local);
    Checkpoint shared, own;
    shared.metadata["outer"] = {{"steps_since_exchange", "two"}};
    EXPECT_THROW(local.load(shared, nullptr), CheckpointError);
    shared.metadata["outer"] = {{"steps_since_exchange", 2}};
    shared.tensors = {{"outer.momentum.vector", torch::ones({5}, torch::kFloat64)}};
    EXPECT_THROW(local.load(shared, nullptr), CheckpointError);
    shared.tensors.clear();
    own.tensors = {{"local.matrix", torch::ones({2, 3}, torch::kInt64)}};
    EXPECT_THROW(local.load(shared, &own), CheckpointError);
  });
}

TEST(LocalTraining, ParametersThatAreTrainedLaterTakePart) {
  on_ranks(2, [](Peers& peers) {
    Weights weights;
    LocalTraining local(peers, {.steps = 1});
    local.add({{"matrix", weights.matrix}});
    weights.give_to(local);
    weights.move(peers, 1);
    local.count_step();
    EXPECT_EQ(weights.at(), 1 + 1.5);
    EXPECT_EQ(weights.matrix[0][0].item<double>(), -1.5);
  });
}

TEST(LocalTraining, ARankWithoutALossGetsZerosAndKeepsWhatIsThere) {
  auto untouched = torch::ones({2}).set_requires_grad(true), touched = torch::ones({2}).set_requires_grad(true);
  touched.mutable_grad() = torch::full({2}, 3.0);
  LocalGradients({untouched, touched, torch::ones({2})}).contribute_nothing();
  EXPECT_EQ(untouched.grad().sum().item<double>(), 0);
  EXPECT_EQ(touched.grad().sum().item<double>(), 6);
}

}  // namespace
}  // namespace troupe
