#include "troupe/modules/callbacks/model_checkpoint.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/state_reader.hpp"
#include "troupe/base/text.hpp"
#include "troupe/modules/callbacks/state_key.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <system_error>

namespace troupe {

namespace {

constexpr const char* extension = ".safetensors";
constexpr const char* default_metric = "val_loss";

ModelCheckpointOptions checked(ModelCheckpointOptions options) {
  const auto refuse = [](const std::string& why) { throw UsageError("ModelCheckpoint: " + why); };
  check_monitor("ModelCheckpoint", options.monitor);
  if (options.mode == MonitorMode::max && options.monitor.empty()) refuse("mode = max needs a metric to monitor");
  if (options.save_top_k < -1) {
    refuse("save_top_k = " + std::to_string(options.save_top_k) + "; use a count, 0 for none or -1 for all");
  }
  if (options.every_n_epochs && *options.every_n_epochs < 1) {
    refuse("every_n_epochs = " + std::to_string(*options.every_n_epochs) + "; use at least 1");
  }
  if (options.every_n_train_steps && *options.every_n_train_steps < 1) {
    refuse("every_n_train_steps = " + std::to_string(*options.every_n_train_steps) + "; use at least 1");
  }
  if (options.train_time_interval && options.train_time_interval->count() < 1) {
    refuse("train_time_interval = " + std::to_string(options.train_time_interval->count()) + " ms; use at least 1 ms");
  }
  std::vector<std::string> occasions;
  if (options.every_n_epochs) occasions.emplace_back("every_n_epochs");
  if (options.every_n_train_steps) occasions.emplace_back("every_n_train_steps");
  if (options.train_time_interval) occasions.emplace_back("train_time_interval");
  if (occasions.size() > 1) refuse(occasions[0] + " and " + occasions[1] + " are both set; use one of them");
  if (options.save_on_train_epoch_end && !occasions.empty() && !options.every_n_epochs) {
    refuse("save_on_train_epoch_end has no meaning with " + occasions[0] + "; use one of them");
  }
  return options;
}

std::filesystem::path absolute_folder(const std::filesystem::path& path) {
  auto folder = std::filesystem::absolute(path).lexically_normal();
  return folder.has_filename() ? folder : folder.parent_path();  // "a/" is "a"
}

// Better now than after an epoch of training.
void make_writable_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (!error && !std::filesystem::is_directory(folder, error)) error = std::make_error_code(std::errc::not_a_directory);
  if (!error && ::access(folder.c_str(), W_OK | X_OK) != 0) error = std::error_code(errno, std::generic_category());
  if (error) {
    throw UsageError("ModelCheckpoint: cannot write to dirpath = '" + shown(folder.string()) + "': " + error.message());
  }
}

// The file `name` of a state, if it is there.
std::filesystem::path stored_file(const std::filesystem::path& folder, const std::string& name) {
  if (!folder.is_absolute() || name.empty()) return {};
  const auto path = (folder / name).lexically_normal();
  if (path.native().find('\0') != std::string::npos) return {};
  std::error_code ignored;
  return path.extension() == extension && std::filesystem::is_regular_file(path, ignored) ? path : "";
}

}  // namespace

ModelCheckpoint::ModelCheckpoint(ModelCheckpointOptions options)
    : options_(checked(std::move(options))),
      template_(options_.filename.empty() ? "{epoch}-{step}" : options_.filename, options_.auto_insert_metric_name) {}

void ModelCheckpoint::start(const RunInfo& info) {
  info_ = info;
  sources_.start(info);
  has_news_ = false;
  is_last_current_ = true;
  saved_step_ = seen_step_ = -1;
  timed_from_ = info.seconds();
  saves_ = !info.run_dir.empty();
  if (!saves_) return;
  const auto folder = absolute_folder(options_.dirpath.empty() ? info.run_dir / "checkpoints" : options_.dirpath);
  if (folder != folder_) {
    folder_ = folder;
    best_.clear();
    last_.clear();
  }
  asked_.clear();
  claim_files();
  if (!options_.dirpath.empty()) make_writable_folder(folder_);
}

void ModelCheckpoint::claim_files() {
  for (const Kept& kept : best_) info_.kept_files->insert(kept.path);
  if (!last_.empty()) info_.kept_files->insert(last_);
}

std::optional<int64_t> ModelCheckpoint::next_step(const Progress& progress) const {
  if (!saves_ || !options_.every_n_train_steps) return std::nullopt;
  const int64_t n = *options_.every_n_train_steps;
  return progress.global_step - progress.global_step % n + n;
}

