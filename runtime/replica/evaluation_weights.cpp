#include "troupe/runtime/replica/evaluation_weights.hpp"

#include "troupe/modules/optim/evaluation_weights.hpp"

#include <algorithm>

namespace troupe {

namespace {

bool show(ReplicaCore& core, const GradientSync& sync, bool evaluating) {
  bool has_changed = false;
  for (std::size_t i = 0; i < core.optimizers.size(); ++i) {
    auto* weights = dynamic_cast<optim::EvaluationWeights*>(&core.optimizers[i]);
    if (!weights || weights->is_evaluating() == evaluating) continue;
    evaluating ? weights->eval() : weights->train();
    sync.gather_parameters(i);
    has_changed = true;
  }
  return has_changed;
}

}  // namespace

bool show_evaluation_weights(ReplicaCore& core, const GradientSync& sync) {
  return show(core, sync, /*evaluating=*/true);
}

bool show_training_weights(ReplicaCore& core, const GradientSync& sync) {
  return show(core, sync, /*evaluating=*/false);
}

bool has_evaluation_weights(const ReplicaCore& core) {
  return std::ranges::any_of(core.optimizers, [](const OptimizerPtr& optimizer) {
    return dynamic_cast<const optim::EvaluationWeights*>(optimizer.get()) != nullptr;
  });
}

}  // namespace troupe
