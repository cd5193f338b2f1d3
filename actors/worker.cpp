#include "troupe/actors/worker.hpp"

#include "troupe/actors/events.hpp"
#include "troupe/actors/feed.hpp"
#include "troupe/actors/joint_epoch.hpp"
#include "troupe/actors/loader.hpp"
#include "troupe/actors/messages.hpp"
#include "troupe/actors/train_feed.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"
#include "troupe/runtime/data/epoch_plan.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/distributed/stragglers.hpp"

#include <algorithm>
#include <chrono>

namespace troupe::cast {

namespace {

using Clock = std::chrono::steady_clock;

struct WorkerState;
using WorkerSelf = caf::stateful_actor<WorkerState>;

// How often a state of progress is worth a message.
constexpr auto progress_interval = std::chrono::milliseconds(100);

struct WorkerState : ReplicaOutputs {
  enum class Doing { nothing, training, evaluating, ended };

  WorkerSelf* self = nullptr;
  WorkerSetup setup;
  std::shared_ptr<Pulse> pulse;
  std::unique_ptr<Replica> replica;
  TrainFeed train_feed;
  std::vector<Feed> eval_feeds;
  std::vector<std::pair<ActorRef, std::string>> loaders;  // behind the feeds, with what failures call them
  DataFacts facts;
  int64_t next_ticket = 1;

  Doing doing = Doing::nothing;
  TrainCommand segment;
  EvaluateCommand evaluation;
  std::size_t eval_loader = 0;
  StopFlags asked;                  // of this worker
  StopFlags agreed;                 // what it follows: the same, or what all workers of the run know
  std::optional<JointEpoch> joint;  // where there are others
  std::optional<Stragglers> stragglers;
  std::optional<Checkpoint> held;  // a snapshot for later
  bool go_on_sent = false;
  Clock::time_point last_progress{};
  Clock::time_point stage_began{};

  explicit WorkerState(WorkerSelf* self_in) : self(self_in) {}

  // --- ReplicaOutputs ---

  // Rank zero speaks for all.
  bool is_rank_zero() const { return replica->global_rank() == 0; }
  void record(Record record) override {
    if (is_rank_zero()) setup.logger.deliver(self, WriteRecord{std::move(record)});
  }
  void print(std::string line) override {
    if (is_rank_zero()) tell(self, setup.progress, PrintLine{std::move(line)});
  }
  void note(std::string line) override {
    if (is_rank_zero()) tell(self, setup.progress, PrintLine{std::move(line), true});
  }
  void stop_requested(const std::string& reason) override {
    asked.stop = true;
    tell(self, setup.coordinator, StopAsked{reason});
  }

  // --- Commands ---

  void perform(Perform& message) {
    std::visit([&](auto& command) { carry_out(command, message); }, message.command);
  }

  void carry_out(PrepareCommand&, Perform&) {
    copy_ahead.emplace(setup.replica.device);
    replica = std::make_unique<Replica>(std::move(setup.replica), *this);
    facts = replica->prepare();
    if (replica->peers()) {
      joint.emplace(*replica->peers(), uneven_data(replica->options().uneven_data));
      stragglers.emplace(*replica->peers(), *pulse, replica->options().straggler_ratio);
    }
    copies_ahead = replica->device().is_cuda() && !replica->overrides_transfer();
    const auto make_feeds = [&](const DataLoaders& loaders, Stage stage) {
      std::vector<Feed> feeds;
      for (std::size_t i = 0; i < loaders.size(); ++i) feeds.push_back(make_feed(loaders[i], stage, i));
      return feeds;
    };
    const auto& train = replica->train_loaders();
    train_feed = TrainFeed(make_feeds(train, Stage::fit), train.names(), replica->combined_epoch());
    train_feed.set_origin(replica->epoch_origin());
    const Stage stage = replica->stage();
    eval_feeds = make_feeds(replica->eval_loaders(), stage == Stage::fit ? Stage::validate : stage);
    Done done = answer();
    done.facts = facts;
    for (const auto& callback : replica->callbacks()) {
      if (auto monitor = std::dynamic_pointer_cast<Monitor>(callback)) done.monitors.push_back(std::move(monitor));
    }
    tell(self, setup.coordinator, std::move(done));
  }

  void carry_out(HooksCommand& command, Perform&) {
    if (joint) joint->close();
    replica->run(command.hooks);
    tell(self, setup.coordinator, answer());
  }

