// The nearest valid choice, for error messages about names that do not exist.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (optimal string alignment).
std::size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate with the smallest edit distance to `name` (the first of equals). If candidates begin with `name`, it
/// is the nearest of those: "ckpt" means "ckpt_path", not "help". Empty if there are no candidates.
std::string nearest(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace troupe
