#include "troupe/runtime/report/finding.hpp"

#include "troupe/base/number_json.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/sinks/csv_line.hpp"

namespace troupe {

namespace {

Finding::Column column_in(const StateReader& reader) {
  Finding::Column column{reader.text("name"), {}};
  for (const auto& value : reader.list("values")) {
    const auto number = number_from_json(value);
    if (!number) reader.refuse("a value of " + shown(column.name) + " is not a number");
    column.values.push_back(*number);
  }
  return column;
}

}  // namespace

nlohmann::json to_json(const Finding& finding) {
  auto columns = nlohmann::json::array();
  for (const auto& column : finding.columns) {
    auto values = nlohmann::json::array();
    for (const double value : column.values) values.push_back(number_to_json(value));
    columns.push_back({{"name", valid_utf8(column.name)}, {"values", std::move(values)}});
  }
  return {{"name", valid_utf8(finding.name)},
          {"title", valid_utf8(finding.title)},
          {"says", valid_utf8(finding.says)},
          {"columns", std::move(columns)},
          {"x_is_logarithmic", finding.x_is_logarithmic},
          {"chosen", finding.chosen ? nlohmann::json(*finding.chosen) : nlohmann::json()}};
}

Finding finding_in(const StateReader& reader) {
  Finding finding{reader.text("name"), reader.text("title"), reader.text("says"), {}, reader.flag("x_is_logarithmic")};
  for (const auto& column : reader.objects("columns")) finding.columns.push_back(column_in(column));
  if (finding.columns.size() < 2) reader.refuse("a finding has fewer than two columns");
  const auto rows = finding.columns.front().values.size();
  for (const auto& column : finding.columns) {
    if (column.values.size() != rows) reader.refuse("the columns of a finding differ in length");
  }
  if (const auto chosen = reader.optional_count("chosen")) {
    if (static_cast<std::size_t>(*chosen) >= rows) reader.refuse("chosen is none of a finding's rows");
    finding.chosen = static_cast<std::size_t>(*chosen);
  }
  return finding;
}

std::string to_csv(const Finding& finding) {
  std::string text;
  const auto add_line = [&](auto cell_of) {
    for (const auto& column : finding.columns) {
      text += (&column == &finding.columns.front() ? "" : ",") + cell_of(column);
    }
    text += '\n';
  };
  add_line([](const Finding::Column& column) { return quoted_csv_cell(column.name); });
  const auto rows = finding.columns.empty() ? 0 : finding.columns.front().values.size();
  for (std::size_t row = 0; row < rows; ++row) {
    add_line([row](const Finding::Column& column) { return double_to_text(column.values[row]); });
  }
  return text;
}

}  // namespace troupe
