// Optimizers whose weights to evaluate are not those that they train.
#pragma once

namespace troupe::optim {

/// Between eval() and train() the parameters hold the weights to evaluate, save and export. A Trainer sees to both: in
/// training the parameters are those that train, in a validation, in checkpoints and when training has ended those to
/// evaluate. Who steps the optimizer without a Trainer calls both, as PyTorch's users of such optimizers do. Touched by
/// the thread that steps the optimizer.
class EvaluationWeights {
 public:
  virtual ~EvaluationWeights() = default;
  /// Nothing if the parameters hold them already.
  virtual void eval() = 0;
  /// The weights that train, to the bit; nothing if the parameters hold them.
  virtual void train() = 0;
  virtual bool is_evaluating() const = 0;
};

}  // namespace troupe::optim
