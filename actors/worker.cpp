#include "troupe/actors/worker.hpp"

#include "troupe/actors/handlers.hpp"
#include "troupe/actors/loader.hpp"
#include "troupe/actors/worker_state.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"
#include "troupe/runtime/data/own_reader.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/replica/validation_beside.hpp"

#include <algorithm>
#include <utility>

namespace troupe::cast {

// --- Beginning -------------------------------------------------------------------------------------------------------

// Runs `action`; what it throws becomes the worker's failure.
template <class Action>
void WorkerState::guarded(Action action) {
  if (doing_ == Doing::ended) return;
  const Working working(*pulse_);
  try {
    action();
  } catch (...) {
    fail(current_exception_text());
  }
}

caf::behavior WorkerState::start(WorkerSetup setup) {
  setup_ = std::move(setup);
  pulse_ = setup_.replica.pulse;
  enter_thread(pulse_);
  PhaseClock::set_of_thread(&clock_);
  stage_ = setup_.replica.stage;
  name_lane(pulse_->who);
  reporter_ = ProgressReporter(self_, setup_.progress, setup_.shows_progress, setup_.live);
  on_watched_end(self_, [this](const caf::actor_addr& who, const std::string& why) { watched_end(who, why); });
  watch(self_, setup_.coordinator);
  return Handlers{
      [this](Perform& message) {
        guarded([&] { std::visit([&](auto& command) { carry_out(command, message); }, message.command); });
      },
      [this](const Validate& message) { guarded([&] { validate(message); }); },
      [this](BatchReady& batch) { guarded([&] { take_batches(batch); }); },
      [this](BatchesReady& batches) { guarded([&] { take_batches(batches); }); },
      [this](GoOn) {
        go_on_sent_ = false;
        guarded([&] { work(); });
      },
      [this](const EndOfData& end) { guarded([&] { take_end_of_data(end); }); },
      [this](LoaderFailed& failed) { guarded([&] { fail_in_loader(std::move(failed.failure)); }); },
      [this](const StopSegment& stop) { guarded([&] { stop_segment(stop); }); },
      [this](const EndWorker& message) {
        const Working working(*pulse_);
        end(message);
      },
  };
}

// --- What the replica hands over -------------------------------------------------------------------------------------

void WorkerState::record(Record record) {
  if (!is_rank_zero()) return;
  const PhaseScope phase(Phase::logging);
  setup_.logger.deliver(self_, WriteRecord{std::move(record)});
}

void WorkerState::print(std::string line) {
  if (is_rank_zero()) tell(self_, setup_.progress, PrintLine{std::move(line)});
}

void WorkerState::note(std::string line) {
  if (is_rank_zero()) tell(self_, setup_.progress, PrintLine{std::move(line), true});
}

void WorkerState::stop_requested(const std::string& reason) {
  asked_.stop = true;
  tell(self_, setup_.coordinator, StopAsked{reason});
}

// --- Commands --------------------------------------------------------------------------------------------------------

Done WorkerState::answer() const {
  Done done;
  done.worker = setup_.index;
  done.answer.progress = replica_->progress();
  done.answer.metrics = replica_->callback_metrics();
  return done;
}

void WorkerState::carry_out(PrepareCommand&, Perform&) {
  if (validates_beside()) return prepare_to_validate();
  copy_ahead_.emplace(setup_.replica.device);
  replica_ = std::make_unique<Replica>(std::move(setup_.replica), *this);
  facts_ = replica_->prepare();
  if (replica_->peers()) {
    joint_.emplace(*replica_->peers(), replica_->options().uneven_data);
    stragglers_.emplace(*replica_->peers(), *pulse_, replica_->options().straggler_ratio);
  }
  // Batches go to the device ahead of need, unless the user has a say in how.
  copies_ahead_ = replica_->device().is_cuda() && !replica_->overrides_transfer();
  open_feeds();
  Done done = answer();
  done.facts = facts_;
  if (hands_over()) done.eval_loaders = replica_->eval_loaders();
  for (const auto& callback : replica_->callbacks()) {
    if (auto monitor = std::dynamic_pointer_cast<Monitor>(callback)) done.monitors.push_back(std::move(monitor));
  }
  tell(self_, setup_.coordinator, std::move(done));
}

void WorkerState::open_feeds() {
  const auto& train = replica_->train_loaders();
  train_feed_ = TrainFeed(make_feeds(train, Stage::fit), train.names(), replica_->combined_epoch());
  train_feed_.set_origin(replica_->epoch_origin());
  if (!hands_over()) open_evaluation_feed();
}

void WorkerState::open_evaluation_feed() {
  const Stage stage = replica_->stage();
  evaluation_feed_ = EvaluationFeed(make_feeds(replica_->eval_loaders(), stage == Stage::fit ? Stage::validate : stage),
                                    facts_.eval_batches, data_place());
}

std::vector<Feed> WorkerState::make_feeds(const DataLoaders& loaders, Stage stage) {
  std::vector<Feed> feeds;
  for (std::size_t i = 0; i < loaders.size(); ++i) feeds.push_back(make_feed(loaders[i], stage, i));
  return feeds;
}

Feed WorkerState::make_feed(const DataLoader& given, Stage stage, std::size_t index) {
  const auto& options = replica_->options();
  const DataLoader loader = setup_.shares_process ? own_reader(given, "trainer.devices") : given;
  LoaderSetup loader_setup{loader};
  loader_setup.seed = mix(*options.seed, static_cast<uint64_t>(stage), index);
  loader_setup.loader_idx = static_cast<int64_t>(index);
  loader_setup.allow_shuffle = options.overfit_batches.is_none();
  loader_setup.stage = stage;
  loader_setup.rank = replica_->global_rank();
  loader_setup.watchdog = setup_.watchdog;
  loader_setup.owner = ref_to(self_);
  loader_setup.shard = data_place().global_rank;
  loader_setup.shards = data_place().world_size;
  loader_setup.division = stage == Stage::fit ? Division::padded_samples : Division::batches;
  const ActorRef actor = spawn_loader(self_->system(), std::move(loader_setup));
  loaders_.emplace_back(actor, loader_name(static_cast<int64_t>(index)));
  watch(self_, actor);
  return Feed(actor, loader.options().prefetch);
}

// Which part of the data is this worker's.
Place WorkerState::data_place() const {
  return replica_->peers() && replica_->options().use_distributed_sampler ? replica_->peers()->place() : Place{};
}

void WorkerState::carry_out(HooksCommand& command, Perform&) {
  if (joint_) joint_->close();
  if (clock_.current() == id_of(Phase::between_epochs)) clock_.enter(id_of(Phase::rest));  // no other one follows
  replica_->run(command.hooks);
  if (command.hooks.front() == Hook::teardown) gather_phases();
  tell(self_, setup_.coordinator, answer());
}

void WorkerState::carry_out(OpenEpochCommand& command, Perform&) {
  if (clock_.current() == id_of(Phase::rest)) clock_.enter(id_of(Phase::between_epochs));
  replica_->begin_train_epoch(command.epoch, command.batch_idx);
  if (joint_) {
    joint_->open(self_, train_feed_, next_ticket_, command.epoch, command.batch_idx, facts_.train_batches,
                 replica_->combined_epoch().length());
  } else {
    train_feed_.open(self_, next_ticket_, command.epoch, command.batch_idx);
  }
  reporter_.begin_training(command.batch_idx);
  replica_->run(command.hooks);
  replica_->refresh_averagers();
  tell(self_, setup_.coordinator, answer());
}

void WorkerState::carry_out(TrainCommand& command, Perform&) {
  segment_ = command;
  validated_ = nullptr;
  if (command.logs_first) replica_->log_next_step();
  if (stragglers_) stragglers_->resume();
  doing_ = Doing::training;
  work();
}

void WorkerState::carry_out(CloseEpochCommand& command, Perform& message) {
  if (joint_) joint_->close();
  train_feed_.close(self_);
  if (clock_.current() == id_of(Phase::rest)) clock_.enter(id_of(Phase::between_epochs));  // it is cut
  replica_->run(command.hooks);
  replica_->end_train_epoch(command.is_cut);
  if (command.keeps_state && may_be_saved()) keep_state(message);
  tell(self_, setup_.coordinator, answer());
}

void WorkerState::carry_out(EvaluateCommand& command, Perform&) {
  evaluation_ = command;
  if (stage_ == Stage::fit) clock_.begin_validation();
  replica_->begin_evaluation(command.stage, command.is_sanity_check);
  replica_->run(command.before);
  doing_ = Doing::evaluating;
  // An evaluation by itself sees the same data whether it stands alone or behind a fit.
  const int64_t epoch = replica_->stage() == Stage::fit ? replica_->progress().epoch : 0;
  evaluation_feed_.open(self_, next_ticket_, epoch, command.limit);
  work();
}

namespace {

void take_stops(nlohmann::json& metadata, const nlohmann::json& loop) {
  const auto own = metadata.find(metadata_key::loop);
  if (own == metadata.end() || !own->is_object()) return;
  own->erase(metadata_key::stops);
  if (loop.contains(metadata_key::stops)) (*own)[metadata_key::stops] = loop.at(metadata_key::stops);
}

}  // namespace

// Without what a resumed run needs there is nothing to keep: weights are written as they are.
void WorkerState::carry_out(HoldCommand&, Perform& message) {
  const PhaseScope phase(Phase::checkpoint);
  held_.reset();
  const bool is_wanted = replica_->options().enable_checkpointing && !message.weights_only;
  if (is_wanted) held_ = replica_->snapshot({.loop = std::move(message.loop)});
  tell(self_, setup_.coordinator, answer());
}

void WorkerState::carry_out(SaveCommand& command, Perform& message) {
  clock_.give_to(Phase::checkpoint);  // the command waits until the snapshot before is written
  const PhaseScope phase(Phase::checkpoint);
  std::shared_ptr<Checkpoint> snapshot;
  const Checkpoint* kept = command.is_validated ? validated_.get() : command.is_held && held_ ? &*held_ : nullptr;
  if (kept) {
    snapshot = std::make_shared<Checkpoint>(*kept);  // the same tensors
    snapshot->metadata[metadata_key::callbacks].update(message.monitor_states);
    if (command.is_validated) take_stops(snapshot->metadata, message.loop);  // with what monitors are now
  } else {
    snapshot = std::make_shared<Checkpoint>(replica_->snapshot({.weights_only = message.weights_only,
                                                                .monitor_states = std::move(message.monitor_states),
                                                                .loop = std::move(message.loop),
                                                                .validation_was_cut = command.validation_was_cut}));
    // Who goes on from here has them before it.
    if (!message.weights_only) {
      for (const auto& model : handed_over_) append_validation(*snapshot, *model);
    }
  }
  if (is_rank_zero()) {
    tell(self_, setup_.logger.to, SaveSnapshot{std::move(snapshot), std::move(command.requests)});
  }
  tell(self_, setup_.coordinator, answer());
}

void WorkerState::carry_out(KeepCommand&, Perform& message) {
  const PhaseScope phase(Phase::checkpoint);
  auto snapshot = std::make_shared<Checkpoint>(replica_->snapshot(
      {.monitor_states = std::move(message.monitor_states), .loop = std::move(message.loop), .on_all_ranks = true}));
  if (setup_.kept) setup_.kept->put(std::move(snapshot));
  tell(self_, setup_.coordinator, answer());
}

// Optimizers of the user's own may have no rate, which is no reason to end a run.
void WorkerState::carry_out(SetRateCommand& command, Perform&) {
  const auto problem = text_thrown_by([&] {
    for (const auto& optimizer : replica_->optimizers()) {
      for (auto& group : optimizer->param_groups()) group.options().set_lr(command.lr);
    }
  });
  const auto step = std::to_string(replica_->progress().global_step);
  note(problem.empty() ? "warning: the learning rate is " + double_to_text(command.lr) + " from step " + step + " on"
                       : "warning: the learning rate of an optimizer cannot be set: " + problem);
  tell(self_, setup_.coordinator, answer());
}

void WorkerState::carry_out(AgreeCommand& command, Perform&) {
  const PhaseScope phase(Phase::waiting_for_ranks);
  Done done = answer();
  done.answer.said = replica_->peers()->all_gather_bytes(command.mine);
  tell(self_, setup_.coordinator, std::move(done));
}

void WorkerState::stop_segment(const StopSegment& stop) {
  asked_.pause |= stop.pause;
  asked_.stop |= !stop.pause;
  asked_.interrupt |= stop.interrupt;
  work();
}

// --- Failures --------------------------------------------------------------------------------------------------------

void WorkerState::fail(const std::string& message, const std::string& part) {
  Failure failure = replica_ ? replica_->position() : Failure{};
  if (!part.empty()) failure.hook = part;
  failure.message = message;
  fail(std::move(failure));
}

void WorkerState::fail_in_loader(Failure failure) {
  failure.device = replica_->device().str();
  fail(std::move(failure));
}

void WorkerState::fail(Failure failure) {
  if (replica_) failure.rank = replica_->global_rank();
  doing_ = Doing::ended;
  end_phases();
  train_feed_.close(self_);
  evaluation_feed_.close(self_);
  tell(self_, setup_.coordinator, Failed{std::move(failure)});
}

void WorkerState::watched_end(const caf::actor_addr& who, const std::string& why) {
  if (who != setup_.coordinator.address()) return guarded([&] { loader_ended(who, why); });
  Failure failure;
  failure.hook = "coordinator";
  failure.message = why;
  const Working working(*pulse_);
  end(EndWorker{std::move(failure)});
}

// A loader that ends while the worker does not has been unable to say more.
void WorkerState::loader_ended(const caf::actor_addr& who, const std::string& why) {
  const auto found = std::ranges::find_if(loaders_, [&](const auto& each) { return each.first.address() == who; });
  if (found == loaders_.end()) return;
  fail(why.empty() ? "it has ended before the run" : why, found->second);
}

// --- End -------------------------------------------------------------------------------------------------------------

void WorkerState::end(const EndWorker& message) {
  doing_ = Doing::ended;
  end_phases();
  train_feed_.quit(self_);
  evaluation_feed_.quit(self_);
  WorkerEnded ended;
  ended.worker = setup_.index;
  if (replica_) {
    torch::GradMode::set_enabled(true);
    if (message.failure) ended.problems.push_back(replica_->report_quietly(*message.failure));
    ended.problems.push_back(replica_->tear_down_quietly());
    ended.curves = replica_->curves();
    ended.bar_metrics = replica_->bar_metrics();
    ended.captured = replica_->captured();
    ended.predictions = replica_->take_predictions();
    if (!message.failure && !validates_beside()) fill_queue(ended.queue);
    report_phases(/*is_final=*/true);
    ended.module = replica_->release();
    if (ended.module && !replica_->device().is_cpu()) {
      ended.problems.push_back(text_thrown_by([&] { ended.module->to(torch::kCPU); }));
    }
    replica_.reset();
    copy_ahead_.reset();
  } else {
    report_phases(/*is_final=*/true);
  }
  PhaseClock::set_of_thread(nullptr);
  std::erase(ended.problems, "");
  tell(self_, setup_.coordinator, std::move(ended));
  self_->quit();
}

void WorkerState::fill_queue(ResultQueue& queue) {
  if (!replica_->module()) return;
  const std::string problem = text_thrown_by([&] { replica_->module()->add_to_queue(queue); });
  if (problem.empty()) return;
  Failure failure = replica_->position();
  failure.rank = replica_->global_rank();
  failure.hook = "add_to_queue";
  failure.message = problem;
  tell(self_, setup_.coordinator, Failed{std::move(failure)});
}

namespace {

caf::behavior worker(caf::stateful_actor<WorkerState>* self, const std::shared_ptr<WorkerSetup>& setup) {
  return state_of(self).start(std::move(*setup));
}

}  // namespace

ActorRef spawn_worker(caf::actor_system& system, WorkerSetup setup) {
  return spawn_threaded(system, worker, std::make_shared<WorkerSetup>(std::move(setup)));
}

}  // namespace troupe::cast
