#include "tests/support/mpi_main.hpp"

#include <gtest/gtest.h>

#include <memory>

namespace troupe {
namespace {
std::unique_ptr<MpiWorld> world;
}

MpiWorld& mpi_world() {
  return *world;
}

}  // namespace troupe

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  troupe::world = std::make_unique<troupe::MpiWorld>();
  const int result = RUN_ALL_TESTS();
  // A rank that failed does not wait for the others, who may wait for it.
  if (result != 0) troupe::world->abort(result);
  return troupe::world->shut_down() ? 0 : 1;
}
