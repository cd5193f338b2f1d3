// The folder of a run.
#pragma once

#include <filesystem>
#include <string>

namespace troupe {

/// Creates <root>/<name>/version_N with the first N that is free, also against other processes that do the same.
/// Throws UsageError with path and reason where it cannot be written.
std::filesystem::path create_run_dir(const std::filesystem::path& root, const std::string& name);

/// "my_ns::GreatNet" in the compiler's spelling (std::type_info::name) becomes "great_net".
std::string snake_case_class_name(const std::string& mangled);

}  // namespace troupe
