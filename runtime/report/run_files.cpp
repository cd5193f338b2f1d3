#include "troupe/runtime/report/run_files.hpp"

#include "troupe/base/exception_text.hpp"
#include "troupe/base/unix_seconds.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/report/environment.hpp"
#include "troupe/runtime/report/failure_file.hpp"
#include "troupe/runtime/report/report_page.hpp"
#include "troupe/runtime/report/without_passwords.hpp"

#include <algorithm>
#include <utility>

namespace troupe {

namespace {

constexpr double kCardInterval = 2, kPageInterval = 5;  // seconds
constexpr double kFirstPage = 1;                        // seconds after the stage began
constexpr double kPageShare = 0.02;                     // of the time, at most
constexpr double kSignOfLife = 60;                      // seconds
constexpr std::size_t kMostWarnings = 100;

}  // namespace

RunFiles::RunFiles(RunCard card, Options options) : RunFiles(std::move(card), {}, std::move(options)) {}

RunFiles::RunFiles(RunCard card, MetricCurves curves, Options options)
    : card_(std::move(card)), curves_(std::move(curves)), options_(std::move(options)) {
  if (!options_.clock) options_.clock = unix_seconds;
}

void RunFiles::set_devices(std::vector<std::string> devices, int64_t world_size) {
  card_.environment.devices = std::move(devices);
  card_.environment.world_size = world_size;
}

void RunFiles::begin_stage(Stage stage) {
  card_.stage = to_string(stage);
  card_.status = RunStatus::running;
  card_.message.clear();
  card_.failure.reset();
  card_.ended.reset();
  card_.seconds_left.reset();
  card_.updated = options_.clock();
  if (card_.started == 0) card_.started = card_.updated;
  if (!options_.folder.empty()) {
    std::error_code ignored;  // it may not be there
    std::filesystem::remove(options_.folder / "failure.json", ignored);
  }
  claim_folder();
  write_card();
  ask_git();
  sign_of_life_due_ = card_.updated + kSignOfLife;
  card_due_ = card_.updated + kCardInterval;
  page_due_ = card_.updated + kFirstPage;
  page_is_old_ = true;
}

// A stage of the same Trainer's that did not end may have it still.
void RunFiles::claim_folder() {
  if (options_.folder.empty()) return;
  if (!lock_.holds()) lock_ = RunLock(options_.folder);
  card_.owner = own_process();
  card_.owner.holds_lock = lock_.holds();
}

void RunFiles::ask_git() {
  if (options_.folder.empty() || std::exchange(has_asked_git_, true)) return;
  const auto& git = git_state_of_process();
  card_.environment.git_commit = git.git_commit;
  card_.environment.git_is_dirty = git.git_is_dirty;
  card_is_old_ = page_is_old_ = true;
}

void RunFiles::take(const ScalarsRecord& record, double time) {
  curves_.add(record, time);
  page_is_old_ = true;
}

void RunFiles::take(const RunNews& news) {
  card_is_old_ = page_is_old_ = true;
  if (news.progress) card_.progress = *news.progress;
  if (news.total_batches) card_.total_batches = news.total_batches;
  if (news.seconds_left) card_.seconds_left = news.seconds_left;
  if (news.metrics) card_.metrics = *news.metrics;
  if (news.phases) {
    const auto same = std::ranges::find(card_.phases, news.phases->stage, &PhaseReport::stage);
    (same == card_.phases.end() ? card_.phases.emplace_back() : *same) = *news.phases;
  }
  if (news.warning) {
    const bool is_full = card_.warnings.size() >= kMostWarnings;
    if (is_full) ++card_.more_warnings;
    if (!is_full) card_.warnings.push_back(without_passwords(*news.warning));
  }
  for (const auto& path : news.checkpoints) {
    std::erase(card_.checkpoints, path);
    card_.checkpoints.push_back(path);
  }
  if (news.best_checkpoint) card_.best_checkpoint = *news.best_checkpoint;
  if (news.model) card_.model = *news.model;
  if (!news.failure) return;
  card_.failure = news.failure;
  if (card_.failure->host.empty()) card_.failure->host = card_.environment.host;  // a run of one process
  card_.failure->message = without_passwords(card_.failure->message);
  write_failure();
}

void RunFiles::add(Finding finding) {
  claim_folder();
  const double now = options_.clock();
  if (card_.stage.empty()) card_.stage = "tune";
  if (card_.stage == "tune") {
    if (card_.started == 0) card_.started = now;
    card_.status = RunStatus::finished;
    card_.ended = now;
  }
  if (!options_.folder.empty()) {
    const auto path = options_.folder / (finding.name + ".csv");
    write(path.filename().c_str(), [&] { write_text_atomically(path, to_csv(finding)); });
  }
  std::erase_if(card_.findings, [&](const Finding& other) { return other.name == finding.name; });
  card_.findings.push_back(std::move(finding));
  ask_git();
  write_card();
  write_page();
  lock_ = RunLock();
}

void RunFiles::end_stage(RunStatus status, const std::string& message) {
  card_.status = status;
  card_.message = without_passwords(message);
  card_.ended = options_.clock();
  card_.seconds_left.reset();
  write_card();
  write_page();
  lock_ = RunLock();
}

bool RunFiles::write_if_due() {
  const double now = options_.clock();
  if (options_.folder.empty()) return false;
  if (now >= sign_of_life_due_) {
    card_is_old_ = page_is_old_ = true;
    sign_of_life_due_ = now + kSignOfLife;
  }
  const bool writes_card = card_is_old_ && now >= card_due_;
  const bool writes_page = options_.writes_page && page_is_old_ && now >= page_due_;
  if (writes_card) {
    write_card();
    card_is_old_ = false;
    card_due_ = now + kCardInterval;
  }
  if (writes_page) {
    write_page();
    page_is_old_ = false;
    const double took = options_.clock() - now;
    page_due_ = now + took + std::max(kPageInterval, took / kPageShare);
  }
  return writes_card || writes_page;
}

std::string RunFiles::take_problem() {
  return std::exchange(problem_, "");
}

template <class Write>
void RunFiles::write(const char* what, Write write) {
  if (options_.folder.empty()) return;
  const auto why = text_thrown_by(write);
  if (why.empty() || std::exchange(has_warned_, true)) return;
  problem_ = std::string(what) + " of the run cannot be written, and the run goes on: " + why;
}

void RunFiles::write_card() {
  card_.updated = options_.clock();
  forget_deleted_checkpoints();
  write("run.json", [&] { write_run_card(card_, options_.folder); });
}

void RunFiles::write_page() {
  if (!options_.writes_page) return;
  write("report.html", [&] {
    const RunView view{card_, curves_};
    write_report_page({&view, 1}, options_.folder / "report.html");
  });
}

void RunFiles::write_failure() {
  std::error_code ignored;
  if (std::filesystem::exists(options_.folder / "failure.json", ignored)) return;  // the stage's: it began without one
  write("failure.json", [&] {
    write_text_atomically(options_.folder / "failure.json",
                          failure_file(*card_.failure, "", options_.clock()).dump(2) + "\n");
  });
}

void RunFiles::forget_deleted_checkpoints() {
  std::error_code error;
  std::erase_if(card_.checkpoints, [&](const auto& path) { return !std::filesystem::exists(path, error) && !error; });
}

}  // namespace troupe
