#include "troupe/actors/coordinator.hpp"

#include "troupe/actors/checkpointer.hpp"
#include "troupe/actors/logger.hpp"
#include "troupe/actors/members.hpp"
#include "troupe/actors/messages.hpp"
#include "troupe/actors/progress.hpp"
#include "troupe/actors/usher.hpp"
#include "troupe/actors/watchdog.hpp"
#include "troupe/runtime/loops/fit_script.hpp"

#include <algorithm>
#include <chrono>
#include <mutex>

namespace troupe::cast {

namespace {

// How long a run in which somebody hangs waits for those who do not.
constexpr auto patience_with_others = std::chrono::milliseconds(1500);

struct CoordinatorState;
using CoordinatorSelf = caf::stateful_actor<CoordinatorState>;

struct CoordinatorState {
  CoordinatorSelf* self = nullptr;
  std::shared_ptr<RunSetup> setup;
  std::shared_ptr<std::promise<RunResult>> promise;
  Script script;

  Members members;
  ActorRef checkpointer, progress, watchdog;
  std::shared_ptr<Pulse> checkpointer_pulse = std::make_shared<Pulse>("the checkpointer", "checkpointer");
  std::shared_ptr<Pulse> logger_pulse = std::make_shared<Pulse>("the logger", "logger");
  Outlet logger;
  std::vector<Outlet> listeners;

  std::optional<Command> current;  // what the workers are doing
  std::size_t answers = 0;         // to it
  Done first;                      // the first worker's, which speaks for all
  std::vector<WorkerEnded> ended;  // of each worker
  std::optional<Command> waiting;  // a save that waits for the one in flight
  int64_t saves_in_flight = 0;
  std::optional<Role> ending;  // whose end the run waits for; nothing: it goes on
  RunResult result;

  explicit CoordinatorState(CoordinatorSelf* self_in) : self(self_in) {}
  RunState& state() { return setup->state; }

  // --- Beginning ---

  void start() {
    auto& system = self->system();
    const ActorRef me = self;
    progress = join(Role::console, spawn_progress(system, me), "progress");
    spawn_watch(me);
    checkpointer = join(Role::writer, spawn_checkpointer(system, me, checkpointer_pulse), "checkpointer");
    logger.in_flight = std::make_shared<InFlight>(logger_limit);
    logger.to = spawn_logger(system, me, checkpointer, std::move(setup->sinks), logger.in_flight, logger_pulse);
    join(Role::writer, logger.to, "logger");
    const RunHandle handle = make_run_handle(me, logger);
    for (const auto& actor : setup->actors) {
      listeners.push_back(spawn_callback_actor(system, me, handle, actor));
      join(Role::usher, listeners.back().to, "the usher of the actor " + actor.name);
    }
    spawn_workers(me);
    publish(RunStarted{state().stage, state().info.run_dir});
    script = state().stage == Stage::fit ? fit_script(state()) : evaluation_script(state());
    advance([&] { return script.start(); });
  }

  void spawn_watch(const ActorRef& me) {
    const double timeout = state().options.watchdog_timeout;
    if (timeout <= 0) return;
    const auto in_time = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::duration<double>(timeout));
    watchdog =
        join(Role::watchdog, spawn_watchdog(self->system(), {me, progress, in_time, state().options.watchdog_stacks}),
             "watchdog");
    for (const auto& pulse : {checkpointer_pulse, logger_pulse}) tell(self, watchdog, WatchPulse{pulse, rank()});
  }

  int64_t rank() const { return setup->peers.empty() ? 0 : setup->peers.front()->place().global_rank; }

  // A new member, whose end is noticed (P10).
  ActorRef join(Role role, const ActorRef& actor, std::string name) {
    return join(role, actor, std::move(name), rank());
  }
  ActorRef join(Role role, const ActorRef& actor, std::string name, int64_t its_rank) {
    watch(self, members.add(role, actor, std::move(name), its_rank).actor);
    return actor;
  }

  void spawn_workers(const ActorRef& me) {
    const std::size_t count = std::max<std::size_t>(1, setup->devices.size());
    ended.resize(count);
    const auto data_mutex = count > 1 ? std::make_shared<std::mutex>() : nullptr;
    for (std::size_t i = 0; i < count; ++i) {
      WorkerSetup worker;
      worker.index = static_cast<int64_t>(i);
      worker.replica = setup->replica;
      if (i < setup->devices.size()) worker.replica.device = setup->devices[i];
      if (i < setup->peers.size()) worker.replica.peers = setup->peers[i];
      worker.replica.data_mutex = data_mutex;
      if (i > 0) worker.replica.make_module = setup->make_more;
      if (i > 0) worker.replica.options.callbacks = replicated(worker.replica.options.callbacks);
      worker.coordinator = me;
      worker.logger = logger;
      worker.progress = progress;
      worker.watchdog = watchdog;
      worker.replica.pulse = setup->pulses[i];
      if (watchdog) tell(self, watchdog, WatchPulse{worker.replica.pulse, worker.replica.place().global_rank});
      worker.shares_process = count > 1;
      const int64_t its_rank = worker.replica.place().global_rank;
      worker.shows_progress = its_rank == 0 && state().options.enable_progress_bar;
      if (i == 0) worker.listeners = listeners;
      const std::string name = worker.replica.pulse->who;
      join(Role::worker, spawn_worker(self->system(), std::move(worker)), name, its_rank);
    }
    setup->replica = {};  // what it holds is the workers' now
  }

