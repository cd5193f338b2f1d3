#include "troupe/base/nearest.hpp"

#include <algorithm>
#include <utility>

namespace troupe {
namespace {

// Nobody mistypes a name of 200 letters: the bound keeps hostile input cheap.
constexpr std::size_t longest_compared = 200;
constexpr std::size_t shortest_beginning = 2;

}  // namespace

std::size_t edit_distance(std::string_view a, std::string_view b) {
  a = a.substr(0, longest_compared);
  b = b.substr(0, longest_compared);
  std::vector<std::size_t> before(b.size() + 1);
  std::vector<std::size_t> last(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

std::string nearest(std::string_view name, const std::vector<std::string>& candidates) {
  const auto rank = [&](const std::string& candidate) {
    const bool begun = name.size() >= shortest_beginning && candidate.starts_with(name);
    return std::pair(!begun, edit_distance(name, candidate));
  };
  const auto closer = [&](const std::string& a, const std::string& b) { return rank(a) < rank(b); };
  const auto best = std::min_element(candidates.begin(), candidates.end(), closer);
  return best == candidates.end() ? "" : *best;
}

}  // namespace troupe
