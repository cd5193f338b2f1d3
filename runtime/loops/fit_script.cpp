#include "troupe/runtime/loops/fit_script.hpp"

#include "troupe/base/state_reader.hpp"
#include "troupe/base/type_name.hpp"
#include "troupe/modules/hook_order.hpp"
#include "troupe/runtime/checkpoint/callback_states.hpp"
#include "troupe/runtime/loops/validation_plan.hpp"

#include <algorithm>
#include <typeinfo>
#include <utility>

namespace troupe {

namespace {

void take(RunState& state, Answer& answer) {
  state.progress = answer.progress;
  state.metrics = std::move(answer.metrics);
}

// A checkpoint that was planned for this step is left out where the one before is still being written.
bool skips_save(RunState& state, Monitor& monitor, const Progress& before, const Progress& now) {
  if (!state.is_writing || state.options.checkpoint_backpressure != CheckpointBackpressure::skip) return false;
  const auto planned = state.ask(monitor, "next_step", [&] { return monitor.next_step(before); });
  if (!planned || *planned > now.global_step) return false;
  if (!state.ask(monitor, "skip_save", [&] { return monitor.skip_save(now); })) return false;
  ++state.skipped_saves;
  return true;
}

// Asks all monitors; what they want saved comes back, what they want stopped is in the state. `before`: of a segment
// that has ended, where it began.
std::vector<SaveRequest> ask_monitors(RunState& state, Moment moment, const Progress& progress,
                                      const Progress* before = nullptr) {
  std::vector<SaveRequest> requests;
  for (const auto& monitor : state.monitors) {
    if (before && skips_save(state, *monitor, *before, progress)) continue;
    const auto decide = [&] { return monitor->decide(moment, progress, state.metrics); };
    Decision decision = state.ask(*monitor, "decide", decide, progress.epoch);
    if (decision.go_on) state.take_back_stop(*monitor);
    if (decision.stop) state.ask_to_stop({decision.reason}, monitor.get());
    if (!decision.save.empty() && state.held_monitors) state.held_monitors->erase(monitor->state_key());
    std::move(decision.save.begin(), decision.save.end(), std::back_inserter(requests));
  }
  return requests;
}

// What this process says to the others: what it was asked, and what its monitors want.
AgreeCommand agree(const RunState& state, const std::vector<SaveRequest>& requests) {
  nlohmann::json mine = {{"checkpoint", state.checkpoint_asked}, {"saves", !requests.empty()}};
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
    state.checkpoint_asked |= said.at("checkpoint").get<bool>();
    if (rank == 0 && said.at("saves").get<bool>() != !requests.empty()) requests.assign(requests.empty() ? 1 : 0, {});
    const auto stop = said.find("stop");
    if (stop == said.end()) continue;
    const StopRequest request{stop->at("reason").get<std::string>(), stop->at("now").get<bool>(),
                              stop->at("signal").get<int>(), stop->at("revocable").get<bool>()};
    if (!state.stop || (request.interrupt && !state.stop->interrupt)) state.stop = request;
  }
}

// A checkpoint that no monitor asked for.
void add_request(const RunState& state, std::vector<SaveRequest>& requests, const std::string& name) {
  if (!state.options.enable_checkpointing || state.info.run_dir.empty()) return;
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
  if (state.options.max_steps >= 0) segment.until_step = state.options.max_steps;
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
  const auto states = state.checkpoint->metadata.value("callbacks", nlohmann::json::object());
  const auto running = state_keys({state.monitors.begin(), state.monitors.end()});
  for (const auto& monitor : state.monitors) {
    state.ask(*monitor, "load_state_dict", [&] {
      const auto saved = saved_key(states, monitor->state_key(), running);
      if (!saved.empty()) monitor->load_state_dict(states[saved]);
    });
  }
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
  const StateReader checkpoint(state.checkpoint->metadata, "the checkpoint");
  state.validated_batches = checkpoint.object("loop").count("validated_batches", -1);
  return state.validated_batches != at.total_batches && plan.is_due(at.epoch, at.batch_idx, at.total_batches, false);
}

// Whether the run ends here although the epoch goes on.
bool ends_within_epoch(const RunState& state, bool epoch_over) {
  return !epoch_over && (state.stops_now() || state.has_reached_limit());
}

bool is_interrupted(const RunState& state) {
  return state.stop && state.stop->interrupt;
}

bool wants_sanity_check(const RunState& state) {
  return state.facts.has_evaluation && state.options.num_sanity_val_steps != 0 && !state.checkpoint;
}

}  // namespace

