# troupe_add_predictor_library(NAME SOURCE...): the shared library lib<NAME>.so for programs in other languages, out of
# sources that register modules with TROUPE_PREDICTOR (launch/c_api/predictor_library.hpp).
#
# Used by Troupe's own build and, installed beside troupeConfig.cmake, by projects that use Troupe.

function(troupe_add_predictor_library name)
  add_library(${name} SHARED ${ARGN})
  target_link_libraries(${name} PRIVATE troupe::troupe)
  # It exports the functions of launch/c_api/troupe_c.h alone, so that a process can load several of them.
  set(_exports "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/predictor_exports.map")
  target_link_options(${name} PRIVATE "LINKER:--version-script=${_exports}")
  set_target_properties(${name} PROPERTIES LINK_DEPENDS "${_exports}")
endfunction()
