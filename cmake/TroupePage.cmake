# troupe_embed_page(TARGET): the files of runtime/report/page/ as a source of TARGET, so that the library needs none of them
# when it runs. Written when the library is built, into the build folder; cmake -P runs the first part of this file.
if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  # cmake -DFOLDER=... -DOUT=... -DPROGRAM="a.js b.js" -P TroupePage.cmake
  cmake_minimum_required(VERSION 3.25)
  set(_program "")
  separate_arguments(PROGRAM)
  foreach(_part IN LISTS PROGRAM)
    file(READ "${FOLDER}/${_part}" _text)
    string(APPEND _program "${_text}")
  endforeach()
  file(READ "${FOLDER}/page.html" _html)
  file(READ "${FOLDER}/page.css" _style)
  set(_source "// Written by cmake/TroupePage.cmake.\n#include <string_view>\nnamespace troupe::page_parts {\n")
  foreach(_name IN ITEMS html style program)
    if("${_${_name}}" MATCHES "[)]page\"" OR (NOT _name STREQUAL "html" AND "${_${_name}}" MATCHES "</s|<!--"))
      message(FATAL_ERROR "The ${_name} of runtime/report/page/ has '${CMAKE_MATCH_0}', which would end it too early")
    endif()
    string(APPEND _source "extern const std::string_view ${_name};\n"
      "constexpr char ${_name}_text[] = R\"page(${_${_name}})page\";\n"
      "constinit const std::string_view ${_name}(${_name}_text, sizeof ${_name}_text - 1);\n")
  endforeach()
  file(WRITE "${OUT}" "${_source}}  // namespace troupe::page_parts\n")
  return()
endif()

set(_troupe_page_script "${CMAKE_CURRENT_LIST_FILE}")
function(troupe_embed_page target)
  set(_folder "${PROJECT_SOURCE_DIR}/runtime/report/page")
  # In this order one program.
  set(_program data.js format.js elements.js series.js chart.js chart_input.js charts.js findings.js sections.js compare.js page.js)
  set(_out "${PROJECT_BINARY_DIR}/page_parts.cpp")
  list(TRANSFORM _program PREPEND "${_folder}/" OUTPUT_VARIABLE _files)
  list(JOIN _program " " _names)
  add_custom_command(OUTPUT "${_out}"
    COMMAND "${CMAKE_COMMAND}" "-DFOLDER=${_folder}" "-DOUT=${_out}" "-DPROGRAM=${_names}" -P "${_troupe_page_script}"
    DEPENDS ${_files} "${_folder}/page.html" "${_folder}/page.css" "${_troupe_page_script}"
    COMMENT "Embedding the page of a run" VERBATIM)
  # Text alone: it needs none of LibTorch's headers.
  set_source_files_properties("${_out}" PROPERTIES SKIP_PRECOMPILE_HEADERS ON SKIP_UNITY_BUILD_INCLUSION ON)
  target_sources(${target} PRIVATE "${_out}")
endfunction()
