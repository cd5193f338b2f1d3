#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/base/unix_seconds.hpp"
#include "troupe/launch/command/command.hpp"
#include "troupe/launch/command/metric_names.hpp"
#include "troupe/launch/command/run_list.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <set>
#include <variant>

namespace troupe::command {
namespace {

namespace fs = std::filesystem;

enum class StateFilter { any, running, finished, interrupted, failed, lost, damaged, unknown };
TROUPE_CHOICES(StateFilter, {any, "any"}, {running, "running"}, {finished, "finished"}, {interrupted, "interrupted"},
               {failed, "failed"}, {lost, "lost"}, {damaged, "damaged"}, {unknown, "unknown"})

struct RunsOptions {
  std::string sort = "";
  bool descending = false;
  std::vector<std::string> metrics = {};
  StateFilter status = StateFilter::any;
  std::string name = "";
  int64_t limit = 0;
  bool json = false;
  bool columns = false;
};
TROUPE_OPTIONS(RunsOptions, (sort, "by this metric or column, the smallest first; -METRIC: the greatest first"),
               (descending, "with --sort: the greatest first"), (metrics, "show these, with commas between them"),
               (status, "only runs of this status; failed includes lost"), (name, "only runs of this name"),
               (limit, "at most so many; 0: all"), (json, "print one JSON array, with all metrics"),
               (columns, "print what --sort takes, a line each: the metrics of the runs, then the columns"))

const std::vector<std::string> column_names = {"run", "status", "started", "took", "epoch", "step"};

std::string name_in(const ListedRun& run) {
  return run.card ? run.card->name : run.folder.parent_path().filename().string();
}

bool has_state(const ListedRun& run, StateFilter wanted) {
  if (wanted == StateFilter::any) return true;
  const auto name = name_of(run.state);
  return name == name_of(wanted) || (wanted == StateFilter::failed && run.state == RunState::lost);
}

std::optional<double> metric_of(const ListedRun& run, const std::string& name) {
  if (!run.card) return std::nullopt;
  const auto found = run.card->metrics.find(name);
  return found == run.card->metrics.end() ? std::nullopt : std::optional(found->second);
}

std::vector<std::string> metrics_of(const std::vector<ListedRun>& runs) {
  std::set<std::string> names;
  for (const auto& run : runs) {
    if (!run.card) continue;
    for (const auto& [name, value] : run.card->metrics) names.insert(name);
  }
  return {names.begin(), names.end()};
}

/// Nothing for a run that has not begun, and for one that nobody knows.
std::optional<double> seconds_of(const ListedRun& run) {
  if (!run.card) return std::nullopt;
  const auto& card = *run.card;
  const double end = card.ended ? *card.ended : run.state == RunState::running ? unix_seconds() : card.updated;
  return std::max(0.0, end - card.started);
}

/// Until the end of a run that goes on, if it knows.
std::optional<double> seconds_left_of(const ListedRun& run) {
  if (run.state != RunState::running || !run.card || !run.card->seconds_left) return std::nullopt;
  return std::max(0.0, *run.card->seconds_left - (unix_seconds() - run.card->updated));
}

void keep_named(std::vector<ListedRun>& runs, const std::string& name) {
  std::vector<std::string> names;
  for (const auto& run : runs) names.push_back(name_in(run));
  if (!names.empty() && std::ranges::find(names, name) == names.end()) {
    throw UsageError("no run is called '" + shown(name) + "'; did you mean " + shown(nearest(name, names)) + "?");
  }
  std::erase_if(runs, [&](const auto& run) { return name_in(run) != name; });
}

/// What a run has in the column; numbers where it has them.
std::variant<std::monostate, double, std::string> cell_of(const ListedRun& run, const std::string& column) {
  if (column == "run") return run.reference;
  if (column == "status") return std::string(name_of(run.state));
  if (column == "started") return run.started;
  const auto seconds = seconds_of(run);
  if (!seconds) return {};
  if (column == "took") return *seconds;
  return static_cast<double>(column == "epoch" ? run.card->progress.epoch : run.card->progress.global_step);
}

/// Runs without a value last, those of NaN before them. A metric goes before a column of its name.
void sort_by(std::vector<ListedRun>& runs, const std::string& name, bool is_metric, bool descending) {
  struct Keyed {
    int kind = 2;  // 0: has a value, 1: NaN, 2: none
    double number = 0;
    std::string text;
    ListedRun run;
  };
  std::vector<Keyed> all;
  for (auto& run : runs) {
    Keyed keyed;
    const auto take = [&](double number) {
      keyed.kind = std::isnan(number) ? 1 : 0;
      keyed.number = keyed.kind == 1 ? 0 : descending ? -number : number;
    };
    const auto cell = is_metric ? decltype(cell_of(run, name)){} : cell_of(run, name);
    if (is_metric) {
      if (const auto value = metric_of(run, name)) take(*value);
    } else if (const auto* number = std::get_if<double>(&cell)) {
      take(*number);
    } else if (const auto* text = std::get_if<std::string>(&cell)) {
      keyed.kind = 0;
      keyed.text = *text;
    }
    keyed.run = std::move(run);
    all.push_back(std::move(keyed));
  }
  std::ranges::stable_sort(all, [&](const Keyed& a, const Keyed& b) {
    if (a.kind != b.kind) return a.kind < b.kind;
    if (a.text != b.text) return descending ? a.text > b.text : a.text < b.text;
    return a.number < b.number;
  });
  for (std::size_t i = 0; i < runs.size(); ++i) runs[i] = std::move(all[i].run);
}

nlohmann::json json_of(const ListedRun& run) {
  nlohmann::json out = {{"run", valid_utf8(run.folder.string())},
                        {"name", valid_utf8(name_in(run))},
                        {"version", valid_utf8(run.folder.filename().string())},
                        {"status", name_of(run.state)},
                        {"message", run.message},
                        {"started", nullptr},
                        {"ended", nullptr},
                        {"seconds", nullptr},
                        {"seconds_left", nullptr},
                        {"epoch", nullptr},
                        {"step", nullptr},
                        {"metrics", nlohmann::json::object()}};
  if (!run.card) return out;
  const auto card = to_json(*run.card);
  for (const char* key : {"id", "version", "stage", "started", "ended", "metrics", "best_checkpoint", "failure"}) {
    out[key] = card[key];
  }
  out["seconds"] = *seconds_of(run);
  if (const auto left = seconds_left_of(run)) out["seconds_left"] = *left;
  out["epoch"] = run.card->progress.epoch;
  out["step"] = run.card->progress.global_step;
  return out;
}

void print_json(const std::vector<ListedRun>& runs, const Screen& screen) {
  std::string out = "[";
  for (const auto& run : runs) {
    out += (out.size() > 1 ? ",\n " : "") + json_of(run).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  screen.print(out + "]\n");
}

std::vector<Cell> row_of(const ListedRun& run, const std::vector<std::string>& metrics) {
  const auto seconds = seconds_of(run);
  std::vector<Cell> row{{run.reference},
                        {name_of(run.state), style_of(run.state)},
                        {time_text(run.started)},
                        {seconds ? duration_text(*seconds) : ""}};
  row.push_back({run.card ? std::to_string(run.card->progress.epoch) : ""});
  row.push_back({run.card ? std::to_string(run.card->progress.global_step) : ""});
  for (const auto& name : metrics) {
    const auto value = metric_of(run, name);
    row.push_back({value ? metric_text(*value) : ""});
  }
  const auto left = seconds_left_of(run);
  const auto message = left ? duration_text(*left) + " left" : run.message;
  row.push_back({message, run.state == RunState::failed ? Style::plain : Style::dim});
  return row;
}

void print_table(const std::vector<ListedRun>& runs, const std::vector<std::string>& metrics, const Screen& screen) {
  std::vector<Column> columns{
      {"run"}, {"status"}, {"started", false, 0, 2}, {"took", true, 0, 3}, {"epoch", true, 0, 4}, {"step", true, 0, 1}};
  for (const auto& name : metrics) columns.push_back({single_line(name), true});
  columns.push_back({"message", false, 12});
  std::vector<std::vector<Cell>> rows;
  for (const auto& run : runs) rows.push_back(row_of(run, metrics));
  screen.print(table(columns, rows, screen));
}

int show_columns(std::vector<std::string> names, const Screen& screen) {
  names.insert(names.end(), column_names.begin(), column_names.end());
  std::string out;
  for (const auto& name : names) out += single_line(name) + "\n";
  screen.print(out);
  return succeeded;
}

int show_runs(RunsOptions options, const fs::path& root, const Screen& screen) {
  std::error_code error;
  if (!fs::is_directory(root, error)) {
    throw UsageError("there is no folder '" + shown(root.string()) + "'; troupe runs DIR looks into another one");
  }
  if (options.limit < 0) throw UsageError("limit = " + std::to_string(options.limit) + " is negative; use 0 for all");
  auto runs = list_runs(root);
  const auto known = metrics_of(runs);
  if (options.columns) return show_columns(known, screen);
  const auto is_metric = [&] { return std::ranges::find(known, options.sort) != known.end(); };
  if (options.sort.starts_with('-') && !is_metric()) {
    options.sort.erase(0, 1);
    options.descending = true;
  }
  const bool is_column = !is_metric() && std::ranges::find(column_names, options.sort) != column_names.end();
  if (!options.name.empty()) keep_named(runs, options.name);
  std::erase_if(runs, [&](const auto& run) { return !has_state(run, options.status); });
  auto metrics = options.metrics;
  if (!options.sort.empty() && !is_column && std::ranges::find(metrics, options.sort) == metrics.end()) {
    metrics.insert(metrics.begin(), options.sort);
  }
  if (!runs.empty()) {
    for (const auto& name : metrics) check_metric(name, known, " in any of these runs");
  }
  if (!options.sort.empty()) sort_by(runs, options.sort, !is_column, options.descending);
  if (options.limit > 0 && runs.size() > static_cast<std::size_t>(options.limit)) {
    runs.resize(static_cast<std::size_t>(options.limit));
  }
  if (options.json) {
    print_json(runs, screen);
  } else if (runs.empty()) {
    screen.print("no such runs below " + shown(root.string()) + "\n");
  } else {
    print_table(runs, metrics, screen);
  }
  return succeeded;
}

}  // namespace

Command runs_command() {
  const auto options = std::make_shared<RunsOptions>();
  return {.name = "runs",
          .summary = "list runs with their status and metrics",
          .arguments = {"[DIR]", 0, 1, Completion::folders},
          .text =
              "Lists the runs below DIR (default: runs), the newest first: when each began, how long it took, how\n"
              "far it came, the metrics that are asked for, how long it still takes or why it ended early. Reads\n"
              "run.json of each run. A run whose process is gone without a word is lost; its run.json and\n"
              "report.html say so from then on. A folder without run.json is unknown: another version wrote it, or\n"
              "the run has just begun.",
          .examples = {{"", "all runs below ./runs"},
                       {"--sort val_loss --metrics val_acc,lr --limit 10", "the ten with the smallest val_loss"},
                       {"--sort -took", "the longest first; so for each column"},
                       {"--sort -val_acc --name digits", "those called digits, the greatest val_acc first"},
                       {"--status failed", "those that failed, and why"},
                       {"--json | jq '.[].metrics.val_loss'", "for other programs"}},
          .options = option_refs(*options),
          .values = {{"sort", Completion::columns}, {"metrics", Completion::columns}},
          .letters = {},
          .run = [options](const auto& arguments, const Screen& screen) {
            return show_runs(*options, arguments.empty() ? "runs" : arguments[0], screen);
          }};
}

}  // namespace troupe::command
