# Adds CUDA to the target troupe::torch if a toolkit and LibTorch's CUDA libraries are there; after TroupeTorch. Programs
# are not linked to these: they load them if there is a GPU (runtime/device/cuda_libraries.hpp), so that an installed Troupe
# needs neither where there is none.
#
# Sets TROUPE_HAS_CUDA, and TROUPE_TORCH_PROBLEM to a sentence where CUDA was asked for and is not there.
set(TROUPE_CUDA AUTO CACHE STRING "Compile the CUDA code: AUTO (where a toolkit and a CUDA LibTorch are), ON, OFF")
set_property(CACHE TROUPE_CUDA PROPERTY STRINGS AUTO ON OFF)

set(TROUPE_HAS_CUDA OFF)
if(TROUPE_TORCH_ROOT AND NOT TROUPE_CUDA STREQUAL "OFF")
  find_package(CUDAToolkit QUIET)
  # libtorch_cuda needs the wheel's other packages; without them (the CPU way of launch/setup) it does not load.
  cmake_path(GET TROUPE_TORCH_ROOT PARENT_PATH _site)
  file(GLOB _cudnn "${_site}/nvidia/cudnn/lib/libcudnn.so*")
  set(_lib "${TROUPE_TORCH_ROOT}/lib")
  if(CUDAToolkit_FOUND AND EXISTS "${_lib}/libtorch_cuda.so" AND _cudnn)
    set(TROUPE_HAS_CUDA ON)
    get_target_property(_definitions troupe::torch INTERFACE_COMPILE_DEFINITIONS)
    if(NOT _definitions MATCHES "TROUPE_HAS_CUDA")
      target_compile_definitions(troupe::torch INTERFACE TROUPE_HAS_CUDA=1)
      # LibTorch loads the NCCL that comes with its wheel; the toolkit has none, or another one.
      target_include_directories(troupe::torch INTERFACE
        "${_site}/nvidia/nccl/include" ${CUDAToolkit_INCLUDE_DIRS})
    endif()
  elseif(TROUPE_CUDA STREQUAL "ON")
    set(TROUPE_TORCH_PROBLEM "TROUPE_CUDA=ON needs a CUDA toolkit and LibTorch's CUDA libraries: install the toolkit, \
then run launch/setup again.")
  endif()
endif()
message(STATUS "CUDA code: ${TROUPE_HAS_CUDA}")
