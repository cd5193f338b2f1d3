// The files of runtime/report/page/, which the build puts into the library (cmake/TroupePage.cmake).
#pragma once

#include <string_view>

namespace troupe::page_parts {

extern const std::string_view html, style, program;

}  // namespace troupe::page_parts
