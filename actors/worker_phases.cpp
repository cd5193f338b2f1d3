// Where a worker's time goes, and who hears of it.
#include "troupe/actors/worker_state.hpp"
#include "troupe/runtime/report/phase_advice.hpp"
#include "troupe/runtime/report/phase_spread.hpp"

#include <chrono>

namespace troupe::cast {

namespace {

constexpr auto phases_interval = std::chrono::seconds(2);

}  // namespace

// What the thread does until a batch comes: before the first one of the stage that is the start-up still.
void WorkerState::await_batch() {
  const PhaseId current = clock_.current();
  if (current == id_of(Phase::waiting_for_data) || current == id_of(Phase::start_up)) return;
  clock_.enter(id_of(Phase::waiting_for_data));
}

void WorkerState::count_batch() {
  ++batches_;
  if (setup_.index == 0 && clock_.is_due(phases_interval)) report_phases(/*is_final=*/false);
}

void WorkerState::end_phases() {
  clock_.end_validation();
  clock_.enter(id_of(Phase::rest));
}

void WorkerState::report_phases(bool is_final) {
  if (setup_.index != 0) return;
  const bool shows_all = replica_ && replica_->options().profiler == Profiler::simple;
  PhaseReport report = clock_.report(shows_all ? PhaseTable::all : PhaseTable::large);
  report.stage = to_string(stage_);
  report.batches = batches_;
  report.ranks = spread_;
  if (replica_) {
    const auto& loaders = stage_ == Stage::fit ? replica_->train_loaders() : replica_->eval_loaders();
    nlohmann::json given = setup_.given;
    const auto add = [&](const char* group, const Hyperparameters& own) {
      if (!given.contains(group) && !own.hparams().is_null()) given[group] = own.hparams();
    };
    if (const auto& module = replica_->module()) add("model", *module);  // null if it was never made
    if (const DataModule* data = replica_->datamodule()) add("data", *data);
    report.advice = advice_of(report, advice_facts(replica_->options(), loaders, replica_->optimizers(), given));
  }
  PhasesMeasured measured{std::move(report), replica_ ? replica_->progress() : Progress{}, is_final};
  if (replica_ && stage_ == Stage::fit) {
    const RunEta& eta = reporter_.estimate(*replica_, facts_.train_batches);
    measured.seconds_left = eta.seconds_left();
    measured.total_batches = eta.total_batches();
  }
  tell(self_, setup_.coordinator, std::move(measured));
}

// In the last command of a stage, which all ranks carry out.
void WorkerState::gather_phases() {
  if (replica_->peers()) spread_ = gather_spread(*replica_->peers(), clock_.report(PhaseTable::large));
}

}  // namespace troupe::cast
