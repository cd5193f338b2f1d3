#include "troupe/base/name_patterns.hpp"

#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"

#include <fnmatch.h>

#include <algorithm>
#include <utility>

namespace troupe {

namespace {

constexpr std::size_t most_near_names = 3;

std::vector<std::string> split_at(std::string_view text, char mark) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(mark, begin), text.size());
    parts.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

// Of "net.0.weight": itself, and each stretch of its parts, since a pattern's stars stand for the rest.
std::size_t distance(std::string_view letters, const std::string& name) {
  std::size_t best = edit_distance(letters, name);
  for (std::size_t begin = 0; begin < name.size(); begin = std::min(name.find('.', begin), name.size() - 1) + 1) {
    for (std::size_t end = begin; end < name.size();) {
      end = std::min(name.find('.', end + 1), name.size());
      best = std::min(best, edit_distance(letters, std::string_view(name).substr(begin, end - begin)));
    }
  }
  return best;
}

}  // namespace

std::vector<std::string> patterns_in(std::string_view text) {
  return split_at(text, '|');
}

bool fits_pattern(const std::string& name, const std::string& pattern) {
  return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

std::string names_near(std::string_view pattern, const std::vector<std::string>& names) {
  std::string letters;
  for (const char c : pattern) {
    if (c != '*' && c != '?') letters += c;
  }
  while (letters.starts_with('.')) letters.erase(0, 1);
  while (letters.ends_with('.')) letters.pop_back();
  std::vector<std::pair<std::size_t, std::size_t>> ranks;  // distance, position
  for (std::size_t i = 0; i < names.size(); ++i) ranks.emplace_back(distance(letters, names[i]), i);
  std::ranges::sort(ranks);
  std::string near;
  for (std::size_t i = 0; i < std::min(most_near_names, ranks.size()); ++i) {
    near += (i > 0 ? ", " : "") + shown(names[ranks[i].second]);
  }
  return near;
}

}  // namespace troupe
