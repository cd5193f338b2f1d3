#include "troupe/launch/trainer_runner.hpp"

#include "troupe/base/exception_text.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/launch/end_of_ranks.hpp"
#include "troupe/launch/processes.hpp"
#include "troupe/launch/profiled_run.hpp"
#include "troupe/launch/signals.hpp"
#include "troupe/launch/slurm.hpp"
#include "troupe/modules/callbacks/model_checkpoint.hpp"
#include "troupe/runtime/callbacks/model_summary.hpp"
#include "troupe/runtime/capture/offered_memory.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"
#include "troupe/runtime/checkpoint/packed_tensor.hpp"
#include "troupe/runtime/checkpoint/progress_json.hpp"
#include "troupe/runtime/collectives/collective_error.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/report/metric_curves.hpp"
#include "troupe/runtime/report/run_card.hpp"
#include "troupe/runtime/sinks/sink_by_name.hpp"

#include <c10/util/ScopeExit.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <mutex>
#include <optional>
#include <thread>

namespace troupe {

namespace {

// Of "process 1 on node7, process 2 on node8".
std::string verdict_on(const std::string& lost) {
  return lost + (lost.find(", ") == std::string::npos ? " is lost" : " are lost");
}

std::string with_spares(int64_t count) {
  if (count == 0) return "";
  return count == 1 ? ", with a spare" : ", with " + std::to_string(count) + " spares";
}

// As a spare: the stage is over, or one is lost, once all of them say so.
Processes::Outcome wait_for_others() {
  const SignalWatch passed_over([](int) {});  // the others end by it, and this process with them
  return Processes::get().agree(Processes::Outcome::well, std::chrono::hours(24 * 365));
}

std::string whereabouts_of(const std::vector<std::shared_ptr<Pulse>>& pulses) {
  std::string says;
  for (const auto& pulse : pulses) {
    const auto where = pulse->whereabouts();
    if (!where.empty()) says += (says.empty() ? "" : "; ") + where;
  }
  return says;
}

}  // namespace

Trainer::Runner::Runner(TrainerOptions options) : given_(std::move(options)) {
  troupe::validate(given_);
  check_sink_names(given_.loggers);
  if (!given_.seed) given_.seed = drawn_seed();
  auto& processes = Processes::get();
  if (!processes.is_alone()) {
    given_.seed = std::stoull(processes.from_rank_zero([&] { return std::to_string(*given_.seed); }));
  }
  options_ = resolved(given_);
  if (!options_.enable_checkpointing) {
    std::erase_if(options_.callbacks,
                  [](const auto& callback) { return dynamic_cast<const ModelCheckpoint*>(callback.get()) != nullptr; });
  }
  const auto is_summary = [](const auto& callback) { return dynamic_cast<ModelSummary*>(callback.get()) != nullptr; };
  if (options_.enable_model_summary && std::ranges::none_of(options_.callbacks, is_summary)) {
    options_.callbacks.push_back(std::make_shared<ModelSummary>());
  }
  system_ = std::make_unique<ActorSystem>();
}

Trainer::Runner::~Runner() {
  if (system_->has_ended_within(patience())) return;
  std::cerr << "troupe: warning: a loader is in its dataset still, " + double_to_text(patience()) +
                   " s after the run (trainer.watchdog_timeout): it is left behind\n";
  leave_threads_behind();
}

// How long actors may take to end when the run is over, in seconds.
double Trainer::Runner::patience() const {
  return options_.watchdog_timeout > 0 ? options_.watchdog_timeout : std::numeric_limits<double>::infinity();
}

std::chrono::milliseconds Trainer::Runner::patience_with_others() const {
  return std::chrono::milliseconds(static_cast<int64_t>(patience_with_ranks(options_.collective_timeout) * 1000));
}

void Trainer::Runner::add_actor(std::string name, ActorBehavior behavior, ActorOptions options) {
  if (options.capacity < 1) {
    throw UsageError("the actor " + name + " has capacity = " + std::to_string(options.capacity) + "; use at least 1");
  }
  for (const auto& actor : actors_) {
    if (actor.name == name) throw UsageError("there is an actor called " + name + " already");
  }
  actors_.push_back({std::move(name), std::move(behavior), options});
}

void Trainer::Runner::request_stop(std::string reason) {
  system_->stop(reason, false);
}

std::filesystem::path Trainer::Runner::best_model_path() const {
  return Processes::get().is_alone() ? own_best_model_path() : best_;
}

std::filesystem::path Trainer::Runner::own_best_model_path() const {
  for (const auto* checkpoint : model_checkpoints()) {
    if (!checkpoint->best_model_path().empty()) return checkpoint->best_model_path();
  }
  return {};
}

void Trainer::Runner::run(Stage stage, ModuleSource source, DataLoaders train, DataLoaders eval,
                          RunArguments arguments) {
  is_running_ = true;
  const auto at_end = c10::make_scope_exit([this] { is_running_ = false; });
  require_own_generators();
  if (Processes::get().is_spare() && stage != Stage::fit) return;
  check_elastic();
  if (options_.capture_step != CaptureStep::off) capture::prepare_for_offers();
  const FailedWrites failed_writes;
  std::optional<std::chrono::steady_clock::time_point> deadline;
  if (const auto max_time = stage == Stage::fit ? max_time_of(options_) : std::nullopt) {
    deadline = std::chrono::steady_clock::now() + *max_time;
  }
  restored_ = nullptr;
  has_trained_ = false;
  kept_ = options_.elastic.empty() || stage != Stage::fit ? nullptr : std::make_shared<cast::KeptState>();
  losses_ = {};
  if (kept_) {
    do {
      try_once(stage, source, train, eval, arguments, deadline);
    } while (goes_on_without_losses());
  } else {
    run_once(stage, std::move(source), std::move(train), std::move(eval), std::move(arguments), deadline);
  }
  kept_ = nullptr;
  restored_ = nullptr;
  take_result(stage);
}

void Trainer::Runner::check_elastic() const {
  const auto range = elastic_of(options_);
  const auto& processes = Processes::get();
  if (!range || processes.is_alone()) return;
  if (!processes.survives_losses()) {
    throw UsageError("trainer.elastic = \"" + options_.elastic +
                     "\" needs a program that was built with Open MPI 5, started by mpirun --with-ft ulfm (launch/run"
                     " does so); with Open MPI 4, launch/run --max-restarts starts a run again");
  }
  if (processes.size() < range->least) {
    throw UsageError("trainer.elastic = \"" + options_.elastic + "\", and there are " +
                     std::to_string(processes.size()) + " processes");
  }
  if (range->most == 1) {
    throw UsageError(
        "trainer.elastic = \"1:1\" would leave the others as spares of one process, whose state is lost"
        " with it: let two train at least, as 1:2");
  }
}

// One run of the stage. A process that is lost on the way there is a loss like one within it.
void Trainer::Runner::try_once(Stage stage, const ModuleSource& source, const DataLoaders& train,
                               const DataLoaders& eval, const RunArguments& arguments,
                               std::optional<std::chrono::steady_clock::time_point> deadline) {
  auto& processes = Processes::get();
  try {
    processes.keep_spares(elastic_of(options_)->most);
    if (processes.is_spare()) {
      losses_ = {};
      result_ = {};
      return;
    }
    if (!losses_.who.empty()) go_back();
    has_trained_ = true;
    run_once(stage, source, train, eval, arguments, deadline);
  } catch (const CollectiveError&) {
    take_loss(Processes::patience_with_losses);
  } catch (...) {
    take_loss(std::chrono::milliseconds(0));
  }
}

// What was just caught, if it is due to a loss; else it is thrown on, and the others hear of a failure.
void Trainer::Runner::take_loss(std::chrono::milliseconds patience) {
  auto& processes = Processes::get();
  if (processes.is_alone()) throw;
  if (!processes.has_losses(patience)) {
    processes.agree(Processes::Outcome::failed, patience_with_others());
    throw;
  }
  result_ = {};
  result_.failure.emplace();
  result_.failure->is_loss = true;
  result_.failure->message = current_exception_text();
}

// If the stage has ended since a process is lost, those that are left get together, to run it again. All processes come
// here, however the stage has ended, and all go the same way.
bool Trainer::Runner::goes_on_without_losses() {
  using Outcome = Processes::Outcome;
  auto& processes = Processes::get();
  if (processes.is_alone() && !processes.is_spare()) return false;
  if (result_.failure && result_.left_behind) Processes::leave_the_others(result_.failure->describe());  // who hangs
  const bool is_loss = result_.failure && result_.failure->is_loss && !result_.lost_coordinator;
  const auto noticed = std::chrono::steady_clock::now();
  const Outcome mine = is_loss ? Outcome::lost : result_.failure ? Outcome::failed : Outcome::well;
  const Outcome all = processes.is_spare() ? wait_for_others() : processes.agree(mine, patience_with_others());
  if (all == Outcome::failed && !result_.failure) {
    result_.failure.emplace();
    result_.failure->stage = to_string(Stage::fit);
    result_.failure->hook = "the run as a whole";
    result_.failure->message = "another process has failed when this one had come to its end";
  }
  if (all == Outcome::fewer) {
    const auto lost = processes.recover();
    if (processes.is_rank_zero()) std::cerr << "troupe: " + verdict_on(lost) + ", and the run is complete\n";
  }
  if (all != Outcome::lost) return false;
  const bool was_rank_zero = processes.is_rank_zero();
  if (losses_.who.empty()) losses_.noticed = noticed;
  if (!recovers_enough()) return false;
  if (result_.curves) {
    curves_ = *result_.curves;
    curves_.go_back(/*has_written=*/was_rank_zero);
  }
  files_ = std::move(result_.files);
  return true;
}

// Gets those together that are left. False, with the reason in result_, if trainer.elastic does not allow so few.
bool Trainer::Runner::recovers_enough() {
  auto& processes = Processes::get();
  const auto lost = processes.recover();
  losses_.who += (losses_.who.empty() || lost.empty() ? "" : ", ") + lost;
  if (processes.size() >= elastic_of(options_)->least) return true;
  if (!result_.failure) result_.failure.emplace();
  result_.failure->message = verdict_on(losses_.who) + ", and " + std::to_string(processes.size()) +
                             (processes.size() == 1 ? " is" : " are") +
                             " left, which is less than trainer.elastic = \"" + options_.elastic + "\" allows";
  return false;
}

// To the newest state that one of those has that are left.
void Trainer::Runner::go_back() {
  auto& processes = Processes::get();
  const int64_t called_up = tell_spares();
  restored_ = newest_kept();
  const auto lost = std::exchange(losses_.who, "");
  if (!processes.is_rank_zero()) return;
  if (!files_) take_over_files();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - losses_.noticed;
  const auto at =
      restored_
          ? "step " + std::to_string(progress_from_json(restored_->metadata.at(metadata_key::progress)).global_step)
          : std::string("the beginning");
  const auto text = verdict_on(lost) + ": " + std::to_string(processes.size()) +
                    (processes.size() == 1 ? " goes" : " go") + " on from " + at + with_spares(called_up);
  std::cerr << "troupe: " + text + " (" + std::to_string(static_cast<int64_t>(took.count() * 1000)) + " ms)\n";
  if (files_) files_->take(RunNews{.warning = text});
}

// How many of the processes were spares; these come to know what the others had agreed on before.
int64_t Trainer::Runner::tell_spares() {
  auto& processes = Processes::get();
  int64_t called_up = 0;
  bool is_told = false;
  for (const auto& said :
       processes.all_gather_bytes(has_trained_ ? std::to_string(*given_.seed) + " " + run_dir_.string() : "")) {
    if (said.empty()) ++called_up;
    if (said.empty() || is_told) continue;
    const auto space = said.find(' ');
    given_.seed = options_.seed = std::stoull(said.substr(0, space));
    run_dir_ = said.substr(space + 1);
    is_told = !run_dir_.empty();
  }
  if (called_up < processes.size()) return called_up;
  Failure failure;
  failure.stage = to_string(Stage::fit);
  failure.hook = "the run as a whole";
  failure.message = verdict_on(losses_.who) +
                    ", which have trained, and the spares do not have their state: start again"
                    " with --ckpt_path last";
  throw RunError(std::move(failure));
}

// What was written of the run, by a rank zero that is lost or by this process, is this one's to go on with.
void Trainer::Runner::take_over_files() {
  const std::string problem = text_thrown_by([&] {
    if (run_dir_.empty() || !std::filesystem::exists(run_dir_ / "run.json")) return;
    files_ = std::make_shared<RunFiles>(read_run_card(run_dir_), read_metric_curves(run_dir_),
                                        RunFiles::Options{.folder = run_dir_, .writes_page = options_.logger});
  });
  if (!problem.empty()) std::cerr << "troupe: warning: the run's page begins anew: " + problem + '\n';
}

// Each is a whole one.
std::shared_ptr<Checkpoint> Trainer::Runner::newest_kept() const {
  auto& processes = Processes::get();
  auto own = kept_->get();
  const auto said = processes.all_gather_bytes(
      own ? std::to_string(progress_from_json(own->metadata.at(metadata_key::progress)).total_batches) : "");
  std::size_t newest = said.size();
  int64_t at = -1;
  for (std::size_t rank = 0; rank < said.size(); ++rank) {
    const int64_t its = said[rank].empty() ? -1 : std::stoll(said[rank]);
    if (its > at) {
      at = its;
      newest = rank;
    }
  }
  if (newest == said.size()) return nullptr;
  const auto rank = static_cast<std::size_t>(processes.rank());
  const bool all_have_it = std::ranges::all_of(said, [&](const auto& each) { return each == said[newest]; });
  if (all_have_it) return own;
  const auto states = processes.all_gather_bytes(rank == newest ? packed_checkpoint(*own) : "");
  if (said[rank] != said[newest]) own = std::make_shared<Checkpoint>(unpacked_checkpoint(states[newest]));
  kept_->put(own);
  return own;
}

void Trainer::Runner::run_once(Stage stage, ModuleSource source, DataLoaders train, DataLoaders eval,
                               RunArguments arguments, std::optional<std::chrono::steady_clock::time_point> deadline) {
  cast::RunSetup setup = make_setup(stage, source, arguments);
  setup.replica.train_loaders = std::move(train);
  setup.replica.eval_loaders = std::move(eval);
  module_ = nullptr;
  source.make = nullptr;  // the worker is the module's only owner now
  fitted_ = std::move(source);

  if (deadline && *deadline <= std::chrono::steady_clock::now()) {
    setup.state.stop = StopRequest{"max_time = " + options_.max_time + " is over", false};
  }
  auto& processes = Processes::get();
  processes.on_roll_call([pulses = setup.pulses] { return whereabouts_of(pulses); });
  const auto peers = setup.peers;
  const auto live = setup.live;
  const CrashNote crash_note(run_dir_, crash_places(setup));
  const auto began = std::chrono::steady_clock::now();
  Told told;
  const ProfiledRun profiled(options_, stage, run_dir_, peers.empty() ? 0 : peers.front()->place().global_rank);
  system_->begin_run();
  std::optional<SignalWatch> signals(std::in_place, [this](int signal) {
    system_->stop(std::string("interrupted by ") + name_of_signal(signal), true, signal);
  });
  cast::Run run = cast::start_run(system_->actors(), std::move(setup));
  system_->set(&run);
  processes.on_failure([&](const Failure& failure) {
    told.tell(failure);
    run.fail(failure);
  });
  if (deadline && run.result.wait_until(*deadline) == std::future_status::timeout) {
    run.stop("max_time = " + options_.max_time + " is over", false);
  }
  run.result.wait();
  signals.reset();
  result_ = run.result.get();
  if (live) live->end();
  stage_ = stage;
  seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  if (result_.failure) {
    processes.on_failure(nullptr);
    if (result_.lost_coordinator) {
      result_.failure->stage = to_string(stage);
      if (!peers.empty()) result_.failure->rank = peers.front()->place().global_rank;
      if (!processes.is_alone()) result_.failure->host = processes.host();
      processes.tell_failure(*result_.failure);
    }
  } else if (!processes.is_alone()) {
    result_.failure = failure_of_others(peers, patience_with_ranks(options_.collective_timeout), told);
    if (result_.failure && kept_ && processes.has_losses()) result_.failure->is_loss = true;
  }
  processes.on_roll_call(nullptr);
  system_->set(nullptr);
}

// What the run has left in result_.
void Trainer::Runner::take_result(Stage stage) {
  auto& processes = Processes::get();
  if (result_.curves) curves_ = *result_.curves;
  if (result_.lost_coordinator && !system_->has_ended_within(patience())) {
    result_.left_behind = true;
    result_.files = nullptr;  // somebody may have them
  }
  cast::tell_of_failure(result_, stage, all_sinks());
  files_ = std::move(result_.files);
  sink_warnings_->set_run(nullptr);
  module_ = std::move(result_.module);
  const bool has_lost_sinks = result_.failure && result_.failure->hook.starts_with("logger");
  if (!result_.left_behind) tell_sinks_of_files();
  if (result_.left_behind || has_lost_sinks) sinks_.clear();
  if (result_.left_behind) {
    leave_threads_behind();
    system_ = std::make_unique<ActorSystem>();
  }
  if (options_.enable_progress_bar) say_summary();
  if (result_.failure) throw RunError(*result_.failure);
  const bool requeues = stage == Stage::fit && result_.signal == SIGUSR1 && options_.slurm_requeue && is_slurm_job();
  if (requeues) outlive_sigterm();  // before any rank can come to requeue it
  if (stage == Stage::fit && !processes.is_alone()) {
    best_ = processes.from_rank_zero([&] { return own_best_model_path().string(); });
  }
  std::optional<Failure> failure;
  try {
    if (module_) module_->get_from_queue(result_.queue);
  } catch (...) {  // the job goes back into its queue all the same
    failure = Failure{.rank = processes.rank(),
                      .stage = std::string(to_string(stage)),
                      .hook = "get_from_queue",
                      .message = current_exception_text()};
  }
  if (requeues && processes.is_rank_zero()) requeue();
  if (failure) throw RunError(*failure);
}

void Trainer::Runner::requeue() const {
  for (const auto& line : requeue_slurm_job()) {
    if (!options_.quiet || line.starts_with("warning: ")) std::cerr << "troupe: " + line + '\n';
  }
}

// The files are as they stay; what sinks warn of here comes to them once more.
void Trainer::Runner::tell_sinks_of_files() {
  if (!files_) return;
  std::vector<std::string> warnings;
  const auto warn = [&](const std::string& text) {
    warnings.push_back(text);
    warn_on_stderr(text);
  };
  sink_warnings_->set_run(warn);
  const std::string thrower = result_.failure ? result_.failure->hook : "";
  for (const auto& sink : all_sinks()) {
    std::string name;
    const auto problem = text_thrown_by([&] {
      name = sink->name();
      if (thrower != "logger " + name) sink->files_are_complete();
    });
    if (!problem.empty()) sink_warnings_->warn("the sink " + name + " could not take the run's files: " + problem);
  }
  sink_warnings_->set_run(nullptr);
  if (warnings.empty()) return;
  for (const auto& text : warnings) files_->take(RunNews{.warning = text});
  const auto& card = files_->card();
  files_->end_stage(card.status, std::string(card.message));
}

// A thread that hangs cannot be ended, and what it may still touch must stay: its actors, and at the end of the process
// everything that is destroyed there.
void Trainer::Runner::leave_threads_behind() {
  (void)system_.release();
  static std::once_flag once;
  std::call_once(once, [] {
    on_exit(
        [](int status, void*) {
          std::cout.flush();
          std::fflush(nullptr);
          std::_Exit(status);
        },
        nullptr);
  });
}

const cast::RunResult& Trainer::Runner::evaluate(Stage stage, ModuleSource source, DataLoaders loaders,
                                                 RunArguments arguments) {
  run(stage, std::move(source), {}, std::move(loaders), std::move(arguments));
  return result_;
}

const cast::RunResult& Trainer::Runner::evaluate_fitted(Stage stage, DataLoaders loaders, RunArguments arguments) {
  if (!module_) {
    throw UsageError(std::string(to_string(stage)) + " was given no module and nothing was trained before: pass one");
  }
  if (!arguments.ckpt_path && !best_model_path().empty()) arguments.ckpt_path = "best";
  ModuleSource source = fitted_;
  source.make = [module = module_] { return module; };
  return evaluate(stage, std::move(source), std::move(loaders), std::move(arguments));
}

Trainer::Trainer(TrainerOptions options) : runner_(std::make_unique<Runner>(std::move(options))) {}

// While a stage runs only exit(), called by a hook or by another thread, destroys a Trainer, which is static then. The
// stage cannot end before the hook that waits here does: it keeps what it has.
Trainer::~Trainer() {
  if (runner_->is_running()) (void)runner_.release();
}

std::vector<MetricMap> Trainer::validate(DataLoaders loaders, RunArguments arguments) {
  return runner_->evaluate_fitted(Stage::validate, std::move(loaders), std::move(arguments)).evaluation;
}

std::vector<MetricMap> Trainer::test(DataLoaders loaders, RunArguments arguments) {
  return runner_->evaluate_fitted(Stage::test, std::move(loaders), std::move(arguments)).evaluation;
}

EpochOutputs Trainer::predict(DataLoaders loaders, RunArguments arguments) {
  return runner_->evaluate_fitted(Stage::predict, std::move(loaders), std::move(arguments)).predictions;
}

std::vector<MetricMap> Trainer::evaluate(Stage stage, ModuleSource source, DataLoaders loaders,
                                         RunArguments arguments) {
  return runner_->evaluate(stage, std::move(source), std::move(loaders), std::move(arguments)).evaluation;
}

std::vector<MetricMap> Trainer::run_source(Stage stage, ModuleSource source, RunArguments arguments) {
  return evaluate(stage, std::move(source), {}, std::move(arguments));
}

void Trainer::run(Stage stage, ModuleSource source, DataLoaders train, DataLoaders eval, RunArguments arguments) {
  runner_->run(stage, std::move(source), std::move(train), std::move(eval), std::move(arguments));
}

void Trainer::add_actor(std::string name, ActorBehavior behavior, ActorOptions options) {
  runner_->add_actor(std::move(name), std::move(behavior), options);
}

void Trainer::add_options(OptionGroup group) {
  runner_->add_options(std::move(group));
}

void Trainer::request_stop(std::string reason) {
  runner_->request_stop(std::move(reason));
}

std::filesystem::path Trainer::best_model_path() const {
  return runner_->best_model_path();
}

std::string Trainer::summary() const {
  return runner_->summary();
}

const TrainerOptions& Trainer::options() const {
  return runner_->options();
}

const MetricMap& Trainer::callback_metrics() const {
  return runner_->result().metrics;
}

int64_t Trainer::global_step() const {
  return runner_->result().progress.global_step;
}

int64_t Trainer::current_epoch() const {
  return runner_->result().progress.epoch;
}

const std::string& Trainer::stop_reason() const {
  return runner_->result().stop_reason;
}

bool Trainer::was_interrupted() const {
  return runner_->result().was_interrupted;
}

int Trainer::interrupting_signal() const {
  return runner_->result().signal;
}

int64_t Trainer::skipped_checkpoints() const {
  return runner_->result().skipped_saves;
}

int64_t Trainer::failed_checkpoints() const {
  return runner_->result().failed_saves;
}

const CapturedSteps& Trainer::captured() const {
  return runner_->result().captured;
}

const PhaseReport& Trainer::phases() const {
  return runner_->result().phases;
}

const EpochOutputs& Trainer::predictions() const {
  return runner_->result().predictions;
}

const std::shared_ptr<Module>& Trainer::module() const {
  return runner_->module();
}

const std::vector<std::pair<std::string, int64_t>>& Trainer::dropped_events() const {
  return runner_->result().dropped;
}

const std::filesystem::path& Trainer::run_dir() const {
  return runner_->run_dir();
}

}  // namespace troupe
