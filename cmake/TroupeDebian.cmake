# `cpack` in a build folder makes a Debian package of what cmake --install installs, stripped, and of what a machine without
# this source tree needs besides:
#
#   /usr/bin/troupe         the command (/usr/lib/troupe/troupe) with the LibTorch of the user who runs it
#   /usr/bin/troupe-setup   launch/setup for LibTorch alone: Debian has none of that version. Nothing is fetched when the
#                           package is installed; without LibTorch, the command and find_package(troupe) say what to run
#   /usr/bin/troupe-run     launch/run
#
# The package depends on what its programs are linked with (dpkg-shlibdeps), and on what a project that uses the library
# needs to be configured, compiled and linked. cpack runs the first part of this file on what was installed.
if(CPACK_TEMPORARY_INSTALL_DIRECTORY)
  if(CPACK_TROUPE_MPI_VERSION)
    message(FATAL_ERROR "A package depends on Debian's Open MPI, and this build has ${CPACK_TROUPE_MPI_VERSION}: run cpack in \
one without TROUPE_MPI_VERSION.")
  endif()
  set(_usr "${CPACK_TEMPORARY_INSTALL_DIRECTORY}/usr")
  set(_source "${CPACK_TROUPE_SOURCE}")
  set(TROUPE_TORCH_VERSION "${CPACK_TROUPE_TORCH_VERSION}")
  set(_launch "${_usr}/share/troupe/launch")
  set(_program_permissions OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
  set(_folder_permissions ${_program_permissions})

  file(MAKE_DIRECTORY "${_usr}/lib/troupe")
  file(RENAME "${_usr}/bin/troupe" "${_usr}/lib/troupe/troupe")
  file(RPATH_REMOVE FILE "${_usr}/lib/troupe/troupe")  # folders of the machine of the build
  foreach(_script IN ITEMS troupe troupe-setup)
    configure_file("${_source}/cmake/debian/${_script}.in" "${_usr}/bin/${_script}" @ONLY NEWLINE_STYLE UNIX)
    file(CHMOD "${_usr}/bin/${_script}" PERMISSIONS ${_program_permissions})
  endforeach()
  file(COPY "${_source}/launch/setup" "${_source}/launch/run" "${_source}/launch/check_host" "${_source}/launch/mpi_settings"
    "${_source}/launch/rank_lines" "${_source}/launch/restarts"
    DESTINATION "${_launch}" FILE_PERMISSIONS ${_program_permissions} DIRECTORY_PERMISSIONS ${_folder_permissions})
  file(COPY "${_source}/launch/versions.sh" DESTINATION "${_launch}" NO_SOURCE_PERMISSIONS)
  file(COPY "${_source}/launch/requirements" DESTINATION "${_launch}" NO_SOURCE_PERMISSIONS
    DIRECTORY_PERMISSIONS ${_folder_permissions} FILES_MATCHING PATTERN "torch*.txt")
  file(CREATE_LINK "../share/troupe/launch/run" "${_usr}/bin/troupe-run" SYMBOLIC)

  set(_doc "${_usr}/share/doc/troupe")
  file(COPY "${_source}/cmake/debian/copyright" "${_source}/README.md" DESTINATION "${_doc}" NO_SOURCE_PERMISSIONS
    DIRECTORY_PERMISSIONS ${_folder_permissions})
  file(ARCHIVE_CREATE OUTPUT "${_doc}/changelog.gz" PATHS "${_source}/CHANGELOG.md" FORMAT raw COMPRESSION GZip)
  return()
endif()

# What troupeConfig.cmake and the libraries' own headers look for; launch/setup has these packages too, with what they are
# for, and those that only the build of Troupe itself needs.
set(_needed "g++" "cmake (>= 3.25)" "make | ninja-build" libcaf-dev libspdlog-dev nlohmann-json3-dev zlib1g-dev libpng-dev
  libjpeg62-turbo-dev libdeflate-dev libcurl4-openssl-dev libsqlite3-dev libopenmpi-dev openmpi-bin python3-venv)
list(JOIN _needed ", " CPACK_DEBIAN_PACKAGE_DEPENDS)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME troupe)
set(CPACK_PACKAGE_CONTACT "The Troupe developers")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "trains neural networks in C++ with PyTorch Lightning's module API")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "A C++20 library on LibTorch: modules with Lightning's hooks, trained on one device, on
several, or on many hosts under MPI, by actors.
.
LibTorch is not part of this package: troupe-setup installs it for the user who runs it. `troupe new NAME` then makes a
project that builds and trains.")
set(CPACK_DEBIAN_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "mold")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS "${TROUPE_TORCH_ROOT}/lib")
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ
  WORLD_EXECUTE)
set(CPACK_PRE_BUILD_SCRIPTS "${CMAKE_CURRENT_LIST_FILE}")
set(CPACK_TROUPE_SOURCE "${PROJECT_SOURCE_DIR}")
set(CPACK_TROUPE_TORCH_VERSION "${TROUPE_TORCH_VERSION}")
set(CPACK_TROUPE_MPI_VERSION "${TROUPE_MPI_VERSION}")
include(CPack)
