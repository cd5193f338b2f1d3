// What keeps the tensors of a checkpoint, or of any file of weights, from being taken, as one sentence.
#pragma once

#include <torch/types.h>

#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// Names that a file and the running program do not share, and tensors that differ. Collected whole, so that one error
/// counts all of them.
struct Differences {
  std::vector<std::string> missing;    ///< the program has them, the file has not
  std::vector<std::string> left_over;  ///< the file has them, the program has not
  std::vector<std::string> unlike;     ///< "weight is [2, 3] Float in it and [2, 4] Float here"

  bool any() const { return !missing.empty() || !left_over.empty() || !unlike.empty(); }
  /// "2 missing in it: a, b; 12 left over in it: c, ... and 2 more; 1 that differs: d is ... here": the number of each
  /// kind and the first ten. Names are made fit to show; `unlike` has to be.
  std::string describe() const;

  /// Adds to `unlike` and answers false if a saved tensor cannot become the live one: another shape, or a type that
  /// would lose the value's meaning (floating types are converted into each other, as PyTorch does).
  bool fits(std::string_view name, const torch::Tensor& saved, const torch::Tensor& live);

  /// "weight is [2, 3] Float in it and [2, 4] Float here".
  static std::string unlike_text(std::string_view name, const torch::Tensor& saved, const torch::Tensor& live);
};

}  // namespace troupe
