#include "troupe/runtime/sinks/mlflow_sender.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/file_system.hpp"
#include "troupe/runtime/collectives/launch_environment.hpp"
#include "troupe/runtime/report/run_card.hpp"
#include "troupe/runtime/sinks/mlflow_values.hpp"

#include <algorithm>

namespace troupe {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMetricsOfRequest = 1000, kTextsOfRequest = 100, kAllOfRequest = 1000;
constexpr uint64_t kSpoolToShrink = uint64_t{8} << 20;

bool fits_request(const MlflowBatch& a, const MlflowBatch& b) {
  return a.metrics.size() + b.metrics.size() <= kMetricsOfRequest &&
         a.params.size() + b.params.size() <= kTextsOfRequest && a.tags.size() + b.tags.size() <= kTextsOfRequest &&
         a.size() + b.size() <= kAllOfRequest;
}

template <class Item>
void append_to_batch(std::vector<Item>& to, const std::vector<Item>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

void append_batch(MlflowBatch& to, const MlflowBatch& from) {
  append_to_batch(to.metrics, from.metrics);
  append_to_batch(to.params, from.params);
  append_to_batch(to.tags, from.tags);
}

// Entries [first, last) of a batch, counted over metrics, then params, then tags.
MlflowBatch part_of_batch(const MlflowBatch& batch, std::size_t first, std::size_t last) {
  MlflowBatch part;
  std::size_t at = 0;
  const auto take = [&](const auto& from, auto& to) {
    for (const auto& item : from) {
      if (at >= first && at < last) to.push_back(item);
      ++at;
    }
  };
  take(batch.metrics, part.metrics);
  take(batch.params, part.params);
  take(batch.tags, part.tags);
  return part;
}

// The best checkpoint, if it lies in the run's folder: the card may be a stranger's.
fs::path best_checkpoint_below(const fs::path& folder) {
  try {
    const auto best = read_run_card(folder).best_checkpoint;
    if (best.empty()) return {};
    const auto root = fs::canonical(folder);
    for (const auto& candidate : {best, folder / "checkpoints" / best.filename()}) {
      std::error_code error;
      const auto path = fs::canonical(candidate, error);
      if (error || !fs::is_regular_file(path, error)) continue;
      if (std::mismatch(root.begin(), root.end(), path.begin(), path.end()).first == root.end()) return path;
    }
  } catch (const std::exception&) {
    // A card that cannot be read names no checkpoint.
  }
  return {};
}

bool is_file_and_no_link(const fs::path& path) {
  std::error_code error;
  return fs::symlink_status(path, error).type() == fs::file_type::regular;
}

}  // namespace

HttpOptions mlflow_http_options(double timeout, const std::string& version) {
  HttpOptions options;
  if (!version.empty()) options.user_agent += "/" + version;
  options.timeout = timeout;
  const auto user = environment_variable("MLFLOW_TRACKING_USERNAME"),
             password = environment_variable("MLFLOW_TRACKING_PASSWORD");
  if (user && password) options.credentials = {*user, *password, ""};
  options.credentials.token = environment_variable("MLFLOW_TRACKING_TOKEN").value_or("");
  return options;
}

MlflowSender::MlflowSender(fs::path run_folder, MlflowState state, MlflowSpool& spool, HttpOptions http, Warn warn)
    : folder_(std::move(run_folder)),
      state_(std::move(state)),
      spool_(spool),
      client_(state_.address, std::move(http)),
      warn_(std::move(warn)) {}

void MlflowSender::warn_once(const std::string& kind, const std::string& text) {
  if (warned_.insert(kind).second) warn_("mlflow: " + text);
}

bool MlflowSender::send_some() {
  const auto entries = spool_.next();
  if (entries.empty()) {
    spool_.shrink(kSpoolToShrink);
    return false;
  }
  find_run();
  const auto before = state_.sent;
  try {
    send(entries);
  } catch (...) {
    if (state_.sent != before) write_mlflow_state(state_, folder_);
    throw;
  }
  write_mlflow_state(state_, folder_);
  return true;
}

void MlflowSender::find_run() {
  if (has_run_) return;
  if (state_.run_id.empty()) {
    const auto experiment = client_.experiment(state_.experiment);
    auto run = client_.find_run(experiment, state_.key);
    if (!run) run = client_.create_run(experiment, state_.run_name, state_.started, state_.key);
    state_.run_id = run->id;
    write_mlflow_state(state_, folder_);
  } else {
    check_run();
  }
  has_run_ = true;
}

void MlflowSender::check_run() {
  try {
    if (!client_.run(state_.run_id).is_deleted) return;
  } catch (const MlflowError& error) {
    if (error.code() != "RESOURCE_DOES_NOT_EXIST") throw;
    throw MlflowError(client_.address() + " has no run '" + shown(state_.run_id) +
                          "': set mlflow.run_id to one that it has, or leave it empty for a new one; what waits can go "
                          "to another run by troupe sync --run-id",
                      error.status(), error.code());
  }
  throw MlflowError("the run " + state_.run_id + " was deleted on " + client_.address() + ": restore it there", 200,
                    "");
}

void MlflowSender::send(const std::vector<SpoolEntry>& entries) {
  MlflowBatch batch;
  const SpoolEntry* last = nullptr;  // of those in the batch
  const auto send_gathered = [&] {
    if (batch.size() > 0) send_batch(batch);
    batch = {};
    if (!last) return;
    spool_.mark_sent(*last);
    state_.sent = last->number;
  };
  for (const auto& entry : entries) {
    if (!fits_request(batch, entry.batch)) send_gathered();
    append_batch(batch, entry.batch);
    if (entry.status || entry.has_artifacts) send_gathered();
    if (entry.status) {
      const bool is_running = entry.status->status == MlflowStatus::running;
      client_.set_status(state_.run_id, entry.status->status,
                         is_running ? std::nullopt : std::optional(entry.status->time));
      state_.status = entry.status->status;
    }
    if (entry.has_artifacts) send_files();
    last = &entry;
  }
  send_gathered();
}

void MlflowSender::end_as(MlflowStatus status, int64_t time) {
  client_.set_status(state_.run_id, status, time);
  state_.status = status;
  write_mlflow_state(state_, folder_);
}

void MlflowSender::send_batch(const MlflowBatch& batch) {
  std::string why;
  try {
    client_.log_batch(state_.run_id, batch);
    return;
  } catch (const MlflowError& error) {
    if (!error.refuses_value()) throw;
    why = error.what();
  }
  // It says the same of a run that was deleted, and then nothing is wrong with the values.
  has_run_ = false;
  find_run();
  send_in_parts(batch, why);
}

// One refused value costs the server's whole batch, but not ours.
void MlflowSender::send_in_parts(const MlflowBatch& batch, const std::string& why) {
  const auto count = batch.size();
  if (count == 1) return send_refused(batch, why);
  for (const auto& part : {part_of_batch(batch, 0, count / 2), part_of_batch(batch, count / 2, count)}) {
    try {
      client_.log_batch(state_.run_id, part);
    } catch (const MlflowError& error) {
      if (!error.refuses_value()) throw;
      send_in_parts(part, error.what());
    }
  }
}

void MlflowSender::send_refused(const MlflowBatch& batch, const std::string& why) {
  if (batch.params.empty()) {
    const auto& key = batch.metrics.empty() ? batch.tags[0].first : batch.metrics[0].key;
    return warn_once("refused", "'" + shown(key) + "' is left out, since the server refuses it: " + why);
  }
  // A run's params never change on the server; tags may.
  const auto& [key, value] = batch.params[0];
  const auto tag = first_characters("troupe.param." + key, longest_mlflow_key);
  // Of the sink itself others are to be expected: mlflow.run_id, whenever it is set.
  const bool is_own = key.starts_with("mlflow.");
  if (!is_own)
    warn_once("param", "the run has another value of the param '" + shown(key) + "' there: ours is the tag '" +
                           shown(tag) + "' (and so for further ones)");
  try {
    client_.log_batch(state_.run_id, {.metrics = {}, .params = {}, .tags = {{tag, value}}});
  } catch (const MlflowError& error) {
    if (!error.refuses_value()) throw;
    warn_once("refused", "'" + shown(key) + "' is left out, since the server refuses it: " + error.what());
  }
}

void MlflowSender::send_files() {
  const auto run = client_.run(state_.run_id);
  for (const auto* name : {"config.toml", "run.json", "report.html"}) {
    if (is_file_and_no_link(folder_ / name) && !send_artifact(run, folder_ / name, name)) return;
  }
  const auto best = best_checkpoint_below(folder_);
  if (!best.empty()) send_artifact(run, best, "checkpoints/" + best.filename().string());
}

// False if no file can be sent.
bool MlflowSender::send_artifact(const MlflowRun& run, const fs::path& file, const std::string& name) {
  if (on_file_) on_file_(name);
  try {
    if (client_.put_artifact(run, file, name)) return true;
    warn_once("artifacts", "no files are sent: the server keeps them at " + shown(run.artifact_uri) +
                               ", which only MLflow's own client can reach");
    return false;
  } catch (const FileError& error) {
    warn_once("file", std::string(error.what()) + ": it is not sent");
    return true;
  } catch (const MlflowError& error) {
    const bool is_off = error.status() == 503 && std::string(error.what()).find("serve-artifacts") != std::string::npos;
    const bool is_refused = error.status() >= 400 && error.status() < 500 && error.status() != 401 &&
                            error.status() != 408 && error.status() != 429;
    if (!is_off && !is_refused) throw;
    warn_once("artifacts", name + " is not sent: " + error.what());
    return !is_off;
  }
}

}  // namespace troupe
