// What is known of a run besides its metrics: <folder>/run.json, renewed while it goes on.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/modules/progress.hpp"
#include "troupe/modules/record.hpp"
#include "troupe/runtime/report/finding.hpp"
#include "troupe/runtime/report/phase_report.hpp"
#include "troupe/runtime/report/run_owner.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// What a run runs on. Texts are empty if they are not known.
struct RunEnvironment {
  std::string host, system, processor;
  std::vector<std::string> devices;  ///< of rank zero's process
  int64_t world_size = 1;            ///< workers of all processes
  int64_t pid = 0;                   ///< of rank zero
  std::string troupe, libtorch, compiler, cuda;
  std::string git_commit;  ///< of the folder that the program was started in
  bool git_is_dirty = false;
};

struct RunCard {
  std::string id;       ///< 32 hexadecimal digits
  std::string name;     ///< the folder's parent
  std::string version;  ///< "version_3"
  RunStatus status = RunStatus::running;
  std::string stage;                ///< the latest
  std::string message;              ///< why it ended early, or the failure in one sentence
  double started = 0, updated = 0;  ///< seconds since 1970
  std::optional<double> ended;
  std::vector<std::string> command;                    ///< program and arguments; empty if not known
  nlohmann::json options = nlohmann::json::object();   ///< {"trainer": {"max_epochs": 3, ...}, "model": {...}}
  nlohmann::json defaults = nlohmann::json::object();  ///< the same, as it is if nothing is given
  RunEnvironment environment;
  Progress progress;
  std::optional<int64_t> total_batches;  ///< training batches of the whole run, if they can be told
  MetricMap metrics;                     ///< the latest
  ModelRecord model;
  std::vector<std::filesystem::path> checkpoints;  ///< those that are kept, oldest first
  std::filesystem::path best_checkpoint;
  std::vector<PhaseReport> phases;    ///< a stage each
  std::vector<std::string> warnings;  ///< at most 100
  int64_t more_warnings = 0;          ///< that were left out
  std::optional<Failure> failure;
  std::optional<double> seconds_left;  ///< from `updated` until the end of a fit that goes on, if it can be told
  RunOwner owner;                      ///< the process that writes this
  std::vector<Finding> findings;       ///< the latest of each name
};

/// JSON without NaN and infinities: metrics that are none are "NaN", "Infinity" and "-Infinity".
nlohmann::json to_json(const RunCard& card);
/// Throws UsageError, with `what` in front, for what to_json did not write.
RunCard run_card_from_json(const nlohmann::json& json, const std::string& what);

/// What <folder>/run.json says. Throws UsageError with the path for a file that is not there, above 16 MiB, or no card;
/// what a stranger wrote may be refused and does no harm.
RunCard stored_run_card(const std::filesystem::path& folder);
/// Of a card that says that its run goes on while its process is gone (state_of_owner): makes it `failed`, without an
/// end, with a message that says so or with what a crash has left in failure.json. True if it was such a card.
bool notice_loss(RunCard& card, const std::filesystem::path& folder);
/// Whether a run is one that notice_loss has found, now or before: it failed, and nobody saw its end.
bool is_lost(const RunCard& card);
/// stored_run_card with notice_loss.
RunCard read_run_card(const std::filesystem::path& folder);
/// Throws FileError.
void write_run_card(const RunCard& card, const std::filesystem::path& folder);

}  // namespace troupe
