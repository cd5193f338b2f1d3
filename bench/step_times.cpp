// What bench/run starts: the mean time of a training step, ours or of a bare LibTorch loop, as a line of JSON.
//
//     step_times MODEL captured|plain|bare [STEPS]
//
// MODEL is 0 to 2, from small to large. One epoch warms up, the next is timed; STEPS are those of an epoch. The bare
// loop does what torch.optim.Adam(fused=True) does: it adds one to the counts of steps, then calls the fused kernel.
#include "bench/mlp.hpp"

#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_fused_adam.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <unistd.h>

namespace {

using troupe::bench::MlpCase;

constexpr std::array cases = {MlpCase{16, 8, 8000}, MlpCase{128, 32, 2000}, MlpCase{512, 64, 400}};
constexpr int64_t epochs = 2;

class Adam {
 public:
  explicit Adam(std::vector<torch::Tensor> parameters) : parameters_(std::move(parameters)) {
    for (const auto& parameter : parameters_) {
      means_.push_back(torch::zeros_like(parameter));
      squares_.push_back(torch::zeros_like(parameter));
      steps_.push_back(torch::zeros({}));
    }
  }
  void zero_grad() {
    for (auto& parameter : parameters_) parameter.mutable_grad().reset();
  }
  void step() {
    const torch::NoGradGuard no_gradients;
    gradients_.clear();
    for (const auto& parameter : parameters_) gradients_.push_back(parameter.grad());
    at::_foreach_add_(steps_, 1);
    at::_fused_adam_(parameters_, gradients_, means_, squares_, /*max_exp_avg_sqs=*/{}, steps_, /*lr=*/1e-3,
                     /*beta1=*/0.9, /*beta2=*/0.999, /*weight_decay=*/0, /*eps=*/1e-8, /*amsgrad=*/false,
                     /*maximize=*/false);
  }

 private:
  std::vector<torch::Tensor> parameters_, gradients_, means_, squares_, steps_;
};

// Whether all of `text` is a number, from 0 on.
bool read_number(std::string_view text, int64_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number >= 0;
}

double measure(const MlpCase& c, std::string_view who) {
  torch::set_num_threads(1);
  const auto data = troupe::bench::mlp_batches(c);
  if (who == "bare") {
    const auto make = [](std::vector<torch::Tensor> parameters) {
      return std::make_unique<Adam>(std::move(parameters));
    };
    return troupe::bench::bare_loop(c, *data, make, epochs);
  }
  const auto folder = std::filesystem::temp_directory_path() / ("troupe_step_times_" + std::to_string(getpid()));
  const auto capture = who == "captured" ? troupe::CaptureStep::require : troupe::CaptureStep::off;
  const double us = troupe::bench::through_the_cast(c, data, folder, capture, epochs);
  std::filesystem::remove_all(folder);
  return us;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string_view> given(argv + 1, argv + argc);
  const bool is_known = given.size() >= 2 && (given[1] == "captured" || given[1] == "plain" || given[1] == "bare");
  int64_t model = 0, steps = 0;
  if (!is_known || given.size() > 3 || !read_number(given[0], model) || model >= int64_t{cases.size()} ||
      (given.size() == 3 && (!read_number(given[2], steps) || steps == 0))) {
    std::cerr << "step_times: takes MODEL (0 to " << cases.size() - 1
              << "), captured, plain or bare, and perhaps the number of STEPS\n";
    return 2;
  }
  MlpCase c = cases[static_cast<std::size_t>(model)];
  if (steps > 0) c.steps = steps;
  try {
    const double us = measure(c, given[1]);
    std::printf("{\"model\": \"784-%d-10 b%d\", \"who\": \"%s\", \"us\": %.3f}\n", static_cast<int>(c.hidden),
                static_cast<int>(c.batch_size), std::string(given[1]).c_str(), us);
  } catch (const std::exception& error) {
    std::cerr << "step_times: " << error.what() << '\n';
    return 1;
  }
}