  void carry_out(OpenEpochCommand& command, Perform&) {
    replica->begin_train_epoch(command.epoch, command.batch_idx);
    if (joint) {
      joint->open(self, train_feed, next_ticket, command.epoch, command.batch_idx, facts.train_batches,
                  replica->combined_epoch().length());
    } else {
      train_feed.open(self, next_ticket, command.epoch, command.batch_idx);
    }
    stage_began = Clock::now();
    replica->run(command.hooks);
    replica->refresh_averagers();
    tell(self, setup.coordinator, answer());
  }

  void carry_out(TrainCommand& command, Perform&) {
    segment = command;
    if (stragglers) stragglers->resume();
    doing = Doing::training;
    work();
  }

  void carry_out(CloseEpochCommand& command, Perform&) {
    if (joint) joint->close();
    train_feed.close(self);
    replica->run(command.hooks);
    replica->end_train_epoch(command.is_cut);
    tell(self, setup.coordinator, answer());
  }

  void carry_out(EvaluateCommand& command, Perform&) {
    evaluation = command;
    replica->begin_evaluation(command.stage, command.is_sanity_check);
    replica->run(command.before);
    eval_loader = 0;
    eval_saw_batches = false;
    doing = Doing::evaluating;
    open_eval_loader();
    work();
  }

  // Without what a resumed run needs there is nothing to keep: weights are written as they are.
  void carry_out(HoldCommand&, Perform& message) {
    held.reset();
    const bool is_wanted = replica->options().enable_checkpointing && !message.weights_only;
    if (is_wanted) held = replica->snapshot({.loop = std::move(message.loop)});
    tell(self, setup.coordinator, answer());
  }

  void carry_out(SaveCommand& command, Perform& message) {
    std::shared_ptr<Checkpoint> snapshot;
    if (command.is_held && held) {
      snapshot = std::make_shared<Checkpoint>(*held);  // the same tensors
      snapshot->metadata[metadata_key::callbacks].update(message.monitor_states);
    } else {
      snapshot = std::make_shared<Checkpoint>(replica->snapshot({.weights_only = message.weights_only,
                                                                 .monitor_states = std::move(message.monitor_states),
                                                                 .loop = std::move(message.loop),
                                                                 .validation_was_cut = command.validation_was_cut}));
    }
    if (is_rank_zero()) {
      tell(self, setup.logger.to, SaveSnapshot{std::move(snapshot), std::move(command.requests)});
    }
    tell(self, setup.coordinator, answer());
  }

  void carry_out(AgreeCommand& command, Perform&) {
    Done done = answer();
    done.answer.said = replica->peers()->all_gather_bytes(command.mine);
    tell(self, setup.coordinator, std::move(done));
  }

  // --- Batches ---

  // Batches go to the device ahead of need, unless the user has a say in how.
  CopyAhead* copier() { return copies_ahead ? &*copy_ahead : nullptr; }

  Feed* expecting(int64_t ticket) {
    if (Feed* feed = train_feed.expecting(ticket)) return feed;
    const auto found = std::ranges::find_if(eval_feeds, [&](const Feed& feed) { return feed.expects(ticket); });
    return found == eval_feeds.end() ? nullptr : &*found;
  }

  void on_batch(BatchReady& batch) {
    Feed* feed = expecting(batch.ticket);
    if (!feed) return;
    feed->push(self, std::move(batch), copier());
    work();
  }

  void on_end_of_data(const EndOfData& end) {
    if (Feed* feed = expecting(end.ticket)) feed->finish();
    work();
  }

  // Batches as long as there are some and a command that wants them; between any two a message gets its turn.
  void work() {
    do {
      pulse->beat();
      if (doing == Doing::training)
        train_once();
      else if (doing == Doing::evaluating)
        evaluate_once();
    } while (can_go_on() && !has_mail(self));
    if (can_go_on() && !go_on_sent) {
      go_on_sent = true;
      tell(self, self, GoOn{});
    }
  }

  bool can_go_on() const {
    if (doing == Doing::training) {
      return train_feed.has_batch() || train_feed.is_exhausted() || (joint && joint->is_cast());
    }
    return doing == Doing::evaluating &&
           (eval_feeds[eval_loader].has_batch() || eval_feeds[eval_loader].is_exhausted());
  }

  void train_once() {
    if (joint) return train_jointly();
    agreed.stop |= asked.stop;
    agreed.interrupt |= asked.interrupt;
    agreed.pause |= std::exchange(asked.pause, false);
    if (is_at_end_of_segment()) return end_segment(false);
    if (train_feed.is_exhausted()) return end_segment(true);
    if (!train_feed.has_batch()) return;
    BatchReady ready = train_feed.pop(self, copier(), next_ticket);
    const AfterBatch after =
        train_with([&] { return replica->train_batch(std::move(ready.batch), ready.index, ready.last); });
    const bool is_over = ready.last || after == AfterBatch::skip_rest_of_epoch;
    if (is_over || is_at_end_of_segment()) end_segment(is_over);
  }

