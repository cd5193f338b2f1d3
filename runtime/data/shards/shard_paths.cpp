#include "troupe/runtime/data/shards/shard_paths.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>
#include <string_view>

namespace troupe {

namespace {

constexpr std::size_t kMostBraceTexts = 1'000'000;

[[noreturn]] void refuse_braces(std::string_view pattern, const std::string& why) {
  throw UsageError("the pattern '" + shown(pattern) + "' " + why);
}

/// "0000..0146": every number of it; nothing if it is no range.
std::optional<std::vector<std::string>> brace_range(std::string_view inner) {
  const auto dots = inner.find("..");
  if (dots == inner.npos) return std::nullopt;
  const auto first_text = inner.substr(0, dots), last_text = inner.substr(dots + 2);
  const auto first = number_from_text<int64_t>(first_text), last = number_from_text<int64_t>(last_text);
  if (!first || !last || *first < 0 || *last < 0) return std::nullopt;
  const auto is_filled = [](std::string_view text) { return text.size() > 1 && text[0] == '0'; };
  const std::size_t width =
      is_filled(first_text) || is_filled(last_text) ? std::max(first_text.size(), last_text.size()) : 0;
  const auto count = static_cast<uint64_t>(std::max(*first, *last) - std::min(*first, *last)) + 1;
  if (count > kMostBraceTexts || width > 20) refuse_braces(inner, "stands for more than a million texts");
  std::vector<std::string> out;
  for (uint64_t i = 0; i < count; ++i) {
    const auto number =
        std::to_string(*first <= *last ? *first + static_cast<int64_t>(i) : *first - static_cast<int64_t>(i));
    out.push_back(std::string(width - std::min(width, number.size()), '0') + number);
  }
  return out;
}

/// Position of the brace that closes the one at `open`, and the commas between them that are in no further braces.
struct BraceParts {
  std::size_t close = 0;
  std::vector<std::size_t> commas;
};

BraceParts brace_parts(std::string_view pattern, std::size_t open) {
  BraceParts out;
  int depth = 0;
  for (std::size_t i = open; i < pattern.size(); ++i) {
    if (pattern[i] == ',' && depth == 1) out.commas.push_back(i);
    if (pattern[i] == '{') ++depth;
    if (pattern[i] != '}' || --depth > 0) continue;
    out.close = i;
    return out;
  }
  refuse_braces(pattern, "has a brace that is not closed");
}

std::vector<std::string> expand_braces_within(std::string_view pattern, int depth);

/// What the braces stand for, themselves included if they are neither a list nor a range.
std::vector<std::string> brace_choices(std::string_view pattern, std::size_t open, const BraceParts& parts, int depth) {
  const auto inner = pattern.substr(open + 1, parts.close - open - 1);
  std::vector<std::string> out;
  if (parts.commas.empty()) {
    if (auto range = brace_range(inner)) return *range;
    for (const auto& text : expand_braces_within(inner, depth)) out.push_back("{" + text + "}");
    return out;
  }
  std::size_t start = open + 1;
  for (std::size_t i = 0; i <= parts.commas.size(); ++i) {
    const std::size_t end = i < parts.commas.size() ? parts.commas[i] : parts.close;
    for (auto& text : expand_braces_within(pattern.substr(start, end - start), depth)) out.push_back(std::move(text));
    start = end + 1;
  }
  return out;
}

std::vector<std::string> expand_braces_within(std::string_view pattern, int depth) {
  if (depth > 16) refuse_braces(pattern, "has braces within more than 16 others");
  std::vector<std::string> out = {""};
  for (std::size_t at = 0; at < pattern.size();) {
    const std::size_t open = std::min(pattern.find('{', at), pattern.size());
    for (auto& text : out) text += pattern.substr(at, open - at);
    if (open == pattern.size()) break;
    const BraceParts parts = brace_parts(pattern, open);
    const auto choices = brace_choices(pattern, open, parts, depth + 1);
    if (out.size() * choices.size() > kMostBraceTexts) refuse_braces(pattern, "stands for more than a million texts");
    std::vector<std::string> longer;
    for (const auto& text : out) {
      for (const auto& choice : choices) longer.push_back(text + choice);
    }
    out = std::move(longer);
    at = parts.close + 1;
  }
  return out;
}

std::vector<std::filesystem::path> shards_in_folder(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> out;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const auto name = entry->path().filename().string();
    const bool is_shard = name.ends_with(".tar") || name.ends_with(".tar.gz") || name.ends_with(".tgz");
    std::error_code ignored;
    if (is_shard && name[0] != '.' && entry->is_regular_file(ignored)) out.push_back(entry->path());
  }
  if (error) throw UsageError("cannot read the folder " + folder.string() + ": " + error.message());
  if (out.empty()) throw UsageError("the folder " + folder.string() + " has no .tar, .tar.gz or .tgz file");
  std::ranges::sort(out);
  return out;
}

}  // namespace

std::vector<std::string> expand_braces(const std::string& pattern) {
  return expand_braces_within(pattern, 0);
}

std::vector<std::filesystem::path> find_shards(const std::vector<std::string>& paths) {
  std::vector<std::filesystem::path> out;
  std::set<std::filesystem::path> seen;
  const auto add = [&](const std::filesystem::path& path) {
    if (!seen.insert(path.lexically_normal()).second)
      throw UsageError("the shard " + path.string() + " is listed twice");
    out.push_back(path);
  };
  for (const auto& each : paths) {
    std::error_code ignored;
    const bool is_literal = std::filesystem::exists(each, ignored);
    for (const auto& text : is_literal ? std::vector<std::string>{each} : expand_braces(each)) {
      if (std::filesystem::is_directory(text, ignored)) {
        for (const auto& path : shards_in_folder(text)) add(path);
      } else if (std::filesystem::exists(text, ignored)) {
        add(text);
      } else {
        throw UsageError("there is no shard " + text + (text == each ? "" : ", which the pattern " + each + " names"));
      }
    }
  }
  if (out.empty()) throw UsageError("no shards are given");
  return out;
}

}  // namespace troupe
