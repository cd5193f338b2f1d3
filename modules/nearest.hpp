// The nearest valid choice, for error messages about names that do not exist.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (optimal string alignment).
std::size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate with the smallest edit distance to `name` (the first of equals), or, where candidates begin with
/// `name`, the nearest of those: "ckpt" means "ckpt_path", not "help". Empty when there are no candidates.
std::string nearest(std::string_view name, const std::vector<std::string>& candidates);

/// Text of any origin made fit for an error message: control characters and bytes that are not UTF-8 are escaped, and
/// what is longer than 120 bytes is cut.
std::string shown(std::string_view text);

/// Whether `text` is well-formed UTF-8 (RFC 3629).
bool is_utf8(std::string_view text);

}  // namespace troupe
