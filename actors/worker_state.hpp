// What a worker is made of: worker.cpp begins and ends it and carries out commands, worker_batches.cpp takes batches,
// worker_validation.cpp validates beside the training, worker_phases.cpp says where the time went.
#pragma once

#include "troupe/actors/evaluation_feed.hpp"
#include "troupe/actors/joint_epoch.hpp"
#include "troupe/actors/messages.hpp"
#include "troupe/actors/progress_reporter.hpp"
#include "troupe/actors/train_feed.hpp"
#include "troupe/actors/worker.hpp"
#include "troupe/runtime/distributed/stragglers.hpp"
#include "troupe/runtime/profile/phase_clock.hpp"

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace troupe::cast {

class WorkerState : public ReplicaOutputs {
 public:
  static constexpr const char* name = "worker";

  explicit WorkerState(caf::event_based_actor* self) : self_(self) {}

  caf::behavior start(WorkerSetup setup);

 private:
  enum class Doing { nothing, training, evaluating, ended };

  // What the replica hands over. Rank zero speaks for all.
  bool is_rank_zero() const { return replica_->global_rank() == 0; }
  void record(Record record) override;
  void print(std::string line) override;
  void note(std::string line) override;
  void stop_requested(const std::string& reason) override;

  // Commands.
  template <class Action>
  void guarded(Action action);
  void carry_out(PrepareCommand& command, Perform& message);
  void carry_out(HooksCommand& command, Perform& message);
  void carry_out(OpenEpochCommand& command, Perform& message);
  void carry_out(TrainCommand& command, Perform& message);
  void carry_out(CloseEpochCommand& command, Perform& message);
  void carry_out(EvaluateCommand& command, Perform& message);
  void carry_out(HoldCommand& command, Perform& message);
  void carry_out(SaveCommand& command, Perform& message);
  void carry_out(KeepCommand& command, Perform& message);
  void carry_out(SetRateCommand& command, Perform& message);
  void carry_out(AgreeCommand& command, Perform& message);
  void carry_out(AwaitValidationCommand& command, Perform& message);
  // Validation beside the training (worker_validation.cpp): the worker that trains, and the one that validates.
  void carry_out(HandOverCommand& command, Perform& message);
  void carry_out(TakeValidationCommand& command, Perform& message);
  bool validates_beside() const { return setup_.facts.has_value(); }
  bool hands_over() const { return stage_ == Stage::fit && replica_->options().async_validation; }
  bool may_be_saved() const;
  void keep_state(Perform& message);
  void prepare_to_validate();
  void validate(const Validate& message);
  std::shared_ptr<const ValidationResult> validation_result();
  void open_evaluation_feed();
  void open_feeds();
  std::vector<Feed> make_feeds(const DataLoaders& loaders, Stage stage);
  Feed make_feed(const DataLoader& given, Stage stage, std::size_t index);
  Place data_place() const;
  Done answer() const;
  void stop_segment(const StopSegment& stop);

  // Batches.
  CopyAhead* copier() { return copies_ahead_ ? &*copy_ahead_ : nullptr; }
  Feed* expecting(int64_t ticket);
  /// BatchReady or BatchesReady.
  template <class Ready>
  void take_batches(Ready& ready) {
    Feed* feed = expecting(ready.ticket);
    if (!feed) return;
    feed->push(self_, std::move(ready), copier());
    work();
  }
  void take_end_of_data(const EndOfData& end);
  void work();
  bool can_go_on() const;
  void train_once();
  void train_jointly();
  Tally joint_tally();
  template <class Train>
  AfterBatch train_with(Train train);
  bool is_at_end_of_segment() const;
  void end_segment(bool epoch_over);
  void evaluate_once();
  void end_evaluation();

  // Where the time goes (worker_phases.cpp).
  void await_batch();
  void count_batch();
  void end_phases();
  void report_phases(bool is_final);
  void gather_phases();

  // Failures, and the end.
  void fail(Failure failure);
  void fail(const std::string& message, const std::string& part = "");
  void fail_in_loader(Failure failure);
  void watched_end(const caf::actor_addr& who, const std::string& why);
  void loader_ended(const caf::actor_addr& who, const std::string& why);
  void end(const EndWorker& message);
  void fill_queue(ResultQueue& queue);

  caf::event_based_actor* self_;
  WorkerSetup setup_;
  PhaseClock clock_;
  Stage stage_ = Stage::fit;
  int64_t batches_ = 0;  // of training, or of the evaluation
  std::vector<PhaseSpread> spread_;
  std::shared_ptr<Pulse> pulse_;
  std::unique_ptr<Replica> replica_;
  ProgressReporter reporter_;
  TrainFeed train_feed_;
  EvaluationFeed evaluation_feed_;
  std::vector<std::pair<ActorRef, std::string>> loaders_;  // behind the feeds, with what failures call them
  DataFacts facts_;
  int64_t next_ticket_ = 1;

  Doing doing_ = Doing::nothing;
  TrainCommand segment_;
  EvaluateCommand evaluation_;
  StopFlags asked_;                  // of this worker
  StopFlags agreed_;                 // what it follows: the same, or what all workers of the run know
  std::optional<JointEpoch> joint_;  // if there are others
  std::optional<Stragglers> stragglers_;
  std::optional<Checkpoint> held_;                              // a snapshot for later
  std::deque<std::shared_ptr<const ModelAtStep>> handed_over_;  // what is validated beside the training, in order
  std::shared_ptr<Checkpoint> validated_;  // the latest of them with a result, until batches follow
  std::deque<Validate> waiting_validations_;
  std::shared_ptr<const ValidationResult> latest_result_;  // known since what is to be validated was handed over
  std::chrono::steady_clock::time_point validation_began_{};
  bool go_on_sent_ = false;
  bool warned_of_empty_validation_ = false;
  std::optional<CopyAhead> copy_ahead_;
  bool copies_ahead_ = false;
};

}  // namespace troupe::cast
