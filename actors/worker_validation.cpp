// Validation beside the training: what the worker that trains hands over and takes, and the worker that validates.
#include "troupe/actors/worker_state.hpp"
#include "troupe/modules/callbacks/early_stopping.hpp"
#include "troupe/modules/monitor.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"

#include <algorithm>
#include <utility>

namespace troupe::cast {

namespace {

bool may_save(const std::shared_ptr<Callback>& callback) {
  return dynamic_cast<const Monitor*>(callback.get()) && !dynamic_cast<const EarlyStopping*>(callback.get());
}

}  // namespace

// --- The worker that trains ------------------------------------------------------------------------------------------

// Whether there may be a checkpoint for what a validation finds.
bool WorkerState::may_be_saved() const {
  return replica_->options().enable_checkpointing || std::ranges::any_of(replica_->callbacks(), may_save);
}

// The state is kept until the result is there: it is what a checkpoint for that result holds.
void WorkerState::carry_out(HandOverCommand& command, Perform& message) {
  const PhaseScope phase(Phase::checkpoint);
  const bool is_sanity_check = command.evaluation.is_sanity_check;
  const bool is_saved = !is_sanity_check && !command.ends_epoch && may_be_saved();
  Done done = answer();
  done.answer.model = std::make_shared<const ModelAtStep>(
      command.of_checkpoint ? replica_->model_of_checkpoint(*command.of_checkpoint)
                            : replica_->model_at_step({.weights_only = message.weights_only || !is_saved,
                                                       .loop = std::move(message.loop)}));
  if (!is_sanity_check) handed_over_.push_back(done.answer.model);
  tell(self_, setup_.coordinator, std::move(done));
}

// As in turn, what is saved at an epoch's end is the state behind it, which the validation comes before.
void WorkerState::keep_state(Perform& message) {
  const PhaseScope phase(Phase::checkpoint);
  ModelAtStep model = *handed_over_.back();
  model.saved = std::make_shared<const Checkpoint>(
      replica_->snapshot({.weights_only = message.weights_only, .loop = std::move(message.loop)}));
  handed_over_.back() = std::make_shared<const ModelAtStep>(std::move(model));
}

void WorkerState::carry_out(TakeValidationCommand& command, Perform&) {
  if (command.was_awaited) clock_.give_to(Phase::validation);
  const ValidationResult& result = *command.result;
  replica_->take_validation(result, command.is_sanity_check);
  if (!command.is_sanity_check) {
    const ModelAtStep& model = *handed_over_.front();
    validated_ = std::make_shared<Checkpoint>(model.saved ? *model.saved : *model.state);
    handed_over_.pop_front();
    // A run that goes on from that state has had the validation, and those before it.
    auto& metadata = validated_->metadata;
    if (metadata.contains(metadata_key::loop)) {
      metadata[metadata_key::loop][metadata_key::validated_batches] = result.progress.total_batches;
      metadata[metadata_key::loop].erase(metadata_key::validations);
      metadata[metadata_key::validation_batches] = result.batches;
      auto& latest = metadata[metadata_key::latest_metrics];
      if (latest_result_) MetricBoard::add_to_latest(latest, *latest_result_);
      MetricBoard::add_to_latest(latest, result);
    }
    latest_result_ = command.result;
  }
  tell(self_, setup_.coordinator, answer());
}

// The coordinator's own.
void WorkerState::carry_out(AwaitValidationCommand&, Perform&) {
  tell(self_, setup_.coordinator, answer());
}

// --- The worker that validates ---------------------------------------------------------------------------------------

void WorkerState::prepare_to_validate() {
  facts_ = *setup_.facts;
  copy_ahead_.emplace(setup_.replica.device);
  replica_ = std::make_unique<Replica>(std::move(setup_.replica), *this);
  replica_->prepare_to_validate();
  open_evaluation_feed();
}

// One after the other: between two batches of one the next one comes in.
void WorkerState::validate(const Validate& message) {
  if (doing_ == Doing::evaluating) {
    waiting_validations_.push_back(message);
    return;
  }
  validation_began_ = std::chrono::steady_clock::now();
  ModelAtStep model = *message.model;
  if (latest_result_) MetricBoard::add_to_latest(model.latest, *latest_result_);
  replica_->adopt(model);
  Perform perform;
  EvaluateCommand command = message.evaluation;
  carry_out(command, perform);
}

std::shared_ptr<const ValidationResult> WorkerState::validation_result() {
  ValidationResult result = replica_->take_validation_result();
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - validation_began_).count();
  auto shared = std::make_shared<const ValidationResult>(std::move(result));
  if (!evaluation_.is_sanity_check) latest_result_ = shared;
  if (!waiting_validations_.empty()) {
    tell(self_, ref_to(self_), std::move(waiting_validations_.front()));
    waiting_validations_.pop_front();
  }
  return shared;
}

}  // namespace troupe::cast
