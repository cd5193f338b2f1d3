#include "troupe/actors/coordinator.hpp"

#include "troupe/actors/checkpointer.hpp"
#include "troupe/actors/logger.hpp"
#include "troupe/actors/messages.hpp"
#include "troupe/actors/progress.hpp"
#include "troupe/runtime/loops/fit_script.hpp"

namespace troupe::cast {

namespace {

struct CoordinatorState;
using Self = caf::stateful_actor<CoordinatorState>;

struct CoordinatorState {
  Self* self = nullptr;
  std::shared_ptr<RunSetup> setup;
  std::shared_ptr<std::promise<RunResult>> promise;
  Script script;

  ActorRef worker, checkpointer, progress;
  Outlet logger;
  std::vector<Outlet> listeners;

  std::optional<Command> current;  // what the worker is doing
  std::optional<Command> waiting;  // a save that waits for the one in flight
  int64_t saves_in_flight = 0;
  bool is_ending = false;
  int64_t to_drain = 0;
  RunResult result;

  explicit CoordinatorState(Self* self_in) : self(self_in) {}
  RunState& state() { return setup->state; }

  // --- Beginning ---

  void start() {
    auto& system = self->system();
    const ActorRef me = self;
    checkpointer = spawn_checkpointer(system, me);
    progress = spawn_progress(system, me);
    logger.in_flight = std::make_shared<InFlight>(logger_limit);
    logger.to = spawn_logger(system, me, std::move(setup->sinks), logger.in_flight);
    const RunHandle handle(me, logger);
    for (const auto& actor : setup->actors) listeners.push_back(spawn_callback_actor(system, me, handle, actor));
    WorkerSetup worker_setup{std::move(setup->replica), me, logger, checkpointer, progress, false, {}};
    worker_setup.shows_progress = state().options.enable_progress_bar;
    worker_setup.listeners = listeners;
    worker = spawn_worker(system, std::move(worker_setup));
    publish(RunStarted{state().stage, state().info.run_dir});
    script = state().stage == Stage::fit ? fit_script(state()) : evaluation_script(state());
    advance([&] { return script.start(); });
  }

  // --- The script ---

  // Runs the script up to its next command; what a monitor throws ends the run.
  template <class Next>
  void advance(Next next) {
    try {
      auto command = next();
      if (!command) return end_worker();
      issue(std::move(*command));
    } catch (const std::exception& error) {
      Failure failure;
      failure.stage = to_string(state().stage);
      failure.hook = "coordinator";
      failure.epoch = state().stage == Stage::fit ? state().progress.epoch : -1;
      failure.message = error.what();
      fail(std::move(failure));
    }
  }

  void issue(Command command) {
    // One snapshot in flight: a second one would hold a second copy of the state.
    if (std::holds_alternative<SaveCommand>(command) && saves_in_flight > 0) {
      waiting = std::move(command);
      return;
    }
    Perform perform{command, nullptr, setup->weights_only_checkpoints};
    if (std::holds_alternative<SaveCommand>(command)) {
      ++saves_in_flight;
      perform.monitor_states = nlohmann::json::object();
      for (const auto& monitor : state().monitors) perform.monitor_states[monitor->state_key()] = monitor->state_dict();
    }
    current = std::move(command);
    tell(self, worker, std::move(perform));
  }

  void on_done(Done& done) {
    if (is_ending) return;
    if (std::holds_alternative<PrepareCommand>(*current)) take_facts(done);
    publish_boundary(done.answer);
    advance([&] { return script.resume(std::move(done.answer)); });
  }

  void take_facts(Done& done) {
    state().facts = std::move(done.facts);
    state().monitors = std::move(done.monitors);
    state().info.has_validation = state().facts.has_evaluation;
    state().info.train_batches = state().facts.train_batches;
    const Amount& interval = state().options.val_check_interval;
    state().info.validates_mid_epoch = interval.is_count() || interval.fraction() < 1.0;
    for (const auto& warning : state().facts.warnings) note("warning: " + warning);
    if (state().stage == Stage::fit && !state().facts.has_optimizer) {
      note("warning: configure_optimizers returned no optimizer: nothing is trained");
    }
  }

  // --- Requests ---

