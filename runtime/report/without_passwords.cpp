#include "troupe/runtime/report/without_passwords.hpp"

#include <string_view>

namespace troupe {

std::string without_passwords(const std::string& text) {
  constexpr std::string_view mark = "://";
  std::string out = text;
  for (auto at = out.find(mark); at != std::string::npos; at = out.find(mark, at + 1)) {
    const auto begin = at + mark.size();
    const auto end = out.find_first_of("/?# \t\n\"'", begin);
    const auto sign = out.substr(begin, end == std::string::npos ? end : end - begin).rfind('@');
    if (sign != std::string::npos) out.replace(begin, sign, "***");
  }
  return out;
}

}  // namespace troupe
