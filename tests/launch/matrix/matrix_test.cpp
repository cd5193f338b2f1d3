// Ways of training combined with each other, on one device and on two of one process.
#include "tests/launch/matrix/matrix.hpp"

#include "tests/support/temp_dir.hpp"

namespace troupe::matrix {
namespace {

class Matrix : public ::testing::TestWithParam<Combination> {};

TEST_P(Matrix, TrainsAsALoopByHandAndResumesToTheBit) {
  const TempDir dir;
  check(GetParam(), dir.path(), GetParam().devices);
}

INSTANTIATE_TEST_SUITE_P(OfOneProcess, Matrix,
                         ::testing::ValuesIn(combinations(
                             {{Strategy::ddp, 1}, {Strategy::ddp, 2}, {Strategy::zero, 2}, {Strategy::fsdp, 2}})),
                         [](const auto& info) { return name_of(info.param); });

TEST(Pairwise, HasEveryTwoValuesTogether) {
  const std::vector<std::size_t> sizes = {3, 4, 2};
  const auto choices = pairwise(sizes);
  for (std::size_t a = 0; a < sizes.size(); ++a) {
    for (std::size_t b = a + 1; b < sizes.size(); ++b) {
      for (std::size_t i = 0; i < sizes[a]; ++i) {
        for (std::size_t j = 0; j < sizes[b]; ++j) {
          EXPECT_TRUE(std::ranges::any_of(choices, [&](const Choice& c) { return c[a] == i && c[b] == j; }));
        }
      }
    }
  }
  EXPECT_LT(choices.size(), 3u * 4 * 2);
}

}  // namespace
}  // namespace troupe::matrix
