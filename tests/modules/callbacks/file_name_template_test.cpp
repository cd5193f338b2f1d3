#include "troupe/modules/callbacks/file_name_template.hpp"

#include "troupe/base/failure.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace troupe {
namespace {

std::string name(const std::string& text, bool insert_names = true, double value = 0.125) {
  return FileNameTemplate(text, insert_names)
      .format({.epoch = 3, .batch_idx = 1, .global_step = 42}, [&](const std::string&) { return value; });
}

TEST(FileNameTemplate, PutsNamesBeforeValues) {
  EXPECT_EQ(name("{epoch}-{step}"), "epoch=3-step=42");
  EXPECT_EQ(name("digits-{epoch:02d}-{val_loss:.2f}"), "digits-epoch=03-val_loss=0.12");
  EXPECT_EQ(name("{epoch}-{step}", false), "3-42");
}

TEST(FileNameTemplate, FormatsAsPythonDoes) {
  EXPECT_EQ(name("{x}", false), "0.125");
  EXPECT_EQ(name("{x:.1e}", false), "1.2e-01");
  EXPECT_EQ(name("{x:08.2f}", false, -1.5), "-0001.50");
  EXPECT_EQ(name("{x:.3g}", false, 1234.5), "1.23e+03");
  EXPECT_EQ(name("{x:f}", false, 1), "1.000000");
  EXPECT_EQ(name("{step:.1f}", false), "42.0");
  EXPECT_EQ(name("{x:.2f}", false, std::numeric_limits<double>::quiet_NaN()), "nan");
}

TEST(FileNameTemplate, AHugeValueGivesNoHugeName) {
  EXPECT_EQ(name("{x:.2f}", false, 1e300), "1e+300");
}

TEST(FileNameTemplate, AMetricWithASlashStaysOneComponent) {
  EXPECT_EQ(name("{val/loss:.3f}"), "val_loss=0.125");
  EXPECT_EQ(name("{../../x:.3f}"), ".._.._x=0.125");
}

TEST(FileNameTemplate, TakesTheExtensionOff) {
  EXPECT_EQ(name("best.safetensors"), "best");
}

TEST(FileNameTemplate, RefusesWhatIsNoTemplate) {
  for (const char* text : {"",
                           ".safetensors",
                           "../x",
                           "a/b",
                           "{epoch",
                           "epoch}",
                           "{}",
                           "{:d}",
                           "{a{b}",
                           "{epoch:.2d}",
                           "{val_loss:02d}",
                           "{x:.f}",
                           "{x:99f}",
                           "{x:.18f}",
                           "{x:99999999999999999999f}",
                           "{x:s}",
                           "{x:.2f }",
                           "a\nb",
                           "\xff",
                           "{epoch:+d}"}) {
    EXPECT_THROW(FileNameTemplate(text, true), UsageError) << text;
  }
  EXPECT_THROW(FileNameTemplate(std::string(201, 'x'), true), UsageError);
}

TEST(FileNameTemplate, SaysWhatAFieldShouldLookLike) {
  try {
    FileNameTemplate("{val_loss:02d}", true);
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_STREQ(
        error.what(),
        "ModelCheckpoint: filename = '{val_loss:02d}' has the field {val_loss:02d}; use forms like {val_loss}, "
        "{val_loss:.2f}");
  }
}

}  // namespace
}  // namespace troupe
