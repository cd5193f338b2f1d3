// One description of an options struct that serves constructor arguments, JSON, command line and config file.
//
//     struct DigitsOptions {
//       double lr = 1e-3;
//       int64_t hidden = 128;
//     };
//     TROUPE_OPTIONS(DigitsOptions, (lr, "learning rate of AdamW"), (hidden, "units of the hidden layer"))
//
// The struct stays an aggregate, may lie in any namespace and may have further members that are not described. The
// macro stands behind it in the same namespace. Members may be bool, int, int64_t, uint64_t, double, std::string,
// std::filesystem::path, troupe::Amount, troupe::Interval, std::optional or std::vector of one of these,
// std::optional<std::chrono::milliseconds>, std::pair<double, double> or a std::array of 2 to 4 doubles, and an enum
// that TROUPE_CHOICES describes (modules/options/choices.hpp), which users give and files keep by its names.
//
// The functions below touch nothing but their arguments and may be called from any thread. They throw UsageError with
// the option's name, its value and what was expected: "model.lr = nan is not a finite number". `group` is what stands
// in front of the name in these messages ("model"); it may be empty.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/modules/options/amount.hpp"
#include "troupe/modules/options/choices.hpp"
#include "troupe/modules/options/interval.hpp"

#include <nlohmann/json.hpp>

#include <array>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace troupe {

/// Where an option lies whose type is an enum.
struct ChoicePointer {
  std::span<const Choice> choices;
  void* target;
  int64_t (*read)(const void* target);
  void (*write)(void* target, int64_t value);

  std::string_view name() const { return name_in(choices, read(target)); }
};

/// Where numbers of a fixed count lie: a list in files, with commas between them in text.
struct NumbersPointer {
  std::array<double*, 4> at = {};
  std::size_t count = 0;
};

namespace options_detail {

/// Pointers to each type, to an optional of it and to a vector of it, to enums, to a time and to numbers.
template <class... T>
using Pointers = std::variant<T*..., std::optional<T>*..., std::vector<T>*..., ChoicePointer,
                              std::optional<std::chrono::milliseconds>*, NumbersPointer>;

template <class T, class Variant>
inline constexpr bool is_alternative = false;
template <class T, class... Alternatives>
inline constexpr bool is_alternative<T, std::variant<Alternatives...>> = (std::same_as<T, Alternatives> || ...);

/// A type that NumbersPointer can point to.
template <class T>
inline constexpr bool is_numbers = std::same_as<T, std::pair<double, double>>;
template <std::size_t count>
inline constexpr bool is_numbers<std::array<double, count>> = count >= 2 && count <= 4;

}  // namespace options_detail

/// Where an option's value lies, with its type.
using OptionPointer = options_detail::Pointers<bool, int, int64_t, uint64_t, double, std::string, std::filesystem::path,
                                               Amount, Interval>;

/// Third part of a description, `(fast_dev_run, "meaning", troupe::switchable)`: the number also takes true (1) and
/// false (0), and stands for 1 when the command line names it without a value. For int and int64_t.
struct Switchable {};
inline constexpr Switchable switchable;

/// One option of one object. Valid as long as the object stays where it is.
struct OptionRef {
  std::string_view name;
  std::string_view meaning;
  bool is_switchable = false;
  OptionPointer value;

  /// Whether the command line may name it without a value.
  bool is_flag() const { return is_switchable || std::holds_alternative<bool*>(value); }
};

/// An option as help shows it.
struct OptionInfo {
  std::string name;
  std::string meaning;
  std::string type;           ///< "INT", "FLOAT|none", "TEXT,...", "wait|skip", ...
  std::string default_value;  ///< as text that set_option takes
};

namespace options_detail {

template <class Owner, class Value>
struct Field {
  static_assert(
      is_alternative<Value*, OptionPointer> || is_numbers<Value> || HasChoices<Value>,
      "an option is bool, int, int64_t, uint64_t, double, std::string, std::filesystem::path, "
      "troupe::Amount, troupe::Interval, std::optional or std::vector of one of these, "
      "std::optional<std::chrono::milliseconds>, a pair or a std::array of doubles, or an enum with TROUPE_CHOICES");
  const char* name;
  const char* meaning;
  Value Owner::*member;
  bool is_switchable = false;
};

template <class Owner, class Value>
constexpr Field<Owner, Value> field(const char* name, const char* meaning, Value Owner::*member) {
  return {name, meaning, member};
}
template <class Owner, class Value>
requires(std::same_as<Value, int> ||
         std::same_as<Value, int64_t>) constexpr Field<Owner, Value> field(const char* name, const char* meaning,
                                                                           Value Owner::*member, Switchable) {
  return {name, meaning, member, true};
}

template <class Value>
OptionPointer pointer_to(Value& value) {
  return &value;
}
template <HasChoices Enum>
OptionPointer pointer_to(Enum& value) {
  return ChoicePointer{choices_of<Enum>(), &value,
                       [](const void* target) { return static_cast<int64_t>(*static_cast<const Enum*>(target)); },
                       [](void* target, int64_t number) { *static_cast<Enum*>(target) = static_cast<Enum>(number); }};
}
template <class Numbers>
requires is_numbers<Numbers> OptionPointer pointer_to(Numbers& value) {
  const auto of = [](auto&... each) { return NumbersPointer{{&each...}, sizeof...(each)}; };
  return std::apply(of, value);
}

}  // namespace options_detail