  // Callbacks belong to one worker; those that act on a module have one for each.
  std::vector<std::shared_ptr<Callback>> replicated(const std::vector<std::shared_ptr<Callback>>& callbacks) {
    std::vector<std::shared_ptr<Callback>> own;
    for (const auto& callback : callbacks) {
      auto replica = state().ask(*callback, "replicate", [&] { return callback->replicate(); });
      if (replica) own.push_back(std::move(replica));
    }
    return own;
  }

  template <class Message>
  void tell_workers(const Message& message) {
    members.for_each(Role::worker, [&](const Member& worker) { tell(self, worker.actor, message); });
  }
  template <class Message>
  void tell_workers_urgently(const Message& message) {
    members.for_each(Role::worker, [&](const Member& worker) { tell_urgently(self, worker.actor, message); });
  }

  // --- The script ---

  // Runs the script up to its next command.
  template <class Next>
  void advance(Next next) {
    auto command = next();
    if (!command) return end_workers();
    issue(std::move(*command));
  }

  void issue(Command command) {
    // One snapshot in flight: a second one would hold a second copy of the state.
    if (std::holds_alternative<SaveCommand>(command) && saves_in_flight > 0) {
      waiting = std::move(command);
      return;
    }
    Perform perform{command, nullptr, nullptr, setup->weights_only_checkpoints};
    if (std::holds_alternative<SaveCommand>(command)) {
      if (writes()) ++saves_in_flight;
      state().is_writing = saves_in_flight > 0;
      perform.monitor_states = state().monitor_states();
    }
    perform.loop = {{"validated_batches", state().validated_batches}};
    current = std::move(command);
    answers = 0;
    tell_workers(perform);
  }

  void on_done(Done& done) {
    if (ending) return;
    if (done.worker == 0) first = std::move(done);
    if (++answers < ended.size()) return;
    if (std::holds_alternative<PrepareCommand>(*current)) take_facts(first);
    publish_boundary(first.answer);
    advance([&] { return script.resume(std::move(first.answer)); });
  }

  void take_facts(Done& done) {
    state().facts = std::move(done.facts);
    state().monitors = std::move(done.monitors);
    state().info.has_validation = state().facts.has_evaluation;
    state().info.validation_is_off = !state().facts.has_evaluation && !state().facts.eval_batches.empty();
    state().info.train_batches = state().facts.train_batches;
    const Amount& interval = state().options.val_check_interval;
    state().info.validates_mid_epoch = interval.is_count() || interval.fraction() < 1.0;
    for (const auto& warning : state().facts.warnings) note("warning: " + warning);
    if (state().stage == Stage::fit && !state().facts.has_optimizer) {
      note("warning: configure_optimizers returned no optimizer: nothing is trained");
    }
  }

  // Checkpoints are written by the process of rank zero.
  bool writes() const { return rank() == 0; }

  void on_saved(const Saved& saved) {
    --saves_in_flight;
    state().is_writing = saves_in_flight > 0;
    for (const auto& path : saved.paths) {
      for (const auto& monitor : state().monitors) {
        state().ask(*monitor, "saved", [&] { monitor->saved(path); });
      }
      publish(CheckpointSaved{path});
    }
    for (const auto& missing : saved.missing) on_missing(missing);
    if (waiting && !ending) {
      advance([&] { return std::exchange(waiting, std::nullopt); });
    }
  }

  void on_missing(const Saved::Missing& missing) {
    for (const auto& monitor : state().monitors) {
      state().ask(*monitor, "save_failed", [&] { monitor->save_failed(missing.path); });
    }
    if (missing.is_refused) {
      note("warning: " + missing.path.string() + " is not written: " + missing.why);
      return;
    }
    ++result.failed_saves;
    if (state().options.checkpoint_failure == "continue") {
      note("warning: a checkpoint is missing, and the run goes on: " + missing.why);
      return;
    }
    Failure failure;
    failure.rank = rank();
    failure.hook = "checkpointer";
    failure.message = missing.why;
    fail(std::move(failure));
  }