  template <class Train>
  AfterBatch train_with(Train train) {
    const bool shows = progress_due();
    if (shows || !setup.listeners.empty()) replica->want_step_metrics();
    const AfterBatch after = train();
    if (shows) show_training(false);
    for (const auto& listener : setup.listeners) {
      listener.offer(self, Publish{TrainBatchEnded{replica->progress(), replica->callback_metrics()}});
    }
    return after;
  }

  // The same with others: a vote on each batch, in which requests to stop are agreed on too.
  void train_jointly() {
    if (is_at_end_of_segment()) return end_segment(false);
    if (!joint->vote(self, train_feed, next_ticket, asked)) return;
    const Tally tally = joint->tally();
    if (joint->compares_now()) {
      if (auto remark = stragglers->compare(); !remark.empty()) note("warning: " + std::move(remark));
    }
    agreed.stop |= tally.stop;
    agreed.interrupt |= tally.interrupt;
    agreed.pause |= joint->pauses_now();
    if (joint->is_over(tally)) return end_segment(true);
    if (is_at_end_of_segment()) return end_segment(false);
    std::optional<BatchReady> ready;
    if (joint->has_batch(train_feed)) ready = train_feed.pop(self, copier(), next_ticket);
    const int64_t batch_idx = replica->progress().batch_idx;
    const bool is_last = joint->take(batch_idx);
    if (!is_last) joint->vote(self, train_feed, next_ticket, asked);  // ahead, where the next batch is there
    const AfterBatch after = train_with([&] {
      if (ready) return replica->train_batch(std::move(ready->batch), batch_idx, is_last, tally.samples);
      replica->train_without_batch(batch_idx, is_last, tally.samples);
      return AfterBatch::go_on;
    });
    asked.compare |= stragglers->count_step();
    if (after == AfterBatch::skip_rest_of_epoch) joint->skip_rest();
    if (is_last || is_at_end_of_segment()) end_segment(is_last);
  }

  bool is_at_end_of_segment() const {
    const Progress& at = replica->progress();
    return (segment.until_batch >= 0 && at.batch_idx >= segment.until_batch) ||
           (segment.until_step >= 0 && at.global_step >= segment.until_step) || agreed.interrupt || agreed.pause ||
           (agreed.stop && may_stop(replica->options(), at));
  }

  void end_segment(bool epoch_over) {
    doing = Doing::nothing;
    if (stragglers) stragglers->pause();
    agreed.pause = false;
    replica->settle_step_metrics();
    if (setup.shows_progress) show_training(epoch_over);
    Done done = answer();
    done.answer.epoch_over = epoch_over;
    tell(self, setup.coordinator, std::move(done));
  }

  void open_eval_loader() {
    if (eval_loader >= eval_feeds.size()) return;
    const auto& known = facts.eval_batches[eval_loader];
    int64_t limit = known.value_or(-1);  // of all ranks together
    if (evaluation.limit >= 0) limit = std::min(known.value_or(evaluation.limit), evaluation.limit);
    const Place place = data_place();
    eval_total = limit < 0 ? -1 : share_of(limit, place.global_rank, place.world_size);
    eval_batches_done = 0;
    // An evaluation by itself sees the same data whether it stands alone or behind a fit.
    const int64_t epoch = replica->stage() == Stage::fit ? replica->progress().epoch : 0;
    eval_feeds[eval_loader].open(self, next_ticket++, epoch, 0, limit);
    stage_began_eval = Clock::now();
  }

  void evaluate_once() {
    if (asked.interrupt) {
      replica->cut_evaluation();
      return end_evaluation();
    }
    Feed& feed = eval_feeds[eval_loader];
    if (feed.has_batch()) {
      BatchReady ready = feed.pop(self, copier());
      const Place place = data_place();
      const int64_t batch_idx = place.global_rank + ready.index * place.world_size;
      replica->eval_batch(std::move(ready.batch), batch_idx, static_cast<int64_t>(eval_loader));
      eval_batches_done = ready.index + 1;
      eval_saw_batches = true;
      if (progress_due()) show_evaluation(false);
      if (!ready.last) return;
    } else if (!feed.is_exhausted()) {
      return;
    }
    feed.close(self);
    if (setup.shows_progress) show_evaluation(true);
    if (++eval_loader < eval_feeds.size()) return open_eval_loader();
    end_evaluation();
  }

