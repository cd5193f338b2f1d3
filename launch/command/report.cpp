#include "troupe/runtime/report/report_page.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/launch/command/command.hpp"
#include "troupe/launch/command/run_list.hpp"
#include "troupe/runtime/report/metric_curves.hpp"
#include "troupe/runtime/report/run_card.hpp"

#include <filesystem>
#include <iostream>
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

struct ReadRun {
  fs::path folder;
  RunCard card;
  MetricCurves curves;
};

/// A run that cannot be read keeps no other one from the page, and is an error only if there is no other one.
std::vector<ReadRun> read_runs(const std::vector<fs::path>& folders) {
  std::vector<ReadRun> runs;
  for (const auto& folder : folders) {
    try {
      runs.push_back({folder, read_run_card(folder), read_metric_curves(folder)});
    } catch (const UsageError& wrong) {
      if (folders.size() == 1) throw;
      std::cerr << "troupe: " + shown(folder.string()) + " is left out: " + single_line(wrong.what()) + '\n';
    }
  }
  if (runs.empty()) throw UsageError("none of the runs can be read, and no page is written");
  return runs;
}

int write_report(const std::vector<std::string>& arguments, const ReportOptions& options, const Screen& screen) {
  std::vector<fs::path> folders;
  for (const auto& argument : arguments) folders.push_back(find_run(argument));
  const auto runs = read_runs(folders);
  std::vector<RunView> views;
  for (const auto& run : runs) views.push_back({run.card, run.curves});
  auto path = options.output;
  if (path.empty()) path = folders.size() == 1 ? folders[0] / page_name : fs::path(page_name);
  std::error_code error;
  if (fs::is_directory(path, error)) path /= page_name;
  write_report_page(views, path);
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
              "several runs are drawn over each other, with the options in which they differ. Of these\n"
              "one that cannot be read is left out, with a line on stderr; 2 if none can be read.",
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
