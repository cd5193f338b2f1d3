#include "troupe/runtime/loops/fit_script.hpp"

#include "troupe/modules/hook_order.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"
#include "troupe/runtime/loops/validation_plan.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace troupe {

// What the parts of a training know beside the state. Not in the unnamed namespace: the frame of a coroutine has one.
struct Training {
  RunState& state;
  const ValidationPlan plan;
  bool validates_first = false;  // the run goes on where a validation is owed
  int64_t epoch = 0;
  bool epoch_over = false;
  bool validation_was_cut = false;  // the latest one
  bool has_waited = false;          // for a validation beside the training
};

namespace {

void take(RunState& state, Answer& answer) {
  state.progress = answer.progress;
  state.metrics = std::move(answer.metrics);
}

// A checkpoint that was planned for this step is left out where the one before is still being written.
bool skips_save(RunState& state, Monitor& monitor, const Progress& before, const Progress& now) {
  if (!state.is_writing || state.options->checkpoint_backpressure != CheckpointBackpressure::skip) return false;
  const auto planned = state.ask(monitor, "next_step", [&] { return monitor.next_step(before); });
  const auto time = state.ask(monitor, "next_time", [&] { return monitor.next_time(); });
  const bool is_due = (planned && *planned <= now.global_step) || (time && *time <= state.info.seconds());
  if (!is_due) return false;
  if (!state.ask(monitor, "skip_save", [&] { return monitor.skip_save(now); })) return false;
  ++state.skipped_saves;
  return true;
}

// Asks all monitors; what they want saved comes back, what they want stopped is in the state. `before`: of a segment
// that has ended, where it began.
std::vector<SaveRequest> ask_monitors(RunState& state, Moment moment, const Progress& progress,
                                      const MetricMap& metrics, const Progress* before = nullptr) {
  std::vector<SaveRequest> requests;
  for (const auto& monitor : state.monitors) {
    if (before && skips_save(state, *monitor, *before, progress)) continue;
    const auto decide = [&] { return monitor->decide(moment, progress, metrics); };
    Decision decision = state.ask(*monitor, "decide", decide, progress.epoch);
    if (decision.go_on) state.take_back_stop(*monitor);
    if (decision.stop) state.ask_to_stop({decision.reason}, monitor.get());
    if (!decision.save.empty() && state.held_monitors) state.held_monitors->erase(monitor->state_key());
    std::move(decision.save.begin(), decision.save.end(), std::back_inserter(requests));
  }
  return requests;
}

// Of two rates the later one counts.
void add_to(BoundaryRequests& wanted, const BoundaryRequests& more) {
  wanted.checkpoint |= more.checkpoint;
  wanted.validation |= more.validation;
  if (more.lr) wanted.lr = more.lr;
}

// What this process says to the others: what it was asked, and what its monitors want.
AgreeCommand agree(RunState& state, const std::vector<SaveRequest>& requests) {
  const BoundaryRequests asked = std::exchange(state.asked, {});  // what comes from here on is said the next time
  nlohmann::json mine = {{"checkpoint", asked.checkpoint},
                         {"validation", asked.validation},
                         {"saves", !requests.empty()},
                         {"validate", state.time_to_validate},
                         {"log", state.time_to_log}};
  if (asked.lr) mine["lr"] = *asked.lr;
  if (state.asked_stop)
    mine["stop"] = {{"reason", state.asked_stop->reason},
                    {"now", state.asked_stop->interrupt},
                    {"signal", state.asked_stop->signal},
                    {"revocable", state.asked_stop->is_revocable}};
  return {mine.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)};
}

// One request to stop is enough for all. What is saved is rank zero's to decide: its monitors know the files.
void adopt(RunState& state, const Answer& answer, std::vector<SaveRequest>& requests) {
  // It stands for as long as one of them says so.
  if (state.stop && state.stop->is_revocable) state.stop.reset();
  for (std::size_t rank = 0; rank < answer.said.size(); ++rank) {
    const auto said = nlohmann::json::parse(answer.said[rank]);
    add_to(state.wanted, {said.at("checkpoint").get<bool>(), said.at("validation").get<bool>(),
                          said.contains("lr") ? std::optional(said.at("lr").get<double>()) : std::nullopt});
    if (rank == 0) {
      if (said.at("saves").get<bool>() != !requests.empty()) requests.assign(requests.empty() ? 1 : 0, {});
      state.time_to_validate = said.at("validate").get<bool>();
      state.time_to_log = said.at("log").get<bool>();
    }
    const auto stop = said.find("stop");
    if (stop == said.end()) continue;
    const StopRequest request{stop->at("reason").get<std::string>(), stop->at("now").get<bool>(),
                              stop->at("signal").get<int>(), stop->at("revocable").get<bool>()};
    if (!state.stop || (request.interrupt && !state.stop->interrupt)) state.stop = request;
  }
}

