// AOTInductor compiles an exported program.
#include "tests/runtime/export/check_exported.hpp"
#include "tests/runtime/export/model_cases.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace troupe {
namespace {

TEST(CompiledProgram, GivesEqualOutputsForAnyBatchAndLength) {
  const TempDir dir;
  const auto cases = model_cases();
  const auto gpt = std::ranges::find(cases, "gpt", &ExportCase::name);
  ASSERT_NE(gpt, cases.end());
  gpt->module->eval();
  write_samples(dir, *gpt);
  gpt->module->to_exported_program(
      dir / "gpt.pt2", gpt->samples[0],
      {.input_names = gpt->options.input_names, .dynamic_axes = gpt->options.dynamic_axes});
  EXPECT_EQ(python_output("check_exported.py", "--compile '" + dir.path().string() + "'"), "");
}

}  // namespace
}  // namespace troupe