bool may_stop(const TrainerOptions& options, const Progress& progress) {
  return progress.epoch >= options.min_epochs.value_or(0) && progress.global_step >= options.min_steps.value_or(0);
}

void RunState::ask_to_stop(const StopRequest& request, const Monitor* monitor) {
  auto& asked = has_other_processes ? asked_stop : stop;
  StopRequest taken = request;
  taken.is_revocable = monitor != nullptr;
  const auto is_same = [&](const auto& standing) { return standing.first == monitor; };
  if (!taken.interrupt && std::ranges::none_of(standing_requests, is_same)) {
    standing_requests.emplace_back(monitor, taken);
  }
  if (!asked || (taken.interrupt && !asked->interrupt)) asked = std::move(taken);
}

void RunState::take_back_stop(const Monitor& monitor) {
  const bool is_taken_back =
      std::erase_if(standing_requests, [&](const auto& each) { return each.first == &monitor; }) > 0;
  auto& asked = has_other_processes ? asked_stop : stop;
  if (!is_taken_back || !asked || !asked->is_revocable) return;
  asked.reset();
  if (!standing_requests.empty()) asked = standing_requests.front().second;
}

std::string RunState::place() const {
  return asked_callback ? type_name(typeid(*asked_callback)) + "::" + asked_call : "coordinator";
}

bool RunState::stops_now() const {
  return stop && (stop->interrupt || may_stop(options, progress));
}

bool RunState::has_reached_limit() const {
  const int64_t max_epochs = options.max_epochs.value_or(1000);
  return (max_epochs >= 0 && progress.epoch >= max_epochs) ||
         (options.max_steps >= 0 && progress.global_step >= options.max_steps);
}

nlohmann::json RunState::monitor_states() {
  auto states = nlohmann::json::object();
  for (const auto& monitor : monitors) {
    ask(*monitor, "state_dict", [&] {
      const auto key = monitor->state_key();
      if (key.empty()) return;
      const bool is_held = held_monitors && held_monitors->contains(key);
      states[key] = is_held ? held_monitors->at(key) : monitor->state_dict();
    });
  }
  return states;
}