  void stop(const StopRequest& request) {
    auto& stop = state().stop;
    if (!stop || (request.interrupt && !stop->interrupt)) stop = request;
    tell_urgently(self, worker, StopSegment{request.interrupt});
  }

  void fail(Failure failure) {
    if (result.failure) return;
    if (failure.stage.empty()) failure.stage = to_string(state().stage);
    result.failure = std::move(failure);
    end_worker();
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
    } else if (std::holds_alternative<CloseEpochCommand>(*current)) {
      Progress ended = answer.progress;
      ended.epoch -= 1;
      publish(TrainEpochEnded{ended, answer.metrics});
    }
  }

  void note(const std::string& line) { tell(self, progress, PrintLine{line, true}); }

  // --- End ---

  void end_worker() {
    if (is_ending) return;
    is_ending = true;
    tell_urgently(self, worker, EndWorker{result.failure});
  }

  void on_worker_ended(WorkerEnded& ended) {
    result.module = std::move(ended.module);
    result.predictions = std::move(ended.predictions);
    result.queue = std::move(ended.queue);
    if (!ended.teardown_error.empty()) note("warning: teardown failed after the failure: " + ended.teardown_error);
    if (state().stop) {
      result.stop_reason = state().stop->reason;
      result.was_interrupted = state().stop->interrupt;
      note("stopped: " + state().stop->reason);
    }
    publish(RunEnded{state().progress, state().metrics, result.stop_reason, result.failure.has_value()});
    // The writers first: what they report may still be a failure of the run.
    to_drain = 2;
    tell(self, checkpointer, Drain{});
    tell(self, logger.to, Drain{});
    for (const auto& listener : listeners) {
      ++to_drain;
      tell(self, listener.to, Drain{});
    }
  }

  void on_drained() {
    if (--to_drain > 0) return;
    if (progress) {
      for (const auto& [name, count] : result.dropped) {
        if (count > 0)
          note("the actor " + name + " was too slow for " + std::to_string(count) + " events, which were dropped");
      }
      to_drain = 1;
      tell(self, progress, Drain{});
      progress = nullptr;
      return;
    }
    result.progress = state().progress;
    result.metrics = std::move(state().metrics);
    result.evaluation = std::move(state().evaluation);
    promise->set_value(std::move(result));
    self->quit();
  }
};

caf::behavior coordinator(Self* self, const std::shared_ptr<RunSetup>& setup,
                          const std::shared_ptr<std::promise<RunResult>>& promise) {
  self->state.setup = setup;
  self->state.promise = promise;
  self->state.start();
  return {
      [self](Done& done) { self->state.on_done(done); },
      [self](const StopAsked& asked) {
        if (!self->state.state().stop) self->state.state().stop = StopRequest{asked.reason, false};
      },
      [self](Failed& failed) { self->state.fail(std::move(failed.failure)); },
      [self](WorkerEnded& ended) { self->state.on_worker_ended(ended); },
      [self](Saved& saved) {
        auto& state = self->state;
        --state.saves_in_flight;
        for (const auto& path : saved.paths) state.publish(CheckpointSaved{path});
        if (state.waiting && !state.is_ending) {
          state.advance([&] { return std::exchange(state.waiting, std::nullopt); });
        }
      },
      [self](const StopRun& stop) { self->state.stop(stop.request); },
      [self](CheckpointRun) {
        self->state.state().checkpoint_asked = true;
        tell_urgently(self, self->state.worker, StopSegment{false, true});
      },
      [self](Drained) { self->state.on_drained(); },
      [self](const UsherDrained& drained) {
        self->state.result.dropped.emplace_back(drained.name, drained.dropped);
        self->state.on_drained();
      },
  };
}

}  // namespace

void Run::stop(std::string reason, bool interrupt) const {
  tell_anonymously(coordinator, StopRun{{std::move(reason), interrupt}});
}

Run start_run(caf::actor_system& system, RunSetup setup) {
  auto promise = std::make_shared<std::promise<RunResult>>();
  auto result = promise->get_future();
  auto actor = spawn_shared(system, coordinator, std::make_shared<RunSetup>(std::move(setup)), std::move(promise));
  return Run{std::move(actor), std::move(result)};
}

}  // namespace troupe::cast
