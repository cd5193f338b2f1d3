# Finds LibTorch and makes the target troupe::torch.
#
# Searched in this order: CMAKE_PREFIX_PATH and Torch_DIR, the Python on the PATH, the project's folder of dependencies
# (TROUPE_DEPS in the environment, else ~/.cache/troupe). LibTorch's own CMake package is not used: with the CUDA wheel
# it fails in its architecture detection, and it links everything.
#
# LibTorch's include folder carries a copy of fmt that is newer than Debian's spdlog can use, so the compiler sees
# LibTorch's headers through a folder of links that leaves `fmt` out.
set(TROUPE_TORCH_VERSION 2.11.0)
set(TROUPE_CUDA AUTO CACHE STRING "Compile the CUDA code: AUTO (where a toolkit and a CUDA LibTorch are), ON, OFF")

# The version of the LibTorch in `root`, empty where there is none.
function(troupe_torch_version root out)
  set(_version "")
  set(_macros "${root}/include/torch/headeronly/version.h")
  if(EXISTS "${_macros}")
    file(READ "${_macros}" _text)
    foreach(_part MAJOR MINOR PATCH)
      string(REGEX MATCH "TORCH_VERSION_${_part} ([0-9]+)" _ "${_text}")
      list(APPEND _version "${CMAKE_MATCH_1}")
    endforeach()
    list(JOIN _version "." _version)
  elseif(EXISTS "${root}/lib/libtorch_cpu.so")
    set(_version "another version")
  endif()
  set(${out} "${_version}" PARENT_SCOPE)
endfunction()

# Sets TROUPE_TORCH_ROOT to the first LibTorch found; one that the user named must be of the pinned version.
function(troupe_find_torch)
  set(_named ${CMAKE_PREFIX_PATH})
  if(Torch_DIR)
    cmake_path(GET Torch_DIR PARENT_PATH _share)       # <root>/share/cmake/Torch
    cmake_path(GET _share PARENT_PATH _share)
    cmake_path(GET _share PARENT_PATH _root)
    list(APPEND _named "${_root}")
  endif()
  foreach(_root IN LISTS _named)
    troupe_torch_version("${_root}" _version)
    if(_version STREQUAL TROUPE_TORCH_VERSION)
      set(TROUPE_TORCH_ROOT "${_root}" CACHE PATH "LibTorch's folder")
      return()
    elseif(_version)
      message(FATAL_ERROR "LibTorch in ${_root} is ${_version}, Troupe needs ${TROUPE_TORCH_VERSION}: name another "
        "folder in CMAKE_PREFIX_PATH, or leave it out and run launch/setup.")
    endif()
  endforeach()
  find_program(TROUPE_PYTHON3 python3)
  set(_candidates "")
  if(TROUPE_PYTHON3)
    execute_process(
      COMMAND "${TROUPE_PYTHON3}" -c
        "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
      OUTPUT_VARIABLE _python_torch OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    list(APPEND _candidates ${_python_torch})
  endif()
  set(_deps "$ENV{TROUPE_DEPS}")
  if(NOT _deps)
    set(_deps "$ENV{HOME}/.cache/troupe")
  endif()
  file(GLOB _own "${_deps}/venv/lib/python3*/site-packages/torch")
  list(APPEND _candidates ${_own})
  foreach(_root IN LISTS _candidates)
    troupe_torch_version("${_root}" _version)
    if(_version STREQUAL TROUPE_TORCH_VERSION)
      set(TROUPE_TORCH_ROOT "${_root}" CACHE PATH "LibTorch's folder")
      return()
    endif()
  endforeach()
  message(FATAL_ERROR "LibTorch ${TROUPE_TORCH_VERSION} was not found: run launch/setup, which installs it, or name "
    "its folder in CMAKE_PREFIX_PATH.")
endfunction()

if(NOT TROUPE_TORCH_ROOT)
  troupe_find_torch()
endif()
message(STATUS "LibTorch ${TROUPE_TORCH_VERSION}: ${TROUPE_TORCH_ROOT}")

set(TROUPE_TORCH_INCLUDE "${CMAKE_BINARY_DIR}/torch-include")
file(MAKE_DIRECTORY "${TROUPE_TORCH_INCLUDE}")
file(GLOB _entries "${TROUPE_TORCH_ROOT}/include/*")
foreach(_entry IN LISTS _entries)
  get_filename_component(_name "${_entry}" NAME)
  if(NOT _name STREQUAL "fmt")
    file(CREATE_LINK "${_entry}" "${TROUPE_TORCH_INCLUDE}/${_name}" SYMBOLIC)
  endif()
endforeach()

set(_lib "${TROUPE_TORCH_ROOT}/lib")
add_library(troupe_torch INTERFACE)
target_include_directories(troupe_torch SYSTEM INTERFACE
  "${TROUPE_TORCH_INCLUDE}" "${TROUPE_TORCH_INCLUDE}/torch/csrc/api/include")
target_link_libraries(troupe_torch INTERFACE "${_lib}/libtorch_cpu.so" "${_lib}/libc10.so")
cmake_path(GET TROUPE_TORCH_ROOT PARENT_PATH _site)
file(GLOB _nvidia_libs "${_site}/nvidia/*/lib")
foreach(_dir IN LISTS _nvidia_libs)
  target_link_options(troupe_torch INTERFACE "-Wl,-rpath-link,${_dir}")
endforeach()

set(TROUPE_HAS_CUDA OFF)
if(NOT TROUPE_CUDA STREQUAL "OFF")
  find_package(CUDAToolkit QUIET)
  # libtorch_cuda needs the wheel's other packages; without them (the CPU way of launch/setup) it does not link.
  file(GLOB _cudnn "${_site}/nvidia/cudnn/lib/libcudnn.so*")
  if(CUDAToolkit_FOUND AND EXISTS "${_lib}/libtorch_cuda.so" AND _cudnn)
    set(TROUPE_HAS_CUDA ON)
    target_compile_definitions(troupe_torch INTERFACE TROUPE_HAS_CUDA=1)
    target_include_directories(troupe_torch SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS})
    target_link_libraries(troupe_torch INTERFACE
      -Wl,--no-as-needed "${_lib}/libtorch_cuda.so" -Wl,--as-needed "${_lib}/libc10_cuda.so")
  elseif(TROUPE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "TROUPE_CUDA=ON needs a CUDA toolkit and LibTorch's CUDA libraries: install the toolkit, then "
      "run launch/setup again.")
  endif()
endif()
message(STATUS "CUDA code: ${TROUPE_HAS_CUDA}")
add_library(troupe::torch ALIAS troupe_torch)
