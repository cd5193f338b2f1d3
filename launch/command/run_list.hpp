// Runs below a folder, and the one that somebody means.
#pragma once

#include "troupe/launch/command/screen.hpp"
#include "troupe/modules/options/choices.hpp"
#include "troupe/runtime/report/run_card.hpp"

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace troupe::command {

/// What became of a run, as far as its folder tells.
enum class RunState {
  running,
  finished,
  interrupted,
  failed,
  lost,     ///< it says that it runs, and its process is gone
  damaged,  ///< its run.json cannot be read
  unknown,  ///< it has no run.json: another version wrote it, or it is just being made
};
TROUPE_CHOICES(RunState, {running, "running"}, {finished, "finished"}, {interrupted, "interrupted"}, {failed, "failed"},
               {lost, "lost"}, {damaged, "damaged"}, {unknown, "unknown"})

Style style_of(RunState state);

struct ListedRun {
  std::filesystem::path folder;
  std::string reference;  ///< below the folder that was searched: "digits/version_3"
  RunState state = RunState::unknown;
  std::optional<RunCard> card;
  std::string message;  ///< why it failed, or what is wrong with its folder; one line
  double started = 0;   ///< seconds since 1970; without a card, when the folder was last changed
};

/// Whether `folder` is a run's: it has a card or is called version_N.
bool is_run_folder(const std::filesystem::path& folder);

/// The folders of runs in `root` and at most 3 levels below it, in order; hidden ones and what lies in a run are left
/// out. What cannot be read is passed over.
std::vector<std::filesystem::path> run_folders(const std::filesystem::path& root);

/// The run in `folder` as its card tells. Throws nothing for what is wrong with it. The files of one whose process is
/// gone are put right (record_loss), as by all that follow.
ListedRun listed_run(const std::filesystem::path& folder, const std::filesystem::path& root);

/// All of them, the newest first. Reads run.json of each, on several threads, and of one whose process is gone
/// failure.json.
std::vector<ListedRun> list_runs(const std::filesystem::path& root);

/// The folder that `reference` means: a run's folder; a folder of versions, of which the newest; or the same below
/// ./runs; or "last", the newest run below ./runs. Throws UsageError with the nearest name.
std::filesystem::path find_run(const std::string& reference);

}  // namespace troupe::command
