# Finds LibTorch and makes the imported target troupe::torch.
#
# LibTorch's include folder carries a copy of fmt that is newer than Debian's spdlog can use, so the compiler sees
# LibTorch's headers through a folder of links that leaves `fmt` out.
set(TROUPE_TORCH_VERSION 2.11.0)

if(NOT TROUPE_TORCH_ROOT)
  set(_deps "$ENV{TROUPE_DEPS}")
  if(NOT _deps)
    set(_deps "$ENV{HOME}/.cache/troupe")
  endif()
  file(GLOB TROUPE_TORCH_ROOT "${_deps}/venv/lib/python3*/site-packages/torch")
endif()

set(TROUPE_TORCH_INCLUDE "${CMAKE_BINARY_DIR}/torch-include")
file(MAKE_DIRECTORY "${TROUPE_TORCH_INCLUDE}")
file(GLOB _entries "${TROUPE_TORCH_ROOT}/include/*")
foreach(_entry IN LISTS _entries)
  get_filename_component(_name "${_entry}" NAME)
  if(NOT _name STREQUAL "fmt")
    file(CREATE_LINK "${_entry}" "${TROUPE_TORCH_INCLUDE}/${_name}" SYMBOLIC)
  endif()
endforeach()

find_package(CUDAToolkit QUIET)
add_library(troupe_torch INTERFACE)
target_include_directories(troupe_torch SYSTEM INTERFACE
  "${TROUPE_TORCH_INCLUDE}" "${TROUPE_TORCH_INCLUDE}/torch/csrc/api/include")
set(_lib "${TROUPE_TORCH_ROOT}/lib")
target_link_libraries(troupe_torch INTERFACE "${_lib}/libtorch_cpu.so" "${_lib}/libc10.so")
if(CUDAToolkit_FOUND AND EXISTS "${_lib}/libtorch_cuda.so")
  set(TROUPE_CUDA ON)
  target_compile_definitions(troupe_torch INTERFACE TROUPE_HAS_CUDA=1)
  target_include_directories(troupe_torch SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(troupe_torch INTERFACE
    -Wl,--no-as-needed "${_lib}/libtorch_cuda.so" -Wl,--as-needed "${_lib}/libc10_cuda.so")
endif()
get_filename_component(_site "${TROUPE_TORCH_ROOT}" DIRECTORY)
file(GLOB _nvidia_libs "${_site}/nvidia/*/lib")
foreach(_dir IN LISTS _nvidia_libs)
  target_link_options(troupe_torch INTERFACE "-Wl,-rpath-link,${_dir}")
endforeach()
add_library(troupe::torch ALIAS troupe_torch)
