#include "troupe/launch/config_file.hpp"

#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/launch/parse_config.hpp"
#include "troupe/launch/part_setting.hpp"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <limits>
#include <type_traits>

namespace troupe {
namespace {

constexpr std::size_t largest_file = std::size_t{1} << 20;

std::string read_file(const std::filesystem::path& path) {
  const std::string name = shown(path.native());
  std::ifstream file(path, std::ios::binary);
  if (!file) throw UsageError("cannot open the config file " + name);
  std::string text(largest_file + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) throw UsageError("cannot read the config file " + name);
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > largest_file) throw UsageError(name + " is larger than 1 MiB: not a config file");
  return text;
}

bool holds_optional(const OptionRef& option) {
  return std::visit(
      [](const auto& value) {
        return requires {
          value->has_value();
        };
      },
      option.value);
}

bool holds_unsigned(const OptionRef& option) {
  return std::holds_alternative<uint64_t*>(option.value) ||
         std::holds_alternative<std::optional<uint64_t>*>(option.value) ||
         std::holds_alternative<std::vector<uint64_t>*>(option.value);
}

// TOML's whole numbers end here; larger ones are texts.
constexpr auto largest_in_toml = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());

// Makes numbers of the texts that stand for what TOML's numbers cannot hold.
nlohmann::json with_large_numbers(nlohmann::json value) {
  if (value.is_array()) {
    for (auto& item : value) item = with_large_numbers(std::move(item));
  } else if (value.is_string()) {
    const auto number = number_from_text<uint64_t>(value.get_ref<const std::string&>());
    if (number && *number > largest_in_toml) return *number;
  }
  return value;
}

void set_from_toml(const OptionRef& option, const nlohmann::json& given, const std::string& group) {
  const bool unset = given == "none" && holds_optional(option);
  auto value = unset ? nlohmann::json(nullptr) : given;
  set_from_json(option, holds_unsigned(option) ? with_large_numbers(std::move(value)) : value, group);
}

void apply(const ConfigItem& item, const std::vector<OptionGroup>& groups, PartSettings* parts) {
  std::vector<std::string> others = {"ckpt_path"};
  for (auto& kind : parts ? parts->kinds() : std::vector<std::string>()) others.push_back(std::move(kind));
  const auto [group, option] = find_grouped_option(groups, item.name, "", others);
  set_from_toml(option, item.value, group);
  if (parts && item.name == "trainer.loggers") parts->forget_loggers();
}

// The names that `item` gives: a text, or a list of them.
std::vector<std::string> part_names_of(const ConfigItem& item) {
  const auto list = item.value.is_array() ? item.value : nlohmann::json::array({item.value});
  std::vector<std::string> names;
  for (const auto& each : list) {
    if (!each.is_string()) {
      throw UsageError(item.name + " = " + shown(each.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)) +
                       " is not a name in quotes");
    }
    names.push_back(each.get<std::string>());
  }
  return names;
}

void add_to_parts(const ConfigItem& item, const std::string& source, PartSettings& parts) {
  PartSetting setting{.name = item.name, .source = source + ":" + std::to_string(item.line) + ": "};
  if (names_parts(item.name)) {
    setting.parts = part_names_of(item);
  } else {
    setting.set = [value = item.value](const OptionRef& option, const std::string& group) {
      set_from_toml(option, value, group);
    };
  }
  parts.add(std::move(setting));
}

std::string ckpt_path_of(const ConfigItem& item) {
  if (!item.value.is_string() || item.value == "") {
    throw UsageError("ckpt_path = " + shown(item.value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)) +
                     " is not \"best\", \"last\" or a path in quotes");
  }
  return item.value.get<std::string>();
}

std::string quoted(const std::string& text) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (c == '\n') {
      out += "\\n";
    } else if (byte < 0x20 || byte == 0x7F) {
      out += std::string("\\u00") + digits[byte >> 4] + digits[byte & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string toml_value(const nlohmann::json& value) {
  if (value.is_null()) return quoted("none");
  if (value.is_string()) return quoted(value.get<std::string>());
  if (value.is_number_float()) return double_to_text(value.get<double>());
  if (value.is_number_unsigned() && value.get<uint64_t>() > largest_in_toml) return quoted(value.dump());
  if (!value.is_array()) return value.dump();
  return "[" + joined_as(value, toml_value) + "]";
}

}  // namespace

std::optional<std::string> apply_config_file(const std::filesystem::path& path, const std::vector<OptionGroup>& groups,
                                             PartSettings* parts) {
  const std::string source = shown(path.native());
  std::optional<std::string> ckpt_path;
  if (parts) parts->begin_place();
  const auto named = parts ? NamedTables{parts->kinds(), parts->lists()} : NamedTables();
  for (const auto& item : parse_config(read_file(path), source, named)) {
    try {
      if (item.name == "ckpt_path") {
        ckpt_path = ckpt_path_of(item);
      } else if (parts && parts->takes(item.name)) {
        add_to_parts(item, source, *parts);
      } else {
        apply(item, groups, parts);
      }
    } catch (const UsageError& error) {
      throw UsageError(source + ":" + std::to_string(item.line) + ": " + error.what());
    }
  }
  return ckpt_path;
}

std::string to_toml(const std::vector<OptionGroup>& groups, const std::optional<std::string>& ckpt_path) {
  std::string out = ckpt_path ? "ckpt_path = " + quoted(*ckpt_path) + "\n" : "";
  for (const auto& group : groups) {
    out += (out.empty() ? "" : "\n") + (group.list.empty() ? "[" + group.name + "]" : "[[" + group.list + "]]") + "\n";
    for (const auto& option : group.options) {
      out += std::string(option.name) + " = " + toml_value(option_to_json(option, group.name)) + "\n";
    }
  }
  return out;
}

}  // namespace troupe
