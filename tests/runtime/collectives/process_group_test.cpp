// LibTorch's own engines over a backend of ours.
#include "troupe/runtime/collectives/process_group.hpp"

#include "tests/runtime/collectives/ranks.hpp"

#include <torch/csrc/distributed/c10d/logger.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace troupe {
namespace {

using Group = c10::intrusive_ptr<c10d::ProcessGroup>;

std::shared_ptr<torch::nn::SequentialImpl> make_net() {
  auto generator = at::detail::createCPUGenerator(3);
  auto net = std::make_shared<torch::nn::SequentialImpl>(torch::nn::Linear(8, 40), torch::nn::ReLU(),
                                                         torch::nn::Linear(40, 4));
  const torch::NoGradGuard no_grad;
  for (auto& parameter : net->parameters()) parameter.uniform_(-0.5, 0.5, generator);
  net->to(at::kDouble);
  return net;
}

at::Tensor batch_of(int rank) {
  auto generator = at::detail::createCPUGenerator(static_cast<uint64_t>(100 + rank));
  return at::rand({16, 8}, generator, at::kDouble);
}

std::shared_ptr<c10d::Reducer> reducer_for(const std::vector<at::Tensor>& parameters, const Group& group) {
  const auto buckets = std::get<0>(c10d::compute_bucket_assignment_by_size(parameters, {1024}));
  return std::make_shared<c10d::Reducer>(parameters, buckets, group, std::vector<bool>(parameters.size(), false),
                                         /*bucket_bytes_cap=*/1024, /*find_unused_parameters=*/false,
                                         /*gradient_as_bucket_view=*/true,
                                         std::unordered_map<std::size_t, std::string>(),
                                         /*first_bucket_bytes_cap=*/1024, /*skip_all_reduce_unused_params=*/false,
                                         /*use_python_reducer=*/false, std::vector<int64_t>());
}

void check_mean_of_gradients(const Group& group) {
  const auto net = make_net();
  const auto reducer = reducer_for(net->parameters(), group);
  for (int step = 0; step < 3; ++step) {
    for (auto& parameter : net->parameters()) {
      if (parameter.grad().defined()) parameter.mutable_grad().zero_();
    }
    reducer->prepare_for_forward();
    const auto loss = net->forward(batch_of(group->getRank() + step)).square().mean();
    reducer->prepare_for_backward({loss});
    loss.backward();
    reducer->rebuild_buckets();

    const auto alone = make_net();
    at::Tensor mean = at::zeros({}, at::kDouble);
    for (int rank = 0; rank < group->getSize(); ++rank) {
      mean = mean + alone->forward(batch_of(rank + step)).square().mean() / group->getSize();
    }
    mean.backward();
    for (std::size_t i = 0; i < net->parameters().size(); ++i) {
      EXPECT_TRUE(net->parameters()[i].grad().allclose(alone->parameters()[i].grad(), 1e-12, 1e-14)) << i;
    }
  }
}

TEST(ProcessGroup, CarriesTheReducer) {
  on_every_rank(MemoryWorld::create(2), [](CollectiveBackend& backend) {
    check_mean_of_gradients(as_process_group(c10::intrusive_ptr<c10d::Backend>::reclaim_copy(&backend)));
  });
}

TEST(ProcessGroup, ComparesAndBroadcastsParameters) {
  on_every_rank(MemoryWorld::create(3), [](CollectiveBackend& backend) {
    const auto group = as_process_group(c10::intrusive_ptr<c10d::Backend>::reclaim_copy(&backend));
    const std::vector<at::Tensor> parameters = {at::full({3, 4}, backend.getRank()), at::full({5}, backend.getRank())};
    c10d::verify_params_across_processes(group, parameters, {});
    c10d::broadcast_coalesced(group, parameters, 1024, 1);
    for (const auto& parameter : parameters) EXPECT_TRUE(parameter.eq(1).all().item<bool>());
    backend.barrier(c10d::BarrierOptions())->wait();
  });
}

TEST(ProcessGroup, EndsTheReducersWaitWhenARankIsMissing) {
  const auto world = MemoryWorld::create(2, {.timeout = std::chrono::milliseconds(50)});
  const auto group = as_process_group(world->backend(0));
  const auto net = make_net();
  const auto reducer = reducer_for(net->parameters(), group);
  const auto loss = net->forward(batch_of(0)).square().mean();
  reducer->prepare_for_backward({loss});
  EXPECT_NE(error_of([&] { loss.backward(); }), "");
}

}  // namespace
}  // namespace troupe
