# `troupe`, the command (launch/command/): built and installed with the library.
include(TroupeProject)
file(GLOB _command_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/launch/command/*.cpp")
troupe_add_program(troupe_command ${_command_sources})
include(GNUInstallDirs)
troupe_embed_project(troupe_command "${CMAKE_INSTALL_LIBDIR}/cmake/troupe")
# In a folder of its own: Ninja has a target `troupe`, the library. An installed copy finds LibTorch, MPI and CUDA's
# libraries where the build has found them.
set_target_properties(troupe_command PROPERTIES
  OUTPUT_NAME troupe EXPORT_NAME command RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin"
  INSTALL_RPATH_USE_LINK_PATH ON UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