  // Something of the run, or of a user's monitor, has failed in this actor.
  void fail_here(const std::string& where, const std::string& why) {
    Failure failure;
    failure.rank = rank();
    failure.hook = where;
    failure.epoch = state().stage == Stage::fit ? state().place_epoch() : -1;
    failure.message = why;
    fail(std::move(failure));
  }

  // A member has ended that was still needed (P10).
  void on_gone(const caf::actor_addr& who, const std::string& why) {
    Member* member = members.find(who);
    if (!member || member->has_ended) return;
    member->has_ended = true;
    Failure failure;
    failure.rank = member->rank;
    failure.hook = member->name;
    failure.message = why.empty() ? "it has ended before the run" : why;
    fail(std::move(failure));
    // The logger would have passed it on.
    if (ending == Role::writer)
      members.for_each(Role::writer, [&](const Member& each) { tell(self, each.actor, Drain{}); });
    go_on_ending();
  }

  // --- Requests ---

  void stop(const StopRequest& request) {
    state().ask_to_stop(request);
    tell_workers_urgently(StopSegment{request.interrupt});
  }

  void fail(Failure failure, bool is_own = true) {
    if (result.failure) return;
    if (failure.stage.empty()) failure.stage = to_string(state().stage);
    if (is_own) failure.host = setup->host;
    result.failure = std::move(failure);
    const auto attempt = [&](const char* what, const auto& action) {
      const std::string problem = text_thrown_by(action);
      if (!problem.empty()) note("warning: after the failure, " + std::string(what) + " failed: " + problem);
    };
    if (is_own && setup->tell_others) attempt("telling other ranks", [&] { setup->tell_others(*result.failure); });
    // Workers that wait for one that has failed would wait for ever.
    for (const auto& peers : setup->peers) {
      attempt("ending collective operations", [&] { peers->abort(result.failure->describe()); });
    }
    end_workers();
  }

  // Somebody hangs: what ends by itself may do so for a moment.
  void fail_hung(Failure failure) {
    result.left_behind = true;
    fail(std::move(failure));
    tell_later(self, patience_with_others, GiveUp{});
  }

  void give_up() {
    if (!promise) return;
    logger.in_flight->close();  // nobody waits for it
    finish();
  }

  // --- Events ---

  void publish(const Event& event) {
    for (const auto& listener : listeners) listener.offer(self, Publish{event});
  }

  void publish_boundary(const Answer& answer) {
    if (listeners.empty()) return;
    if (const auto* command = std::get_if<EvaluateCommand>(&*current)) {
      if (state().stage == Stage::fit && !command->is_sanity_check)
        publish(ValidationEnded{answer.progress, answer.metrics});
    } else if (const auto* close = std::get_if<CloseEpochCommand>(&*current)) {
      Progress ended = answer.progress;
      if (!close->is_cut) ended.epoch -= 1;
      publish(TrainEpochEnded{ended, answer.metrics});
    }
  }

  void note(const std::string& line) { tell(self, progress, PrintLine{line, true}); }

  // --- End ---

  void end_workers() {
    if (ending) return;
    ending = Role::worker;
    tell_workers_urgently(EndWorker{result.failure});
    go_on_ending();
  }

  // One after the other, each when those before have come to their end or are gone (P7).
  void go_on_ending() {
    if (ending == Role::worker && members.have_ended(Role::worker)) {
      close_books();
      ending = Role::writer;
      // The writers first: what they report may still be a failure of the run.
      const Member* first = members.find(logger.to);
      tell(self, first && !first->has_ended ? logger.to : checkpointer, Drain{});  // the logger passes it on
      members.for_each(Role::usher, [&](const Member& usher) { tell(self, usher.actor, Drain{}); });
    }
    if (ending == Role::writer && members.have_ended(Role::writer) && members.have_ended(Role::usher)) {
      for (const auto& [name, count] : result.dropped) {
        if (count > 0)
          note("the actor " + name + " was too slow for " + std::to_string(count) + " events, which were dropped");
      }
      ending = Role::console;
      members.for_each(Role::console, [&](const Member& console) { tell(self, console.actor, Drain{}); });
    }
    if (ending == Role::console && members.have_ended(Role::console)) finish();
  }

  // Batches were dealt out to the workers one by one.
  EpochOutputs joined_predictions() {
    EpochOutputs joined;
    const auto loaders = ended.front().predictions.by_loader().size();
    for (std::size_t loader = 0; loader < loaders; ++loader) {
      bool found = true;
      for (std::size_t i = 0; found; ++i) {
        found = false;
        for (const auto& each : ended) {
          const auto& lists = each.predictions.by_loader();
          if (loader >= lists.size() || i >= lists[loader].size()) continue;
          joined.add(loader, lists[loader][i]);
          found = true;
        }
      }
    }
    return joined;
  }