// A checkpoint that no monitor asked for.
void add_request(const RunState& state, std::vector<SaveRequest>& requests, const std::string& name) {
  if (!state.options->enable_checkpointing || state.info.run_dir.empty()) return;
  requests.push_back({state.info.run_dir / "checkpoints" / name, {}});
}

// Where the next decision is due, whatever comes first.
TrainCommand next_segment(RunState& state, const ValidationPlan& plan) {
  const Progress& at = state.progress;
  TrainCommand segment;
  if (const auto due = plan.next(at.epoch, at.batch_idx, at.total_batches)) segment.until_batch = *due;
  if (state.facts.train_batches && (segment.until_batch < 0 || *state.facts.train_batches < segment.until_batch)) {
    segment.until_batch = *state.facts.train_batches;
  }
  if (state.options->max_steps >= 0) segment.until_step = state.options->max_steps;
  segment.logs_first = std::exchange(state.time_to_log, false);
  if (!state.options->elastic.empty()) {
    const int64_t due = state.kept_step + state.options->elastic_every_n_steps;
    if (segment.until_step < 0 || due < segment.until_step) segment.until_step = due;
  }
  for (const auto& monitor : state.monitors) {
    const auto step = state.ask(*monitor, "next_step", [&] { return monitor->next_step(at); });
    if (step && *step > at.global_step && (segment.until_step < 0 || *step < segment.until_step)) {
      segment.until_step = *step;
    }
  }
  return segment;
}

void start_monitors(RunState& state) {
  for (const auto& monitor : state.monitors) state.ask(*monitor, "start", [&] { monitor->start(state.info); });
  if (!state.checkpoint) return;
  state.load_monitor_states(state.checkpoint->metadata.value(metadata_key::callbacks, nlohmann::json::object()));
  state.load_stops(state.checkpoint->metadata);
}

EvaluateCommand evaluate(Stage stage, bool is_sanity_check, int64_t limit) {
  using namespace hook_order;
  switch (stage) {
    case Stage::test: return {stage, false, limit, test_start, test_end};
    case Stage::predict: return {stage, false, limit, predict_start, predict_end};
    default: return {Stage::validate, is_sanity_check, limit, validation_start, validation_end};
  }
}

// Whether the checkpoint was written where a validation was due, or had begun, that never came to its end.
bool owes_validation(RunState& state, const ValidationPlan& plan) {
  const Progress& at = state.progress;
  if (!state.checkpoint || at.batch_idx == 0) return false;
  state.load_loop(state.checkpoint->metadata);
  return state.last_validation() != at.total_batches && plan.is_due(at.epoch, at.batch_idx, at.total_batches, false);
}

// Whether the run ends here although the epoch goes on.
bool ends_within_epoch(const RunState& state, bool epoch_over) {
  return !epoch_over && (state.stops_now() || state.has_reached_limit());
}

bool is_interrupted(const RunState& state) {
  return state.stop && state.stop->interrupt;
}

// A run that was killed when all its steps were made and nothing else still has its end before it: no epoch, but the
// hooks and what the monitors want.
bool trains(const RunState& state) {
  return state.facts.has_optimizer && state.facts.has_training && (!state.has_reached_limit() || state.checkpoint);
}

bool wants_sanity_check(const RunState& state) {
  return state.facts.has_evaluation && state.options->num_sanity_val_steps != 0 && !state.checkpoint;
}

using Requests = std::vector<SaveRequest>;

// Parts of the scripts. Two rules keep GCC 12 from destroying temporaries twice: a command is a named variable before
// it is yielded, and a part takes references, to what lives until it has ended.

Script::Part hooks_run(RunState& state, std::span<const Hook> hooks) {
  Command command = HooksCommand{hooks};
  Answer answer = co_yield command;
  take(state, answer);
}

// All processes know what each of them was asked, and all save or none.
Script::Part agreed(RunState& state, Requests& requests) {
  if (!state.has_other_processes) {
    const BoundaryRequests asked = std::exchange(state.asked, {});
    add_to(state.wanted, asked);
    co_return;
  }
  Command command = agree(state, requests);
  const Answer answer = co_yield command;
  adopt(state, answer, requests);
}

