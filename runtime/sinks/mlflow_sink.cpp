#include "troupe/runtime/sinks/mlflow_sink.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/random_id.hpp"
#include "troupe/base/text.hpp"
#include "troupe/base/unix_seconds.hpp"
#include "troupe/runtime/collectives/launch_environment.hpp"
#include "troupe/runtime/process/pulse.hpp"
#include "troupe/runtime/report/without_passwords.hpp"
#include "troupe/runtime/sinks/mlflow_sender.hpp"
#include "troupe/runtime/sinks/mlflow_spool.hpp"
#include "troupe/runtime/sinks/mlflow_values.hpp"

#include <algorithm>
#include <condition_variable>
#include <iostream>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>

namespace troupe {

namespace {

constexpr std::size_t kMetricsOfEntry = 1000, kParamsOfEntry = 100;
constexpr std::size_t kLongestExperiment = 500;

int64_t mlflow_time_now() {
  return static_cast<int64_t>(unix_seconds() * 1000);
}

std::string address_of_server(const MlflowOptions& options) {
  if (!options.uri.empty()) return http_address(options.uri, "mlflow.uri");
  const auto set = environment_variable("MLFLOW_TRACKING_URI").value_or("");
  if (!set.empty()) return http_address(set, "MLFLOW_TRACKING_URI");
  throw UsageError(
      "trainer.loggers names mlflow, and neither mlflow.uri nor MLFLOW_TRACKING_URI says where the server is");
}

void check_mlflow_options(const MlflowOptions& options, const std::string& experiment) {
  if (!(options.timeout > 0 && options.timeout <= 86400)) {
    throw UsageError("mlflow.timeout = " + double_to_text(options.timeout) +
                     " is no time for a request: it has to be above 0 and at most 86400 seconds");
  }
  if (!options.run_id.empty() && !is_mlflow_run_id(options.run_id)) {
    throw UsageError("mlflow.run_id = '" + shown(options.run_id) +
                     "' is no id of a run: those are letters and digits, as the server's page of the run shows them");
  }
  if (first_characters(experiment, kLongestExperiment).size() != experiment.size()) {
    throw UsageError("the experiment '" + shown(experiment) +
                     "' has a name of more than 500 characters: give a shorter one as mlflow.experiment");
  }
}

// Of the folder's run, which a stage before may have begun.
MlflowState state_for_run(const SinkPlace& place) {
  const auto& options = place.options.mlflow;
  const auto address = address_of_server(options);
  auto experiment = valid_utf8(options.experiment.empty() ? place.card.name : options.experiment);
  if (experiment.empty()) experiment = "Default";
  check_mlflow_options(options, experiment);
  if (auto state = read_mlflow_state(place.folder)) {
    const bool is_other_run = !options.run_id.empty() && options.run_id != state->run_id;
    if (state->address == address && !is_other_run) return *state;
    throw UsageError(
        (place.folder / "mlflow.json").string() + " belongs to " +
        (is_other_run ? "the run '" + state->run_id + "' of " : "") + state->address +
        ", and this stage is to go elsewhere: use another folder, or move that file and mlflow.spool away");
  }
  const auto version = place.card.version.empty() ? place.folder.filename().string() : place.card.version;
  return {.address = address,
          .experiment = experiment,
          .run_name = valid_utf8(options.run_name.empty() ? version : options.run_name),
          .key = is_random_id(place.card.id) ? place.card.id : random_id(),
          .run_id = options.run_id,
          .started = mlflow_time_now(),
          .sent = 0,
          .status = std::nullopt};
}

MlflowTexts tags_of_run(const SinkPlace& place) {
  const auto& card = place.card;
  MlflowTexts tags = {{"mlflow.source.type", "LOCAL"},
                      {"mlflow.user", environment_variable("USER").value_or("")},
                      {"mlflow.source.name", card.command.empty() ? "" : card.command.front()},
                      {"mlflow.source.git.commit", card.environment.git_commit},
                      {"troupe.run", std::filesystem::absolute(place.folder).string()},
                      {"troupe.host", card.environment.host}};
  if (!place.options.mlflow.run_name.empty()) tags.emplace_back("mlflow.runName", place.options.mlflow.run_name);
  std::erase_if(tags, [](const auto& tag) { return tag.second.empty(); });
  for (auto& [key, value] : tags) value = first_characters(valid_utf8(value), longest_mlflow_tag);
  return tags;
}

MlflowStatus status_of_end(RunStatus status) {
  switch (status) {
    case RunStatus::running: return MlflowStatus::running;
    case RunStatus::finished: return MlflowStatus::finished;
    case RunStatus::interrupted: return MlflowStatus::killed;
    case RunStatus::failed: return MlflowStatus::failed;
  }
  return MlflowStatus::failed;
}

}  // namespace

class MlflowSink::Impl {
 public:
  Impl(const SinkPlace& place, MlflowPatience patience)
      : folder_(place.folder),
        patience_(patience),
        http_(mlflow_http_options(place.options.mlflow.timeout, place.card.environment.troupe)),
        has_artifacts_(place.options.mlflow.artifacts),
        warn_(place.warn) {
    create_output_folder(folder_);
    state_ = state_for_run(place);
    write_mlflow_state(state_, folder_);
    open();
    try {
      spool_params(place.card.options);
      spool({.batch = {.metrics = {}, .params = {}, .tags = tags_of_run(place)},
             .status = MlflowStatusChange{MlflowStatus::running, mlflow_time_now()}});
      flush_spool();
    } catch (...) {
      close();  // the sender's thread is there already
      throw;
    }
    wake();
  }
  ~Impl() {
    close();
    leave_files_to_sync();
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void write(const Record& record) {
    const auto* scalars = std::get_if<ScalarsRecord>(&record);
    const auto* hparams = std::get_if<HparamsRecord>(&record);
    const auto* ended = std::get_if<StageEndedRecord>(&record);
    if (!(scalars || hparams || ended) || !reopen()) return;
    if (scalars) spool_metrics(*scalars);
    if (hparams) spool_params(hparams->hparams);
    if (ended) spool_end(*ended);
  }

  void flush() {
    if (!spool_) return;
    flush_spool();
    wake();
    if (is_at_end_) close();
  }

  void send_files() {
    if (has_waiting_) return leave_files_to_sync();  // the server is away, and close has said so
    if (!owes_files_ || !reopen()) return;
    owes_files_ = false;
    spool_files();
    is_at_end_ = true;
    close();
  }

 private:
  void open();
  bool reopen();
  void close();
  void wake();
  void send_until_closed();
  bool send_all();
  void spool(SpoolEntry entry);
  void flush_spool();
  void spool_metrics(const ScalarsRecord& record);
  void spool_params(const nlohmann::json& values);
  void spool_end(const StageEndedRecord& record);
  void spool_files();
  void leave_files_to_sync();
  void report_rest(bool was_too_slow);
  void warn(const std::string& text);
  void warn_once(const std::string& kind, const std::string& text);

  // Of the writing thread, once the sender has begun.
  std::filesystem::path folder_;
  MlflowPatience patience_;
  HttpOptions http_;
  bool has_artifacts_;
  MlflowState state_;
  MlflowKeys metric_keys_, param_keys_;
  bool is_at_end_ = false;
  bool owes_files_ = false;              // a stage has ended, and its files are not in the spool
  bool has_waiting_ = false;             // the server has not got all when the sink was closed
  std::chrono::milliseconds waited_{0};  // for the server, at the end of this stage

  std::function<void(const std::string&)> warn_;
  std::mutex warned_mutex_;
  std::set<std::string> warned_;

  std::unique_ptr<MlflowSpool> spool_;
  std::unique_ptr<MlflowSender> sender_;  // of its thread
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool has_work_ = false, is_closing_ = false, is_done_ = false;  // guarded by mutex_
};

void MlflowSink::Impl::open() {
  spool_ = std::make_unique<MlflowSpool>(folder_, state_.sent);
  sender_ =
      std::make_unique<MlflowSender>(folder_, state_, *spool_, http_, [this](const std::string& text) { warn(text); });
  has_work_ = is_closing_ = is_done_ = is_at_end_ = false;
  thread_ = std::thread([this] { send_until_closed(); });
}

// Of a sink that is written to behind the end of a stage.
bool MlflowSink::Impl::reopen() {
  if (spool_) return true;
  try {
    open();
    return true;
  } catch (const std::exception& error) {
    spool_ = nullptr;
    warn_once("open", std::string("mlflow: nothing more is sent: ") + error.what());
    return false;
  }
}

void MlflowSink::Impl::wake() {
  const std::scoped_lock lock(mutex_);
  has_work_ = true;
  changed_.notify_all();
}

void MlflowSink::Impl::send_until_closed() {
  std::unique_lock lock(mutex_);
  for (auto retry = std::chrono::milliseconds(0);;) {
    if (retry.count() == 0) {
      changed_.wait(lock, [this] { return has_work_ || is_closing_; });
    } else {
      changed_.wait_for(lock, retry, [this] { return is_closing_; });
    }
    has_work_ = false;
    const bool is_last = is_closing_;
    lock.unlock();
    const bool is_sent = send_all();
    lock.lock();
    const auto longer = retry.count() == 0 ? patience_.first_retry : 2 * retry;
    retry = is_sent ? std::chrono::milliseconds(0) : std::min(longer, patience_.longest_retry);
    if (!is_last) continue;
    is_done_ = true;
    changed_.notify_all();
    return;
  }
}

bool MlflowSink::Impl::send_all() {
  try {
    while (sender_->send_some()) continue;
    return true;
  } catch (const std::exception& error) {
    if (!sender_->is_aborted()) {
      warn_once("away", std::string("mlflow: ") + error.what() + "; the run goes on, and what is missed waits in " +
                            (folder_ / "mlflow.spool").string());
    }
    return false;
  }
}

void MlflowSink::Impl::close() {
  if (!spool_) return;
  flush_spool();
  bool was_too_slow = false;
  {
    std::unique_lock lock(mutex_);
    is_closing_ = true;
    changed_.notify_all();
    const Waiting waiting;  // for a server, which the watchdog does not judge
    const bool has_more_time = has_artifacts_ && is_at_end_;
    const auto patience =
        has_more_time ? std::max(patience_.at_end, patience_.with_artifacts - waited_) : patience_.at_end;
    const auto from = std::chrono::steady_clock::now();
    was_too_slow = !changed_.wait_for(lock, patience, [this] { return is_done_; });
    waited_ += std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - from);
  }
  if (was_too_slow) sender_->abort();
  thread_.join();
  state_ = sender_->state();
  spool_->shrink(0);
  report_rest(was_too_slow);
  sender_ = nullptr;
  spool_ = nullptr;
}

void MlflowSink::Impl::report_rest(bool was_too_slow) {
  const auto unwritten = spool_->unwritten();
  const auto waiting = std::max<int64_t>(spool_->waiting() - unwritten, 0), lost = spool_->lost() + unwritten;
  has_waiting_ = waiting > 0;
  if (lost > 0) {
    warn("mlflow: " + std::to_string(lost) + " records are lost, since " + (folder_ / "mlflow.spool").string() +
         " could not be written");
  }
  if (waiting == 0) return;
  warn("mlflow: " + std::string(was_too_slow ? "the server takes too long: " : "") + std::to_string(waiting) +
       (waiting == 1 ? " record waits in " : " records wait in ") + (folder_ / "mlflow.spool").string() +
       "; send them with: troupe sync " + folder_.string());
}

void MlflowSink::Impl::spool(SpoolEntry entry) {
  try {
    spool_->append(std::move(entry));
  } catch (const std::exception& error) {
    warn_once("disk", std::string("mlflow: ") + error.what() + "; the run goes on");
  }
}

void MlflowSink::Impl::flush_spool() {
  try {
    spool_->flush();
  } catch (const std::exception& error) {
    warn_once("disk", std::string("mlflow: ") + error.what() + "; the run goes on");
  }
}

void MlflowSink::Impl::spool_metrics(const ScalarsRecord& record) {
  auto values = record.values;
  const auto is_epoch = [](const auto& value) { return value.first == "epoch"; };
  if (record.epoch >= 0 && std::ranges::none_of(values, is_epoch)) {
    values.emplace_back("epoch", static_cast<double>(record.epoch));
  }
  const auto time = mlflow_time_now();
  for (std::size_t i = 0; i < values.size();) {
    SpoolEntry entry;
    for (; i < values.size() && entry.batch.metrics.size() < kMetricsOfEntry; ++i) {
      const auto& [name, value] = values[i];
      const auto& key = metric_keys_.of(name);
      if (key != name) {
        warn_once("key", "mlflow: the metric '" + shown(name) + "' is called '" + shown(key) +
                             "' there, since keys have no such characters or lengths (and so for further ones)");
      }
      entry.batch.metrics.push_back({key, value, time, record.step});
    }
    spool(std::move(entry));
  }
}

void MlflowSink::Impl::spool_params(const nlohmann::json& values) {
  SpoolEntry entry;
  for (const auto& [name, value] : flattened(values)) {
    auto cut = first_characters(value, longest_mlflow_param);
    if (cut.size() != value.size()) {
      warn_once("param", "mlflow: the option '" + shown(name) +
                             "' is cut after 6000 characters there (and so are further ones)");
    }
    entry.batch.params.emplace_back(param_keys_.of(name), std::move(cut));
    if (entry.batch.params.size() == kParamsOfEntry) spool(std::exchange(entry, {}));
  }
  if (entry.batch.size() > 0) spool(std::move(entry));
}

void MlflowSink::Impl::spool_end(const StageEndedRecord& record) {
  const auto message = first_characters(valid_utf8(without_passwords(record.message)), longest_mlflow_tag);
  SpoolEntry entry;
  entry.batch.tags = {{"troupe.stage", std::string(to_string(record.stage))},
                      {"troupe.status", name_of(record.status)},
                      {"troupe.message", message}};
  entry.status = {status_of_end(record.status), mlflow_time_now()};
  spool(std::move(entry));
  owes_files_ = has_artifacts_;
  waited_ = {};
  is_at_end_ = true;
}

void MlflowSink::Impl::spool_files() {
  SpoolEntry files;
  files.has_artifacts = true;
  spool(std::move(files));
}

// Without a word to the server.
void MlflowSink::Impl::leave_files_to_sync() {
  if (!std::exchange(owes_files_, false)) return;
  try {
    spool_ = std::make_unique<MlflowSpool>(folder_, state_.sent);
    spool_files();
    flush_spool();
    if (!has_waiting_)
      warn("mlflow: the files of the run are not sent; send them with: troupe sync " + folder_.string());
  } catch (const std::exception& error) {
    warn_once("open", std::string("mlflow: the files of the run are not sent: ") + error.what());
  }
  spool_ = nullptr;
}

void MlflowSink::Impl::warn(const std::string& text) {
  if (warn_) return warn_(text);
  std::cerr << "troupe: warning: " + text + "\n";
}

void MlflowSink::Impl::warn_once(const std::string& kind, const std::string& text) {
  {
    const std::scoped_lock lock(warned_mutex_);
    if (!warned_.insert(kind).second) return;
  }
  warn(text);
}

MlflowSink::MlflowSink(const SinkPlace& place, MlflowPatience patience)
    : impl_(std::make_unique<Impl>(place, patience)) {}

MlflowSink::~MlflowSink() = default;

void MlflowSink::write(const Record& record) {
  impl_->write(record);
}

void MlflowSink::flush() {
  impl_->flush();
}

void MlflowSink::files_are_complete() {
  impl_->send_files();
}

}  // namespace troupe
