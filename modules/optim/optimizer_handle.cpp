#include "troupe/modules/optim/optimizer_handle.hpp"

#include "troupe/modules/optim/drop_gradients.hpp"
#include "troupe/modules/optim/optimizers.hpp"
#include "troupe/modules/run_context.hpp"

namespace troupe {

torch::optim::Optimizer& OptimizerHandle::operator*() const {
  return run_->optimizers()[index_];
}

void OptimizerHandle::zero_grad() const {
  drop_gradients(**this);
}

void OptimizerHandle::step() const {
  run_->step_optimizer(index_, nullptr);
}

void OptimizerHandle::step(const OptimizerClosure& closure) const {
  run_->step_optimizer(index_, closure);
}

OptimizerHandle::Toggled::Toggled(const OptimizerHandle& handle) : run_(handle.run_), index_(handle.index_) {
  run_->toggle_optimizer(index_);
}

OptimizerHandle::Toggled::~Toggled() {
  run_->untoggle_optimizer(index_);
}

}  // namespace troupe
