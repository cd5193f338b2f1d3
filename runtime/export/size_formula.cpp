#include "troupe/runtime/export/size_formula.hpp"

#include <algorithm>
#include <bit>
#include <numeric>
#include <set>

namespace troupe {

int64_t floor_divide(int64_t a, int64_t b) {
  return a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0);
}

namespace {

bool has(std::size_t set, std::size_t axis) {
  return (set >> axis & 1) != 0;
}

/// The formula through the values at the corners, where each axis is at base or far. It is linear in each size.
SizeFormula through_corners(const std::vector<AxisTrial>& axes, const std::vector<int64_t>& values) {
  const std::size_t sets = std::size_t{1} << axes.size();
  // What each set of axes adds when they go from base to far together (Moebius inversion over the subsets).
  std::vector<int64_t> added(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(sets));
  for (std::size_t k = 0; k < axes.size(); ++k) {
    for (std::size_t set = 0; set < sets; ++set) {
      if (has(set, k)) added[set] -= added[set ^ (std::size_t{1} << k)];
    }
  }
  // The value is the sum over sets T of added[T] * prod_{k in T} (size_k - base_k) / step_k; multiplied out over the
  // product of all steps.
  SizeFormula formula{std::vector<int64_t>(sets, 0), 1};
  for (const auto& axis : axes) formula.divisor *= axis.far - axis.base;
  for (std::size_t from = 0; from < sets; ++from) {
    for (std::size_t set = 0; set < sets; ++set) {
      if ((set & ~from) != 0) continue;
      int64_t term = added[from];
      for (std::size_t k = 0; k < axes.size(); ++k) {
        if (!has(from, k)) term *= axes[k].far - axes[k].base;
        if (has(from, k) && !has(set, k)) term *= -axes[k].base;
      }
      formula.coefficients[set] += term;
    }
  }
  int64_t common = formula.divisor;
  for (const auto coefficient : formula.coefficients) common = std::gcd(common, coefficient);
  if (formula.divisor < 0) common = -common;
  formula.divisor /= common;
  for (auto& coefficient : formula.coefficients) coefficient /= common;
  return formula;
}

bool explains(const SizeFormula& formula, const std::vector<std::vector<int64_t>>& sizes,
              const std::vector<int64_t>& values) {
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (formula.at(sizes[i]) != values[i]) return false;
  }
  return true;
}

/// Whether a division in the formula was seen with all remainders of the one axis that it depends on.
bool sees_all_remainders(const SizeFormula& formula, const std::vector<AxisTrial>& axes) {
  std::optional<std::size_t> only;
  for (std::size_t set = 1; set < formula.coefficients.size(); ++set) {
    if (formula.coefficients[set] == 0) continue;
    if (only || !std::has_single_bit(set)) return false;
    only = static_cast<std::size_t>(std::countr_zero(set));
  }
  if (!only) return false;
  const auto& axis = axes[*only];
  // The sizes beside base were tried first; forward took them if it takes odd sizes and even ones.
  if (axis.neighbours.empty() || formula.divisor == 2) return true;
  std::set<int64_t> remainders{axis.base % formula.divisor, axis.far % formula.divisor};
  for (const auto size : axis.neighbours) remainders.insert(size % formula.divisor);
  return static_cast<int64_t>(remainders.size()) == formula.divisor;
}

}  // namespace

std::vector<std::vector<int64_t>> trial_sizes(const std::vector<AxisTrial>& axes) {
  std::vector<std::vector<int64_t>> trials;
  for (std::size_t set = 0; set < std::size_t{1} << axes.size(); ++set) {
    auto& sizes = trials.emplace_back();
    for (std::size_t k = 0; k < axes.size(); ++k) sizes.push_back(has(set, k) ? axes[k].far : axes[k].base);
  }
  for (std::size_t k = 0; k < axes.size(); ++k) {
    for (const auto size : axes[k].neighbours) {
      trials.push_back(trials.front());
      trials.back()[k] = size;
    }
  }
  return trials;
}

int64_t SizeFormula::at(const std::vector<int64_t>& sizes) const {
  int64_t sum = 0;
  for (std::size_t set = 0; set < coefficients.size(); ++set) {
    int64_t term = coefficients[set];
    for (std::size_t k = 0; k < sizes.size(); ++k) term *= has(set, k) ? sizes[k] : 1;
    sum += term;
  }
  return floor_divide(sum, divisor);
}

std::string SizeFormula::text(const std::vector<AxisTrial>& axes) const {
  std::string out;
  for (std::size_t set = coefficients.size(); set-- > 0;) {
    const auto coefficient = coefficients[set];
    if (coefficient == 0) continue;
    if (!out.empty())
      out += coefficient < 0 ? " - " : " + ";
    else if (coefficient < 0)
      out += "-";
    std::string term;
    const auto size = std::abs(coefficient);
    if (size != 1 || set == 0) term = std::to_string(size);
    for (std::size_t k = 0; k < axes.size(); ++k) {
      if (has(set, k)) term += (term.empty() ? "" : "*") + axes[k].name;
    }
    out += term;
  }
  if (out.empty()) out = "0";
  if (divisor == 1) return out;
  if (out.find(' ') != std::string::npos) out = "(" + out + ")";
  return out + " // " + std::to_string(divisor);
}

std::optional<SizeFormula> fit_sizes(const std::vector<AxisTrial>& axes, const std::vector<int64_t>& values) {
  const auto sizes = trial_sizes(axes);
  auto formula = through_corners(axes, values);
  if (explains(formula, sizes, values) && (formula.divisor == 1 || sees_all_remainders(formula, axes))) return formula;
  // A division may round otherwise than at the corners: (n + 1) / 2 is n / 2 for an even n.
  for (int64_t rest = 1; rest < formula.divisor; ++rest) {
    ++formula.coefficients[0];
    if (explains(formula, sizes, values) && sees_all_remainders(formula, axes)) return formula;
  }
  return std::nullopt;
}

}  // namespace troupe
