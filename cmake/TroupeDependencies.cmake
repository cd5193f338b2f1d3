# Everything that Troupe needs besides LibTorch. What is missing stops the configuration with one sentence.
if(TROUPE_TORCH_PROBLEM)
  message(FATAL_ERROR "${TROUPE_TORCH_PROBLEM}")
endif()

# troupe_find(PACKAGE NAME [VERSION]) calls find_package in the caller's scope, where its variables belong.
macro(troupe_find package name)
  find_package(${package} ${ARGN} QUIET)
  if(NOT ${package}_FOUND)
    message(FATAL_ERROR "${name} was not found: run launch/setup, which installs it.")
  endif()
endmacro()

troupe_find(Threads "A threads library")
troupe_find(CAF "The C++ Actor Framework (CAF) 0.17.6" 0.17.6...<0.18)
troupe_find(spdlog "spdlog")
troupe_find(nlohmann_json "nlohmann-json")
troupe_find(Tomlplusplus "toml++")
troupe_find(ZLIB "zlib")
troupe_find(PNG "libpng")
troupe_find(JPEG "libjpeg-turbo")
troupe_find(Protozero "protozero")
troupe_find(xxHash "xxHash")
troupe_find(MPI "Open MPI" COMPONENTS CXX)
