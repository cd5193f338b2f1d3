#include "troupe/runtime/replica/replica.hpp"

#include "troupe/base/exception_text.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/replica/batch_transfer.hpp"
#include "troupe/runtime/replica/device_shards.hpp"
#include "troupe/runtime/replica/evaluation_weights.hpp"
#include "troupe/runtime/replica/model_agreement.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <span>

namespace troupe {

namespace {

bool ends_an_epoch(Hook hook) {
  return hook == Hook::on_train_epoch_end || hook == Hook::on_validation_epoch_end || hook == Hook::on_test_epoch_end;
}

bool is_before_evaluation(Hook hook) {
  return hook == Hook::on_validation_epoch_start || hook == Hook::on_test_epoch_start ||
         hook == Hook::on_predict_epoch_start;
}

}  // namespace

Replica::Replica(ReplicaSetup setup, ReplicaOutputs& outputs)
    : core_(std::move(setup), outputs, *this),
      board_(core_),
      schedules_(core_, board_),
      sync_(core_),
      sizes_(outputs),
      stepper_(core_, board_, schedules_, sync_, sizes_),
      evaluation_(core_, board_, sizes_),
      record_({core_, board_, schedules_, sync_, stepper_, evaluation_, epoch_origin_}),
      teardown_(core_) {}

Replica::~Replica() {
  (void)release();
}

std::shared_ptr<Module> Replica::release() {
  if (core_.module) {
    // Where an evaluation or a step failed.
    core_.module->put_back_modes();
    stepper_.untoggle();
    core_.module->attach(nullptr);
    // From a device that has failed nothing can be copied.
    (void)text_thrown_by([&] { move_metrics(*core_.module, torch::kCPU); });
  }
  if (core_.setup.datamodule && core_.is_first_of_process()) core_.setup.datamodule->attach(nullptr, nullptr);
  core_.shards.reset();
  sync_.clear();
  core_.optimizers = Optimizers();
  return std::move(core_.module);
}

Failure Replica::position() const {
  Failure failure;
  const auto failed = core_.shards ? core_.shards->failed_device() : std::nullopt;
  failure.device = failed.value_or(core_.setup.device).str();
  failure.stage = to_string(core_.setup.stage);
  failure.hook = core_.pulse.place();
  failure.epoch = core_.setup.stage == Stage::fit && core_.module ? core_.progress.epoch : -1;
  failure.batch_idx = core_.pulse.batch;
  return failure;
}

// --- Boundaries ---

void Replica::run(Hook hook) {
  core_.collect_shard_metrics();
  // Hooks at the end of an epoch see its reduced metrics.
  if (ends_an_epoch(hook)) flush_epoch();
  board_.set_origin(hook, /*step_allowed=*/false, /*on_step=*/false, /*batch_size=*/1);
  if (hook == Hook::on_train_end) {  // whoever gets the module from here on has all of it
    show_evaluation_weights(core_, sync_);
    sync_.hold_parameters();
    if (LocalTraining* local = sync_.local()) local->adopt_mean();
  }
  if (hook == Hook::on_validation_end) show_own_weights();
  if (hook == Hook::teardown) return teardown_.run();
  // The sanity check is a validation between two hooks that callbacks alone have.
  if (hook == Hook::on_validation_model_eval && evaluation_.is_sanity_check()) {
    const During during(core_.pulse, "on_sanity_check_start");
    core_.call_callbacks(CallbackHook::on_sanity_check_start,
                         [&](Callback& callback) { callback.on_sanity_check_start(*this, *core_.module); });
  }
  run_data_hook(core_, hook);
  if (!core_.callbacks.empty()) run_callback_hook(core_, hook);
  if (core_.is_used(hook)) {
    const PhaseScope phase(id_of(module_owner, hook));
    run_own_hook(hook);
  } else {
    run_own_hook(hook);
  }
  // All ranks evaluate one model, also where each has gathered running means of its own since the last window.
  if (is_before_evaluation(hook) && core_.peers()) show_one_model();
  if (hook == Hook::on_validation_model_train && evaluation_.is_sanity_check()) {
    const During during(core_.pulse, "on_sanity_check_end");
    core_.call_callbacks(CallbackHook::on_sanity_check_end,
                         [&](Callback& callback) { callback.on_sanity_check_end(*this, *core_.module); });
  }
}

void Replica::show_one_model() {
  LocalTraining* local = sync_.local();
  if (!local) return broadcast_buffers(core_);
  const PhaseScope phase(Phase::waiting_for_ranks);
  local->show_mean();
}

void Replica::show_own_weights() {
  if (LocalTraining* local = sync_.local()) local->show_own();
}

// What gets something from the parts, or fills them in.
void Replica::run_own_hook(Hook hook) {
  Module& module = *core_.module;
  switch (hook) {
    case Hook::configure_callbacks: return configure_callbacks();
    case Hook::configure_optimizers: return configure_optimizers();
    case Hook::training_epoch_end:
      if (core_.is_used(hook)) module.training_epoch_end(stepper_.outputs());
      return;
    case Hook::validation_epoch_end:
      if (core_.is_used(hook)) module.validation_epoch_end(evaluation_.outputs());
      return;
    case Hook::test_epoch_end:
      if (core_.is_used(hook)) module.test_epoch_end(evaluation_.outputs());
      return;
    default: run_module_hook(core_, hook);
  }
}

void Replica::flush_epoch() {
  const auto values = board_.flush_epoch();
  if (evaluation_.is_running()) evaluation_.add_results(values);
  if (core_.setup.validates_beside) epoch_values_.insert(epoch_values_.end(), values.begin(), values.end());
}

void Replica::begin_train_epoch(int64_t epoch, int64_t batch_idx) {
  core_.progress.epoch = epoch;
  core_.progress.batch_idx = batch_idx;
  core_.pulse.batch = -1;
  core_.pulse.epoch = epoch;
  board_.begin_train_epoch();
  stepper_.begin_epoch(/*is_in_its_middle=*/batch_idx > 0);
}

void Replica::end_train_epoch(bool is_cut) {
  flush_epoch();
  board_.write_epoch_record();
  board_.end_train_epoch();
  stepper_.end_epoch();
  write_captured();
  if (is_cut) return;
  schedules_.after_epoch(/*with_metric=*/false);  // where the epoch's last batch was skipped
  schedules_.after_epoch(/*with_metric=*/true);
  core_.progress.epoch += 1;
  core_.progress.batch_idx = 0;
}

void Replica::begin_evaluation(Stage stage, bool is_sanity_check) {
  show_evaluation_weights(core_, sync_);
  sync_.hold_parameters();  // ranks have different numbers of batches
  step_values_.clear();
  epoch_values_.clear();
  evaluation_.begin(stage, is_sanity_check);
}

std::vector<MetricMap> Replica::end_evaluation() {
  flush_epoch();
  show_own_weights();  // of one that was cut
  board_.write_epoch_record();
  if (evaluation_.counts()) schedules_.note_validation(evaluation_.had_batches());
  had_batches_ = evaluation_.had_batches();
  write_captured();
  auto results = evaluation_.end();
  if (show_training_weights(core_, sync_)) sync_.hold_parameters();  // as the evaluation has left them
  return results;
}

std::string Replica::report_quietly(const Failure& failure) {
  return troupe::report_quietly(core_, failure);
}

std::string Replica::tear_down_quietly() {
  if (!core_.module || teardown_.is_done()) return "";
  board_.set_origin(Hook::teardown, /*step_allowed=*/false, /*on_step=*/false, /*batch_size=*/1);
  return teardown_.run_quietly();
}

// --- What others ask ---

bool Replica::overrides_transfer() const {
  return troupe::overrides_transfer(core_);
}

CurveAxis Replica::curves() const {
  CurveAxis after = board_.curves();
  after.end_fit(core_.progress);
  return after;
}

MetricMap Replica::shown_metrics() {
  const During during(core_.pulse, "get_progress_bar_dict");
  return core_.module->get_progress_bar_dict(board_.progress_bar_metrics());
}

std::vector<std::string> Replica::bar_metrics() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : board_.progress_bar_metrics()) names.push_back(name);
  return names;
}

