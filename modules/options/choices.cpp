#include "troupe/modules/options/choices.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"

#include <vector>

namespace troupe {
namespace {

std::string suggested_choice(std::span<const Choice> choices, std::string_view text) {
  std::vector<std::string> candidates;
  for (const auto& choice : choices) {
    if (choice.use != ChoiceUse::suggested) candidates.emplace_back(choice.name);
    if (choice.use == ChoiceUse::suggested && choice.name == text) {
      return std::string(name_in(choices, choice.value));
    }
  }
  return nearest(text, candidates);
}

}  // namespace

std::string_view name_in(std::span<const Choice> choices, int64_t value) {
  for (const auto& choice : choices) {
    if (choice.value == value) return choice.name;
  }
  return "";
}

int64_t value_in(std::span<const Choice> choices, std::string_view text, std::string_view option) {
  for (const auto& choice : choices) {
    if (choice.name == text && choice.use != ChoiceUse::suggested) return choice.value;
  }
  throw UsageError(std::string(option) + " = " + shown(text) + " is not valid; did you mean " +
                   suggested_choice(choices, text) + "? (" + listed_names(choices, ", ") + ")");
}

std::string listed_names(std::span<const Choice> choices, std::string_view separator) {
  std::vector<std::string> names;
  for (const auto& choice : choices) {
    if (choice.use == ChoiceUse::listed) names.emplace_back(choice.name);
  }
  return joined(names, separator);
}

}  // namespace troupe
