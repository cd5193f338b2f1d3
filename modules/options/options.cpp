#include "troupe/modules/options/options.hpp"

#include "troupe/base/duration_text.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"

#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

namespace troupe {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using std::filesystem::path;

template <class T, template <class...> class Template>
inline constexpr bool is_a = false;
template <class... Args, template <class...> class Template>
inline constexpr bool is_a<Template<Args...>, Template> = true;

template <class T>
inline constexpr bool is_whole = std::is_integral_v<T> && !std::is_same_v<T, bool>;

std::string full_name(std::string_view name, std::string_view group) {
  return group.empty() ? std::string(name) : std::string(group) + "." + std::string(name);
}

[[noreturn]] void refuse(const std::string& name, const std::string& value, const std::string& expected) {
  throw UsageError(name + " = " + value + " is not " + expected);
}

std::string shown_json(const json& value) {
  if (value.is_number_float()) return double_to_text(value.get<double>());
  return shown(value.dump(-1, ' ', false, json::error_handler_t::replace));
}

bool is_path_text(std::string_view text) {
  return is_utf8(text) && text.find('\0') == std::string_view::npos;
}

// --- one value: names ---

template <class T>
std::string type_name() {
  if constexpr (std::is_same_v<T, bool>) return "BOOL";
  if constexpr (std::is_same_v<T, uint64_t>) return "UINT";
  if constexpr (is_whole<T>) return "INT";
  if constexpr (std::is_same_v<T, double>) return "FLOAT";
  if constexpr (std::is_same_v<T, std::string>) return "TEXT";
  if constexpr (std::is_same_v<T, path>) return "PATH";
  if constexpr (std::is_same_v<T, Amount>) return "INT|FLOAT";
  if constexpr (std::is_same_v<T, Interval>) return "INT|FLOAT|TIME";
  if constexpr (std::is_same_v<T, milliseconds>) return "TIME";
}

/// How a value was given wrongly, as far as that decides what is said about it.
struct Given {
  bool is_whole = false;
  bool is_tiny = false;      ///< a number that would be 0 as a double
  std::string time = "30s";  ///< the nearest that there is
};

/// What a value should have been. The range of a whole number is of interest only to who gave one outside of it.
template <class T>
std::string expected(Given given) {
  if constexpr (is_whole<T>) {
    if (!given.is_whole) return "a whole number";
    using Limits = std::numeric_limits<T>;
    return "a whole number from " + std::to_string(Limits::min()) + " to " + std::to_string(Limits::max());
  }
  if constexpr (std::is_same_v<T, bool>) return "true or false";
  if constexpr (std::is_same_v<T, double>) {
    return given.is_tiny ? "a number that a double tells from 0 (write 0, or at least 4.95e-324)" : "a finite number";
  }
  if constexpr (std::is_same_v<T, std::string>) return "UTF-8 text";
  if constexpr (std::is_same_v<T, path>) return "a path in UTF-8";
  if constexpr (std::is_same_v<T, Amount>) return "a count of at least 0 or a fraction from 0.0 to 1.0";
  if constexpr (std::is_same_v<T, Interval>) {
    return "a count of at least 0, a fraction from 0.0 to 1.0, or " + expected<milliseconds>(given);
  }
  if constexpr (std::is_same_v<T, milliseconds>) {
    return "a time such as 00:00:30 or " + given.time + " (" + std::string(duration_units) + ")";
  }
}

// --- one value: JSON ---

/// Nothing where JSON cannot hold the value.
template <class T>
std::optional<json> to_json_value(const T& value) {
  if constexpr (std::is_same_v<T, double>) {
    if (!std::isfinite(value)) return std::nullopt;
    return json(value);
  } else if constexpr (std::is_same_v<T, std::string>) {
    return is_utf8(value) ? std::optional<json>(value) : std::nullopt;
  } else if constexpr (std::is_same_v<T, path>) {
    return is_path_text(value.native()) ? std::optional<json>(value.native()) : std::nullopt;
  } else if constexpr (std::is_same_v<T, Amount>) {
    if (!value.valid()) return std::nullopt;
    return value.is_count() ? json(value.count()) : json(value.fraction());
  } else if constexpr (std::is_same_v<T, Interval>) {
    if (!value.is_time()) return to_json_value(value.amount());
    return value.valid() ? std::optional<json>(value.to_text()) : std::nullopt;
  } else if constexpr (std::is_same_v<T, milliseconds>) {
    return value >= milliseconds::zero() ? std::optional<json>(duration_to_text(value)) : std::nullopt;
  } else {
    return json(value);
  }
}

template <class T>
std::optional<T> whole_from_json(const json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (std::in_range<T>(number)) return static_cast<T>(number);
  } else if (value.is_number_integer()) {
    const auto number = value.get<int64_t>();
    if (std::in_range<T>(number)) return static_cast<T>(number);
  }
  return std::nullopt;
}