// With a snapshot that is held, that one.
Script::Part saved(const RunState& state, Requests& requests, bool validation_was_cut = false) {
  if (requests.empty()) co_return;
  Command command = SaveCommand{std::move(requests), validation_was_cut, state.held_monitors.has_value()};
  const Answer answer = co_yield command;
}

// A run that ends within an epoch (a limit, a request, a monitor) has that epoch's end nevertheless, for those who
// never go on: a last validation, hooks, monitors, files. Who goes on has not had it: what is written from then on is
// the state before, in the middle of the epoch. It is taken (HoldCommand) before the first thing that a run which does
// not end there would not do, and has of the monitors what they were then, but for those that ask for a file and must
// know it.
Script::Part held(RunState& state) {
  state.held_monitors = state.monitor_states();
  Command command = HoldCommand{};
  const Answer answer = co_yield command;
}

// What somebody wants the learning rate to be.
Script::Part rate_set(RunState& state) {
  if (!state.wanted.lr) co_return;
  Command command = SetRateCommand{*state.wanted.lr};
  state.wanted.lr.reset();
  const Answer answer = co_yield command;
}

// What a run goes back to if a process is lost.
Script::Part kept(RunState& state) {
  const bool is_due = state.progress.global_step >= state.kept_step + state.options->elastic_every_n_steps;
  if (state.options->elastic.empty() || !is_due) co_return;
  state.kept_step = state.progress.global_step;
  Command command = KeepCommand{};
  const Answer answer = co_yield command;
}

// Up to where the next decision is due.
Script::Part trained(Training& training, Requests& requests) {
  RunState& state = training.state;
  const Progress before = state.progress;
  Command command = next_segment(state, training.plan);
  Answer answer = co_yield command;
  take(state, answer);
  const auto& batches = state.facts.train_batches;
  training.epoch_over = answer.epoch_over || (batches && state.progress.batch_idx >= *batches);
  requests = ask_monitors(state, Moment::train_batch_end, state.progress, state.metrics, &before);
  state.look_at_times();
}

Script::Part validated(Training& training) {
  RunState& state = training.state;
  const int64_t total_batches = state.progress.total_batches;
  Command command = evaluate(Stage::validate, false, -1);
  Answer answer = co_yield command;
  take(state, answer);
  const Moment ended = answer.saw_batches ? Moment::validation_end : Moment::empty_validation_end;
  Requests requests;
  co_await agreed(state, requests);
  // An interrupted validation has seen a part of its data: nothing is decided on that.
  training.validation_was_cut = is_interrupted(state);
  if (!training.validation_was_cut) {
    state.validated_batches = total_batches;
    state.validated_at = state.info.seconds();
    requests = ask_monitors(state, ended, state.progress, state.metrics);
  }
  co_await agreed(state, requests);
  if (!is_interrupted(state)) co_await saved(state, requests);
}

// --- Validation beside the training (trainer.async_validation) ---
//
// A validation is begun where it is due, and its result is taken between two batches when it has come, in order. The
// monitors are asked as after a validation in turn: with the progress and the metrics of the step at which it was
// begun, and of an epoch's end behind the validation that was begun there. What they want saved is the state of that
// step.

// One is under way, and one waits for it.
constexpr std::size_t most_validations = 2;

MetricMap with_values(MetricMap metrics, const ValidationResult& result) {
  for (const auto* values : {&result.steps, &result.epoch}) {
    for (const auto& value : *values) metrics[value.name] = metrics[value.base] = value.value;
  }
  return metrics;
}

Script::Part validated_state_saved(Requests& requests, bool is_held) {
  if (requests.empty()) co_return;
  SaveCommand save{std::move(requests)};
  save.is_held = is_held;
  save.is_validated = !is_held;
  Command command = std::move(save);
  const Answer answer = co_yield command;
}

Script::Part validation_taken(Training& training) {
  RunState& state = training.state;
  const PendingValidation of = std::move(state.validations.front());
  const auto result = std::move(state.validation_results.front());
  state.validations.pop_front();
  state.validation_results.pop_front();
  Command command = TakeValidationCommand{result, of.is_sanity_check, std::exchange(training.has_waited, false)};
  Answer answer = co_yield command;
  take(state, answer);
  if (of.is_sanity_check) {
    ask_monitors(state, Moment::sanity_check_end, of.progress, state.metrics);
    co_return;
  }
  state.validated_batches = of.progress.total_batches;
  for (auto& later : state.validations) {
    later.metrics = with_values(std::move(later.metrics), *result);
    if (later.epoch_end) later.epoch_end->metrics = with_values(std::move(later.epoch_end->metrics), *result);
  }
  const Moment ended = result->had_batches ? Moment::validation_end : Moment::empty_validation_end;
  Requests requests = ask_monitors(state, ended, of.progress, with_values(of.metrics, *result));
  co_await validated_state_saved(requests, of.is_held);
  if (!of.epoch_end) co_return;
  const auto& [finished, metrics] = *of.epoch_end;
  requests = ask_monitors(state, Moment::train_epoch_end, finished, with_values(metrics, *result));
  co_await validated_state_saved(requests, of.is_held);
}

