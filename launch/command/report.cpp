#include "troupe/runtime/report/report_page.hpp"

#include "troupe/launch/command/command.hpp"
#include "troupe/launch/command/run_list.hpp"
#include "troupe/runtime/report/metric_curves.hpp"
#include "troupe/runtime/report/run_card.hpp"

#include <filesystem>
#include <limits>
#include <memory>

namespace troupe::command {
namespace {

namespace fs = std::filesystem;

constexpr const char* page_name = "report.html";

struct ReportOptions {
  fs::path output = "";
};
TROUPE_OPTIONS(ReportOptions, (output,
                               "file to write; empty: report.html in the folder of the run, or in the current "
                               "folder for several runs"))

int write_report(const std::vector<std::string>& arguments, const ReportOptions& options, const Screen& screen) {
  std::vector<fs::path> folders;
  for (const auto& argument : arguments) folders.push_back(find_run(argument));
  std::vector<MetricCurves> curves;
  for (const auto& folder : folders) curves.push_back(read_metric_curves(folder));
  std::vector<RunView> runs;
  for (std::size_t i = 0; i < folders.size(); ++i) runs.push_back({read_run_card(folders[i]), curves[i]});
  auto path = options.output;
  if (path.empty()) path = runs.size() == 1 ? folders[0] / page_name : fs::path(page_name);
  std::error_code error;
  if (fs::is_directory(path, error)) path /= page_name;
  write_report_page(runs, path);
  screen.print(path.string() + "\n");
  return succeeded;
}

}  // namespace

Command report_command() {
  const auto options = std::make_shared<ReportOptions>();
  return {.name = "report",
          .summary = "write a page that shows runs, several over each other",
          .arguments = {"RUN...", 1, std::numeric_limits<std::size_t>::max(), Completion::runs},
          .text =
              "Writes one self-contained HTML file and prints its path. For one run that is its report.html again;\n"
              "several runs are drawn over each other, with the options in which they differ.",
          .examples = {{"last", "the page of the newest run"},
                       {"digits/version_3 digits/version_4", "two runs over each other, in ./report.html"},
                       {"digits last -o /tmp/compared.html", "to another file"}},
          .options = option_refs(*options),
          .values = {{"output", Completion::files}},
          .letters = {{'o', "output"}},
          .run = [options](const auto& arguments, const Screen& screen) {
            return write_report(arguments, *options, screen);
          }};
}

}  // namespace troupe::command
