// How a whole number in a traced graph depends on the sizes of the axes that may change.
//
// LibTorch's tracer writes sizes down as the numbers that they were: a graph traced with 2 samples says
// view(x, [2, 16]). So forward is traced with several sizes, and a number that differs is what these formulas explain.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

/// The sizes that an axis gets in the traces: that of the example, and others that forward took.
struct AxisTrial {
  std::string name;
  int64_t base = 0;
  int64_t far = 0;  ///< a multiple or a half of base where forward takes one
  /// The first two of base + 1, base + 2, base - 1 and base - 2 that forward takes; it may take none, say because sizes
  /// must be multiples of 4.
  std::vector<int64_t> neighbours;
};

/// The sizes of all axes in each trace: first every axis at base or far (bit k of the index: axis k is at far), then
/// each axis at each of its neighbours while the others are at base.
std::vector<std::vector<int64_t>> trial_sizes(const std::vector<AxisTrial>& axes);

/// a / b, rounded down as Python's // does.
int64_t floor_divide(int64_t a, int64_t b);

/// floor(sum / divisor), where the sum has a term for each set of axes: coefficients[set] times the axes' sizes. Bit k
/// of `set` stands for axis k.
struct SizeFormula {
  std::vector<int64_t> coefficients;
  int64_t divisor = 1;

  int64_t at(const std::vector<int64_t>& sizes) const;
  /// "2*batch + 1", for people.
  std::string text(const std::vector<AxisTrial>& axes) const;
};

/// The formula that gives `values`, one for each trial; nothing if there is none. A division is only believed where
/// the trials show every remainder that it can have, or forward takes only one of them.
std::optional<SizeFormula> fit_sizes(const std::vector<AxisTrial>& axes, const std::vector<int64_t>& values);

}  // namespace troupe