Script::Part validations_taken(Training& training) {
  while (!training.state.validation_results.empty()) co_await validation_taken(training);
}

Script::Part validation_awaited(Training& training) {
  if (training.state.validation_results.empty()) {
    Command command = AwaitValidationCommand{};
    const Answer answer = co_yield command;
    training.has_waited = true;
  }
  co_await validations_taken(training);
}

// All results are there, and what they decide; or the run is interrupted.
Script::Part validations_over(Training& training) {
  RunState& state = training.state;
  while (!state.validations.empty() && !is_interrupted(state)) co_await validation_awaited(training);
}

Script::Part validation_begun(Training& training, bool is_sanity_check, bool ends_epoch = false) {
  RunState& state = training.state;
  while (state.validations.size() >= most_validations && !is_interrupted(state)) co_await validation_awaited(training);
  if (is_interrupted(state)) co_return;
  const int64_t limit = is_sanity_check ? state.options->num_sanity_val_steps : -1;
  Command command = HandOverCommand{evaluate(Stage::validate, is_sanity_check, limit), ends_epoch};
  Answer answer = co_yield command;
  take(state, answer);
  state.validations.push_back({state.progress, state.metrics, is_sanity_check, state.held_monitors.has_value()});
  state.validated_at = state.info.seconds();
}

Script::Part sanity_checked(Training& training) {
  RunState& state = training.state;
  if (state.options->async_validation) {
    co_await validation_begun(training, /*is_sanity_check=*/true);
    co_await validations_over(training);
    co_return;
  }
  Command command = evaluate(Stage::validate, true, state.options->num_sanity_val_steps);
  const Answer answer = co_yield command;
  ask_monitors(state, Moment::sanity_check_end, state.progress, state.metrics);
}

// Those that the checkpoint has: begun, and without a result.
Script::Part validations_begun_again(Training& training) {
  RunState& state = training.state;
  if (!state.checkpoint || !state.options->async_validation || !state.facts.has_evaluation) co_return;
  state.load_validations(state.checkpoint->metadata);
  for (std::size_t i = 0; i < state.validations.size(); ++i) {
    HandOverCommand again{evaluate(Stage::validate, /*is_sanity_check=*/false, -1)};
    again.of_checkpoint = static_cast<int64_t>(i);
    Command command = std::move(again);
    const Answer answer = co_yield command;
  }
}

bool is_at_end(const RunState& state) {
  return (state.stops_now() || state.has_reached_limit()) && !is_interrupted(state);
}

struct WantedValidation {
  bool is_planned;  ///< by the plan, a time, or somebody who asks
  bool is_due;
};

// After the batches from `begin` to `at`. As in Lightning a run that is about to stop validates first, so that what it
// stops with is known. What was asked for is so no longer.
WantedValidation wanted_validation(Training& training, const Progress& at, int64_t begin) {
  RunState& state = training.state;
  const bool is_asked = std::exchange(state.wanted.validation, false) && state.facts.has_evaluation;
  const bool is_by_time = std::exchange(state.time_to_validate, false) || is_asked;
  const bool is_planned =
      is_by_time || training.plan.is_due(training.epoch, at.batch_idx, at.total_batches, training.epoch_over);
  const bool is_new =
      at.batch_idx > begin || training.epoch_over || is_by_time || std::exchange(training.validates_first, false);
  return {is_planned, is_new && (is_planned || (state.stops_now() && state.facts.has_evaluation))};
}

// Batches up to a decision, what the monitors want then, and the validation where one is due.
Script::Part segment_run(Training& training) {
  RunState& state = training.state;
  const int64_t begin = state.progress.batch_idx;
  Requests requests;
  if (!training.validates_first) co_await trained(training, requests);
  const Progress at = state.progress;
  co_await agreed(state, requests);
  co_await rate_set(state);
  if (std::exchange(state.wanted.checkpoint, false)) {
    add_request(state, requests, "requested-step=" + std::to_string(at.global_step) + ".safetensors");
  }
  co_await saved(state, requests);
  co_await kept(state);
  co_await validations_taken(training);
  if (is_at_end(state)) co_await validations_over(training);  // which may want to go on
  if (state.time_to_log) state.logged_at = state.info.seconds();
  const auto validation = wanted_validation(training, at, begin);
  if (ends_within_epoch(state, training.epoch_over) && !is_interrupted(state) && !validation.is_planned) {
    co_await held(state);
  }
  if (!validation.is_due || is_interrupted(state) || state.last_validation() == at.total_batches) co_return;
  if (!state.options->async_validation) {
    co_await validated(training);
    co_return;
  }
  const bool ends_epoch = training.epoch_over && !is_at_end(state);
  co_await validation_begun(training, /*is_sanity_check=*/false, ends_epoch);
  if (!ends_epoch && is_at_end(state)) co_await validations_over(training);
}