  void on_worker_ended(WorkerEnded& message) {
    for (const auto& problem : message.problems) note("warning: at the end of the run, " + problem);
    ended[static_cast<std::size_t>(message.worker)] = std::move(message);
    has_ended();
  }

  // The results, which the workers have handed over.
  void close_books() {
    if (ended.empty()) return;
    result.module = std::move(ended.front().module);
    result.curves = std::move(ended.front().curves);
    result.predictions = ended.size() > 1 ? joined_predictions() : std::move(ended.front().predictions);
    result.queue = std::move(ended.front().queue);
    if (state().stop) {
      result.stop_reason = state().stop->reason;
      result.was_interrupted = state().stop->interrupt;
      result.signal = state().stop->signal;
      note("stopped: " + state().stop->reason);
    }
    publish(RunEnded{state().progress, state().metrics, result.stop_reason, result.failure.has_value()});
    if (state().skipped_saves > 0) {
      note(std::to_string(state().skipped_saves) +
           " checkpoints were left out while others were written (trainer.checkpoint_backpressure = skip)");
    }
  }

  // Who has sent the message at hand has come to its end.
  void has_ended() {
    if (Member* member = members.find(sender_of(self))) member->has_ended = true;
    go_on_ending();
  }

  void finish() {
    ending = Role::watchdog;
    if (writes()) {
      for (const auto& monitor : state().monitors) {
        const std::string problem =
            text_thrown_by([&] { state().ask(*monitor, "run_ended", [&] { monitor->run_ended(); }); });
        if (!problem.empty()) fail_here(state().place(), problem);
      }
    }
    result.progress = state().progress;
    result.metrics = std::move(state().metrics);
    result.evaluation = std::move(state().evaluation);
    result.skipped_saves = state().skipped_saves;
    if (watchdog) tell(self, watchdog, Drain{});
    std::exchange(promise, nullptr)->set_value(std::move(result));
    self->quit();
  }
};

// Runs `action`; what it throws, mostly a user's monitor, ends the run.
template <class Action>
void failing_on_throw(CoordinatorSelf* self, Action action) {
  CoordinatorState& state = self->state;
  const std::string problem = text_thrown_by([&] { action(state); });
  if (!problem.empty()) state.fail_here(state.state().place(), problem);
}

caf::behavior coordinator(CoordinatorSelf* self, const std::shared_ptr<RunSetup>& setup,
                          const std::shared_ptr<std::promise<RunResult>>& promise) {
  self->state.setup = setup;
  self->state.promise = promise;
  on_watched_end(self, [self](const caf::actor_addr& who, const std::string& why) { self->state.on_gone(who, why); });
  on_exit_message(self, [self](const std::string& why) {
    self->state.fail_here("coordinator", "somebody has told the coordinator to end: " + why);
  });
  failing_on_throw(self, [](CoordinatorState& state) { state.start(); });
  return {
      [self](Done& done) { failing_on_throw(self, [&](CoordinatorState& state) { state.on_done(done); }); },
      [self](const StopAsked& asked) { self->state.state().ask_to_stop({asked.reason}); },
      [self](Failed& failed) {
        if (failed.hangs) return self->state.fail_hung(std::move(failed.failure));
        self->state.fail(std::move(failed.failure), !failed.elsewhere);
      },
      [self](GiveUp) { self->state.give_up(); },
      [self](WorkerEnded& ended) { self->state.on_worker_ended(ended); },
      [self](const Saved& saved) { failing_on_throw(self, [&](CoordinatorState& state) { state.on_saved(saved); }); },
      [self](const StopRun& stop) { self->state.stop(stop.request); },
      [self](CheckpointRun) {
        self->state.state().checkpoint_asked = true;
        self->state.tell_workers_urgently(StopSegment{false, true});
      },
      [self](const ActorThrew& threw) {
        self->state.note("warning: the actor " + threw.name + " threw, and has ended: " + threw.why);
      },
      [self](Drained) { self->state.has_ended(); },
      [self](const UsherDrained& drained) {
        self->state.result.dropped.emplace_back(drained.name, drained.dropped);
        self->state.has_ended();
      },
  };
}

// The coordinator has ended before it could give a result: it was killed, or failed in its own end.
void settle(std::promise<RunResult>& promise, const std::string& why) {
  RunResult result;
  result.failure.emplace();
  result.failure->hook = "coordinator";
  result.failure->message = why.empty() ? "it has ended before the run" : why;
  result.lost_coordinator = true;
  try {
    promise.set_value(std::move(result));
  } catch (const std::future_error&) {
    // It did give one.
  }
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
  auto actor = spawn_shared(system, coordinator, std::make_shared<RunSetup>(std::move(setup)), promise);
  forget_system();
  on_end_of(actor, [promise](const std::string& why) { settle(*promise, why); });
  return Run{std::move(actor), std::move(result)};
}

}  // namespace troupe::cast
