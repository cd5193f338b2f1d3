// Threads that share a forward; the thread sanitizer runs it, too.
#include "troupe/runtime/inference/forward_capture.hpp"

#include "tests/support/same_bits.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

namespace troupe::inference {
namespace {

TEST(ForwardCapture, IsSharedByThreadsThatAskForDifferentShapes) {
  namespace nn = torch::nn;
  nn::Sequential net(nn::Conv2d(nn::Conv2dOptions(1, 3, 3).padding(1)), nn::ReLU(), nn::MaxPool2d(2), nn::Flatten(),
                     nn::Linear(12, 5), nn::ReLU(), nn::Linear(5, 2));
  net->eval();
  const auto forward = [&net](const torch::Tensor& x) { return net->forward(x); };
  for (const std::size_t callers : {1, 3}) {
    ForwardCapture capture(*net, forward, {.exact = true, .max_shapes = 2, .max_callers = callers});
    std::atomic<int> differences = 0;
    std::vector<std::thread> threads;
    for (int64_t number = 0; number < 4; ++number) {
      threads.emplace_back([&, number] {
        const torch::NoGradGuard no_gradients;
        for (int64_t i = 0; i < 50; ++i) {
          const auto x = torch::full({1 + (i / 5 + number) % 3, 1, 4, 4}, 0.01 * static_cast<double>(i + 50 * number));
          if (!has_same_bits(capture.compute(x), forward(x))) ++differences;
          if (i == 25) (void)capture.report();
        }
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(differences, 0);
    EXPECT_GT(capture.report().replays("forward"), 0);
  }
}

}  // namespace
}  // namespace troupe::inference
