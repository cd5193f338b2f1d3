# cmake --install: the public headers as include/troupe/<layer>/..., the library, and the CMake package that
# find_package(troupe) loads; and the command, bin/troupe. The package finds LibTorch and the others anew where it is used, and
# can be moved. Only the command names folders of this machine: its RPATH has those of the libraries that it was linked with.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(_package "${CMAKE_INSTALL_LIBDIR}/cmake/troupe")

# troupe_reached_headers(OUT HEADER...): these headers and what they reach, as paths in the source folder. A change of
# one of them configures anew.
function(troupe_reached_headers out)
  set(_reached ${ARGN})
  set(_waiting ${_reached})
  while(_waiting)
    list(POP_FRONT _waiting _header)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/${_header}")
    file(STRINGS "${PROJECT_SOURCE_DIR}/${_header}" _lines REGEX "^[ \t]*#[ \t]*include[ \t]*[\"<]troupe/")
    foreach(_line IN LISTS _lines)
      string(REGEX REPLACE ".*[\"<]troupe/([^\">]+)[\">].*" "\\1" _included "${_line}")
      if(NOT _included IN_LIST _reached)
        list(APPEND _reached "${_included}")
        list(APPEND _waiting "${_included}")
      endif()
    endforeach()
  endwhile()
  set(${out} ${_reached} PARENT_SCOPE)
endfunction()

# The API, and callback actors written against CAF. All other headers are private.
troupe_reached_headers(_headers launch/troupe.hpp actors/caf_callback_actor.hpp)
list(REMOVE_ITEM _headers launch/troupe.hpp)
foreach(_header IN LISTS _headers)
  cmake_path(GET _header PARENT_PATH _folder)
  install(FILES "${_header}" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/troupe/${_folder}")
endforeach()
install(FILES launch/troupe.hpp DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/troupe")

install(TARGETS troupe EXPORT troupeTargets ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
if(TARGET troupe_command)
  install(TARGETS troupe_command EXPORT troupeTargets RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endif()
install(EXPORT troupeTargets NAMESPACE troupe:: DESTINATION "${_package}")

configure_package_config_file(cmake/troupeConfig.cmake.in troupeConfig.cmake INSTALL_DESTINATION "${_package}")
write_basic_package_version_file(troupeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  "${CMAKE_CURRENT_BINARY_DIR}/troupeConfig.cmake" "${CMAKE_CURRENT_BINARY_DIR}/troupeConfigVersion.cmake"
  cmake/TroupeTorch.cmake cmake/TroupeMpi.cmake cmake/FindCAF.cmake cmake/FindDeflate.cmake
  cmake/TroupePredictor.cmake cmake/predictor_exports.map
  DESTINATION "${_package}")
