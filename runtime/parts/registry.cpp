#include "troupe/runtime/parts/registry.hpp"

#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"

#include <algorithm>
#include <filesystem>

namespace troupe {
namespace {

/// What two names have in common that are the same.
std::string key_of_name(std::string_view name) {
  std::string key = small_letters(std::string(name));
  std::erase_if(key, [](char c) { return c == '_' || c == '-'; });
  return key;
}

bool can_be_part_name(std::string_view name) {
  constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyz0123456789_";
  return !name.empty() && name != "none" && name.find_first_not_of(allowed) == std::string_view::npos;
}

std::vector<std::string> all_names_of(const PartInfo& info) {
  std::vector<std::string> names = info.other_names;
  names.insert(names.begin(), info.name);
  return names;
}

}  // namespace

std::string origin_of(const std::source_location& where) {
  return std::filesystem::path(where.file_name()).filename().string() + ":" + std::to_string(where.line());
}

void PartRegistry::add_entry(PartInfo info, Make make) {
  for (const auto& name : all_names_of(info)) {
    if (!problem_.empty()) break;
    if (!can_be_part_name(name)) {
      problem_ = "the " + kind_ + " that " + info.origin + " registers is called '" + shown(name) +
                 "'; use small letters, digits and '_', and not none";
    } else if (const auto* other = entry(name)) {
      problem_ = "two " + kind_ + "s are called '" + name + "': '" + other->info.name + "' of " + other->info.origin +
                 " and '" + info.name + "' of " + info.origin + "; give one of them another name";
    }
  }
  entries_.push_back({std::move(info), std::move(make)});
}

std::vector<std::string> PartRegistry::names() const {
  if (!problem_.empty()) throw UsageError(problem_);
  std::vector<std::string> names;
  for (const auto& each : entries_) names.push_back(each.info.name);
  std::ranges::sort(names);
  return names;
}

const PartRegistry::Entry* PartRegistry::entry(std::string_view name) const {
  const auto key = key_of_name(name);
  const auto is_meant = [&](const std::string& its) { return key_of_name(its) == key; };
  const auto found = std::ranges::find_if(
      entries_, [&](const Entry& each) { return std::ranges::any_of(all_names_of(each.info), is_meant); });
  return found == entries_.end() ? nullptr : &*found;
}

const PartRegistry::Entry& PartRegistry::entry_or_refuse(std::string_view name) const {
  if (!problem_.empty()) throw UsageError(problem_);
  if (const auto* found = entry(name)) return *found;
  std::vector<std::string> candidates;
  for (const auto& each : entries_) {
    for (auto& its : all_names_of(each.info)) candidates.push_back(std::move(its));
  }
  const auto suggestion = nearest(small_letters(std::string(name)), candidates);
  throw UsageError(
      "unknown " + kind_ + " '" + shown(name) + "'" +
      (suggestion.empty() ? "; there are none" : "; did you mean " + suggestion + "? (" + joined(names()) + ")"));
}

const PartInfo& PartRegistry::info(std::string_view name) const {
  return entry_or_refuse(name).info;
}

std::unique_ptr<Part> PartRegistry::new_part(std::string_view name) const {
  return entry_or_refuse(name).make();
}

}  // namespace troupe
