#include "troupe/launch/command/metric_names.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"

#include <algorithm>

namespace troupe::command {

void check_metric(const std::string& name, const std::vector<std::string>& known, const std::string& where) {
  if (std::ranges::find(known, name) != known.end()) return;
  std::vector<std::string> names;
  for (const auto& one : known) names.push_back(shown(one));
  throw UsageError(
      "there is no metric '" + shown(name) + "'" + where +
      (known.empty() ? ", nor any other" : "; did you mean " + nearest(name, names) + "? (" + brief_list(names) + ")"));
}

}  // namespace troupe::command