/// Nothing if the JSON value is of another type or out of range. One branch per type, of which the compiler takes one.
template <class T>
std::optional<T> from_json_value(const json& value) {
  if constexpr (std::is_same_v<T, bool>) {
    if (value.is_boolean()) return value.get<bool>();
  } else if constexpr (is_whole<T>) {
    return whole_from_json<T>(value);
  } else if constexpr (std::is_same_v<T, double>) {
    if (value.is_number() && std::isfinite(value.get<double>())) return value.get<double>();
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (value.is_string() && is_utf8(value.get_ref<const std::string&>())) return value.get<std::string>();
  } else if constexpr (std::is_same_v<T, path>) {
    if (value.is_string() && is_path_text(value.get_ref<const std::string&>())) return path(value.get<std::string>());
  } else if constexpr (std::is_same_v<T, Interval>) {
    if (value.is_string()) {
      const auto interval = Interval::from_text(value.get_ref<const std::string&>());
      if (interval && interval->is_time()) return interval;
    } else if (const auto amount = from_json_value<Amount>(value)) {
      return Interval(*amount);
    }
  } else if constexpr (std::is_same_v<T, milliseconds>) {
    if (value.is_string()) return duration_from_text(value.get_ref<const std::string&>());
  } else {
    static_assert(std::is_same_v<T, Amount>);
    std::optional<Amount> amount;
    if (value.is_number_float()) amount = Amount(value.get<double>());
    if (const auto count = whole_from_json<int64_t>(value)) amount = Amount(*count);
    if (amount && amount->valid()) return amount;
  }
  return std::nullopt;
}

// --- one value: text ---

template <class T>
std::string to_text_value(const T& value) {
  if constexpr (std::is_same_v<T, bool>) return value ? "true" : "false";
  if constexpr (is_whole<T>) return std::to_string(value);
  if constexpr (std::is_same_v<T, double>) return double_to_text(value);
  if constexpr (std::is_same_v<T, std::string>) return value;
  if constexpr (std::is_same_v<T, path>) return value.native();
  if constexpr (std::is_same_v<T, Amount> || std::is_same_v<T, Interval>) return value.to_text();
  if constexpr (std::is_same_v<T, milliseconds>) return duration_to_text(value);
}

template <class T>
std::optional<T> from_text_value(std::string_view text) {
  if constexpr (std::is_same_v<T, bool>) {
    if (text == "true" || text == "1") return true;
    if (text == "false" || text == "0") return false;
    return std::nullopt;
  } else if constexpr (is_whole<T>) {
    return number_from_text<T>(text);
  } else if constexpr (std::is_same_v<T, double>) {
    const auto number = number_from_text<double>(text);
    return number && std::isfinite(*number) ? number : std::nullopt;
  } else if constexpr (std::is_same_v<T, Amount> || std::is_same_v<T, Interval>) {
    return T::from_text(text);
  } else if constexpr (std::is_same_v<T, milliseconds>) {
    return duration_from_text(text);
  } else {
    const bool good = std::is_same_v<T, path> ? is_path_text(text) : is_utf8(text);
    return good ? std::optional<T>(T(text)) : std::nullopt;
  }
}

Given given_as(std::string_view text) {
  if (!text.empty() && (text[0] == '+' || text[0] == '-')) text.remove_prefix(1);
  Given given;
  given.is_whole = !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const auto exponent = text.find_first_of("eE");
  const bool shrinks = exponent == std::string_view::npos ? text.starts_with('0') || text.starts_with('.')
                                                          : text.substr(exponent + 1).starts_with('-');
  given.time = nearest_duration(text);
  given.is_tiny = error == std::errc::result_out_of_range && end == text.data() + text.size() && shrinks;
  return given;
}

Given given_as(const json& value) {
  Given given{.is_whole = value.is_number_integer()};
  if (value.is_string()) given.time = nearest_duration(value.get_ref<const std::string&>());
  if (value.is_number()) given.time = nearest_duration(value.dump());
  return given;
}

