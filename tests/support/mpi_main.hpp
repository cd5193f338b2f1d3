// The processes of a test that runs under mpirun (tests/CMakeLists.txt). Its main function is in mpi_main.cpp.
#pragma once

#include "troupe/runtime/collectives/mpi_world.hpp"

namespace troupe {

/// All ranks of this run; every rank runs the same cases in the same order.
MpiWorld& mpi_world();

}  // namespace troupe
