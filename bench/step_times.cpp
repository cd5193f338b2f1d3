// The mean time of a training step of an MLP, ours or of a bare LibTorch loop, for bench/run captured_step.
//
//     step_times MODEL captured|plain|bare [STEPS]
//
// MODEL is 0 to 2, from small to large. One epoch warms up, the next is timed; STEPS are those of an epoch. The bare
// loop does what torch.optim.Adam(fused=True) does: it adds one to the counts of steps, then calls the fused kernel.
#include "bench/cells.hpp"
#include "bench/mlp.hpp"

#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_fused_adam.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

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

double measure(const MlpCase& c, std::string_view who) {
  torch::set_num_threads(1);
  const auto data = troupe::bench::mlp_batches(c);
  if (who == "bare") {
    const auto make = [](std::vector<torch::Tensor> parameters) {
      return std::make_unique<Adam>(std::move(parameters));
    };
    return troupe::bench::bare_loop(c, *data, make, epochs);
  }
  const troupe::bench::RunFolder folder;
  const auto capture = who == "captured" ? troupe::CaptureStep::require : troupe::CaptureStep::off;
  return troupe::bench::through_the_cast(c, data, folder.path(), capture, epochs);
}

}  // namespace

int main(int argc, char** argv) {
  return troupe::bench::run_cells(
      argc, argv, "step_times MODEL captured|plain|bare [STEPS]", 2, 3, [](const std::vector<std::string>& words) {
        const auto model = static_cast<std::size_t>(troupe::bench::count_of(words[0], 0));
        if (model >= cases.size()) throw troupe::UsageError("MODEL is 0 to " + std::to_string(cases.size() - 1));
        const bool is_known = words[1] == "captured" || words[1] == "plain" || words[1] == "bare";
        if (!is_known) throw troupe::UsageError("'" + words[1] + "' is none of captured, plain and bare");
        MlpCase c = cases[model];
        if (words.size() == 3) c.steps = troupe::bench::count_of(words[2]);
        troupe::bench::print_cell({{"us", measure(c, words[1])}});
      });
}
