# cmake --install: headers as include/troupe/<layer>/..., the library, and the CMake package that find_package(troupe)
# loads. Nothing installed names a folder of this machine: the package finds LibTorch and the others anew where it is
# used, and can be moved.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(_package "${CMAKE_INSTALL_LIBDIR}/cmake/troupe")

foreach(_layer IN LISTS TROUPE_LAYERS)
  install(DIRECTORY "${PROJECT_SOURCE_DIR}/${_layer}" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/troupe"
    FILES_MATCHING PATTERN "*.hpp" PATTERN launch/troupe.hpp EXCLUDE)
endforeach()
install(FILES launch/troupe.hpp DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/troupe")

install(TARGETS troupe EXPORT troupeTargets ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(EXPORT troupeTargets NAMESPACE troupe:: DESTINATION "${_package}")

configure_package_config_file(cmake/troupeConfig.cmake.in troupeConfig.cmake INSTALL_DESTINATION "${_package}")
write_basic_package_version_file(troupeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  "${CMAKE_CURRENT_BINARY_DIR}/troupeConfig.cmake" "${CMAKE_CURRENT_BINARY_DIR}/troupeConfigVersion.cmake"
  cmake/TroupeTorch.cmake cmake/TroupeCuda.cmake cmake/FindCAF.cmake
  DESTINATION "${_package}")
