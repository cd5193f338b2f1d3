// How numbers in traces are explained by the sizes that the traces were made with.
#include "troupe/runtime/export/size_formula.hpp"

#include <gtest/gtest.h>

#include <functional>

namespace troupe {
namespace {

using Sizes = std::vector<int64_t>;

const AxisTrial batch{"batch", 2, 4, {3, 4}}, time_axis{"time", 8, 16, {9, 10}};

std::string formula_of(const std::vector<AxisTrial>& axes, const std::function<int64_t(const Sizes&)>& value) {
  Sizes values;
  for (const auto& sizes : trial_sizes(axes)) values.push_back(value(sizes));
  const auto formula = fit_sizes(axes, values);
  return formula ? formula->text(axes) : "none";
}

TEST(SizeFormula, FindsAConstantAMultipleAndASum) {
  EXPECT_EQ(formula_of({batch}, [](const Sizes&) { return 7; }), "7");
  EXPECT_EQ(formula_of({batch}, [](const Sizes&) { return 0; }), "0");
  EXPECT_EQ(formula_of({batch}, [](const Sizes& s) { return s[0]; }), "batch");
  EXPECT_EQ(formula_of({batch}, [](const Sizes& s) { return 3 * s[0] - 1; }), "3*batch - 1");
  EXPECT_EQ(formula_of({batch}, [](const Sizes& s) { return -s[0]; }), "-batch");
}

TEST(SizeFormula, FindsProductsOfSizes) {
  EXPECT_EQ(formula_of({batch, time_axis}, [](const Sizes& s) { return s[0] * s[1]; }), "batch*time");
  EXPECT_EQ(formula_of({batch, time_axis}, [](const Sizes& s) { return 2 * s[0] * s[1] + 3 * s[1] - s[0] + 5; }),
            "2*batch*time + 3*time - batch + 5");
}

TEST(SizeFormula, FindsDivisionsThatRoundEitherWay) {
  EXPECT_EQ(formula_of({time_axis}, [](const Sizes& s) { return s[0] / 2; }), "time // 2");
  EXPECT_EQ(formula_of({time_axis}, [](const Sizes& s) { return (s[0] + 1) / 2; }), "(time + 1) // 2");
  EXPECT_EQ(formula_of({time_axis}, [](const Sizes& s) { return (s[0] - 3) / 2 + 1; }), "(time - 1) // 2");
  EXPECT_EQ(formula_of({batch, time_axis}, [](const Sizes& s) { return s[1] / 2; }), "time // 2");
}

TEST(SizeFormula, BelievesADivisionOnlyWhereAllItsRemaindersWereSeen) {
  EXPECT_EQ(formula_of({time_axis}, [](const Sizes& s) { return s[0] / 4; }), "none");
  const AxisTrial multiples{"time", 8, 16, {}};  // forward took no size in between
  EXPECT_EQ(formula_of({multiples}, [](const Sizes& s) { return s[0] / 4; }), "time // 4");
}

TEST(SizeFormula, HalvesSizesThatMustBeEven) {
  const AxisTrial even{"height", 6, 12, {8, 4}};  // forward took neither 7 nor 5
  EXPECT_EQ(formula_of({even}, [](const Sizes& s) { return s[0] / 2; }), "height // 2");
}

TEST(SizeFormula, RefusesWhatIsNoSumOfProducts) {
  EXPECT_EQ(formula_of({time_axis}, [](const Sizes& s) { return s[0] * s[0]; }), "none");
  EXPECT_EQ(formula_of({time_axis}, [](const Sizes& s) { return s[0] % 2; }), "none");
  EXPECT_EQ(formula_of({batch, time_axis}, [](const Sizes& s) { return s[0] * s[1] / 2; }), "none");
}

TEST(SizeFormula, RoundsDownBelowZero) {
  EXPECT_EQ((SizeFormula{{-3, 1}, 2}.at({2})), -1);
}

}  // namespace
}  // namespace troupe
