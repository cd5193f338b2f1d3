#include "troupe/launch/command/run_list.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/host_name.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/base/unix_seconds.hpp"
#include "troupe/runtime/report/lost_run.hpp"
#include "troupe/runtime/process/cpu_budget.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

namespace troupe::command {
namespace {

namespace fs = std::filesystem;

constexpr int deepest = 3;
constexpr std::string_view version_prefix = "version_";
const fs::path runs_root = "runs";

/// N of version_N; nothing for another name.
std::optional<int64_t> version_number(const fs::path& folder) {
  const auto name = folder.filename().string();
  if (!name.starts_with(version_prefix)) return std::nullopt;
  return number_from_text<int64_t>(std::string_view(name).substr(version_prefix.size()));
}

void collect_runs(const fs::path& folder, int depth, std::vector<fs::path>& runs) {
  if (is_run_folder(folder)) {
    runs.push_back(folder);
    return;
  }
  if (depth == deepest) return;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    if (entry->path().filename().string().starts_with('.') || !entry->is_directory(ignored)) continue;
    collect_runs(entry->path(), depth + 1, runs);
  }
}

double changed_at(const fs::path& folder) {
  std::error_code error;
  const auto time = fs::last_write_time(folder, error);
  if (error) return 0;
  const auto system_time = std::chrono::file_clock::to_sys(time);
  return std::chrono::duration<double>(system_time.time_since_epoch()).count();
}

RunState state_of(const RunCard& card) {
  switch (card.status) {
    case RunStatus::running: return RunState::running;
    case RunStatus::finished: return RunState::finished;
    case RunStatus::interrupted: return RunState::interrupted;
    case RunStatus::failed: return is_lost(card) ? RunState::lost : RunState::failed;
  }
  return RunState::unknown;
}

// A run that goes on writes every minute.
std::string message_of(const RunCard& card) {
  if (!card.message.empty()) return single_line(card.message);
  if (card.failure) return single_line(card.failure->describe());
  constexpr double long_silence = 180;
  const double silent = unix_seconds() - card.updated;
  if (card.status != RunStatus::running || silent < long_silence) return "";
  return "nothing written for " + duration_text(silent) +
         (card.environment.host == host_name()
              ? ""
              : ": troupe runs on " + single_line(card.environment.host) + " tells whether its process is there");
}

std::string reference_of(const fs::path& folder, const fs::path& root) {
  auto reference = folder.lexically_relative(root);
  if (reference.empty() || reference == ".") {
    std::error_code error;
    const auto full = fs::weakly_canonical(folder, error);
    reference = full.parent_path().filename() / full.filename();
  }
  return single_line(reference.string());
}

/// The newest of the runs directly in `folder`: the one with the greatest number.
std::optional<fs::path> newest_version(const fs::path& folder) {
  std::optional<fs::path> newest;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const auto number = version_number(entry->path());
    std::error_code ignored;
    if (!number || !entry->is_directory(ignored)) continue;
    if (!newest || *number > *version_number(*newest)) newest = entry->path();
  }
  return newest;
}

/// The run that a folder means, if it is there.
std::optional<fs::path> run_at(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) return std::nullopt;
  if (is_run_folder(folder)) return folder;
  return newest_version(folder);
}

std::optional<fs::path> newest_run() {
  const auto runs = list_runs(runs_root);
  return runs.empty() ? std::nullopt : std::optional(runs.front().folder);
}

[[noreturn]] void refuse_run(const std::string& reference) {
  std::vector<std::string> names;
  for (const auto& folder : run_folders(runs_root)) {
    names.push_back(reference_of(folder, runs_root));
    names.push_back(reference_of(folder.parent_path(), runs_root));
  }
  std::error_code error;
  if (names.empty()) {
    throw UsageError("there is no run '" + shown(reference) +
                     "': it is no folder of a run, and there are no runs below " +
                     shown((fs::current_path(error) / runs_root).string()));
  }
  names.emplace_back("last");
  throw UsageError("there is no run '" + shown(reference) + "'; did you mean " + nearest(reference, names) +
                   "? (troupe runs lists all)");
}

}  // namespace

Style style_of(RunState state) {
  switch (state) {
    case RunState::running: return Style::strong;
    case RunState::finished: return Style::good;
    case RunState::interrupted: return Style::warning;
    case RunState::failed:
    case RunState::lost:
    case RunState::damaged: return Style::bad;
    case RunState::unknown: return Style::dim;
  }
  return Style::plain;
}

bool is_run_folder(const fs::path& folder) {
  std::error_code error;
  return version_number(folder) || fs::is_regular_file(folder / "run.json", error);
}

std::vector<fs::path> run_folders(const fs::path& root) {
  std::vector<fs::path> runs;
  collect_runs(root, 0, runs);
  std::ranges::sort(runs);
  return runs;
}

ListedRun listed_run(const fs::path& folder, const fs::path& root) {
  ListedRun run;
  run.folder = folder;
  run.reference = reference_of(folder, root);
  std::error_code error;
  if (!fs::exists(folder / "run.json", error)) {
    run.started = changed_at(folder);
    run.message = "it has no run.json: another version wrote it, or it has just begun";
    return run;
  }
  try {
    run.card = stored_run_card(folder);
    if (notice_loss(*run.card, folder)) record_loss(*run.card, folder);
    run.state = state_of(*run.card);
    run.started = run.card->started;
    run.message = message_of(*run.card);
  } catch (const std::exception& wrong) {
    run.state = RunState::damaged;
    run.started = changed_at(folder);
    run.message = single_line(wrong.what());
  }
  return run;
}

std::vector<ListedRun> list_runs(const fs::path& root) {
  const auto folders = run_folders(root);
  std::vector<ListedRun> runs(folders.size());
  std::atomic<std::size_t> next = 0;
  const auto read = [&] {
    for (std::size_t i = next++; i < folders.size(); i = next++) runs[i] = listed_run(folders[i], root);
  };
  constexpr std::size_t worth_a_thread = 50;
  const auto most = std::min<std::size_t>(usable_processors(), 8);
  std::vector<std::jthread> others;
  for (std::size_t i = 1; i < std::min(most, folders.size() / worth_a_thread); ++i) others.emplace_back(read);
  read();
  others.clear();
  std::ranges::stable_sort(runs, std::greater<>(), &ListedRun::started);
  return runs;
}

fs::path find_run(const std::string& reference) {
  if (reference.empty()) throw UsageError("the name of a run is empty; troupe runs lists all");
  auto run = run_at(reference);
  if (!run) run = run_at(runs_root / reference);
  if (!run && reference == "last") run = newest_run();
  if (!run) refuse_run(reference);
  record_if_lost(*run);
  return *run;
}

}  // namespace troupe::command