  void end_evaluation() {
    for (auto& feed : eval_feeds) feed.close(self);
    doing = Doing::nothing;
    replica->run(evaluation.after);
    auto results = replica->end_evaluation();
    Done done = answer();
    done.answer.evaluation = std::move(results);
    done.answer.saw_batches = eval_saw_batches;
    const bool is_empty = !eval_saw_batches && !asked.interrupt && replica->stage() == Stage::fit;
    if (is_empty && !std::exchange(warned_of_empty_validation, true)) {
      note("warning: the validation had no batch: nothing is logged in it");
    }
    tell(self, setup.coordinator, std::move(done));
  }

  // --- Progress ---

  bool progress_due() {
    if (!setup.shows_progress) return false;
    const auto now = Clock::now();
    if (now - last_progress < progress_interval) return false;
    last_progress = now;
    return true;
  }

  void show_training(bool is_final) {
    const auto& options = replica->options();
    ProgressState state;
    state.activity = Activity::train;
    state.epoch = replica->progress().epoch;
    if (options.max_epochs.value_or(-1) >= 0) state.max_epochs = options.max_epochs;
    state.batch = replica->progress().batch_idx;
    state.total_batches = facts.train_batches;
    show(std::move(state), stage_began, is_final);
  }

  void show_evaluation(bool is_final) {
    ProgressState state;
    state.activity = evaluation.is_sanity_check           ? Activity::sanity_check
                     : evaluation.stage == Stage::test    ? Activity::test
                     : evaluation.stage == Stage::predict ? Activity::predict
                                                          : Activity::validate;
    state.batch = eval_batches_done;
    if (eval_total >= 0) state.total_batches = eval_total;
    show(std::move(state), stage_began_eval, is_final);
  }

  void show(ProgressState state, Clock::time_point since, bool is_final) {
    state.elapsed = std::chrono::duration<double>(Clock::now() - since).count();
    if (state.elapsed > 0) state.batches_per_second = static_cast<double>(state.batch) / state.elapsed;
    if (!replica->sanity_checking()) {
      for (const auto& [name, value] : replica->shown_metrics()) state.metrics.emplace_back(name, value);
    }
    tell(self, setup.progress, ShowProgress{std::move(state), is_final});
  }

  // --- Beginning and end ---

  // Which part of the data is this worker's.
  Place data_place() const {
    return replica->peers() && replica->options().use_distributed_sampler ? replica->peers()->place() : Place{};
  }

  Feed make_feed(const DataLoader& given, Stage stage, std::size_t index) {
    const auto& options = replica->options();
    const DataLoader loader = setup.shares_process ? own_reader(given) : given;
    LoaderSetup loader_setup{loader};
    loader_setup.seed = mix(*options.seed, static_cast<uint64_t>(stage), index);
    loader_setup.loader_idx = static_cast<int64_t>(index);
    loader_setup.allow_shuffle = options.overfit_batches.is_none();
    loader_setup.stage = stage;
    loader_setup.rank = replica->global_rank();
    loader_setup.watchdog = setup.watchdog;
    loader_setup.owner = self;
    loader_setup.shard = data_place().global_rank;
    loader_setup.shards = data_place().world_size;
    loader_setup.division = stage == Stage::fit ? Division::padded_samples : Division::batches;
    const ActorRef actor = spawn_loader(self->system(), std::move(loader_setup));
    loaders.emplace_back(actor, loader_name(static_cast<int64_t>(index)));
    watch(self, actor);
    return Feed(actor, loader.options().prefetch);
  }

  // Workers of one process must not read one stream together.
  static DataLoader own_reader(const DataLoader& loader) {
    if (!loader.stream()) return loader;
    auto replicated = loader.stream()->replicate();
    if (!replicated) {
      throw UsageError(
          "a stream (IterableDataset) is read by one device, and trainer.devices is above 1: override its replicate()"
          " so that each device gets a stream of its own");
    }
    return {std::move(replicated), loader.options()};
  }

  Done answer() {
    Done done;
    done.worker = setup.index;
    done.answer.progress = replica->progress();
    done.answer.metrics = replica->callback_metrics();
    return done;
  }

  void stop_segment(const StopSegment& stop) {
    asked.pause |= stop.pause;
    asked.stop |= !stop.pause;
    asked.interrupt |= stop.interrupt;
    work();
  }

  void fail(const std::string& message, const std::string& part = "") {
    Failure failure = replica ? replica->position() : Failure{};
    if (!part.empty()) failure.hook = part;
    failure.message = message;
    fail(std::move(failure));
  }

