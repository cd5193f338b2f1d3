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
// Parts by name (launch/chosen_parts.hpp) are tables with a `name`, or names alone; several are an array of tables:
//
//     scheduler = "cosine"          # or ["early_stopping", "timer"] of those that may be several
//
//     [optimizer]
//     name = "muon"
//     lr = 0.02
//
//     [[callbacks]]
//     name = "early_stopping"
//     patience = 5
//
// The format is TOML 1.0 (https://toml.io/en/v1.0.0) in UTF-8, with or without a byte order mark, as toml++ reads it
// (parse_config.hpp). Values that no option has (dates, times, tables in other arrays) are refused. Two things are
// written with words, since TOML has no way to: an unset optional is the string "none" (hence a
// std::optional<std::string> cannot hold the text "none" here, no more than on the command line), and a whole number
// above 2^63 - 1 is in quotes.
//
// The text is written here and not by toml++, which writes 0.1 as 0.10000000000000001.
#pragma once

#include "troupe/launch/option_group.hpp"

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

class PartSettings;

/// Sets the options that the file names, leaves the others, and returns its `ckpt_path` if it has one. Throws
/// UsageError for a file that cannot be read, is larger than 1 MiB, is malformed, or holds an unknown option (naming
/// the nearest) or a value of another type. What it says of parts goes to `parts`; null: it may say nothing of them.
std::optional<std::string> apply_config_file(const std::filesystem::path& path, const std::vector<OptionGroup>& groups,
                                             PartSettings* parts = nullptr);

/// All options as a file that apply_config_file reads back to the same values, doubles exactly.
std::string to_toml(const std::vector<OptionGroup>& groups, const std::optional<std::string>& ckpt_path = {});

}  // namespace troupe
