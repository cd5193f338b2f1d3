# troupe_embed_project(TARGET PACKAGE): the files of launch/command/project/, from which `troupe new` makes a project, as a
# source of TARGET, and PACKAGE, the folder of the CMake package below that of an installation. Written when the program is built, into the build folder; cmake -P runs the first part of this file.
if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  # cmake -DFOLDER=... -DOUT=... -DPACKAGE=... -DFILES="a b" -P TroupeProject.cmake
  cmake_minimum_required(VERSION 3.25)
  separate_arguments(FILES)
  string(CONCAT _source "// Written by cmake/TroupeProject.cmake.\n#include \"troupe/launch/command/new_project.hpp\"\n"
    "namespace troupe::command {\nconst std::string_view package_folder = \"${PACKAGE}\";\n"
    "const std::vector<ProjectFile>& project_files() {\n"
    "  static const std::vector<ProjectFile> files{\n")
  foreach(_file IN LISTS FILES)
    file(READ "${FOLDER}/${_file}" _text)
    if("${_text}" MATCHES "[)]part\"")
      message(FATAL_ERROR "launch/command/project/${_file} has '${CMAKE_MATCH_0}', which would end it too early")
    endif()
    string(REGEX REPLACE "[.]in$" "" _name "${_file}")
    string(REGEX REPLACE "^gitignore$" ".gitignore" _name "${_name}")
    string(APPEND _source "{\"${_name}\", R\"part(${_text})part\"},\n")
  endforeach()
  file(WRITE "${OUT}" "${_source}  };\n  return files;\n}\n}  // namespace troupe::command\n")
  return()
endif()

set(_troupe_project_script "${CMAKE_CURRENT_LIST_FILE}")
function(troupe_embed_project target package)
  set(_folder "${PROJECT_SOURCE_DIR}/launch/command/project")
  set(_out "${PROJECT_BINARY_DIR}/project_files.cpp")
  set(_files CMakeLists.txt.in README.md.in config.toml.in data.hpp.in gitignore.in main.cpp.in module.hpp.in)
  list(JOIN _files " " _names)
  list(TRANSFORM _files PREPEND "${_folder}/")
  add_custom_command(OUTPUT "${_out}"
    COMMAND "${CMAKE_COMMAND}" "-DFOLDER=${_folder}" "-DOUT=${_out}" "-DPACKAGE=${package}" "-DFILES=${_names}"
      -P "${_troupe_project_script}"
    DEPENDS ${_files} "${_troupe_project_script}"
    COMMENT "Embedding the project of troupe new" VERBATIM)
  # Text alone: it needs none of LibTorch's headers.
  set_source_files_properties("${_out}" PROPERTIES SKIP_PRECOMPILE_HEADERS ON SKIP_UNITY_BUILD_INCLUSION ON)
  target_sources(${target} PRIVATE "${_out}")
endfunction()
