// Enums whose values have names: what users write on the command line and in files, and what is written there.
//
//     enum class NonFinite { proceed, stop, skip };
//     TROUPE_CHOICES(NonFinite, {proceed, "continue"}, {stop, "stop"}, {skip, "skip"})
//
// The macro stands behind the enum in the same namespace, and such an enum may be a member that TROUPE_OPTIONS
// describes. The functions below may be called from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace troupe {

/// What is done with a name of a value.
enum class ChoiceUse {
  listed,     ///< help and errors list it; the first of a value is what is written
  accepted,   ///< it may be given too
  suggested,  ///< it is refused, and the value's first name suggested
};

/// A name of one value of an enum.
struct Choice {
  template <class Enum>
  constexpr Choice(Enum of, std::string_view called, ChoiceUse used = ChoiceUse::listed)
      : value(static_cast<int64_t>(of)), name(called), use(used) {}

  int64_t value;
  std::string_view name;
  ChoiceUse use;
};

/// An enum that TROUPE_CHOICES describes.
template <class T>
concept HasChoices = std::is_enum_v<T> && requires(T value) {
  troupe_choices(value);
};

namespace options_detail {
template <HasChoices Enum>
inline constexpr auto choices = troupe_choices(Enum{});
}  // namespace options_detail

/// All names of an enum's values, in the order of TROUPE_CHOICES.
template <HasChoices Enum>
std::span<const Choice> choices_of() {
  return options_detail::choices<Enum>;
}

// The same without templates. Values are those of the enum, as numbers.

/// The first name of `value`; empty if it has none.
std::string_view name_in(std::span<const Choice> choices, int64_t value);
/// The value that `text` names. Throws UsageError that says `option` ("trainer.nonfinite"), names the nearest choice
/// and lists all.
int64_t value_in(std::span<const Choice> choices, std::string_view text, std::string_view option);
/// The listed names with `separator` between them.
std::string listed_names(std::span<const Choice> choices, std::string_view separator);

/// The name of `value` as it is written; empty if it is none of the enum's.
template <HasChoices Enum>
std::string name_of(Enum value) {
  return std::string(name_in(choices_of<Enum>(), static_cast<int64_t>(value)));
}

}  // namespace troupe

/// TROUPE_CHOICES(Enum, {value, "name"}, ...); see the top of this file.
#define TROUPE_CHOICES(Enum, ...)                          \
  [[maybe_unused]] constexpr auto troupe_choices(Enum) {   \
    using enum Enum;                                       \
    return std::to_array<::troupe::Choice>({__VA_ARGS__}); \
  }
