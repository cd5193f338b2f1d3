# How Troupe itself is compiled and linked: all its targets alike, so that programs can share the library's precompiled
# header. Nothing here reaches another project, except for C++20, which the target troupe carries.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
  set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
  if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release)
  endif()
endif()
# LibTorch's headers give some classes another layout without NDEBUG (RecordFunction), and LibTorch was compiled with it.
add_compile_definitions($<$<CONFIG:Debug>:NDEBUG>)
# CMake's own way would give programs -fPIE, and the precompiled header of the library would not fit them.
# Nobody reads errno after a square root; a loop that had to set it could not be vectorized.
add_compile_options(-fPIC -Wall -Wextra -fno-math-errno)

set(TROUPE_SANITIZE "" CACHE STRING "Sanitizers to compile in, as -fsanitize takes them (address,undefined or thread)")
if(TROUPE_SANITIZE)
  add_compile_options(-fsanitize=${TROUPE_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${TROUPE_SANITIZE})
  if(TROUPE_SANITIZE MATCHES "undefined")
    # The first finding ends the program, as with the others. vptr needs type information that LibTorch hides.
    add_compile_options(-fno-sanitize-recover=undefined -fno-sanitize=vptr)
  endif()
endif()

# ccache takes what another clone compiled: paths below the clone are relative for it. The sloppiness is what its manual
# asks for with precompiled headers.
find_program(TROUPE_CCACHE ccache)
if(TROUPE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  add_compile_options(-fpch-preprocess)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CMAKE_COMMAND}" -E env "CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}"
    CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime "${TROUPE_CCACHE}")
endif()
find_program(TROUPE_MOLD mold)
if(TROUPE_MOLD)
  add_link_options(-fuse-ld=mold)
endif()
