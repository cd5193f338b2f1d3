// Memory and time of a training step of a GPT with a checkpoint around each of its blocks, against the same step
// without. Memory is what LibTorch's allocator has given out at most during the step, beyond what was there before; the
// peer keeps all that the backward pass needs. CPU, one thread.
#include "bench/allocated.hpp"
#include "bench/table.hpp"

#include <troupe/modules/activation_checkpoint.hpp>
#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <chrono>
#include <utility>
#include <vector>

namespace {

namespace nn = torch::nn;
using Clock = std::chrono::steady_clock;

struct Case {
  int64_t layers, width, context, batch_size;
};

class BlockImpl : public nn::Module {
 public:
  explicit BlockImpl(int64_t width)
      : norm1_(register_module("norm1", nn::LayerNorm(nn::LayerNormOptions({width})))),
        norm2_(register_module("norm2", nn::LayerNorm(nn::LayerNormOptions({width})))),
        qkv_(register_module("qkv", nn::Linear(width, 3 * width))),
        out_(register_module("out", nn::Linear(width, width))),
        up_(register_module("up", nn::Linear(width, 4 * width))),
        down_(register_module("down", nn::Linear(4 * width, width))) {}

  torch::Tensor forward(const torch::Tensor& x) {
    const auto batch = x.size(0), context = x.size(1), width = x.size(2), heads = width / 32;
    const auto parts = qkv_(norm1_(x)).reshape({batch, context, 3, heads, 32}).permute({2, 0, 3, 1, 4});
    const auto attended = torch::scaled_dot_product_attention(parts[0], parts[1], parts[2], {}, 0.0, true);
    const auto y = x + out_(attended.transpose(1, 2).reshape({batch, context, width}));
    return y + torch::dropout(down_(torch::gelu(up_(norm2_(y)))), 0.1, is_training());
  }

 private:
  nn::LayerNorm norm1_, norm2_;
  nn::Linear qkv_, out_, up_, down_;
};
TORCH_MODULE(Block);

struct Step {
  double megabytes, milliseconds;
};

Step step(std::vector<Block>& blocks, const torch::Tensor& input, bool with_checkpoints) {
  for (auto& block : blocks) block->zero_grad(/*set_to_none=*/false);
  torch::manual_seed(1);
  const troupe::bench::Allocated allocated;
  const auto start = Clock::now();
  torch::Tensor x = input;
  for (auto& block : blocks) {
    x = with_checkpoints
            ? troupe::activation_checkpoint([block](const torch::Tensor& x) mutable { return block(x); }, x)
            : block(x);
  }
  x.pow(2).mean().backward();
  x.reset();
  return {static_cast<double>(allocated.peak()) / 1e6,
          std::chrono::duration<double, std::milli>(Clock::now() - start).count()};
}

void measure(const Case& c, std::vector<troupe::bench::Row>& rows) {
  constexpr int rounds = 11;
  torch::manual_seed(1);
  std::vector<Block> blocks;
  for (int64_t i = 0; i < c.layers; ++i) blocks.emplace_back(c.width);
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
