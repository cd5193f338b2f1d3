// Memory and time of a training step of a GPT with a checkpoint around each of its blocks, against the same step
// without. Memory is what LibTorch's allocator has given out at most during the step, beyond what was there before; the
// peer keeps all that the backward pass needs. CPU, one thread.
#include "bench/allocated.hpp"
#include "bench/cells.hpp"
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

void measure(const Case& c, int64_t rounds) {
  torch::manual_seed(1);
  Blocks blocks;
  while (static_cast<int64_t>(blocks.size()) < c.layers) {
    blocks.push_back(std::make_shared<gpt::Block>(GptOptions{.width = c.width, .context = c.context}));
  }
  const auto input = torch::randn({c.batch_size, c.context, c.width});
  std::vector<double> memory[2], times[2];
  for (int64_t round = -1; round < rounds; ++round) {
    for (const bool with_checkpoints : {false, true}) {
      const auto taken = step(blocks, input, with_checkpoints);
      if (round < 0) continue;  // makes the gradients
      memory[with_checkpoints].push_back(taken.megabytes);
      times[with_checkpoints].push_back(taken.milliseconds);
    }
  }
  const std::string name = std::to_string(c.layers) + " blocks of " + std::to_string(c.width) + ", " +
                           std::to_string(c.batch_size) + " x " + std::to_string(c.context) + " tokens";
  for (const bool with_checkpoints : {false, true}) {
    troupe::bench::print_cell({{"case", name},
                               {"who", with_checkpoints ? "with" : "without"},
                               {"peak_mb", troupe::bench::median(memory[with_checkpoints])},
                               {"ms", troupe::bench::median(times[with_checkpoints])}});
  }
}

}  // namespace

int main(int argc, char** argv) {
  return troupe::bench::run_cells(argc, argv, "activation_checkpoint [ROUNDS]", 0, 1, [](const auto& words) {
    torch::set_num_threads(1);
    const int64_t rounds = words.empty() ? 11 : troupe::bench::count_of(words[0]);
    measure({4, 128, 128, 4}, rounds);
    measure({12, 128, 128, 4}, rounds);
  });
}