std::optional<double> ModelCheckpoint::next_time() const {
  if (!saves_ || !info_.decides_times || !options_.train_time_interval) return std::nullopt;
  return timed_from_ + std::chrono::duration<double>(*options_.train_time_interval).count();
}

Decision ModelCheckpoint::decide(Moment moment, const Progress& progress, const MetricMap& metrics) {
  Decision decision;
  if (!saves_ || moment == Moment::sanity_check_end) return decision;
  sources_.observe(moment, metrics);
  if (moment == Moment::train_batch_end) is_last_current_ = false;
  if (moment == Moment::validation_end) has_news_ = true;
  if (moment == Moment::train_epoch_end && !options_.monitor.empty() && sources_.are_complete() &&
      !metrics.contains(options_.monitor)) {
    throw metric_not_logged("ModelCheckpoint's monitor", options_.monitor, metrics);
  }

  const bool has_ended = moment == Moment::exception || (moment == Moment::train_end && !is_last_current_);
  if (is_due(moment, progress, metrics)) {
    // A validation beside the training tells of a step that is past; what is there already may be newer.
    const bool is_newest = progress.global_step >= saved_step_;
    judge(progress, metrics, decision);
    saved_step_ = std::max(saved_step_, progress.global_step);
    timed_from_ = info_.seconds();
    if (is_newest) save_last(decision);
    is_last_current_ = is_last_current_ && progress.global_step >= seen_step_;
  } else if (has_ended) {
    save_last(decision);
  }
  if (moment == Moment::train_batch_end) seen_step_ = progress.global_step;
  // With saves within epochs a value may still be judged in the next epoch: its step is the first after it.
  if (moment == Moment::train_epoch_end && !saves_within_epochs()) has_news_ = false;
  return decision;
}

bool ModelCheckpoint::skip_save(const Progress& progress) {
  is_last_current_ = false;
  seen_step_ = progress.global_step;
  timed_from_ = info_.seconds();
  return true;
}

void ModelCheckpoint::saved(const std::filesystem::path& path) {
  const auto found = std::ranges::find(asked_, path, &Asked::path);
  if (found != asked_.end()) asked_.erase(found);
}

// What it had replaced comes back; and where it was replaced in its turn, before anybody knew, that comes back for what
// replaced it.
void ModelCheckpoint::save_failed(const std::filesystem::path& path) {
  if (path == last_) is_last_current_ = false;
  const auto own = std::ranges::find(asked_, path, &Asked::path);
  if (own == asked_.end()) return;
  auto replaced = std::move(own->replaced);
  asked_.erase(own);
  // First: what is among the best may be the one that replaced it, under the same name.
  const auto by =
      std::ranges::find_if(asked_, [&](const Asked& each) { return each.replaced && each.replaced->path == path; });
  if (by != asked_.end()) {
    by->replaced = std::move(replaced);
    return;
  }
  const auto failed = std::ranges::find(best_, path, &Kept::path);
  if (failed == best_.end()) return;
  best_.erase(failed);
  info_.kept_files->erase(path);
  if (!replaced) return;
  info_.kept_files->insert(replaced->path);
  insert(std::move(*replaced));
}

void ModelCheckpoint::run_ended() {
  while (!asked_.empty()) save_failed(std::filesystem::path(asked_.front().path));
}

std::string ModelCheckpoint::monitored(const MetricMap& metrics) const {
  if (!options_.monitor.empty() || saves_within_epochs()) return options_.monitor;
  return metrics.contains(default_metric) ? default_metric : "";
}

bool ModelCheckpoint::is_due(Moment moment, const Progress& progress, const MetricMap& metrics) const {
  if (options_.every_n_train_steps) {
    const int64_t n = *options_.every_n_train_steps, step = progress.global_step;
    // With several optimizers a batch makes several steps and may pass a multiple.
    const bool is_multiple = step % n == 0 || (seen_step_ >= 0 && step / n > seen_step_ / n);
    return moment == Moment::train_batch_end && step > 0 && step != saved_step_ && is_multiple;
  }
  if (options_.train_time_interval) {
    const auto time = next_time();
    const bool has_trained = progress.global_step > 0 && progress.global_step != saved_step_;
    return moment == Moment::train_batch_end && has_trained && time && info_.seconds() >= *time;
  }
  if ((progress.epoch + 1) % options_.every_n_epochs.value_or(1) != 0) return false;
  if (moment == Moment::train_epoch_end)
    return options_.save_on_train_epoch_end.value_or(true) || !info_.has_validation;
  if (moment != Moment::validation_end && moment != Moment::empty_validation_end) return false;
  if (options_.save_on_train_epoch_end) return !*options_.save_on_train_epoch_end;
  const bool is_mid_epoch = info_.train_batches ? progress.batch_idx < *info_.train_batches : info_.validates_mid_epoch;
  return is_mid_epoch && sources_.is_from_validation(monitored(metrics));
}

