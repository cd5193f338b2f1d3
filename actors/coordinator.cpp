#include "troupe/actors/coordinator.hpp"

#include "troupe/actors/checkpointer.hpp"
#include "troupe/actors/coordinator_state.hpp"
#include "troupe/actors/handlers.hpp"
#include "troupe/actors/logger.hpp"
#include "troupe/actors/progress.hpp"
#include "troupe/actors/recorder.hpp"
#include "troupe/actors/usher.hpp"
#include "troupe/actors/watchdog.hpp"
#include "troupe/modules/callbacks/model_checkpoint.hpp"
#include "troupe/runtime/loops/fit_script.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <mutex>
#include <utility>

namespace troupe::cast {

namespace {

// How long a run in which somebody hangs waits for those who do not.
constexpr auto patience_with_others = std::chrono::milliseconds(1500);

HangLimits hang_limits(const TrainerOptions& options) {
  const auto in_seconds = [](double seconds) {
    return std::chrono::duration_cast<HangLimits::Duration>(std::chrono::duration<double>(seconds));
  };
  return {.longest = in_seconds(options.watchdog_timeout),
          .shortest = in_seconds(std::min(options.watchdog_floor, options.watchdog_timeout)),
          .factor = options.watchdog_factor};
}

}  // namespace

// --- Beginning -------------------------------------------------------------------------------------------------------

// Runs `action`; what it throws, mostly a user's monitor, ends the run.
template <class Action>
void CoordinatorState::failing_on_throw(Action action) {
  const std::string problem = text_thrown_by(action);
  if (!problem.empty()) fail_here(state().place(), problem);
}

caf::behavior CoordinatorState::start(std::shared_ptr<RunSetup> setup,
                                      std::shared_ptr<std::promise<RunResult>> promise) {
  setup_ = std::move(setup);
  promise_ = std::move(promise);
  on_watched_end(self_, [this](const caf::actor_addr& who, const std::string& why) { watched_end(who, why); });
  on_exit_message(self_, [this](const std::string& why) {
    fail_here("coordinator", "somebody has told the coordinator to end: " + why);
  });
  failing_on_throw([&] { begin_run(); });
  return HandlersInLane{
      "coordinator",
      [this](Done& done) { failing_on_throw([&] { done.worker < 0 ? take_validation(done) : take_answer(done); }); },
      [this](const StopAsked& asked) {
        const bool is_training = !validator_ || sender_of(self_) != validator_;  // and ends its segment by itself
        is_training ? state().ask_to_stop({asked.reason}) : stop({asked.reason});
      },
      [this](Failed& failed) {
        if (failed.hangs) return fail_hung(std::move(failed.failure));
        fail(std::move(failed.failure), !failed.elsewhere);
      },
      [this](GiveUp) { give_up(); },
      [this](const TimeIsUp& up) { failing_on_throw([&] { take_time(up); }); },
      [this](RecorderIsLate) { go_on_without_recorder(); },
      [this](WorkerEnded& ended) { take_worker(ended); },
      [this](PhasesMeasured& measured) { take_phases(measured); },
      [this](const Saved& saved) { failing_on_throw([&] { take_saved(saved); }); },
      [this](const StopRun& stop_run) { stop(stop_run.request); },
      [this](CheckpointRun) {
        state().asked.checkpoint = true;
        tell_workers_urgently(StopSegment{false, true});
      },
      [this](ValidateRun) { ask_to_validate(); },
      [this](const SetRate& set) {
        state().asked.lr = set.lr;
        tell_workers_urgently(StopSegment{false, true});
      },
      [this](const ActorThrew& threw) {
        note("warning: the actor " + threw.name + " threw, and has ended: " + threw.why);
      },
      [this](const Drained& drained) {
        if (drained.work && drained.work->count > 0) add_meanwhile(*drained.work);
        sender_has_ended();
      },
      [this](const UsherDrained& drained) {
        result_.dropped.emplace_back(drained.name, drained.dropped);
        sender_has_ended();
      },
      [this](RecorderDrained& drained) {
        result_.files = std::move(drained.files);
        sender_has_ended();
      },
  };
}

void CoordinatorState::begin_run() {
  result_.phases.stage = to_string(state().stage);
  auto& system = self_->system();
  const ActorRef me = ref_to(self_);
  progress_ = join(Role::console, spawn_progress(system, me, state().options->quiet), "progress");
  if (setup_->warnings) {
    setup_->warnings->set_run([progress = progress_](const std::string& text) {
      tell_anonymously(progress, PrintLine{std::string(warning_mark) + text, true});
    });
  }
  spawn_watch(me);
  if (setup_->files) {
    recorder_ = join(Role::recorder,
                     spawn_recorder(system, me, progress_, setup_->files, state().stage, recorder_pulse_, setup_->live),
                     "recorder");
    tell(self_, progress_, PassOnWarnings{recorder_});
  }
  checkpointer_ = join(Role::writer, spawn_checkpointer(system, me, checkpointer_pulse_), "checkpointer");
  logger_.in_flight = std::make_shared<InFlight>(logger_limit);
  logger_.to =
      spawn_logger(system, me, checkpointer_, recorder_, std::move(setup_->sinks), logger_.in_flight, logger_pulse_);
  join(Role::writer, logger_.to, "logger");
  const RunHandle handle = make_run_handle(me, logger_);
  begin_live(handle);
  for (const auto& actor : setup_->actors) {
    listeners_.push_back(spawn_callback_actor(system, me, handle, actor));
    join(Role::usher, listeners_.back().to, "the usher of the actor " + actor.name);
  }
  spawn_workers(me);
  publish(RunStarted{state().stage, state().info.run_dir});
  script_ = state().stage == Stage::fit ? fit_script(state()) : evaluation_script(state());
  advance(script_.start());
}

void CoordinatorState::spawn_watch(const ActorRef& me) {
  const auto& options = *state().options;
  if (options.watchdog_timeout <= 0) return;
  watchdog_ = join(Role::watchdog,
                   spawn_watchdog(self_->system(), {me, progress_, hang_limits(options), options.watchdog_stacks,
                                                    setup_->absent_processes}),
                   "watchdog");
  for (const auto& pulse : {checkpointer_pulse_, logger_pulse_}) tell(self_, watchdog_, WatchPulse{pulse, rank()});
}

// Who looks from outside gets what the actors tell it from here on.
void CoordinatorState::begin_live(const RunHandle& handle) {
  if (!setup_->live) return;
  const auto warn = [progress = progress_](const std::string& text) {
    tell_anonymously(progress, PrintLine{std::string(warning_mark) + text, true});
  };
  setup_->live->begin(handle, warn, {setup_->pulses.begin(), setup_->pulses.end()});
  if (!setup_->live->socket_problem().empty()) warn(setup_->live->socket_problem());
  const auto address = setup_->live->metrics_address();
  if (!address.empty()) note("metrics for Prometheus, on this machine alone: " + address);
}

ActorRef CoordinatorState::join(Role role, const ActorRef& actor, std::string name, int64_t its_rank) {
  watch(self_, members_.add(role, actor, std::move(name), its_rank).actor);
  return actor;
}

void CoordinatorState::spawn_workers(const ActorRef& me) {
  const std::size_t count = std::max<std::size_t>(1, setup_->devices.size());
  ended_.resize(count);
  const auto data_mutex = count > 1 ? std::make_shared<std::mutex>() : nullptr;
  for (std::size_t i = 0; i < count; ++i) {
    WorkerSetup worker;
    worker.index = static_cast<int64_t>(i);
    worker.replica = setup_->replica;
    if (i < setup_->devices.size()) worker.replica.device = setup_->devices[i];
    if (i < setup_->peers.size()) worker.replica.peers = setup_->peers[i];
    worker.replica.data_mutex = data_mutex;
    if (i == 0) keep_validator(worker.replica);
    if (i > 0) worker.replica.make_module = setup_->make_more;
    if (i > 0) worker.replica.callbacks = replicated(worker.replica.callbacks);
    worker.coordinator = me;
    worker.logger = logger_;
    worker.progress = progress_;
    worker.watchdog = watchdog_;
    worker.replica.pulse = setup_->pulses[i];
    if (watchdog_) tell(self_, watchdog_, WatchPulse{worker.replica.pulse, worker.replica.place().global_rank});
    worker.shares_process = count > 1;
    const int64_t its_rank = worker.replica.place().global_rank;
    worker.shows_progress = its_rank == 0 && state().options->enable_progress_bar;
    if (i == 0) worker.listeners = listeners_;
    if (i == 0) worker.kept = setup_->kept;
    if (i == 0) worker.given = setup_->given;
    if (its_rank == 0) worker.live = setup_->live;
    const std::string name = worker.replica.pulse->who;
    join(Role::worker, spawn_worker(self_->system(), std::move(worker)), name, its_rank);
  }
  setup_->replica = {};  // what it holds is the workers' now
}

// Callbacks belong to one worker; those that act on a module have one for each.
std::vector<std::shared_ptr<Callback>> CoordinatorState::replicated(
    const std::vector<std::shared_ptr<Callback>>& callbacks) {
  std::vector<std::shared_ptr<Callback>> own;
  for (const auto& callback : callbacks) {
    auto replica = state().ask(*callback, "replicate", [&] { return callback->replicate(); });
    if (replica) own.push_back(std::move(replica));
  }
  return own;
}

// --- The script ------------------------------------------------------------------------------------------------------

// Runs the script up to its next command.
void CoordinatorState::advance(std::optional<Command> command) {
  if (!command) return end_workers();
  issue(std::move(*command));
}

void CoordinatorState::issue(Command command) {
  // One snapshot in flight: a second one would hold a second copy of the state.
  if (std::holds_alternative<SaveCommand>(command) && saves_in_flight_ > 0) {
    waiting_ = std::move(command);
    return;
  }
  Perform perform{command, nullptr, nullptr, setup_->weights_only_checkpoints};
  if (std::holds_alternative<KeepCommand>(command)) perform.monitor_states = state().monitor_states();
  if (std::holds_alternative<SaveCommand>(command)) {
    if (writes()) ++saves_in_flight_;
    state().is_writing = saves_in_flight_ > 0;
    perform.monitor_states = state().monitor_states();
  }
  perform.loop = state().loop_to_json();
  current_ = std::move(command);
  answers_ = 0;
  if (awaits_validation()) return go_on_waiting();
  members_.for_each(Role::worker, [&](const Member& worker) { tell(self_, worker.actor, perform); });
  if (!std::holds_alternative<TrainCommand>(*current_)) return;
  if (!state().validation_results.empty()) return tell_workers_urgently(StopSegment{false, true});
  set_timer();
}

// For the first of what goes by time, unless a timer is set for an earlier moment: that one looks again.
void CoordinatorState::set_timer() {
  const auto due = state().next_time();
  if (!due || (timer_ && *timer_ <= *due)) return;
  timer_ = due;
  constexpr double shortest = 0.01;  // what is due and cannot be done yet, for want of a batch
  const double delay = std::max(shortest, *due - state().info.seconds());
  constexpr double longest = 86400;  // then it looks again
  tell_later(self_, std::chrono::milliseconds(static_cast<int64_t>(std::ceil(1000 * std::min(delay, longest)))),
             TimeIsUp{*due});
}

void CoordinatorState::take_time(const TimeIsUp& up) {
  if (timer_ == up.due) timer_.reset();
  if (ending_ || !current_ || !std::holds_alternative<TrainCommand>(*current_)) return;  // the next segment sets it
  const auto due = state().next_time();
  if (due && *due <= state().info.seconds()) return tell_workers_urgently(StopSegment{false, true});
  set_timer();
}

void CoordinatorState::take_answer(Done& done) {
  if (ending_) return;
  if (done.worker == 0) first_ = std::move(done);
  if (++answers_ < ended_.size()) return;
  if (std::holds_alternative<PrepareCommand>(*current_)) take_facts(first_);
  if (std::holds_alternative<HandOverCommand>(*current_)) hand_over(first_.answer);
  publish_boundary(first_.answer);
  tell_recorder_boundary(first_.answer);
  advance(script_.resume(std::move(first_.answer)));
}

void CoordinatorState::take_facts(Done& done) {
  state().facts = std::move(done.facts);
  state().monitors = std::move(done.monitors);
  state().info.has_validation = state().facts.has_evaluation;
  state().info.validation_is_off = !state().facts.has_evaluation && !state().facts.eval_batches.empty();
  state().info.train_batches = state().facts.train_batches;
  const Interval& interval = state().options->val_check_interval;
  state().info.validates_mid_epoch = !interval.is_fraction() || interval.fraction() < 1.0;
  for (const auto& warning : state().facts.warnings) note("warning: " + warning);
  if (state().stage == Stage::fit && !state().facts.has_optimizer) {
    note("warning: configure_optimizers returned no optimizer: nothing is trained");
  }
  spawn_validator(std::move(done.eval_loaders));
  note_dropped_validations();
}

void CoordinatorState::take_saved(const Saved& saved) {
  --saves_in_flight_;
  add_meanwhile({"writing checkpoints", saved.seconds, 1, saved.seconds});
  state().is_writing = saves_in_flight_ > 0;
  for (const auto& path : saved.paths) {
    for (const auto& monitor : state().monitors) {
      state().ask(*monitor, "saved", [&] { monitor->saved(path); });
    }
    publish(CheckpointSaved{path});
    if (writes()) logger_.deliver_at_once(self_, WriteRecord{FileRecord{path}});
  }
  RunNews news{.checkpoints = saved.paths};
  for (const auto& monitor : state().monitors) {
    const auto* checkpoint = dynamic_cast<const ModelCheckpoint*>(monitor.get());
    if (checkpoint && !checkpoint->best_model_path().empty()) news.best_checkpoint = checkpoint->best_model_path();
  }
  tell_recorder(std::move(news));
  for (const auto& missing : saved.missing) take_missing(missing);
  if (ending_) go_on_ending();  // which waits for what is being written
  if (waiting_ && !ending_) {
    advance(std::exchange(waiting_, std::nullopt));
  }
}

// The one place where reports arrive.
void CoordinatorState::take_phases(PhasesMeasured& measured) {
  auto meanwhile = std::move(result_.phases.meanwhile);
  result_.phases = std::move(measured.report);
  result_.phases.meanwhile = std::move(meanwhile);
  RunNews news{
      .total_batches = measured.total_batches, .seconds_left = measured.seconds_left, .phases = result_.phases};
  if (state().stage == Stage::fit && !measured.is_final) news.progress = measured.progress;
  tell_recorder(std::move(news));
}

void CoordinatorState::add_meanwhile(const PhaseTime& time) {
  auto& all = result_.phases.meanwhile;
  const auto found = std::ranges::find(all, time.name, &PhaseTime::name);
  if (found == all.end()) return all.push_back(time);
  found->add(time);
}

void CoordinatorState::take_missing(const Saved::Missing& missing) {
  for (const auto& monitor : state().monitors) {
    state().ask(*monitor, "save_failed", [&] { monitor->save_failed(missing.path); });
  }
  if (missing.is_refused) {
    note("warning: " + missing.path.string() + " is not written: " + missing.why);
    return;
  }
  ++result_.failed_saves;
  if (state().options->checkpoint_failure == CheckpointFailure::proceed) {
    note("warning: a checkpoint is missing, and the run goes on: " + missing.why);
    return;
  }
  Failure failure;
  failure.rank = rank();
  failure.hook = "checkpointer";
  failure.message = missing.why;
  fail(std::move(failure));
}

// --- Requests and failures -------------------------------------------------------------------------------------------

void CoordinatorState::stop(const StopRequest& request) {
  state().ask_to_stop(request);
  tell_workers_urgently(StopSegment{request.interrupt});
  if (request.interrupt && awaits_validation()) failing_on_throw([&] { go_on_waiting(); });
}

void CoordinatorState::ask_to_validate() {
  if (state().facts.has_training && !state().facts.has_evaluation) {
    return note("warning: a validation was asked for, and this run has none");
  }
  state().asked.validation = true;
  tell_workers_urgently(StopSegment{false, true});
}

void CoordinatorState::fail(Failure failure, bool is_own) {
  if (result_.failure) return;
  if (failure.stage.empty()) failure.stage = to_string(state().stage);
  if (is_own) failure.host = setup_->host;
  // What fails here because somebody else is gone is no failure of this process.
  if (is_own && setup_->has_losses && setup_->has_losses()) failure.is_loss = true;
  result_.failure = std::move(failure);
  const auto attempt = [&](const char* what, const auto& action) {
    const std::string problem = text_thrown_by(action);
    if (!problem.empty()) note("warning: after the failure, " + std::string(what) + " failed: " + problem);
  };
  if (!goes_on()) tell_recorder({.failure = result_.failure});
  if (is_own && !goes_on() && !leaves() && setup_->tell_others)
    attempt("telling other ranks", [&] { setup_->tell_others(*result_.failure); });
  // Workers that wait for one that has failed would wait for ever.
  for (const auto& peers : setup_->peers) {
    attempt("ending collective operations", [&] { peers->abort(result_.failure->describe()); });
  }
  end_workers();
}

// Something of the run, or of a user's monitor, has failed in this actor.
void CoordinatorState::fail_here(const std::string& where, const std::string& why) {
  Failure failure;
  failure.rank = rank();
  failure.hook = where;
  failure.epoch = state().stage == Stage::fit ? state().place_epoch() : -1;
  failure.message = why;
  fail(std::move(failure));
}

// Somebody hangs: what ends by itself may do so for a moment.
void CoordinatorState::fail_hung(Failure failure) {
  result_.left_behind = true;
  fail(std::move(failure));
  if (!std::exchange(gives_up_, true)) tell_later(self_, patience_with_others, GiveUp{});
}

// Those that the run waits for are left behind. Those whose turn comes then have a moment, too: sinks and files are to
// know how it has ended.
void CoordinatorState::give_up() {
  if (!promise_) return;
  logger_.in_flight->close();  // nobody waits for it
  const Role late = ending_.value_or(Role::worker);
  const auto leave = [&](Role role) { members_.for_each(role, [](Member& member) { member.has_ended = true; }); };
  leave(late);
  if (late == Role::worker) {
    leave(Role::validator);
    workers_hang_ = true;
  }
  if (late == Role::recorder) setup_->files = nullptr;  // it has them still
  go_on_ending();
  if (promise_) tell_later(self_, patience_with_others, GiveUp{});
}

// A member has ended that was still needed (P10).
void CoordinatorState::watched_end(const caf::actor_addr& who, const std::string& why) {
  Member* member = members_.find(who);
  if (!member || member->has_ended) return;
  member->has_ended = true;
  Failure failure;
  failure.rank = member->rank;
  failure.hook = member->name;
  failure.message = why.empty() ? "it has ended before the run" : why;
  fail(std::move(failure));
  // The logger would have passed it on.
  if (ending_ == Role::writer)
    members_.for_each(Role::writer, [&](const Member& each) { tell(self_, each.actor, Drain{}); });
  go_on_ending();
}

// --- Who listens -----------------------------------------------------------------------------------------------------

void CoordinatorState::publish(const Event& event) {
  for (const auto& listener : listeners_) listener.offer(self_, Publish{event});
  if (setup_->live) setup_->live->publish(event);
}

void CoordinatorState::publish_boundary(const Answer& answer) {
  if (listeners_.empty() && !setup_->live) return;
  if (const auto* command = std::get_if<EvaluateCommand>(&*current_)) {
    if (state().stage == Stage::fit && !command->is_sanity_check)
      publish(ValidationEnded{answer.progress, answer.metrics});
  } else if (const auto* taken = std::get_if<TakeValidationCommand>(&*current_)) {
    if (!taken->is_sanity_check) publish(ValidationEnded{taken->result->progress, answer.metrics});
  } else if (const auto* close = std::get_if<CloseEpochCommand>(&*current_)) {
    Progress ended = answer.progress;
    if (!close->is_cut) ended.epoch -= 1;
    publish(TrainEpochEnded{ended, answer.metrics});
  }
}

void CoordinatorState::tell_recorder(RunNews news) {
  if (recorder_) tell(self_, recorder_, std::move(news));
}

void CoordinatorState::tell_recorder_boundary(const Answer& answer) {
  if (!recorder_) return;
  tell_recorder({.progress = answer.progress, .metrics = answer.metrics});
}

// --- From outside ----------------------------------------------------------------------------------------------------

namespace {

// The coordinator has ended before it could give a result: it was killed, or failed in its own end.
void settle(std::promise<RunResult>& promise, const std::string& why, const std::shared_ptr<RunFiles>& files) {
  RunResult result;
  result.failure.emplace();
  result.failure->hook = "coordinator";
  result.failure->message = why.empty() ? "it has ended before the run" : why;
  result.lost_coordinator = true;
  result.files = files;
  try {
    promise.set_value(std::move(result));
  } catch (const std::future_error&) {
    // It did give one.
  }
}

caf::behavior coordinator(caf::stateful_actor<CoordinatorState>* self, const std::shared_ptr<RunSetup>& setup,
                          const std::shared_ptr<std::promise<RunResult>>& promise) {
  return state_of(self).start(setup, promise);
}

}  // namespace

void Run::stop(std::string reason, bool interrupt, int signal) const {
  tell_anonymously(coordinator, StopRun{{std::move(reason), interrupt, signal}});
}

void Run::fail(Failure failure) const {
  tell_anonymously(coordinator, Failed{std::move(failure), /*elsewhere=*/true});
}

Run start_run(caf::actor_system& system, RunSetup setup) {
  auto promise = std::make_shared<std::promise<RunResult>>();
  auto result = promise->get_future();
  const auto files = setup.files;
  auto actor = spawn_shared(system, coordinator, std::make_shared<RunSetup>(std::move(setup)), promise);
  forget_system();
  on_end_of(actor, [promise, files](const std::string& why) { settle(*promise, why, files); });
  return Run{std::move(actor), std::move(result)};
}

}  // namespace troupe::cast
