// Memory and time of a training step of a GPT with a checkpoint around each of its blocks, against the same step
// without. Memory is what LibTorch's allocator has given out at most during the step, beyond what was there before; the
// peer keeps all that the backward pass needs. CPU, one thread.
#include "bench/allocated.hpp"
#include "bench/table.hpp"
#include "examples/gpt/gpt.hpp"

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <chrono>
#include <memory>
#include <vector>

namespace {

using Blocks = std::vector<std::shared_ptr<gpt::Block>>;
using Clock = std::chrono::steady_clock;

struct Case {
  int64_t layers, width, context, batch_size;
};

struct Step {
  double megabytes, milliseconds;
};

Step step(const Blocks& blocks, const torch::Tensor& input, bool with_checkpoints) {
  for (const auto& block : blocks) block->zero_grad(/*set_to_none=*/false);
  torch::manual_seed(1);
  const troupe::bench::Allocated allocated;
  const auto start = Clock::now();
  torch::Tensor x = input;
  for (const auto& block : blocks) {
    x = with_checkpoints
            ? troupe::activation_checkpoint([block](const torch::Tensor& x) { return block->forward(x); }, x)
            : block->forward(x);
  }
  x.pow(2).mean().backward();
  x.reset();
  return {static_cast<double>(allocated.peak()) / 1e6,
          std::chrono::duration<double, std::milli>(Clock::now() - start).count()};
}

void measure(const Case& c, std::vector<troupe::bench::Row>& rows) {
  constexpr int rounds = 11;
  torch::manual_seed(1);
  Blocks blocks;
  while (static_cast<int64_t>(blocks.size()) < c.layers) {
    blocks.push_back(std::make_shared<gpt::Block>(GptOptions{.width = c.width, .context = c.context}));
  }
  const auto input = torch::randn({c.batch_size, c.context, c.width});
  std::vector<double> our_memory, peer_memory, our_time, peer_time;
  for (int round = -1; round < rounds; ++round) {
    const auto peer = step(blocks, input, false), ours = step(blocks, input, true);
    if (round < 0) continue;  // makes the gradients
    our_memory.push_back(ours.megabytes);
    peer_memory.push_back(peer.megabytes);
    our_time.push_back(ours.milliseconds);
    peer_time.push_back(peer.milliseconds);
  }
  using troupe::bench::summarize;
  const std::string name = std::to_string(c.layers) + " blocks of " + std::to_string(c.width) + ", " +
                           std::to_string(c.batch_size) + " x " + std::to_string(c.context) + " tokens: ";
  rows.push_back(troupe::bench::at_most(name + "peak", summarize(our_memory), summarize(peer_memory), "MB", 0.4));
  // A forward pass more, of what were a forward pass and a backward pass of twice the work.
  rows.push_back(troupe::bench::at_most(name + "time", summarize(our_time), summarize(peer_time), "ms", 1.4));
}

}  // namespace

int main(int argc, char** argv) {
  return troupe::bench::run(argc, argv, "A training step with activation checkpoints against one without", [] {
    torch::set_num_threads(1);
    std::vector<troupe::bench::Row> rows;
    measure({4, 128, 128, 4}, rows);
    measure({12, 128, 128, 4}, rows);
    return rows;
  });
}