std::vector<std::string_view> split_at_commas(std::string_view text) {
  std::vector<std::string_view> parts;
  if (text.empty()) return parts;
  for (;;) {
    const auto comma = text.find(',');
    parts.push_back(text.substr(0, comma));
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

// --- optionals and vectors of values ---

template <class V>
std::optional<json> to_json_any(const V& value) {
  if constexpr (is_a<V, std::optional>) {
    return value ? to_json_value(*value) : json(nullptr);
  } else if constexpr (is_a<V, std::vector>) {
    json list = json::array();
    for (const auto& item : value) {
      auto element = to_json_value<typename V::value_type>(item);
      if (!element) return std::nullopt;
      list.push_back(std::move(*element));
    }
    return list;
  } else {
    return to_json_value(value);
  }
}

template <class V>
std::string to_text_any(const V& value) {
  if constexpr (is_a<V, std::optional>) {
    return value ? to_text_value(*value) : "none";
  } else if constexpr (is_a<V, std::vector>) {
    std::string text;
    for (std::size_t i = 0; i < value.size(); ++i) {
      text += (i == 0 ? "" : ",") + to_text_value<typename V::value_type>(value[i]);
    }
    return text;
  } else {
    return to_text_value(value);
  }
}

template <class V>
std::string expected_any(Given given) {
  if constexpr (is_a<V, std::optional>) {
    return expected<typename V::value_type>(given) + ", or none";
  } else if constexpr (is_a<V, std::vector>) {
    return "a list, each of it " + expected<typename V::value_type>(given);
  } else {
    return expected<V>(given);
  }
}

template <class V>
void set_any(V& target, const json& value, const std::string& name) {
  if constexpr (is_a<V, std::optional>) {
    auto content = value.is_null() ? V() : from_json_value<typename V::value_type>(value);
    if (!content && !value.is_null()) refuse(name, shown_json(value), expected_any<V>(given_as(value)));
    target = std::move(content);
  } else if constexpr (is_a<V, std::vector>) {
    if (!value.is_array()) refuse(name, shown_json(value), expected_any<V>({}));
    V list;
    for (const auto& item : value) {
      auto element = from_json_value<typename V::value_type>(item);
      if (!element) {
        refuse(name + "[" + std::to_string(list.size()) + "]", shown_json(item),
               expected<typename V::value_type>(given_as(item)));
      }
      list.push_back(std::move(*element));
    }
    target = std::move(list);
  } else {
    auto content = from_json_value<V>(value);
    if (!content) refuse(name, shown_json(value), expected_any<V>(given_as(value)));
    target = std::move(*content);
  }
}

template <class V>
void set_any(V& target, std::string_view text, const std::string& name) {
  if constexpr (is_a<V, std::optional>) {
    auto content = text == "none" ? V() : from_text_value<typename V::value_type>(text);
    if (!content && text != "none") refuse(name, shown(text), expected_any<V>(given_as(text)));
    target = std::move(content);
  } else if constexpr (is_a<V, std::vector>) {
    V list;
    for (const auto part : split_at_commas(text)) {
      auto element = from_text_value<typename V::value_type>(part);
      if (!element) {
        refuse(name + "[" + std::to_string(list.size()) + "]", shown(part),
               expected<typename V::value_type>(given_as(part)));
      }
      list.push_back(std::move(*element));
    }
    target = std::move(list);
  } else {
    auto content = from_text_value<V>(text);
    if (!content) refuse(name, shown(text), expected_any<V>(given_as(text)));
    target = std::move(*content);
  }
}

template <class V>
std::string type_name_any() {
  if constexpr (is_a<V, std::optional>) {
    return type_name<typename V::value_type>() + "|none";
  } else if constexpr (is_a<V, std::vector>) {
    return type_name<typename V::value_type>() + ",...";
  } else {
    return type_name<V>();
  }
}

// --- any option: what OptionPointer holds ---

template <class V>
std::optional<json> to_json_of(const V* value) {
  return to_json_any<V>(*value);
}
std::optional<json> to_json_of(const ChoicePointer& choice) {
  const auto name = choice.name();
  return name.empty() ? std::nullopt : std::optional<json>(name);
}

std::optional<json> to_json_of(const NumbersPointer& numbers) {
  json list = json::array();
  for (std::size_t i = 0; i < numbers.count; ++i) {
    if (!std::isfinite(*numbers.at[i])) return std::nullopt;
    list.push_back(*numbers.at[i]);
  }
  return list;
}

template <class V>
std::string to_text_of(const V* value) {
  return to_text_any(*value);
}
std::string to_text_of(const NumbersPointer& numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.count; ++i) text += (i == 0 ? "" : ",") + double_to_text(*numbers.at[i]);
  return text;
}
std::string to_text_of(const ChoicePointer& choice) {
  const auto name = choice.name();
  return name.empty() ? std::to_string(choice.read(choice.target)) : std::string(name);
}

template <class V>
std::string expected_of(const V*) {
  return expected_any<V>({});
}
std::string expected_of(const NumbersPointer& numbers) {
  return "a list of " + std::to_string(numbers.count) + " finite numbers";
}
std::string expected_of(const ChoicePointer& choice) {
  return "one of " + listed_names(choice.choices, ", ");
}

template <class V, class From>
void set_value(V* target, const From& value, const std::string& name) {
  set_any(*target, value, name);
}
void set_value(const ChoicePointer& target, std::string_view text, const std::string& name) {
  if (!is_utf8(text)) refuse(name, shown(text), expected<std::string>({}));
  target.write(target.target, value_in(target.choices, text, name));
}
void set_value(const ChoicePointer& target, const json& value, const std::string& name) {
  const auto* text = value.get_ptr<const std::string*>();
  if (!text || !is_utf8(*text)) refuse(name, shown_json(value), expected<std::string>({}));
  target.write(target.target, value_in(target.choices, *text, name));
}

void set_value(const NumbersPointer& target, const std::vector<double>& numbers, const std::string& name,
               const std::string& given) {
  if (numbers.size() != target.count) refuse(name, given, expected_of(target));
  for (std::size_t i = 0; i < target.count; ++i) *target.at[i] = numbers[i];
}
void set_value(const NumbersPointer& target, std::string_view text, const std::string& name) {
  std::vector<double> numbers;
  set_any(numbers, text, name);
  set_value(target, numbers, name, shown(text));
}
void set_value(const NumbersPointer& target, const json& value, const std::string& name) {
  std::vector<double> numbers;
  set_any(numbers, value, name);
  set_value(target, numbers, name, shown_json(value));
}

template <class V>
std::string type_of(const V*) {
  return type_name_any<V>();
}
std::string type_of(const NumbersPointer& numbers) {
  std::string type = "FLOAT";
  for (std::size_t i = 1; i < numbers.count; ++i) type += ",FLOAT";
  return type;
}
std::string type_of(const ChoicePointer& choice) {
  return listed_names(choice.choices, "|");
}

}  // namespace

