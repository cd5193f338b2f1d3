# Finds the LibTorch of TROUPE_TORCH_VERSION (default: the one in launch/versions.sh) and makes the target troupe::torch.
# The preset torch-2.15 asks for another one, which launch/setup --torch installs beside the first.
# Used by Troupe's own build and, installed beside troupeConfig.cmake, by projects that use Troupe.
#
# Searched in this order: CMAKE_PREFIX_PATH and Torch_DIR, the Python on the PATH, the project's folder of dependencies
# (TROUPE_DEPS in the environment, else ~/.cache/troupe). LibTorch's own CMake package is not used: with the CUDA wheel
# it fails in its architecture detection, and it links everything.
#
# Sets TROUPE_TORCH_ROOT, or TROUPE_TORCH_PROBLEM to a sentence that says what to do.

# The version of the LibTorch in `root`, empty where there is none.
function(troupe_torch_version root out)
  set(_version "")
  set(_macros "${root}/include/torch/headeronly/version.h")
  if(EXISTS "${_macros}")
    file(STRINGS "${_macros}" _lines REGEX "TORCH_VERSION_(MAJOR|MINOR|PATCH) [0-9]+")
    foreach(_part MAJOR MINOR PATCH)
      string(REGEX MATCH "TORCH_VERSION_${_part} ([0-9]+)" _ "${_lines}")
      list(APPEND _version "${CMAKE_MATCH_1}")
    endforeach()
    list(JOIN _version "." _version)
  elseif(EXISTS "${root}/version.py")  # a wheel from before that header
    file(STRINGS "${root}/version.py" _lines REGEX "^__version__ *= *")
    string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" _version "${_lines}")
  elseif(EXISTS "${root}/build-version")  # the zip file of LibTorch alone
    file(STRINGS "${root}/build-version" _lines LIMIT_COUNT 1)
    string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" _version "${_lines}")
  endif()
  if(NOT _version AND EXISTS "${root}/lib/libtorch_cpu.so")
    set(_version "of an unknown version")
  endif()
  set(${out} "${_version}" PARENT_SCOPE)
endfunction()

# Folders that the user named, as roots of LibTorch: <root> itself, <root>/share/cmake (what torch.utils calls
# cmake_prefix_path) and <root>/share/cmake/Torch (Torch_DIR).
function(troupe_named_roots out)
  cmake_path(CONVERT "$ENV{CMAKE_PREFIX_PATH}" TO_CMAKE_PATH_LIST _environment)
  set(_roots "")
  set(_paths ${CMAKE_PREFIX_PATH} ${_environment} ${Torch_DIR} $ENV{Torch_DIR})
  foreach(_path IN LISTS _paths)
    string(REGEX REPLACE "/share/cmake(/Torch)?/*$" "" _path "${_path}")
    list(APPEND _roots "${_path}")
  endforeach()
  set(${out} "${_roots}" PARENT_SCOPE)
endfunction()

# Where launch/setup has put what is not Debian's.
function(troupe_dependencies_folder out)
  set(_deps "$ENV{TROUPE_DEPS}")
  if(NOT _deps)
    set(_deps "$ENV{HOME}/.cache/troupe")
  endif()
  set(${out} "${_deps}" PARENT_SCOPE)
endfunction()

