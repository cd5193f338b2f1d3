// PowerSGD against PyTorch's powerSGD_hook, and DiLoCo against its optimizers: weights to 1e-10 in float64 and to 1e-5
// in float32, after steps of two ranks.
#include "tests/parity/parity.hpp"
#include "tests/support/ranks_in_memory.hpp"
#include "troupe/runtime/distributed/gradient_reducer.hpp"
#include "troupe/runtime/distributed/local_training.hpp"

#include <utility>

namespace troupe {
namespace {

// As in communication.py.
constexpr int64_t compressed_from = 2, steps = 12, inner_steps = 5, outer_steps = 4;

const std::vector<std::pair<const char*, PowerSgdOptions>>& power_sgd_cases() {
  static const std::vector<std::pair<const char*, PowerSgdOptions>> all = {
      {"rank_1", {.rank = 1, .start_step = compressed_from}},
      {"rank_2", {.rank = 2, .start_step = compressed_from}},
      {"rank_4", {.rank = 4, .start_step = compressed_from}},
      {"no_feedback", {.rank = 2, .start_step = compressed_from, .error_feedback = false}}};
  return all;
}

// The network of one rank, with its data.
struct TwoLayers {
  TwoLayers(const Tensors& reference, torch::ScalarType type, int64_t rank)
      : net(torch::nn::Linear(20, 24), torch::nn::Tanh(), torch::nn::Linear(24, 12)),
        x(reference.at("x")[rank].to(type)),
        y(reference.at("y")[rank].to(type)) {
    set_floating_type(*net, type);
    start_from(*net, reference, "start.");
  }
  torch::Tensor loss() { return torch::mse_loss(net->forward(x), y); }
  std::vector<std::pair<std::string, torch::Tensor>> parameters() const {
    std::vector<std::pair<std::string, torch::Tensor>> all;
    for (const auto& item : net->named_parameters()) all.emplace_back(item.key(), item.value());
    return all;
  }

  torch::nn::Sequential net;
  torch::Tensor x, y;
};

class CommunicationParity : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { reference_ = pytorch_reference("communication.py"); }
  static void TearDownTestSuite() { reference_.clear(); }

  // The matrices that PyTorch's first compressed step begins with, as the state of a PowerSgd.
  static Checkpoint first_matrices(const std::string& key) {
    Checkpoint state;
    state.metadata["powersgd"] = {{{"steps", 0}}};
    for (const auto& [name, tensor] : reference_) {
      const auto prefix = key + ".q.";
      if (name.starts_with(prefix)) {
        state.tensors.emplace_back("powersgd.0.q." + name.substr(prefix.size()), tensor);
      }
    }
    EXPECT_FALSE(state.tensors.empty()) << key;
    return state;
  }

  static Tensors reference_;
};
Tensors CommunicationParity::reference_;

TEST_F(CommunicationParity, PowerSgdTrainsToTheWeightsOfPyTorchsHook) {
  for (const auto& [name, options] : power_sgd_cases()) {
    for (const auto& type : number_types) {
      const auto key = std::string(name) + "." + type.name;
      SCOPED_TRACE(key);
      const Checkpoint first = first_matrices(key);
      on_ranks(2, [&, options = options](Peers& peers) {
        TwoLayers own(reference_, type.type, peers.place().global_rank);
        PowerSgd power_sgd(options);
        power_sgd.load_shared(first, 0);
        ReducerOptions reducing;
        reducing.compression = GradientCompression::powersgd;
        reducing.power_sgd = &power_sgd;
        GradientReducer reducer(own.parameters(), peers, reducing);
        torch::optim::SGD optimizer(own.net->parameters(), torch::optim::SGDOptions(0.05).momentum(0.9));
        std::vector<torch::Tensor> losses;
        for (int64_t step = 0; step < steps; ++step) {
          for (auto& parameter : own.net->parameters()) parameter.mutable_grad().reset();
          reducer.begin();
          const auto loss = own.loss();
          reducer.prepare(loss);
          loss.backward();
          optimizer.step();
          losses.push_back(loss.detach());
        }
        if (peers.place().global_rank > 0) return;
        expect_losses(losses, reference_, key, type.tolerance);
        expect_weights(*own.net, reference_, key, type.tolerance);
      });
    }
  }
}

// A compressed run is another one than one that is not.
TEST_F(CommunicationParity, TheRanksOfMatricesMakeADifference) {
  const auto weights = [&](const char* name) { return reference_.at(std::string(name) + ".float64.0.weight"); };
  EXPECT_GT(largest_difference(weights("rank_1"), weights("rank_2")), 1e-4);
  EXPECT_GT(largest_difference(weights("rank_2"), weights("rank_4")), 1e-4);
  EXPECT_GT(largest_difference(weights("rank_2"), weights("no_feedback")), 1e-4);
}

TEST_F(CommunicationParity, DiLoCoTrainsToTheWeightsOfPyTorchsOptimizers) {
  for (const auto& type : number_types) {
    const auto key = std::string("diloco.") + type.name;
    on_ranks(2, [&](Peers& peers) {
      TwoLayers own(reference_, type.type, peers.place().global_rank);
      LocalTraining local(peers, {.steps = inner_steps, .lr = 0.7, .momentum = 0.9});
      local.add(own.parameters());
      auto optimizer = optim::adamw(own.net->parameters(), {.lr = 0.01});
      for (int64_t step = 0; step < outer_steps * inner_steps; ++step) {
        optimizer->zero_grad();
        own.loss().backward();
        optimizer->step();
        local.count_step();
      }
      expect_weights(*own.net, reference_, key, type.tolerance);
    });
  }
}

}  // namespace
}  // namespace troupe
