// Options in a file: read, applied, and written so that the same options come back.
//
//     ckpt_path = "last"
//
//     [trainer]
//     max_epochs = 3
//     limit_train_batches = 0.5   # a fraction; 1 is one batch, 1.0 is all
//
//     [model]
//     lr = 1e-3
//
// The format is a part of TOML 1.0 (https://toml.io/en/v1.0.0): tables, plain and dotted keys, basic and literal
// strings of one line, decimal integers (up to 2^64 - 1), floats, booleans, arrays of these over any number of lines,
// comments; in UTF-8, with or without a byte order mark. Everything else (dates, inline tables, arrays of tables,
// strings of several lines, quoted keys, hexadecimal numbers) is refused with a UsageError that begins with the name of
// the file and the line; a hostile file can cause no more than that. An unset optional is the string "none", since TOML
// has no null; hence a std::optional< std::string> cannot hold the text "none" here, no more than on the command line.
//
// It does not use CLI11's reader: that one cuts strings at '#', leaves escapes as they are, skips lines of less than
// three characters, and does not tell 1 from 1.0 or "1".
#pragma once

#include "troupe/launch/option_group.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// One `key = value` of a file.
struct ConfigItem {
  std::string name;  ///< with its table: "trainer.max_epochs"
  nlohmann::json value;
  int line = 0;
};

/// Reads the text of a file called `source`. Throws UsageError "run.toml:3: ...".
std::vector<ConfigItem> parse_config(std::string_view text, const std::string& source);

/// Sets the options that the file names, leaves the others, and returns its `ckpt_path` where it has one. Throws
/// UsageError for a file that cannot be read, is larger than 1 MiB, is malformed, or holds an unknown option (naming
/// the nearest) or a value of another type.
std::optional<std::string> apply_config_file(const std::filesystem::path& path, const std::vector<OptionGroup>& groups);

/// All options as a file that apply_config_file reads back to the same values, doubles exactly.
std::string to_toml(const std::vector<OptionGroup>& groups, const std::optional<std::string>& ckpt_path = {});

}  // namespace troupe