# The LibTorch of the Python on the PATH (not imported), then that of the folder of dependencies.
function(troupe_usual_roots out)
  set(_roots "")
  find_program(TROUPE_PYTHON3 python3)
  mark_as_advanced(TROUPE_PYTHON3)
  if(TROUPE_PYTHON3)
    execute_process(
      COMMAND "${TROUPE_PYTHON3}" -c
        "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
      OUTPUT_VARIABLE _python_torch OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    list(APPEND _roots ${_python_torch})
  endif()
  troupe_dependencies_folder(_deps)
  file(GLOB _own "${_deps}/venv/lib/python3*/site-packages/torch"
    "${_deps}/venv-${TROUPE_TORCH_VERSION}/lib/python3*/site-packages/torch")
  set(${out} ${_roots} ${_own} PARENT_SCOPE)
endfunction()

# A folder that the user named must hold the pinned version; others are passed over.
function(troupe_find_torch)
  troupe_named_roots(_named)
  foreach(_root IN LISTS _named)
    troupe_torch_version("${_root}" _version)
    if(_version STREQUAL TROUPE_TORCH_VERSION)
      set(TROUPE_TORCH_ROOT "${_root}" PARENT_SCOPE)
      return()
    elseif(_version)
      set(TROUPE_TORCH_PROBLEM "LibTorch in ${_root} is ${_version} and Troupe needs ${TROUPE_TORCH_VERSION}: name \
another folder in CMAKE_PREFIX_PATH, or leave it out and run ${TROUPE_SETUP}." PARENT_SCOPE)
      return()
    endif()
  endforeach()
  set(_others "")
  troupe_usual_roots(_usual)
  foreach(_root IN LISTS _usual)
    troupe_torch_version("${_root}" _version)
    if(_version STREQUAL TROUPE_TORCH_VERSION)
      set(TROUPE_TORCH_ROOT "${_root}" PARENT_SCOPE)
      return()
    elseif(_version)
      string(APPEND _others " (the one in ${_root} is ${_version})")
    endif()
  endforeach()
  set(_setup "${TROUPE_SETUP}")
  if(NOT TROUPE_TORCH_VERSION STREQUAL TROUPE_USUAL_TORCH_VERSION)
    string(APPEND _setup " --torch ${TROUPE_TORCH_VERSION}")
  endif()
  set(TROUPE_TORCH_PROBLEM "LibTorch ${TROUPE_TORCH_VERSION} was not found${_others}: run ${_setup}, which installs \
it, or name its folder in CMAKE_PREFIX_PATH." PARENT_SCOPE)
endfunction()

# LibTorch's include folder carries a copy of fmt that is newer than Debian's spdlog can use, so the compiler sees
# LibTorch's headers through a folder of links that leaves `fmt` out. It lies in the build tree of whoever configures.
function(troupe_link_torch_headers folder)
  file(MAKE_DIRECTORY "${folder}")
  file(GLOB _entries RELATIVE "${TROUPE_TORCH_ROOT}/include" "${TROUPE_TORCH_ROOT}/include/*")
  list(REMOVE_ITEM _entries fmt)
  foreach(_entry IN LISTS _entries)
    file(CREATE_LINK "${TROUPE_TORCH_ROOT}/include/${_entry}" "${folder}/${_entry}" SYMBOLIC)
  endforeach()
endfunction()

# An installed copy of this file has no versions.sh beside it, and a TROUPE_TORCH_VERSION.
set(TROUPE_USUAL_TORCH_VERSION "${TROUPE_TORCH_VERSION}")
set(_versions "${CMAKE_CURRENT_LIST_DIR}/../launch/versions.sh")
if(EXISTS "${_versions}")
  file(STRINGS "${_versions}" TROUPE_USUAL_TORCH_VERSION REGEX "^torch=")
  string(REPLACE "torch=" "" TROUPE_USUAL_TORCH_VERSION "${TROUPE_USUAL_TORCH_VERSION}")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${_versions}")
endif()
if(NOT TROUPE_TORCH_VERSION)
  set(TROUPE_TORCH_VERSION "${TROUPE_USUAL_TORCH_VERSION}")
endif()
if(NOT TROUPE_SETUP)
  set(TROUPE_SETUP "launch/setup")
endif()
set(TROUPE_TORCH_ROOT "")
set(TROUPE_TORCH_PROBLEM "")
troupe_find_torch()

if(TROUPE_TORCH_ROOT AND NOT TARGET troupe::torch)
  set(_headers "${CMAKE_BINARY_DIR}/troupe-torch-include")
  troupe_link_torch_headers("${_headers}")
  # Imported, so that an installed Troupe names it and its users make it themselves.
  add_library(troupe::torch INTERFACE IMPORTED GLOBAL)
  target_include_directories(troupe::torch INTERFACE "${_headers}" "${_headers}/torch/csrc/api/include")
  target_link_libraries(troupe::torch INTERFACE
    "${TROUPE_TORCH_ROOT}/lib/libtorch_cpu.so" "${TROUPE_TORCH_ROOT}/lib/libc10.so")
  # The wheel keeps the CUDA libraries that LibTorch loads, without a GPU too, in packages beside it.
  cmake_path(GET TROUPE_TORCH_ROOT PARENT_PATH _site)
  file(GLOB _nvidia_libs "${_site}/nvidia/*/lib")
  foreach(_dir IN LISTS _nvidia_libs)
    target_link_options(troupe::torch INTERFACE "LINKER:-rpath-link,${_dir}")
  endforeach()
  message(STATUS "LibTorch ${TROUPE_TORCH_VERSION}: ${TROUPE_TORCH_ROOT}")
endif()