nlohmann::json option_to_json(const OptionRef& option, std::string_view group) {
  return std::visit(
      [&](const auto& value) -> json {
        auto out = to_json_of(value);
        if (!out) refuse(full_name(option.name, group), shown(to_text_of(value)), expected_of(value));
        return std::move(*out);
      },
      option.value);
}

std::string option_to_text(const OptionRef& option) {
  return std::visit([](const auto& value) { return to_text_of(value); }, option.value);
}

void set_from_json(const OptionRef& option, const nlohmann::json& value, std::string_view group) {
  const std::string name = full_name(option.name, group);
  const bool as_number = option.is_switchable && value.is_boolean();
  const json given = as_number ? json(value.get<bool>() ? 1 : 0) : value;
  std::visit([&](const auto& target) { set_value(target, given, name); }, option.value);
}

void set_from_text(const OptionRef& option, std::string_view text, std::string_view group) {
  if (option.is_switchable && text == "true") text = "1";
  if (option.is_switchable && text == "false") text = "0";
  const std::string name = full_name(option.name, group);
  std::visit([&](const auto& target) { set_value(target, text, name); }, option.value);
}

OptionInfo option_info(const OptionRef& option) {
  const auto type = std::visit([](const auto& value) { return type_of(value); }, option.value);
  return {std::string(option.name), std::string(option.meaning), option.is_switchable ? type + "|BOOL" : type,
          option_to_text(option)};
}

OptionRef find_option(const std::vector<OptionRef>& options, std::string_view name, std::string_view group) {
  std::vector<std::string> names;
  for (const auto& option : options) {
    if (option.name == name) return option;
    names.emplace_back(option.name);
  }
  const std::string unknown = "unknown option " + full_name(shown(name), group);
  if (names.empty()) throw UsageError(unknown + "; there are no options");
  throw UsageError(unknown + "; did you mean " + full_name(nearest(name, names), group) + "?");
}

nlohmann::json to_json_object(const std::vector<OptionRef>& options, std::string_view group) {
  json object = json::object();
  for (const auto& option : options) object[std::string(option.name)] = option_to_json(option, group);
  return object;
}

void set_from_json_object(const std::vector<OptionRef>& options, const nlohmann::json& object, std::string_view group) {
  if (!object.is_object()) {
    refuse(group.empty() ? "options" : std::string(group), shown_json(object), "a JSON object of options");
  }
  for (const auto& [name, value] : object.items()) set_from_json(find_option(options, name, group), value, group);
}

}  // namespace troupe