/// A struct that TROUPE_OPTIONS describes.
template <class T>
concept Described = requires(const T* object) {
  troupe_describe_options(object);
};

/// The options of `object`, in the order of their description.
template <Described T>
std::vector<OptionRef> option_refs(T& object) {
  const auto ref = [&](const auto& field) {
    return OptionRef{field.name, field.meaning, field.is_switchable,
                     options_detail::pointer_to(object.*(field.member))};
  };
  return std::apply([&](const auto&... fields) { return std::vector<OptionRef>{ref(fields)...}; },
                    troupe_describe_options(static_cast<const T*>(nullptr)));
}

// The same without templates, for lists of options.

/// The value as JSON: null for an empty optional, an integer or a float for an Amount, text for a duration. Throws
/// UsageError for what JSON cannot hold: NaN, infinities, text that is not UTF-8, a number that is no value of an enum.
nlohmann::json option_to_json(const OptionRef& option, std::string_view group = {});
/// The value as text that set_from_text takes; "none" for an empty optional.
std::string option_to_text(const OptionRef& option);
void set_from_json(const OptionRef& option, const nlohmann::json& value, std::string_view group = {});
void set_from_text(const OptionRef& option, std::string_view text, std::string_view group = {});
OptionInfo option_info(const OptionRef& option);
/// The option called `name`; throws UsageError that names the nearest one.
OptionRef find_option(const std::vector<OptionRef>& options, std::string_view name, std::string_view group = {});
nlohmann::json to_json_object(const std::vector<OptionRef>& options, std::string_view group = {});
void set_from_json_object(const std::vector<OptionRef>& options, const nlohmann::json& object,
                          std::string_view group = {});

// For one object.

/// All options as a JSON object. Throws UsageError for NaN, infinities and text that is not UTF-8.
template <Described T>
nlohmann::json to_json_object(const T& object, std::string_view group = {}) {
  return to_json_object(option_refs(const_cast<T&>(object)), group);  // read only
}

/// Throws UsageError when a value could not be written to JSON: a check of options that were set in code.
template <Described T>
void check_options(const T& object, std::string_view group = {}) {
  (void)to_json_object(object, group);
}

/// Sets the options that the JSON object holds and leaves the others. Throws UsageError for an unknown key, a wrong
/// type or a value out of range; some options may have been set by then.
template <Described T>
void set_options(T& object, const nlohmann::json& json, std::string_view group = {}) {
  set_from_json_object(option_refs(object), json, group);
}

/// An object with the defaults of `T` where `json` says nothing. Throws UsageError as set_options does.
template <Described T>
T options_from_json(const nlohmann::json& json, std::string_view group = {}) {
  T object{};
  set_options(object, json, group);
  return object;
}

/// Sets one option from text, strictly: the whole text counts, numbers must be in range and finite, bools are true,
/// false, 1 or 0, "none" empties an optional, vectors are separated by commas (empty text: an empty vector).
template <Described T>
void set_option(T& object, std::string_view name, std::string_view text, std::string_view group = {}) {
  set_from_text(find_option(option_refs(object), name, group), text, group);
}

/// What help shows, with the values of `object` as defaults.
template <Described T>
std::vector<OptionInfo> describe_options(const T& object = {}) {
  std::vector<OptionInfo> out;
  for (const auto& option : option_refs(const_cast<T&>(object))) out.push_back(option_info(option));  // read only
  return out;
}

}  // namespace troupe

// A for-each over macro arguments: each pass of TROUPE_EXPAND scans once more, 256 passes serve as many options.
#define TROUPE_PARENTHESES ()
#define TROUPE_EXPAND(...) TROUPE_EXPAND_4(TROUPE_EXPAND_4(TROUPE_EXPAND_4(TROUPE_EXPAND_4(__VA_ARGS__))))
#define TROUPE_EXPAND_4(...) TROUPE_EXPAND_3(TROUPE_EXPAND_3(TROUPE_EXPAND_3(TROUPE_EXPAND_3(__VA_ARGS__))))
#define TROUPE_EXPAND_3(...) TROUPE_EXPAND_2(TROUPE_EXPAND_2(TROUPE_EXPAND_2(TROUPE_EXPAND_2(__VA_ARGS__))))
#define TROUPE_EXPAND_2(...) TROUPE_EXPAND_1(TROUPE_EXPAND_1(TROUPE_EXPAND_1(TROUPE_EXPAND_1(__VA_ARGS__))))
#define TROUPE_EXPAND_1(...) __VA_ARGS__
#define TROUPE_EACH_OPTION(first, ...) \
  TROUPE_OPTION_FIELD first __VA_OPT__(, TROUPE_EACH_OPTION_AGAIN TROUPE_PARENTHESES(__VA_ARGS__))
#define TROUPE_EACH_OPTION_AGAIN() TROUPE_EACH_OPTION
#define TROUPE_OPTION_FIELD(member, meaning, ...) \
  ::troupe::options_detail::field(#member, meaning, &TroupeOwner::member __VA_OPT__(, ) __VA_ARGS__)

/// TROUPE_OPTIONS(Struct, (member, "meaning"), ...); see the top of this file.
#define TROUPE_OPTIONS(Struct, ...)                                         \
  [[maybe_unused]] constexpr auto troupe_describe_options(const Struct*) {  \
    using TroupeOwner = Struct;                                             \
    return std::make_tuple(TROUPE_EXPAND(TROUPE_EACH_OPTION(__VA_ARGS__))); \
  }
