#include "troupe/runtime/replica/replica.hpp"

#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/distributed/epoch_exchange.hpp"
#include "troupe/base/exception_text.hpp"
#include "troupe/modules/hook_order.hpp"

#include <torch/torch.h>

namespace troupe {

namespace {

ReplicaSetup with_pulse(ReplicaSetup setup) {
  if (!setup.pulse) setup.pulse = std::make_shared<Pulse>("worker");
  return setup;
}

}  // namespace

Replica::Replica(ReplicaSetup setup, ReplicaOutputs& outputs)
    : setup_(with_pulse(std::move(setup))),
      outputs_(outputs),
      curves_(setup_.curves),
      pulse_(*setup_.pulse),
      current_hook_(pulse_.hook),
      current_name_(pulse_.name),
      current_batch_(pulse_.batch) {
  pulse_.stage = setup_.stage;
}

Replica::~Replica() {
  (void)release();
}

std::shared_ptr<Module> Replica::release() {
  if (module_) {
    // Where an evaluation or a step failed.
    module_->put_back_modes();
    untoggle_optimizer(0);
    module_->attach(nullptr);
    (void)text_thrown_by([&] { move_metrics(torch::kCPU); });  // from a device that has failed nothing can be copied
  }
  if (setup_.datamodule && is_first_of_process()) setup_.datamodule->attach(nullptr, nullptr);
  parts_.reset();
  sharded_.clear();
  reducers_.clear();
  optimizers_ = Optimizers();
  return std::move(module_);
}

Failure Replica::position() const {
  Failure failure;
  failure.device = (parts_ && parts_->failed_device() ? *parts_->failed_device() : setup_.device).str();
  failure.stage = to_string(setup_.stage);
  failure.hook = pulse_.place();
  failure.epoch = setup_.stage == Stage::fit && module_ ? progress_.epoch : -1;
  failure.batch_idx = current_batch_;
  return failure;
}

void Replica::set_origin(Hook hook, bool step_allowed, bool on_step, int64_t batch_size,
                         std::optional<int64_t> dataloader_idx) {
  current_hook_ = hook;
  active_log().set_origin({to_string(hook), on_step, !on_step, step_allowed, batch_size, dataloader_idx});
}

void Replica::log(std::string_view name, const torch::Tensor& value, const LogOptions& options) {
  if (part_report_) return part_report_->log(name, value, options);
  active_log().log(name, value, options);
}

void Replica::log(std::string_view name, double value, const LogOptions& options) {
  if (part_report_) return part_report_->log(name, value, options);
  active_log().log(name, value, options);
}

void Replica::emit(Record record) {
  if (sanity_checking_) return;
  curves_.place(record);
  outputs_.record(std::move(record));
}

void Replica::write_prediction(std::string_view name, const torch::Tensor& value, const std::string& filename) {
  if (!evaluating_) throw UsageError("write_prediction belongs to an evaluation: call it in a step of one");
  if (sanity_checking_ || setup_.run_dir.empty()) return;
  prediction_files_.add(setup_.run_dir, rank_prefix(global_rank()) + filename, name, value);
}

void Replica::request_stop(std::string reason) {
  if (should_stop_) return;
  should_stop_ = true;
  outputs_.stop_requested(reason);
}

void Replica::keep(const std::vector<LoggedValue>& values, ScalarsRecord* record) {
  if (sanity_checking_ || evaluation_is_cut_) return;
  for (const auto& value : values) {
    callback_metrics_[value.name] = value.value;
    if (value.base != value.name) callback_metrics_[value.base] = value.value;
    note_news(value);
    if (value.prog_bar) progress_bar_metrics_[value.name] = value.value;
    if (value.logger) logged_metrics_[value.name] = value.value;
    if (value.logger && value.fresh && record) record->values.emplace_back(value.name, value.value);
  }
}

void Replica::settle_step_metrics() {
  if (train_log_.has_step_values()) keep(train_log_.take_step(), nullptr);
}

// Epoch values join the record that is written at the end of the epoch's hooks; hooks in between see them as metrics.
void Replica::flush_epoch() {
  LogStore& log = active_log();
  if (setup_.peers) {
    current_name_ = "reducing metrics over ranks";
    log.set_epoch_reductions(exchanged(*setup_.peers, log.epoch_reductions(), saw_batches_), module_->metrics());
    saw_batches_ = false;
    current_name_ = "";
  }
  if (!log.has_epoch_values()) return;
  current_name_ = "a logged metric's compute";
  const auto values = log.take_epoch();
  current_name_ = "";
  for (const auto& warning : log.take_warnings()) outputs_.note("warning: " + warning);
  keep(values, &epoch_record_);
  if (!evaluating_) return;
  for (const auto& value : values) {
    for (std::size_t i = 0; i < eval_results_.size(); ++i) {
      if (value.dataloader_idx.value_or(static_cast<int64_t>(i)) == static_cast<int64_t>(i)) {
        eval_results_[i][value.name] = value.value;
      }
    }
  }
}

void Replica::write_epoch_record() {
  flush_epoch();
  if (!epoch_record_.values.empty()) {
    epoch_record_.step = record_step();
    epoch_record_.epoch = progress_.epoch;
    curves_.place(epoch_record_);
    outputs_.record(std::move(epoch_record_));
  }
  epoch_record_ = {};
}

// The latest batch's that stepped. An evaluation by itself stands behind the fit before it.
int64_t Replica::record_step() const {
  if (setup_.stage != Stage::fit) return progress_.log_step;
  return progress_.log_step > 0 ? progress_.log_step - 1 : 0;
}

CurveAxis Replica::curves() const {
  CurveAxis after = curves_;
  after.end_fit(progress_);
  return after;
}

void Replica::begin_train_epoch(int64_t epoch, int64_t batch_idx) {
  progress_.epoch = epoch;
  progress_.batch_idx = batch_idx;
  current_batch_ = -1;
  saw_batches_ = false;
  pulse_.epoch = epoch;
  // In the middle of an epoch a resumed run begins, perhaps in the middle of a window.
  for (auto& sequence : sequences_) {
    if (batch_idx > 0) break;
    Sequence fresh;
    fresh.losses = std::move(sequence.losses);
    fresh.skipped_in_row = sequence.skipped_in_row;
    sequence = std::move(fresh);
  }
  train_outputs_.clear();
}

void Replica::end_train_epoch(bool is_cut) {
  write_epoch_record();
  train_log_.reset_metrics();
  train_outputs_.clear();
  if (is_cut) return;
  step_epoch_schedulers(/*with_metric=*/false);  // where the epoch's last batch was skipped
  step_epoch_schedulers(/*with_metric=*/true);
  progress_.epoch += 1;
  progress_.batch_idx = 0;
}

void Replica::begin_evaluation(Stage stage, bool is_sanity_check) {
  settle_step_metrics();
  if (setup_.stage == Stage::fit) random_states_before_ = random_states();
  evaluating_ = true;
  rows_per_sample_ = -1;
  pulse_.stage = stage;
  torch::GradMode::set_enabled(false);
  evaluation_stage_ = stage;
  sanity_checking_ = is_sanity_check;
  saw_training_batches_ = std::exchange(saw_batches_, false);
  current_batch_ = -1;
  eval_batches_before_ = curves_.batches(stage);
  evaluation_had_batches_ = false;
  eval_loader_ = 0;
  count_updates();
  eval_outputs_.clear();
  eval_program_ = compile(stage == Stage::test      ? std::span<const Hook>(hook_order::test_batch)
                          : stage == Stage::predict ? std::span<const Hook>(hook_order::predict_batch)
                                                    : std::span<const Hook>(hook_order::validation_batch));
  eval_results_.assign(setup_.eval_loaders.size(), {});
}

std::vector<MetricMap> Replica::end_evaluation() {
  write_epoch_record();
  if (!sanity_checking_ && !evaluation_is_cut_) {
    was_validated_ |= evaluation_had_batches_;
    validation_was_empty_ |= !evaluation_had_batches_;
  }
  eval_log_.reset_metrics();
  if (sanity_checking_) reset_metrics();  // those that user code computes itself too
  eval_outputs_.clear();
  current_name_ = "write_prediction";
  prediction_files_.write();
  current_name_ = "";
  module_->put_back_modes();  // after a prediction, which has no hook for it
  evaluating_ = evaluation_is_cut_ = false;
  rows_per_sample_ = -1;
  pulse_.stage = setup_.stage;
  torch::GradMode::set_enabled(true);
  saw_batches_ = saw_training_batches_;
  sanity_checking_ = false;
  current_batch_ = -1;
  return std::move(eval_results_);
}

}  // namespace troupe