  // A loader that ends while the worker does not has been unable to say more.
  void on_loader_gone(const caf::actor_addr& who, const std::string& why) {
    const auto found = std::ranges::find_if(loaders, [&](const auto& each) { return each.first.address() == who; });
    if (found == loaders.end()) return;
    fail(why.empty() ? "it has ended before the run" : why, found->second);
  }

  void fail_in_loader(Failure failure) {
    failure.device = replica->device().str();
    fail(std::move(failure));
  }

  void fail(Failure failure) {
    if (replica) failure.rank = replica->global_rank();
    doing = Doing::ended;
    train_feed.close(self);
    for (auto& feed : eval_feeds) feed.close(self);
    tell(self, setup.coordinator, Failed{std::move(failure)});
  }

  void end(const EndWorker& message) {
    doing = Doing::ended;
    train_feed.quit(self);
    for (auto& feed : eval_feeds) feed.quit(self);
    WorkerEnded ended;
    ended.worker = setup.index;
    if (replica) {
      torch::GradMode::set_enabled(true);
      if (message.failure) ended.problems.push_back(replica->report_quietly(*message.failure));
      ended.problems.push_back(replica->tear_down_quietly());
      ended.curves = replica->curves();
      ended.predictions = replica->take_predictions();
      if (!message.failure) fill_queue(ended.queue);
      ended.module = replica->release();
      if (ended.module) ended.problems.push_back(text_thrown_by([&] { ended.module->to(torch::kCPU); }));
      replica.reset();
      copy_ahead.reset();
    }
    std::erase(ended.problems, "");
    tell(self, setup.coordinator, std::move(ended));
    self->quit();
  }

  void fill_queue(ResultQueue& queue) {
    if (!replica->module()) return;
    const std::string problem = text_thrown_by([&] { replica->module()->add_to_queue(queue); });
    if (problem.empty()) return;
    Failure failure = replica->position();
    failure.rank = replica->global_rank();
    failure.hook = "add_to_queue";
    failure.message = problem;
    tell(self, setup.coordinator, Failed{std::move(failure)});
  }

  std::optional<CopyAhead> copy_ahead;
  bool copies_ahead = false;
  int64_t eval_batches_done = 0;
  bool eval_saw_batches = false;
  bool warned_of_empty_validation = false;
  int64_t eval_total = -1;
  Clock::time_point stage_began_eval{};
};

// Runs `action`; what it throws becomes the worker's failure.
template <class Action>
void guarded(WorkerSelf* self, Action action) {
  WorkerState& state = self->state;
  if (state.doing == WorkerState::Doing::ended) return;
  const Working working(*state.pulse);
  try {
    action(state);
  } catch (...) {
    state.fail(current_exception_text());
  }
}

void on_gone(WorkerSelf* self, const caf::actor_addr& who, const std::string& why) {
  if (who != self->state.setup.coordinator.address()) {
    return guarded(self, [&](WorkerState& state) { state.on_loader_gone(who, why); });
  }
  Failure failure;
  failure.hook = "coordinator";
  failure.message = why;
  const Working working(*self->state.pulse);
  self->state.end(EndWorker{std::move(failure)});
}

caf::behavior worker(WorkerSelf* self, const std::shared_ptr<WorkerSetup>& setup) {
  self->state.setup = std::move(*setup);
  self->state.pulse = self->state.setup.replica.pulse;
  enter_thread(self->state.pulse);
  on_watched_end(self, [self](const caf::actor_addr& who, const std::string& why) { on_gone(self, who, why); });
  watch(self, self->state.setup.coordinator);
  return {
      [self](Perform& message) { guarded(self, [&](WorkerState& state) { state.perform(message); }); },
      [self](BatchReady& batch) { guarded(self, [&](WorkerState& state) { state.on_batch(batch); }); },
      [self](GoOn) {
        self->state.go_on_sent = false;
        guarded(self, [](WorkerState& state) { state.work(); });
      },
      [self](const EndOfData& end) { guarded(self, [&](WorkerState& state) { state.on_end_of_data(end); }); },
      [self](LoaderFailed& failed) {
        guarded(self, [&](WorkerState& state) { state.fail_in_loader(std::move(failed.failure)); });
      },
      [self](const StopSegment& stop) { guarded(self, [&](WorkerState& state) { state.stop_segment(stop); }); },
      [self](const EndWorker& message) {
        const Working working(*self->state.pulse);
        self->state.end(message);
      },
  };
}

}  // namespace

ActorRef spawn_worker(caf::actor_system& system, WorkerSetup setup) {
  return spawn_threaded(system, worker, std::make_shared<WorkerSetup>(std::move(setup)));
}

}  // namespace troupe::cast