CapturedSteps Replica::captured() const {
  CapturedSteps all = stepper_.capture().report();
  const CapturedSteps& evaluation = evaluation_.capture().report();
  all.programs.insert(all.programs.end(), evaluation.programs.begin(), evaluation.programs.end());
  all.refusals.insert(all.refusals.end(), evaluation.refusals.begin(), evaluation.refusals.end());
  return all;
}

void Replica::write_captured() {
  const auto& path = core_.options().capture_step_dump;
  if (path.empty() || core_.place().global_rank != 0 || core_.setup.validates_beside) return;
  const std::string text = stepper_.capture().to_text() + evaluation_.capture().to_text();
  const std::string problem = text_thrown_by([&] { write_text_atomically(path, text); });
  if (!problem.empty()) core_.outputs.note("warning: " + problem + " (trainer.capture_step_dump)");
}

void Replica::emit(Record record) {
  refuse_capture("it hands something to the sinks (logger()), which a replay does not");
  if (evaluation_.is_sanity_check()) return;
  board_.curves().place(record);
  core_.outputs.record(std::move(record));
}

void Replica::request_stop(std::string reason) {
  refuse_capture("it asks the run to stop, which a replay does not");
  if (should_stop_) return;
  should_stop_ = true;
  core_.outputs.stop_requested(reason);
}

}  // namespace troupe
