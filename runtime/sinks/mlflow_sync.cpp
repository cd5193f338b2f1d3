#include "troupe/runtime/sinks/mlflow_sync.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/collectives/launch_environment.hpp"
#include "troupe/runtime/report/run_card.hpp"
#include "troupe/runtime/sinks/mlflow_sender.hpp"
#include "troupe/runtime/sinks/mlflow_spool.hpp"

#include <optional>
#include <utility>

namespace troupe {

namespace {

constexpr double kSyncTimeout = 60;

// A folder may say any address; a token must not go there unless its owner does.
std::string refuse_credentials(const HttpOptions& http, const std::string& address) {
  if (http.credentials.user.empty() && http.credentials.token.empty()) return "";
  const auto set = environment_variable("MLFLOW_TRACKING_URI").value_or("");
  const bool is_meant = !set.empty() && http_address(set, "MLFLOW_TRACKING_URI") == address;
  if (is_meant) return "";
  return "the environment has credentials, and the run's server is " + address +
         ": set MLFLOW_TRACKING_URI to that if they are meant for it, or unset them";
}

// How the run ended, if its process did not live to say it.
std::optional<MlflowStatus> status_by_card(const std::filesystem::path& folder, double& time) {
  try {
    const auto card = read_run_card(folder);
    time = card.ended.value_or(card.updated);
    if (card.status == RunStatus::failed) return MlflowStatus::failed;
    if (card.status == RunStatus::interrupted) return MlflowStatus::killed;
    if (card.status == RunStatus::finished) return MlflowStatus::finished;
  } catch (const std::exception&) {
    // Then nobody knows.
  }
  return std::nullopt;
}

std::string send_rest(MlflowSender& sender, const std::filesystem::path& folder, std::string& warnings) {
  try {
    while (sender.send_some()) continue;
    double time = 0;
    if (sender.state().status == MlflowStatus::running) {
      const auto status = status_by_card(folder, time);
      if (status) sender.end_as(*status, static_cast<int64_t>(time * 1000));
    }
  } catch (const HttpError& error) {
    return error.what();
  } catch (const MlflowError& error) {
    return error.what();
  }
  return std::exchange(warnings, "");
}

}  // namespace

SyncResult sync_run(const std::filesystem::path& run_folder) {
  auto state = read_mlflow_state(run_folder);
  if (!state) {
    throw UsageError(run_folder.string() + " has no mlflow.json: it is no folder of a run that was logged to MLflow");
  }
  SyncResult result;
  result.run_id = state->run_id;
  result.address = state->address;
  const auto http = mlflow_http_options(kSyncTimeout, "");
  result.problem = refuse_credentials(http, state->address);
  if (!result.problem.empty()) return result;
  try {
    MlflowSpool spool(run_folder, state->sent);
    std::string warnings;
    MlflowSender sender(run_folder, *state, spool, http,
                        [&](const std::string& text) { warnings += (warnings.empty() ? "" : "; ") + text; });
    const auto before = spool.waiting();
    result.problem = send_rest(sender, run_folder, warnings);
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
