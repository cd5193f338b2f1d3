#include "troupe/runtime/sinks/mlflow_sync.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/collectives/launch_environment.hpp"
#include "troupe/runtime/report/run_card.hpp"
#include "troupe/runtime/sinks/mlflow_sender.hpp"
#include "troupe/runtime/sinks/mlflow_spool.hpp"

#include <optional>

namespace troupe {

namespace {

// A folder may say any address; a token must not go there unless its owner does.
std::string refuse_credentials(const HttpOptions& http, const std::string& address) {
  if (http.credentials.user.empty() && http.credentials.token.empty()) return "";
  const auto set = environment_variable("MLFLOW_TRACKING_URI").value_or("");
  const bool is_meant = !set.empty() && http_address(set, "MLFLOW_TRACKING_URI") == address;
  if (is_meant) return "";
  return "the environment has credentials, and the run's server is " + address +
         ": set MLFLOW_TRACKING_URI to that if they are meant for it, or unset them";
}

// The card of a run that has ended; none if it goes on, or if nobody knows.
std::optional<RunCard> ended_card(const std::filesystem::path& folder) {
  try {
    auto card = read_run_card(folder);
    if (card.status != RunStatus::running) return card;
  } catch (const std::exception&) {
    // Then nobody knows.
  }
  return std::nullopt;
}

MlflowStatus status_of_card(const RunCard& card) {
  if (card.status == RunStatus::finished) return MlflowStatus::finished;
  return card.status == RunStatus::interrupted ? MlflowStatus::killed : MlflowStatus::failed;
}

bool asks_for_files(const RunCard& card) {
  const auto group = card.options.find("mlflow");
  return group != card.options.end() && group->is_object() && group->value("artifacts", nlohmann::json()) == true;
}

// The end of a run whose process did not live to say it.
void send_end(MlflowSender& sender, const std::filesystem::path& folder) {
  if (sender.state().status != MlflowStatus::running) return;
  const auto card = ended_card(folder);
  if (!card) return;
  if (asks_for_files(*card)) sender.send_files();
  sender.end_as(status_of_card(*card), static_cast<int64_t>(card->ended.value_or(card->updated) * 1000));
}

std::string send_rest(MlflowSender& sender, const MlflowSpool& spool, const std::filesystem::path& folder,
                      const SyncOptions& options) {
  const auto before = spool.waiting();
  try {
    while (sender.send_some()) {
      if (options.on_progress) options.on_progress(before - spool.waiting(), spool.waiting());
    }
    send_end(sender, folder);
  } catch (const HttpError& error) {
    return error.what();
  } catch (const MlflowError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

SyncResult sync_run(const std::filesystem::path& run_folder, const SyncOptions& options) {
  auto state = read_mlflow_state(run_folder);
  if (!state) {
    throw UsageError(run_folder.string() + " has no mlflow.json: it is no folder of a run that was logged to MLflow");
  }
  if (!options.uri.empty()) state->address = options.uri;
  if (!options.run_id.empty()) state->run_id = options.run_id == new_mlflow_run ? "" : options.run_id;
  SyncResult result;
  result.run_id = state->run_id;
  result.address = state->address;
  const auto http = mlflow_http_options(options.timeout, "");
  if (options.uri.empty()) result.problem = refuse_credentials(http, state->address);
  if (!result.problem.empty()) return result;
  try {
    MlflowSpool spool(run_folder, state->sent);
    std::string warnings;
    MlflowSender sender(run_folder, *state, spool, http,
                        [&](const std::string& text) { warnings += (warnings.empty() ? "" : "; ") + text; });
    sender.on_file(options.on_file);
    const auto before = spool.waiting();
    if (options.on_begin) options.on_begin({before, state->address, state->run_id, state->experiment, state->run_name});
    result.problem = send_rest(sender, spool, run_folder, options);
    if (result.problem.empty()) result.problem = warnings;
    spool.shrink(0);
    result.waiting = spool.waiting();
    result.sent = before - result.waiting;
    result.run_id = sender.state().run_id;
  } catch (const SpoolInUse& in_use) {
    result.problem = in_use.what();
  }
  return result;
}

}  // namespace troupe
