// The text of a config file as a list of names and values. The grammar is TOML 1.0 as toml++ reads it.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// One `key = value` of a file.
struct ConfigItem {
  std::string name;  ///< with its table: "trainer.max_epochs"; a part with other characters is in quotes: "a.\"b c\""
  nlohmann::json value;
  int line = 0;
};

/// Tables that have a name: [optimizer] name = "muon", or several in an array, [[callbacks]] name = "timer".
struct NamedTables {
  std::vector<std::string> tables = {};
  std::vector<std::string> arrays = {};
};

/// Reads the text of a file called `source`; the items are in the order in which the file has them, but for those of
/// `named` tables: their items `name` come first. Throws UsageError "run.toml:3:8: ..." (line and column) for what is
/// not TOML and for values that no option has: dates, times, and tables in other arrays, and for a table without a
/// `name` in one of these.
std::vector<ConfigItem> parse_config(std::string_view text, const std::string& source, const NamedTables& named = {});

}  // namespace troupe
