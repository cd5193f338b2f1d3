// Names of shards.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace troupe {

/// All texts that a brace pattern stands for, in order, as a shell has it: "{a,b}" for each of a list, "{0000..0146}"
/// for each number of a range, filled up with zeros if one of its ends is; also several in one text and one in another.
/// Braces that hold neither a list nor a range stand for themselves. Throws UsageError for a brace that is not closed
/// and for more than a million texts.
std::vector<std::string> expand_braces(const std::string& pattern);

/// Paths of shards: a file; a folder, for the files in it that end with ".tar", ".tar.gz" or ".tgz" in the order of
/// their names, without hidden ones; or a brace pattern. Throws UsageError naming what does not exist, a folder without
/// shards and a path that comes twice.
std::vector<std::filesystem::path> find_shards(const std::vector<std::string>& paths);

}  // namespace troupe
