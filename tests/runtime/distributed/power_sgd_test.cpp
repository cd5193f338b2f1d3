// PowerSGD by itself: what it sends, what it keeps, and that nothing is lost.
#include "troupe/runtime/distributed/power_sgd.hpp"

#include "tests/support/ranks_in_memory.hpp"
#include "tests/support/same_bits.hpp"
#include "troupe/base/failure.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace troupe {
namespace {

torch::Tensor gradient_of(at::IntArrayRef sizes, uint64_t seed, torch::ScalarType type = torch::kFloat64) {
  return torch::randn(sizes, at::make_generator<at::CPUGeneratorImpl>(seed), torch::kFloat64).to(type);
}

// One step of a rank with its gradients.
void step_on(Peers& peers, PowerSgd& power_sgd, std::vector<PowerSgd::Gradient> gradients) {
  power_sgd.begin(std::move(gradients), peers.group());
  power_sgd.finish();
}

double off_identity(const torch::Tensor& matrix) {
  const auto product = torch::matmul(matrix.t(), matrix).to(torch::kFloat64);
  return (product - torch::eye(matrix.size(1), torch::kFloat64)).abs().max().item<double>();
}

TEST(PowerSgd, OrthogonalizesColumnsAndKeepsTheirSpace) {
  for (const auto& [type, tolerance] : {std::pair{torch::kFloat64, 1e-13}, std::pair{torch::kFloat32, 1e-5}}) {
    const auto before = gradient_of({50, 4}, 1, type);
    auto matrix = before.clone();
    orthogonalize(matrix);
    EXPECT_LE(off_identity(matrix), tolerance);
    const auto projected = torch::matmul(matrix, torch::matmul(matrix.t(), before));
    EXPECT_LE((projected - before).abs().max().item<double>(), 20 * tolerance);
    EXPECT_LE((matrix.select(1, 0) - before.select(1, 0) / before.select(1, 0).norm()).abs().max().item<double>(),
              tolerance);
  }
}

TEST(PowerSgd, ColumnsThatAreNothingBecomeUnitVectors) {
  auto matrix = gradient_of({6, 3}, 2);
  matrix.select(1, 1).copy_(3 * matrix.select(1, 0));  // nothing is left of it
  matrix.select(1, 2).zero_();
  orthogonalize(matrix);
  EXPECT_LE(off_identity(matrix), 1e-13);
  auto nothing = torch::zeros({4, 4}, torch::kFloat32);
  orthogonalize(nothing);
  EXPECT_LE(off_identity(nothing), 1e-6);
}

TEST(PowerSgd, AColumnThatIsNotFiniteIsSeen) {
  auto matrix = gradient_of({6, 2}, 3);
  matrix[2][0] = std::numeric_limits<double>::infinity();
  orthogonalize(matrix);
  EXPECT_FALSE(torch::isfinite(matrix).all().item<bool>());
}

// The mean of gradients that are a product of thin matrices together is found exactly; what is small is sent as it is.
TEST(PowerSgd, FindsAMeanOfLowRank) {
  const auto left = gradient_of({30, 2}, 4), right = gradient_of({2, 40}, 5);
  on_ranks(3, [&](Peers& peers) {
    PowerSgd power_sgd({.rank = 2, .start_step = 0});
    const auto rank = static_cast<double>(peers.place().global_rank);
    const auto matrix = torch::matmul(left, right) * (rank + 1);
    const auto vector = torch::full({7}, rank, torch::kFloat64), small = torch::full({2, 3}, rank, torch::kFloat64);
    step_on(peers, power_sgd, {{"matrix", matrix}, {"vector", vector}, {"small", small}});
    EXPECT_LE((matrix - 2 * torch::matmul(left, right)).abs().max().item<double>(), 1e-10);
    EXPECT_EQ(vector.sum().item<double>(), 7);
    EXPECT_EQ(small.sum().item<double>(), 6);
  });
}

TEST(PowerSgd, SendsAMatrixWhoseGainIsMoreThanTheLeastRate) {
  // 8 x 8 numbers against 16: four times.
  for (const auto& [least_rate, is_compressed] : {std::pair{3.9, true}, std::pair{4.0, false}}) {
    on_ranks(2, [&, least_rate = least_rate, is_compressed = is_compressed](Peers& peers) {
      PowerSgd power_sgd({.rank = 1, .start_step = 0, .least_rate = least_rate});
      const auto gradient = gradient_of({8, 8}, 6);  // of all ranks
      const auto mean = gradient.clone();
      step_on(peers, power_sgd, {{"w", gradient}});
      EXPECT_EQ((gradient - mean).abs().max().item<double>() > 1e-3, is_compressed);
    });
  }
}

// What a step leaves out comes later: the sum of what was applied and of the errors is the sum of all gradients.
TEST(PowerSgd, FeedsErrorsBack) {
  on_ranks(2, [](Peers& peers) {
    PowerSgd power_sgd({.rank = 1, .start_step = 0});
    auto applied = torch::zeros({12, 10}, torch::kFloat64), wanted = torch::zeros({12, 10}, torch::kFloat64);
    for (uint64_t step = 0; step < 6; ++step) {
      for (uint64_t rank : {0, 1}) wanted += gradient_of({12, 10}, 10 * step + rank) / 2;
      const auto gradient = gradient_of({12, 10}, 10 * step + static_cast<uint64_t>(peers.place().global_rank));
      step_on(peers, power_sgd, {{"w", gradient}});
      applied += gradient;
    }
    Checkpoint own;
    power_sgd.append_own(own, 0);
    auto error = own.find("powersgd.0.error.w")->clone();
    peers.all_reduce(error, c10d::ReduceOp::SUM);
    EXPECT_GT(error.abs().max().item<double>(), 0.1);
    EXPECT_LE((applied + error / 2 - wanted).abs().max().item<double>(), 1e-12);
  });
}

// The same gradient again and again: with a warm start the matrices turn to its largest singular vectors.
TEST(PowerSgd, AWarmStartGetsBetterFromStepToStep) {
  const auto gradient = gradient_of({20, 20}, 7);
  const auto best = std::get<1>(torch::linalg_svd(gradient))[0].item<double>();
  for (const bool warm : {true, false}) {
    on_ranks(2, [&](Peers& peers) {
      PowerSgd power_sgd({.rank = 1, .start_step = 0, .error_feedback = false, .warm_start = warm});
      torch::Tensor sent;
      for (int step = 0; step < 60; ++step) {
        sent = gradient.clone();
        step_on(peers, power_sgd, {{"w", sent}});
      }
      EXPECT_EQ(std::abs(sent.norm().item<double>() - best) < 1e-3 * best, warm) << sent.norm() << best;
    });
  }
}

TEST(PowerSgd, AllRanksGetTheSameBits) {
  for (const auto type : {torch::kFloat32, torch::kBFloat16, torch::kFloat64}) {
    std::mutex mutex;
    std::vector<torch::Tensor> results;
    on_ranks(3, [&](Peers& peers) {
      PowerSgd power_sgd({.rank = 3, .start_step = 0});
      torch::Tensor gradient;
      for (uint64_t step = 0; step < 3; ++step) {
        gradient = gradient_of({33, 4, 6}, 7 * step + static_cast<uint64_t>(peers.place().global_rank), type);
        step_on(peers, power_sgd, {{"w", gradient}});
      }
      const std::lock_guard lock(mutex);
      results.push_back(gradient);
    });
    EXPECT_TRUE(has_same_bits(results[0], results[1]) && has_same_bits(results[0], results[2]));
    EXPECT_EQ(results[0].scalar_type(), type);
  }
}

// A step that is left out has no consequences.
TEST(PowerSgd, GradientsThatAreNotFiniteLeaveItAsItWas) {
  on_ranks(2, [](Peers& peers) {
    PowerSgd power_sgd({.rank = 1, .start_step = 0});
    const auto rank = static_cast<uint64_t>(peers.place().global_rank);
    step_on(peers, power_sgd, {{"w", gradient_of({12, 10}, rank)}});
    Checkpoint before, after;
    power_sgd.append_own(before, 0), power_sgd.append_shared(before, 0);
    for (auto& [name, tensor] : before.tensors) tensor = tensor.clone();
    auto bad = gradient_of({12, 10}, 5 + rank);
    if (rank == 1) bad[3][4] = std::numeric_limits<double>::infinity();
    step_on(peers, power_sgd, {{"w", bad}});
    EXPECT_FALSE(torch::isfinite(bad).all().item<bool>());
    power_sgd.append_own(after, 0), power_sgd.append_shared(after, 0);
    ASSERT_EQ(before.tensors.size(), 2u);
    for (const auto& [name, tensor] : before.tensors) EXPECT_TRUE(has_same_bits(tensor, *after.find(name))) << name;
  });
}

std::vector<torch::Tensor> steps_of(Peers& peers, PowerSgd& power_sgd, uint64_t from, uint64_t to) {
  std::vector<torch::Tensor> all;
  for (uint64_t step = from; step < to; ++step) {
    all.push_back(gradient_of({12, 10}, 10 * step + static_cast<uint64_t>(peers.place().global_rank), torch::kFloat32));
    step_on(peers, power_sgd, {{"w", all.back()}});
  }
  return all;
}

TEST(PowerSgd, GoesOnFromItsStateWithTheSameBits) {
  for (const bool warm : {true, false}) {
    on_ranks(2, [warm](Peers& peers) {
      const PowerSgdOptions options{.rank = 2, .start_step = 0, .warm_start = warm, .seed = 3};
      PowerSgd straight(options), first(options), second(options);
      const auto expected = steps_of(peers, straight, 0, 6);
      steps_of(peers, first, 0, 3);
      Checkpoint state;
      first.append_shared(state, 1), first.append_own(state, 1);
      second.load_shared(state, 1), second.load_own(state, 1);
      const auto later = steps_of(peers, second, 3, 6);
      for (std::size_t i = 0; i < later.size(); ++i) EXPECT_TRUE(has_same_bits(later[i], expected[i + 3])) << i << warm;
    });
  }
}

TEST(PowerSgd, OtherRanksTakeTheMeanOfTheErrors) {
  std::vector<Checkpoint> states(3);
  for (int64_t rank = 0; rank < 3; ++rank) {
    states[static_cast<std::size_t>(rank)].tensors = {{"powersgd.0.error.w", torch::full({12, 10}, rank + 1.0)}};
  }
  PowerSgd power_sgd({});
  power_sgd.load_mean(states, 0);
  Checkpoint own;
  power_sgd.append_own(own, 0);
  EXPECT_TRUE(torch::equal(*own.find("powersgd.0.error.w"), torch::full({12, 10}, 2.0)));
  states[1].tensors[0].second = torch::ones({2});
  EXPECT_THROW(power_sgd.load_mean(states, 0), CheckpointError);
}

TEST(PowerSgd, DamagedStateIsRefused) {
  PowerSgd power_sgd({});
  for (const auto& damaged : {nlohmann::json(7), nlohmann::json{{{"steps", -1}}}, nlohmann::json{3}}) {
    Checkpoint state;
    state.metadata["powersgd"] = damaged;
    EXPECT_THROW(power_sgd.load_shared(state, 0), CheckpointError) << damaged;
  }
}

}  // namespace
}  // namespace troupe