bool ModelCheckpoint::is_better(const std::optional<double>& score, const std::optional<double>& than) const {
  if (!score) return !than;  // among those without a score the newest is the best
  if (!than) return true;
  return troupe::is_better(options_.mode, *score, *than);
}

void ModelCheckpoint::judge(const Progress& progress, const MetricMap& metrics, Decision& decision) {
  if (options_.save_top_k == 0) return;
  Kept kept;
  if (const std::string name = monitored(metrics); !name.empty()) {
    const auto value = metrics.find(name);
    const bool is_stale = sources_.is_from_validation(name) && !has_news_;
    if (value != metrics.end() && std::isfinite(value->second) && !is_stale) kept.score = value->second;
    if (!kept.score && options_.save_top_k > 0) return;
    if (is_stale && saved_step_ == progress.global_step) return;  // a validation at which training stopped
    has_news_ = false;
  }
  if (is_full() && !is_better(kept.score, best_.back().score)) return;
  keep(std::move(kept), file_stem(progress, metrics), decision);
}

void ModelCheckpoint::keep(Kept kept, const std::string& stem, Decision& decision) {
  std::filesystem::path replaced;
  std::optional<Kept> worst;
  if (is_full()) {
    worst = best_.back();
    if (is_own(worst->path)) replaced = worst->path;
    best_.pop_back();
  }
  kept.path = take_path(stem, replaced);
  SaveRequest request{kept.path, {}, /*must_be_finite=*/true};
  if (!replaced.empty() && replaced != kept.path) {
    request.remove.push_back(replaced);
    info_.kept_files->erase(replaced);
    // It may be that this one is never written. Then what it was to replace is still there.
    const auto before = std::ranges::find(asked_, replaced, &Asked::path);
    if (before != asked_.end() && before->replaced && is_left_over(before->replaced->path, kept.path)) {
      request.remove.push_back(before->replaced->path);
    }
  }
  decision.save.push_back(std::move(request));
  asked_.push_back({kept.path, std::move(worst)});
  // No more than two are open: one that is being written, and one that waits for it.
  if (asked_.size() > 2) asked_.pop_front();
  insert(std::move(kept));
}

bool ModelCheckpoint::is_left_over(const std::filesystem::path& path, const std::filesystem::path& kept) const {
  std::error_code ignored;
  return is_own(path) && path != kept && !info_.kept_files->contains(path) && std::filesystem::exists(path, ignored);
}

void ModelCheckpoint::insert(Kept kept) {
  const auto worse =
      std::find_if(best_.begin(), best_.end(), [&](const Kept& other) { return is_better(kept.score, other.score); });
  best_.insert(worse, std::move(kept));
}

void ModelCheckpoint::save_last(Decision& decision) {
  if (!options_.save_last) return;
  if (last_.empty()) last_ = take_path("last", {});
  // After the best: where this file is, those that its metadata names are too.
  decision.save.push_back({last_, {}});
  is_last_current_ = true;
}

std::string ModelCheckpoint::file_stem(const Progress& progress, const MetricMap& metrics) const {
  return template_.format(progress, [&](const std::string& name) {
    const auto value = metrics.find(name);
    if (value != metrics.end()) return value->second;
    if (sources_.are_complete()) throw metric_not_logged("ModelCheckpoint's filename", name, metrics);
    return 0.0;
  });
}

std::filesystem::path ModelCheckpoint::take_path(const std::string& stem, const std::filesystem::path& may_replace) {
  const auto is_taken = [&](const std::filesystem::path& path) {
    if (path == may_replace) return false;
    // What was asked for a moment ago may not be on the disk yet.
    if (info_.kept_files->contains(path)) return true;
    std::error_code ignored;
    return std::filesystem::exists(std::filesystem::symlink_status(path, ignored));
  };
  auto path = folder_ / (stem + extension);
  for (int64_t version = 1; is_taken(path); ++version) {
    path = folder_ / (stem + "-v" + std::to_string(version) + extension);
  }
  info_.kept_files->insert(path);
  return path;
}

// --- Getters and state ---

std::filesystem::path ModelCheckpoint::best_model_path() const {
  return best_.empty() ? std::filesystem::path() : best_.front().path;
}

std::optional<double> ModelCheckpoint::best_model_score() const {
  return best_.empty() ? std::nullopt : best_.front().score;
}

std::filesystem::path ModelCheckpoint::kth_best_model_path() const {
  return is_full() ? best_.back().path : std::filesystem::path();
}

