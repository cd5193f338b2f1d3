// What a coordinator is made of: coordinator.cpp begins a run, runs its script and takes requests,
// coordinator_validation.cpp has validations made beside the training, coordinator_end.cpp ends the run.
#pragma once

#include "troupe/actors/coordinator.hpp"
#include "troupe/actors/members.hpp"
#include "troupe/actors/messages.hpp"
#include "troupe/runtime/loops/script.hpp"

#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace troupe::cast {

class CoordinatorState {
 public:
  static constexpr const char* name = "coordinator";

  explicit CoordinatorState(caf::event_based_actor* self) : self_(self) {}

  caf::behavior start(std::shared_ptr<RunSetup> setup, std::shared_ptr<std::promise<RunResult>> promise);

 private:
  RunState& state() { return setup_->state; }
  template <class Action>
  void failing_on_throw(Action action);

  // Beginning.
  void begin_run();
  void spawn_watch(const ActorRef& me);
  void begin_live(const RunHandle& handle);
  void spawn_workers(const ActorRef& me);
  std::vector<std::shared_ptr<Callback>> replicated(const std::vector<std::shared_ptr<Callback>>& callbacks);
  int64_t rank() const { return setup_->peers.empty() ? 0 : setup_->peers.front()->place().global_rank; }
  // Whether those that are left go on with another run of the stage, so that nobody is told of an end.
  bool goes_on() const { return result_.failure && result_.failure->is_loss && setup_->has_losses; }
  // Whether this process, in which somebody hangs, is to end so that the others can go on without it.
  bool leaves() const { return result_.left_behind && setup_->has_losses; }
  // Whether nobody goes on with the stage behind this run of it.
  bool is_over() const { return !goes_on() && !leaves(); }
  // Checkpoints are written by the process of rank zero.
  bool writes() const { return rank() == 0; }
  // A new member, whose end is noticed (P10).
  ActorRef join(Role role, const ActorRef& actor, std::string name) {
    return join(role, actor, std::move(name), rank());
  }
  ActorRef join(Role role, const ActorRef& actor, std::string name, int64_t its_rank);

  // The script.
  void advance(std::optional<Command> command);
  void issue(Command command);
  void set_timer();
  void take_time(const TimeIsUp& up);
  void take_answer(Done& done);
  void take_facts(Done& done);
  void take_saved(const Saved& saved);
  // Validation beside the training (coordinator_validation.cpp).
  void keep_validator(const ReplicaSetup& replica);
  void spawn_validator(DataLoaders loaders);
  void hand_over(const Answer& answer);
  void take_validation(Done& done);
  bool awaits_validation() const { return current_ && std::holds_alternative<AwaitValidationCommand>(*current_); }
  void go_on_waiting();
  void note_unheard_callbacks(const std::vector<std::shared_ptr<Callback>>& callbacks);
  void note_lost_validations();
  void note_dropped_validations();
  void take_missing(const Saved::Missing& missing);
  void take_phases(PhasesMeasured& measured);
  void add_meanwhile(const PhaseTime& time);

  // Requests and failures.
  template <class Message>
  void tell_workers_urgently(const Message& message) {
    members_.for_each(Role::worker, [&](const Member& worker) { tell_urgently(self_, worker.actor, message); });
  }
  void stop(const StopRequest& request);
  void ask_to_validate();
  void fail(Failure failure, bool is_own = true);
  void fail_here(const std::string& where, const std::string& why);
  void fail_hung(Failure failure);
  void give_up();
  void watched_end(const caf::actor_addr& who, const std::string& why);

  // Who listens.
  void publish(const Event& event);
  void publish_boundary(const Answer& answer);
  void tell_recorder(RunNews news);
  void tell_recorder_boundary(const Answer& answer);
  void note(const std::string& line) { tell(self_, progress_, PrintLine{line, true}); }

  // End.
  void end_workers();
  void take_worker(WorkerEnded& ended);
  void sender_has_ended();
  void go_on_ending();
  void show_phases();
  void drain_writers();
  void drain_recorder();
  void go_on_without_recorder();
  void end_monitors();
  void close_books();
  void take_results();
  void finish();

  caf::event_based_actor* self_;
  std::shared_ptr<RunSetup> setup_;
  std::shared_ptr<std::promise<RunResult>> promise_;
  Script script_;

  Members members_;
  ActorRef checkpointer_, progress_, watchdog_, recorder_;
  std::shared_ptr<Pulse> checkpointer_pulse_ = std::make_shared<Pulse>("the checkpointer", "checkpointer");
  std::shared_ptr<Pulse> logger_pulse_ = std::make_shared<Pulse>("the logger", "logger");
  std::shared_ptr<Pulse> recorder_pulse_ = std::make_shared<Pulse>("the recorder", "recorder");
  Outlet logger_;
  std::vector<Outlet> listeners_;

  std::optional<Command> current_;  // what the workers are doing
  std::size_t answers_ = 0;         // to it
  Done first_;                      // the first worker's, which speaks for all
  std::vector<WorkerEnded> ended_;  // of each worker
  std::optional<double> timer_;     // the earliest moment for which one is set, by info.seconds
  std::optional<Command> waiting_;  // a save that waits for the one in flight
  int64_t saves_in_flight_ = 0;
  std::optional<ReplicaSetup> validator_setup_;  // of the worker that validates beside the training, until it is there
  ActorRef validator_;                           // null: validations are in turn
  std::optional<Role> ending_;                   // whose end the run waits for; nothing: it goes on
  bool monitors_have_ended_ = false, gives_up_ = false, workers_hang_ = false;
  RunResult result_;
};

}  // namespace troupe::cast
