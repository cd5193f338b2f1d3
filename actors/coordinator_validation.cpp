// Validation beside the training: a worker of its own, which gets the module as it is at a step, and whose results the
// script takes between two batches.
#include "troupe/actors/coordinator_state.hpp"
#include "troupe/base/text.hpp"
#include "troupe/base/type_name.hpp"
#include "troupe/modules/callbacks/lambda_callback.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"

#include <memory>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

namespace troupe::cast {

// What the copy is made of, before the workers have the rest. Callbacks are replicated as for a further device.
void CoordinatorState::keep_validator(const ReplicaSetup& replica) {
  if (state().stage != Stage::fit || !state().options->async_validation) return;
  validator_setup_ = replica;
  validator_setup_->validates_beside = true;
  validator_setup_->make_module = setup_->make_more;
  validator_setup_->callbacks = replicated(replica.callbacks);
  validator_setup_->train_loaders = {};
  note_unheard_callbacks(replica.callbacks);
}

// The library's own that have no replicate() have nothing to do in a validation.
void CoordinatorState::note_unheard_callbacks(const std::vector<std::shared_ptr<Callback>>& callbacks) {
  std::vector<std::string> names;
  for (const auto& callback : callbacks) {
    const auto& type = typeid(*callback);
    const bool is_own = full_type_name(type).starts_with("troupe::") && !dynamic_cast<LambdaCallback*>(callback.get());
    if (is_own || dynamic_cast<Monitor*>(callback.get())) continue;
    if (!state().ask(*callback, "replicate", [&] { return callback->replicate(); })) names.push_back(type_name(type));
  }
  if (names.empty()) return;
  note("with trainer.async_validation these callbacks are not called in validations, since they have no replicate(): " +
       joined(names));
}

// When the data is there, whose length it is told.
void CoordinatorState::spawn_validator(DataLoaders loaders) {
  if (!validator_setup_ || !state().facts.has_evaluation) return;
  WorkerSetup worker;
  worker.index = -1;
  worker.facts = state().facts;
  worker.replica = std::move(*validator_setup_);
  validator_setup_.reset();
  worker.replica.eval_loaders = std::move(loaders);
  worker.replica.pulse = setup_->pulses.back();
  worker.coordinator = ref_to(self_);
  worker.logger = logger_;
  worker.progress = progress_;
  worker.watchdog = watchdog_;
  if (watchdog_) tell(self_, watchdog_, WatchPulse{worker.replica.pulse, rank()});
  const std::string name = worker.replica.pulse->who;
  validator_ = join(Role::validator, spawn_worker(self_->system(), std::move(worker)), name);
  tell(self_, validator_, Perform{PrepareCommand{}, nullptr, nullptr, false});
}

void CoordinatorState::hand_over(const Answer& answer) {
  tell(self_, validator_, Validate{answer.model, std::get<HandOverCommand>(*current_).evaluation});
}

void CoordinatorState::take_validation(Done& done) {
  if (ending_) return;
  const auto& result = done.answer.validation;
  add_meanwhile({"validating beside the training", result->seconds, 1, result->seconds});
  state().validation_results.push_back(result);
  if (awaits_validation()) return go_on_waiting();
  // The script takes it at the next boundary.
  if (current_ && std::holds_alternative<TrainCommand>(*current_)) tell_workers_urgently(StopSegment{false, true});
}

// The script waits for a result, unless there is one or the run is interrupted.
void CoordinatorState::go_on_waiting() {
  const bool is_interrupted = state().stop && state().stop->interrupt;
  if (ending_ || (state().validation_results.empty() && !is_interrupted)) return;
  current_.reset();
  advance(script_.resume({}));
}

// Those of an interrupted run.
void CoordinatorState::note_lost_validations() {
  if (result_.failure) return;
  const bool are_kept = state().options->enable_checkpointing && !setup_->weights_only_checkpoints;
  for (const auto& lost : state().validations) {
    if (lost.is_sanity_check) continue;
    note("warning: the validation of step " + std::to_string(lost.progress.global_step) +
         " had not come to its end when the run did: " +
         (are_kept ? "a run that goes on from the last checkpoint makes it up" : "its values are missing"));
  }
}

// Of a checkpoint that a run with trainer.async_validation has written.
void CoordinatorState::note_dropped_validations() {
  if (state().options->async_validation || !state().checkpoint) return;
  const auto& metadata = state().checkpoint->metadata;
  if (!metadata.contains(metadata_key::validations)) return;
  note("warning: the checkpoint has " + std::to_string(metadata.at(metadata_key::validations).size()) +
       " validation(s) that had not come to their end, and the run goes on without their values"
       " (trainer.async_validation = true makes them up)");
}

}  // namespace troupe::cast
