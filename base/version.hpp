// The version of the library; CMakeLists.txt reads it from here.
#pragma once

namespace troupe {

inline constexpr const char* library_version = "0.2.0";

}  // namespace troupe
