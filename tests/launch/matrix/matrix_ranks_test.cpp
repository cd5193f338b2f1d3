// Ways of training combined with each other, on several processes; this program runs under mpirun.
#include "tests/launch/matrix/matrix.hpp"

#include "tests/support/shared_dir.hpp"

namespace troupe::matrix {
namespace {

class Matrix : public ::testing::TestWithParam<Combination> {};

TEST_P(Matrix, TrainsAsALoopByHandAndResumesToTheBit) {
  const SharedDir dir;
  check(GetParam(), dir.path(), GetParam().devices * Processes::get().size());
}

INSTANTIATE_TEST_SUITE_P(
    OfSeveralProcesses, Matrix,
    ::testing::ValuesIn(combinations({{Strategy::ddp, 1}, {Strategy::zero, 1}, {Strategy::ddp, 2}})),
    [](const auto& info) { return name_of(info.param); });

}  // namespace
}  // namespace troupe::matrix
