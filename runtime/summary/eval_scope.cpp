#include "troupe/runtime/summary/eval_scope.hpp"

#include <ATen/CPUGeneratorImpl.h>

namespace troupe {

EvalScope::EvalScope(torch::nn::Module& root)
    : root_(root), modes_(root), generator_(at::detail::getDefaultCPUGenerator()) {
  random_state_ = generator_.get_state();
  for (const auto& buffer : root.buffers()) {
    if (buffer.defined() && !buffer.is_inference()) buffers_.push_back({buffer, buffer.clone(), buffer._version()});
  }
  root_.eval();
}

EvalScope::~EvalScope() {
  for (const auto& [buffer, content, version] : buffers_) {
    if (buffer._version() == version) continue;
    if (buffer.sizes() != content.sizes()) buffer.resize_(content.sizes());
    buffer.copy_(content);
  }
  modes_.put_back(root_);
  generator_.set_state(random_state_);
}

}  // namespace troupe
