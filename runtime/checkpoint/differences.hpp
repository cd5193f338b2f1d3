// What keeps a checkpoint's tensors from being taken, as one sentence.
#pragma once

#include <torch/types.h>

#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// Names that a checkpoint and the running program do not share, and tensors that differ. Collected whole, so that one
/// error shows all of it.
struct Differences {
  std::vector<std::string> missing;    ///< the program has them, the checkpoint has not
  std::vector<std::string> left_over;  ///< the checkpoint has them, the program has not
  std::vector<std::string> unlike;     ///< "weight is [2, 3] Float in the checkpoint and [2, 4] Float here"

  bool any() const { return !missing.empty() || !left_over.empty() || !unlike.empty(); }
  /// "missing in the checkpoint: a, b; left over in it: c; d is ... here". Long lists are cut, names made fit to show.
  std::string describe() const;

  /// Adds to `unlike` and answers false if a saved tensor cannot become the live one: another shape, or a type that
  /// would lose the value's meaning (floating types are converted into each other, as PyTorch does).
  bool fits(std::string_view name, const torch::Tensor& saved, const torch::Tensor& live);
};

}  // namespace troupe
