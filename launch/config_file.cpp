#include "troupe/launch/config_file.hpp"

#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/launch/toml_reader.hpp"

#include <fstream>
#include <map>

namespace troupe {
namespace {

constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";
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

// As other editors save it: with the mark of its byte order, or with zeros around its first character.
void refuse_other_encodings(std::string_view text, const std::string& source) {
  const auto starts = text.substr(0, 4);
  const bool is_marked = starts.starts_with("\xFF\xFE") || starts.starts_with("\xFE\xFF");
  if (!is_marked && starts.find('\0') == starts.npos) return;
  throw UsageError(source + ": the file is UTF-16 or UTF-32, a config file is UTF-8: save it as that");
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

void apply(const ConfigItem& item, const std::vector<OptionGroup>& groups) {
  const auto [group, option] = find_grouped_option(groups, item.name, "", {"ckpt_path"});
  const bool unset = item.value == "none" && holds_optional(option);
  set_from_json(option, unset ? nlohmann::json(nullptr) : item.value, group);
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
  if (!value.is_array()) return value.dump();
  return "[" + joined_as(value, toml_value) + "]";
}

}  // namespace

std::vector<ConfigItem> parse_config(std::string_view text, const std::string& source) {
  refuse_other_encodings(text, source);
  if (text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());
  TomlReader reader(text, source);
  std::vector<ConfigItem> items;
  std::map<std::string, int, std::less<>> lines;
  std::string table;
  while (reader.next_statement()) {
    const int line = reader.line();
    if (reader.take('[')) {
      table = reader.read_key() + ".";
      if (!reader.take(']')) reader.fail("] is missing after the name of a table");
    } else {
      std::string name = table + reader.read_key();
      if (!reader.take('=')) reader.fail("= is missing after " + shown(name));
      const auto [first, is_new] = lines.emplace(name, line);
      if (!is_new) reader.fail(shown(name) + " was already set in line " + std::to_string(first->second));
      items.push_back({std::move(name), reader.read_value(), line});
    }
    reader.end_line();
  }
  return items;
}

std::optional<std::string> apply_config_file(const std::filesystem::path& path,
                                             const std::vector<OptionGroup>& groups) {
  const std::string source = shown(path.native());
  std::optional<std::string> ckpt_path;
  for (const auto& item : parse_config(read_file(path), source)) {
    try {
      if (item.name == "ckpt_path") {
        ckpt_path = ckpt_path_of(item);
      } else {
        apply(item, groups);
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
    out += (out.empty() ? "[" : "\n[") + group.name + "]\n";
    for (const auto& option : group.options) {
      out += std::string(option.name) + " = " + toml_value(option_to_json(option, group.name)) + "\n";
    }
  }
  return out;
}

}  // namespace troupe