// The end of the epoch, or of the run within it.
Script::Part epoch_closed(Training& training) {
  RunState& state = training.state;
  const bool is_cut = !training.epoch_over;
  if (is_cut && !state.held_monitors) co_await held(state);
  const Progress finished = state.progress;  // before the count goes on to the next epoch
  auto& pending = state.validations;
  const bool waits = !is_cut && !pending.empty() && pending.back().progress.total_batches == finished.total_batches;
  Command command = CloseEpochCommand{hook_order::train_epoch_end, is_cut, waits};
  Answer answer = co_yield command;
  take(state, answer);
  if (waits) {
    pending.back().epoch_end = {finished, state.metrics};
    co_return;
  }
  Requests requests = ask_monitors(state, Moment::train_epoch_end, finished, state.metrics);
  co_await agreed(state, requests);
  co_await saved(state, requests);
}

// An interrupted epoch whose last validation is owed stays open: who goes on finds its end again, and validates.
bool stays_open(const Training& training) {
  const RunState& state = training.state;
  const Progress& at = state.progress;
  const bool owes = training.plan.is_due(training.epoch, at.batch_idx, at.total_batches, training.epoch_over) &&
                    state.last_validation() != at.total_batches;
  return is_interrupted(state) && (!training.epoch_over || owes);
}

Script::Part epochs_run(Training& training) {
  RunState& state = training.state;
  while (!state.has_reached_limit() && !state.stops_now()) {
    training.epoch = state.progress.epoch;
    training.epoch_over = false;
    Command command = OpenEpochCommand{training.epoch, state.progress.batch_idx, hook_order::train_epoch_start};
    Answer answer = co_yield command;
    take(state, answer);
    while (!training.epoch_over) {
      co_await segment_run(training);
      if (state.stops_now() || state.has_reached_limit()) break;
      state.held_monitors.reset();  // what asked for the end has thought better of it
    }
    if (stays_open(training)) break;
    co_await epoch_closed(training);
    if (!training.epoch_over) break;
    co_await validations_taken(training);
  }
}

Script::Part training_ended(Training& training) {
  RunState& state = training.state;
  if (!is_interrupted(state)) co_await validations_over(training);
  const Moment ended = is_interrupted(state) ? Moment::exception : Moment::train_end;
  Requests requests = ask_monitors(state, ended, state.progress, state.metrics);
  if (is_interrupted(state) && requests.empty()) add_request(state, requests, "last.safetensors");
  co_await agreed(state, requests);
  co_await saved(state, requests, training.validation_was_cut);
  co_await hooks_run(state, hook_order::train_end);
}

}  // namespace

Script fit_script(RunState& state) {
  Command command = PrepareCommand{};
  Answer answer = co_yield command;
  take(state, answer);
  start_monitors(state);

  Training training{state, ValidationPlan(*state.options, state.facts.train_batches, state.facts.has_evaluation)};
  if (trains(state)) {
    state.kept_step = state.progress.global_step;
    state.start_times();
    co_await validations_begun_again(training);
    training.validates_first = owes_validation(state, training.plan);
    if (wants_sanity_check(state)) co_await sanity_checked(training);
    co_await hooks_run(state, hook_order::train_start);
    Requests none;
    co_await agreed(state, none);  // an end that is asked for by now comes before the first batch
    co_await epochs_run(training);
    co_await training_ended(training);
  }
  co_await hooks_run(state, hook_order::fit_end);
  command = HooksCommand{hook_order::teardown};
  answer = co_yield command;
}

Script evaluation_script(RunState& state) {
  Command command = PrepareCommand{};
  Answer answer = co_yield command;
  take(state, answer);
  if (state.facts.has_evaluation) {
    command = evaluate(state.stage, false, -1);
    answer = co_yield command;
    take(state, answer);
    state.evaluation = std::move(answer.evaluation);
  }
  command = HooksCommand{hook_order::teardown};
  answer = co_yield command;
}

}  // namespace troupe
