#include "troupe/runtime/distributed/gradient_announcement.hpp"

#include "troupe/runtime/distributed/autograd_node.hpp"

#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/types.h>

#include <memory>
#include <utility>

namespace troupe {

namespace {

class ComputeNode : public torch::autograd::Node {
 public:
  explicit ComputeNode(const std::function<void()>& compute) : compute_(compute) {}

  torch::autograd::variable_list apply(torch::autograd::variable_list&&) override {
    compute_();
    return {};
  }

 private:
  const std::function<void()>& compute_;
};

class Densify : public torch::autograd::FunctionPreHook {
 public:
  torch::autograd::variable_list operator()(const torch::autograd::variable_list& gradients) override {
    auto dense = gradients;
    for (auto& gradient : dense) {
      if (gradient.defined() && gradient.is_sparse()) gradient = gradient.to_dense();
    }
    return dense;
  }
};

}  // namespace

void run_as_backward(const std::function<void()>& compute) {
  const auto root = make_autograd_node<ComputeNode>(compute);
  const auto nothing = torch::zeros({});
  root->add_input_metadata(nothing);
  (void)torch::autograd::Engine::get_default_engine().execute({torch::autograd::Edge(root, 0)}, {nothing},
                                                              /*keep_graph=*/false, /*create_graph=*/false,
                                                              /*accumulate_grad=*/true);
}

void announce_gradient(const torch::Tensor& parameter) {
  const auto accumulator = torch::autograd::impl::try_get_grad_accumulator(parameter);
  if (!accumulator) return;
  for (const auto& hook : accumulator->post_hooks()) (void)(*hook)({}, {});
}

void densify_gradients(torch::autograd::Node& accumulator) {
  accumulator.add_pre_hook(std::make_unique<Densify>());
}

}  // namespace troupe
