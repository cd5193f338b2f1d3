#include "troupe/runtime/summary/eval_scope.hpp"

#include <ATen/CPUGeneratorImpl.h>

namespace troupe {

EvalScope::EvalScope(torch::nn::Module& root)
    : root_(root), modes_(root), generator_(at::detail::getDefaultCPUGenerator()) {
  random_state_ = generator_.get_state();
  root_.eval();
}

EvalScope::~EvalScope() {
  modes_.put_back(root_);
  generator_.set_state(random_state_);
}

}  // namespace troupe