std::optional<double> ModelCheckpoint::kth_value() const {
  return is_full() ? best_.back().score : std::nullopt;
}

std::string ModelCheckpoint::state_key() const {
  const int64_t steps = options_.every_n_train_steps.value_or(0);
  const int64_t epochs = options_.every_n_epochs.value_or(saves_within_epochs() ? 0 : 1);
  const auto time = options_.train_time_interval;
  const ModelCheckpointOptions usual;
  return StateKey("ModelCheckpoint{'monitor': " + (options_.monitor.empty() ? "None" : "'" + options_.monitor + "'") +
                  ", 'mode': '" + name_of(options_.mode) + "', 'every_n_train_steps': " + std::to_string(steps) +
                  ", 'every_n_epochs': " + std::to_string(epochs) + "}")
      .add("dirpath", options_.dirpath, usual.dirpath)
      .add("filename", options_.filename, usual.filename)
      .add("save_top_k", options_.save_top_k, usual.save_top_k)
      .add("train_time_interval_ms", time ? time->count() : 0, std::chrono::milliseconds::rep{0})
      .add("save_on_train_epoch_end", options_.save_on_train_epoch_end, usual.save_on_train_epoch_end)
      .text();
}

std::string ModelCheckpoint::stored(const std::filesystem::path& path) const {
  const auto text = path.lexically_relative(folder_).string();
  return is_utf8(text) ? text : "";  // JSON has no place for other bytes
}

nlohmann::json ModelCheckpoint::state_dict() const {
  const auto score_of = [](const std::optional<double>& score) { return score ? nlohmann::json(*score) : nullptr; };
  auto best_k = nlohmann::json::array();
  for (const auto& kept : best_) {
    best_k.push_back({{"path", stored(kept.path)}, {"score", score_of(kept.score)}});
    // For a run that goes on and does not find it.
    const auto asked = std::ranges::find(asked_, kept.path, &Asked::path);
    if (asked == asked_.end() || !asked->replaced) continue;
    best_k.back()["replaces"] = {{"path", stored(asked->replaced->path)}, {"score", score_of(asked->replaced->score)}};
  }
  nlohmann::json state = {{"dirpath", is_utf8(folder_.string()) ? folder_.string() : ""},
                          {"monitor", options_.monitor},
                          {"best_model_path", best_.empty() ? "" : stored(best_.front().path)},
                          {"best_model_score", score_of(best_model_score())},
                          {"kth_best_model_path", is_full() ? stored(best_.back().path) : ""},
                          {"kth_value", score_of(kth_value())},
                          {"best_k_models", std::move(best_k)},
                          {"last_model_path", last_.empty() ? "" : stored(last_)},
                          {"has_news", has_news_},
                          {"sources", sources_.state_dict()},
                          {"seen_step", seen_step_},
                          {"global_step", saved_step_}};
  if (options_.train_time_interval) state["seconds_since_save"] = info_.seconds() - timed_from_;
  return state;
}

void ModelCheckpoint::load_state_dict(const nlohmann::json& state) {
  const StateReader reader(state, "the checkpoint's state of " + shown(state_key()));
  const std::filesystem::path folder = reader.text("dirpath");
  const auto kept_in = [&](const StateReader& model) {
    return Kept{stored_file(folder, model.text("path")), model.optional_number("score")};
  };
  std::vector<Kept> best;
  for (const auto& model : reader.objects("best_k_models")) {
    Kept kept = kept_in(model);
    if (kept.path.empty() && model.has("replaces")) kept = kept_in(model.object("replaces"));
    if (!kept.path.empty()) best.push_back(std::move(kept));
  }
  // Those without a score are in the order of their age already.
  std::stable_sort(best.begin(), best.end(),
                   [&](const Kept& a, const Kept& b) { return a.score && is_better(a.score, b.score); });
  if (options_.save_top_k >= 0 && std::ssize(best) > options_.save_top_k) {
    best.resize(static_cast<std::size_t>(options_.save_top_k));
  }
  const auto last = stored_file(folder, reader.text("last_model_path"));
  const auto saved_step = reader.count("global_step", -1), seen_step = reader.count("seen_step", -1);
  const auto has_news = reader.flag("has_news");
  const double since_save = reader.has("seconds_since_save") ? reader.number("seconds_since_save") : 0;
  sources_.load_state_dict(reader.object("sources"));
  timed_from_ = info_.seconds() - std::max(0.0, since_save);
  has_news_ = has_news;
  seen_step_ = seen_step;
  saved_step_ = saved_step;
  best_ = std::move(best);
  last_ = is_own(last) ? last : std::filesystem::path();
  claim_files();
}

}  // namespace troupe