// A run that ends within an epoch (a limit, a request, a monitor) has that epoch's end nevertheless, for those who
// never go on: a last validation, hooks, monitors, files. Who goes on has not had it: what is written from then on is
// the state before, in the middle of the epoch. It is taken (HoldCommand) before the first thing that a run which does
// not end there would not do, and has of the monitors what they were then, but for those that ask for a file and must
// know it.
//
// A command is a named variable before it is yielded: GCC 12 destroys temporaries of a co_yield twice.
Script fit_script(RunState& state) {
  Command command = PrepareCommand{};
  Answer answer = co_yield command;
  take(state, answer);
  start_monitors(state);

  // A run that was killed when all its steps were made and nothing else still has its end before it: no epoch, but the
  // hooks and what the monitors want.
  const bool trains =
      state.facts.has_optimizer && state.facts.has_training && (!state.has_reached_limit() || state.checkpoint);
  const ValidationPlan plan(state.options, state.facts.train_batches, state.facts.has_evaluation);
  bool validates_first = trains && owes_validation(state, plan);
  bool validation_was_cut = false;
  if (trains && wants_sanity_check(state)) {
    command = evaluate(Stage::validate, true, state.options.num_sanity_val_steps);
    answer = co_yield command;
    ask_monitors(state, Moment::sanity_check_end, state.progress);
  }
  if (trains) {
    command = HooksCommand{hook_order::train_start};
    answer = co_yield command;
    take(state, answer);
  }

  while (trains && !state.has_reached_limit() && !state.stops_now()) {
    const int64_t epoch = state.progress.epoch;
    command = OpenEpochCommand{epoch, state.progress.batch_idx, hook_order::train_epoch_start};
    answer = co_yield command;
    take(state, answer);

    bool epoch_over = false;
    while (!epoch_over) {
      const Progress before = state.progress;
      std::vector<SaveRequest> requests;
      if (!validates_first) {
        command = next_segment(state, plan);
        answer = co_yield command;
        take(state, answer);
        epoch_over =
            answer.epoch_over || (state.facts.train_batches && state.progress.batch_idx >= *state.facts.train_batches);
        requests = ask_monitors(state, Moment::train_batch_end, state.progress, &before);
      }
      const Progress at = state.progress;
      if (state.has_other_processes) {
        command = agree(state, requests);
        answer = co_yield command;
        adopt(state, answer, requests);
      }
      if (std::exchange(state.checkpoint_asked, false)) {
        add_request(state, requests, "requested-step=" + std::to_string(at.global_step) + ".safetensors");
      }
      if (!requests.empty()) {
        command = SaveCommand{std::move(requests)};
        answer = co_yield command;
      }
      // As in Lightning a run that is about to stop validates first, so that what it stops with is known.
      const bool is_planned = plan.is_due(epoch, at.batch_idx, at.total_batches, epoch_over);
      const bool is_due = is_planned || (state.stops_now() && state.facts.has_evaluation);
      if (ends_within_epoch(state, epoch_over) && !is_interrupted(state) && !is_planned) {
        state.held_monitors = state.monitor_states();
        command = HoldCommand{};
        answer = co_yield command;
      }
      const bool is_new = at.batch_idx > before.batch_idx || epoch_over || std::exchange(validates_first, false);
      if (is_due && is_new && !is_interrupted(state) && state.validated_batches != at.total_batches) {
        command = evaluate(Stage::validate, false, -1);
        answer = co_yield command;
        take(state, answer);
        const Moment ended = answer.saw_batches ? Moment::validation_end : Moment::empty_validation_end;
        requests.clear();
        if (state.has_other_processes) {
          command = agree(state, requests);
          answer = co_yield command;
          adopt(state, answer, requests);
        }
        // An interrupted validation has seen a part of its data: nothing is decided on that.
        validation_was_cut = is_interrupted(state);
        if (!validation_was_cut) {
          state.validated_batches = at.total_batches;
          requests = ask_monitors(state, ended, state.progress);
        }
        if (state.has_other_processes) {
          command = agree(state, requests);
          answer = co_yield command;
          adopt(state, answer, requests);
        }
        if (!is_interrupted(state) && !requests.empty()) {
          command = SaveCommand{std::move(requests), false, state.held_monitors.has_value()};
          answer = co_yield command;
        }
      }
      if (state.stops_now() || state.has_reached_limit()) break;
      state.held_monitors.reset();  // what asked for the end has thought better of it
    }
    // An interrupted epoch whose last validation is owed stays open: who goes on finds its end again, and validates.
    const bool owes = plan.is_due(epoch, state.progress.batch_idx, state.progress.total_batches, epoch_over) &&
                      state.validated_batches != state.progress.total_batches;
    if (is_interrupted(state) && (!epoch_over || owes)) break;

    const bool is_cut = !epoch_over;
    if (is_cut && !state.held_monitors) {
      state.held_monitors = state.monitor_states();
      command = HoldCommand{};
      answer = co_yield command;
    }
    const Progress finished = state.progress;  // before the count goes on to the next epoch
    command = CloseEpochCommand{hook_order::train_epoch_end, is_cut};
    answer = co_yield command;
    take(state, answer);
    std::vector<SaveRequest> requests = ask_monitors(state, Moment::train_epoch_end, finished);
    if (state.has_other_processes) {
      command = agree(state, requests);
      answer = co_yield command;
      adopt(state, answer, requests);
    }
    if (!requests.empty()) {
      command = SaveCommand{std::move(requests), false, is_cut};
      answer = co_yield command;
    }
    if (is_cut) break;
  }

  if (trains) {
    std::vector<SaveRequest> requests =
        ask_monitors(state, is_interrupted(state) ? Moment::exception : Moment::train_end, state.progress);
    if (is_interrupted(state) && requests.empty()) add_request(state, requests, "last.safetensors");
    if (state.has_other_processes) {
      command = agree(state, requests);
      answer = co_yield command;
      adopt(state, answer, requests);
    }
    if (!requests.empty()) {
      command = SaveCommand{std::move(requests), validation_was_cut, state.held_monitors.has_value()};
      answer = co_yield command;
    }
    command = HooksCommand{hook_order::train_end};
    answer = co_yield command;
    take(state, answer);
  }
  command = HooksCommand{hook_order::fit_end};
  answer = co_yield command;
  take(state, answer);
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
