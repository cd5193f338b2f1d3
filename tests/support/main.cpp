// The main function of programs that several sources of tests share. `PROGRAM png_test...` runs the tests of
// png_test.cpp alone, so that each source is a CTest test and a process of its own; a --gtest_filter is obeyed instead.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <iostream>
#include <string>

namespace {

// "Suite.Test:Suite.Other" for all tests that lie in `source`; empty if there are none.
std::string tests_in(const std::string& source) {
  std::string filter;
  const auto& all = *testing::UnitTest::GetInstance();
  for (int i = 0; i < all.total_test_suite_count(); ++i) {
    const auto& suite = *all.GetTestSuite(i);
    for (int j = 0; j < suite.total_test_count(); ++j) {
      const auto& test = *suite.GetTestInfo(j);
      if (std::filesystem::path(test.file()).stem() != source) continue;
      filter += std::string(suite.name()) + "." + test.name() + ":";
    }
  }
  return filter;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  if (argc > 1 && GTEST_FLAG_GET(filter) == "*") {
    std::string filter;
    for (int i = 1; i < argc; ++i) {
      const auto more = tests_in(argv[i]);
      if (more.empty()) {
        std::cerr << argv[0] << ": there are no tests of " << argv[i] << ".cpp in this program" << std::endl;
        return 1;
      }
      filter += more;
    }
    GTEST_FLAG_SET(filter, filter);
  }
  return RUN_ALL_TESTS();
}
