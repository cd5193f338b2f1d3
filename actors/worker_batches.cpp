// A worker's batches: those of a segment of training, alone or together with others, and those of an evaluation.
#include "troupe/actors/events.hpp"
#include "troupe/actors/worker_state.hpp"
#include "troupe/runtime/profile/thread_lane.hpp"

namespace troupe::cast {

Feed* WorkerState::expecting(int64_t ticket) {
  Feed* feed = train_feed_.expecting(ticket);
  return feed ? feed : evaluation_feed_.expecting(ticket);
}

void WorkerState::take_end_of_data(const EndOfData& end) {
  if (Feed* feed = expecting(end.ticket)) feed->finish();
  work();
}

// Batches as long as there are some and a command that wants them; between any two a message gets its turn.
void WorkerState::work() {
  do {
    pulse_->beat();
    if (doing_ == Doing::training)
      train_once();
    else if (doing_ == Doing::evaluating)
      evaluate_once();
  } while (can_go_on() && !has_mail(self_));
  if (!can_go_on()) {
    if (doing_ == Doing::training || doing_ == Doing::evaluating) await_batch();
  } else if (!go_on_sent_) {
    go_on_sent_ = true;
    tell(self_, ref_to(self_), GoOn{});
  }
}

bool WorkerState::can_go_on() const {
  if (doing_ == Doing::training) {
    return train_feed_.has_batch() || train_feed_.is_exhausted() || (joint_ && joint_->is_cast());
  }
  return doing_ == Doing::evaluating && (evaluation_feed_.has_batch() || evaluation_feed_.is_exhausted());
}

void WorkerState::train_once() {
  if (joint_) return train_jointly();
  agreed_.stop |= asked_.stop;
  agreed_.interrupt |= asked_.interrupt;
  agreed_.pause |= std::exchange(asked_.pause, false);
  if (is_at_end_of_segment()) return end_segment(false);
  if (train_feed_.is_exhausted()) return end_segment(true);
  if (!train_feed_.has_batch()) return;
  BatchReady ready = train_feed_.pop(self_, copier(), next_ticket_);
  const AfterBatch after =
      train_with([&] { return replica_->train_batch(std::move(ready.batch), ready.index, ready.last); });
  const bool is_over = ready.last || after == AfterBatch::skip_rest_of_epoch;
  if (is_over || is_at_end_of_segment()) end_segment(is_over);
}

template <class Train>
AfterBatch WorkerState::train_with(Train train) {
  const bool leads = setup_.index == 0;
  if (auto remark = leads ? profile_warning() : ""; !remark.empty()) note("warning: " + std::move(remark));
  const ProfiledBatch profiled(Stage::fit, replica_->progress().total_batches, leads);
  const bool shows = reporter_.is_due();
  const bool streams = setup_.live && setup_.live->wants_batches();
  if (shows || streams || !setup_.listeners.empty()) replica_->want_step_metrics();
  const AfterBatch after = [&] {
    const InBatch in_batch(*pulse_);
    return train();
  }();
  if (after == AfterBatch::go_on) count_batch();
  if (shows) {
    const PhaseScope phase(Phase::logging);
    reporter_.show_training(*replica_, facts_.train_batches, false);
  }
  for (const auto& listener : setup_.listeners) {
    listener.offer(self_, Publish{TrainBatchEnded{replica_->progress(), replica_->callback_metrics()}});
  }
  if (streams) setup_.live->publish(TrainBatchEnded{replica_->progress(), replica_->callback_metrics()});
  return after;
}

// Waits for the slowest.
Tally WorkerState::joint_tally() {
  const PhaseScope phase(Phase::waiting_for_ranks);
  return joint_->tally();
}

// The same with others: a vote on each batch, in which requests to stop are agreed on too.
void WorkerState::train_jointly() {
  if (is_at_end_of_segment()) return end_segment(false);
  if (!joint_->vote(self_, train_feed_, next_ticket_, asked_)) return;
  const Tally tally = joint_tally();
  if (joint_->compares_now()) {
    if (auto remark = stragglers_->compare(); !remark.empty()) note("warning: " + std::move(remark));
  }
  agreed_.stop |= tally.stop;
  agreed_.interrupt |= tally.interrupt;
  agreed_.pause |= joint_->pauses_now();
  if (joint_->is_over(tally)) return end_segment(true);
  if (is_at_end_of_segment()) return end_segment(false);
  std::optional<BatchReady> ready;
  if (joint_->has_batch(train_feed_)) ready = train_feed_.pop(self_, copier(), next_ticket_);
  const int64_t batch_idx = replica_->progress().batch_idx;
  const bool is_last = joint_->take(batch_idx);
  if (!is_last) joint_->vote(self_, train_feed_, next_ticket_, asked_);  // ahead, if the next batch is there
  const AfterBatch after = train_with([&] {
    if (ready) return replica_->train_batch(std::move(ready->batch), batch_idx, is_last, tally.samples);
    replica_->train_without_batch(batch_idx, is_last, tally.samples);
    return AfterBatch::go_on;
  });
  asked_.compare |= stragglers_->count_step();
  if (after == AfterBatch::skip_rest_of_epoch) joint_->skip_rest();
  if (is_last || is_at_end_of_segment()) end_segment(is_last);
}

bool WorkerState::is_at_end_of_segment() const {
  const Progress& at = replica_->progress();
  return (segment_.until_batch >= 0 && at.batch_idx >= segment_.until_batch) ||
         (segment_.until_step >= 0 && at.global_step >= segment_.until_step) || agreed_.interrupt || agreed_.pause ||
         (agreed_.stop && may_stop(replica_->options(), at));
}

void WorkerState::end_segment(bool epoch_over) {
  doing_ = Doing::nothing;
  clock_.enter(id_of(epoch_over ? Phase::between_epochs : Phase::rest));
  if (stragglers_) stragglers_->pause();
  agreed_.pause = false;
  replica_->settle_step_metrics();
  if (reporter_.is_on()) reporter_.show_training(*replica_, facts_.train_batches, epoch_over);
  Done done = answer();
  done.answer.epoch_over = epoch_over;
  tell(self_, setup_.coordinator, std::move(done));
}

void WorkerState::evaluate_once() {
  if (asked_.interrupt) {
    replica_->cut_evaluation();
    return end_evaluation();
  }
  if (evaluation_feed_.has_batch()) {
    BatchReady ready = evaluation_feed_.pop(self_, copier());
    const ProfiledBatch profiled(evaluation_.stage, ready.index, /*leads=*/setup_.index == 0);
    {
      const InBatch in_batch(*pulse_);
      replica_->eval_batch(std::move(ready.batch), evaluation_feed_.batch_idx(ready.index),
                           evaluation_feed_.loader_idx());
    }
    if (stage_ != Stage::fit) count_batch();
    if (reporter_.is_due()) reporter_.show_evaluation(*replica_, evaluation_, evaluation_feed_, false);
    if (!ready.last) return;
  } else if (!evaluation_feed_.is_exhausted()) {
    return;
  }
  evaluation_feed_.close_loader(self_);
  reporter_.show_evaluation(*replica_, evaluation_, evaluation_feed_, true);
  if (!evaluation_feed_.open_next(self_, next_ticket_)) end_evaluation();
}

void WorkerState::end_evaluation() {
  evaluation_feed_.close(self_);
  doing_ = Doing::nothing;
  replica_->run(evaluation_.after);
  auto results = replica_->end_evaluation();
  clock_.end_validation();
  Done done = answer();
  done.answer.evaluation = std::move(results);
  done.answer.saw_batches = evaluation_feed_.saw_batches();
  if (validates_beside()) done.answer.validation = validation_result();
  const bool is_empty = !done.answer.saw_batches && !asked_.interrupt && replica_->stage() == Stage::fit;
  if (is_empty && !std::exchange(warned_of_empty_validation_, true)) {
    note("warning: the validation had no batch: nothing is logged in it");
  }
  tell(self_, setup_.coordinator, std::move(done));
}

}  // namespace troupe::cast
