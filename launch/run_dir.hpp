// The folder of a run.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace troupe {

/// Creates <root>/<name>/version_N with the first N that is free, also against other processes that do the same.
/// Throws UsageError with path and reason if it cannot be written.
std::filesystem::path create_run_dir(const std::filesystem::path& root, const std::string& name);

/// The names of the runs below `root`, in order: those of folders that hold a version_N.
std::vector<std::string> run_names(const std::filesystem::path& root);

/// "GreatNet<app::Block>" becomes "great_net".
std::string snake_case_class_name(const std::string& class_name);

}  // namespace troupe
