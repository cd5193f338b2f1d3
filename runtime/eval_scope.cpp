#include "troupe/runtime/eval_scope.hpp"

#include <ATen/CPUGeneratorImpl.h>

namespace troupe {

EvalScope::EvalScope(torch::nn::Module& root) : root_(root), generator_(at::detail::getDefaultCPUGenerator()) {
  remember(root);
  random_state_ = generator_.get_state();
  root_.eval();
}

EvalScope::~EvalScope() {
  std::size_t next = 0;
  restore(root_, next);
  generator_.set_state(random_state_);
}

void EvalScope::remember(torch::nn::Module& module) {
  modes_.push_back(module.is_training());
  for (const auto& child : module.children()) remember(*child);
}

// train() reaches all modules below, so parents come first, and a module with two parents is set under both.
void EvalScope::restore(torch::nn::Module& module, std::size_t& next) {
  module.train(modes_[next++]);
  for (const auto& child : module.children()) restore(*child, next);
}

}  // namespace troupe
