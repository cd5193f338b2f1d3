// What a finder has measured (launch/tuner.hpp), as a curve: for run.json, the run's page and a CSV file.
#pragma once

#include "troupe/base/state_reader.hpp"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

struct Finding {
  struct Column {
    std::string name = {};
    std::vector<double> values = {};
  };

  std::string name = {};                   ///< "lr_find"; the file <folder>/<name>.csv has its columns
  std::string title = {};                  ///< "Learning rate"
  std::string says = {};                   ///< what came of it, in one sentence
  std::vector<Column> columns = {};        ///< of one length; a plot has the first along x and the second along y
  bool x_is_logarithmic = false;           ///< in a plot
  std::optional<std::size_t> chosen = {};  ///< the row that is suggested
};

/// Numbers that are none are "NaN", "Infinity" and "-Infinity".
nlohmann::json to_json(const Finding& finding);
/// Throws CheckpointError for what to_json did not write.
Finding finding_in(const StateReader& reader);
/// A heading and a row for each place, as RFC 4180 has it.
std::string to_csv(const Finding& finding);

}  // namespace troupe
