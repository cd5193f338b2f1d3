// A run's setup: its folder, its card and sinks, the checkpoint that it goes on from, its workers.
#include "troupe/base/exception_text.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/base/unix_seconds.hpp"
#include "troupe/launch/checkpoint_choice.hpp"
#include "troupe/launch/config_file.hpp"
#include "troupe/launch/new_run_card.hpp"
#include "troupe/launch/processes.hpp"
#include "troupe/launch/profiled_run.hpp"
#include "troupe/launch/rank_facts.hpp"
#include "troupe/launch/run_dir.hpp"
#include "troupe/launch/trainer_runner.hpp"
#include "troupe/modules/callbacks/model_checkpoint.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/checkpoint/checkpoint_finder.hpp"
#include "troupe/runtime/collectives/launch_environment.hpp"
#include "troupe/runtime/device/device.hpp"
#include "troupe/runtime/report/environment.hpp"
#include "troupe/runtime/sinks/sink_by_name.hpp"
#include "troupe/runtime/weights/any_weights.hpp"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <utility>

namespace troupe {

namespace {

// launch/run, which starts a run again, gives all of its starts one name.
std::string launch_id() {
  return environment_variable("TROUPE_LAUNCH_ID").value_or("");
}

// launch/run --max-restarts finds the folder by it, and goes on with the file (docs/reliability.md).
void begin_restarts(const std::filesystem::path& run_dir) {
  const auto launch = launch_id();
  if (launch.empty()) return;
  const nlohmann::json line = {{"event", "folder"}, {"launch", launch}, {"time", unix_seconds()}};
  std::ofstream(run_dir / "restarts.jsonl")
      << line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
}

// Those of this process; all processes have as many.
void say_devices(RunFiles& files, const std::vector<torch::Device>& devices) {
  std::vector<std::string> names;
  for (const auto& device : devices) names.push_back(device.str());
  files.set_devices(std::move(names), static_cast<int64_t>(devices.size()) * Processes::get().size());
}

nlohmann::json model_options(const ModuleSource& source, const std::vector<OptionGroup>& more) {
  for (const auto* groups : {&source.groups, &more}) {
    for (const auto& group : *groups) {
      if (group.name == "model") return to_json_object(group.options, group.name);
    }
  }
  return nullptr;
}

}  // namespace

std::vector<const ModelCheckpoint*> Trainer::Runner::model_checkpoints() const {
  std::vector<const ModelCheckpoint*> found;
  for (const auto& callback : options_.callbacks) {
    if (const auto* checkpoint = dynamic_cast<const ModelCheckpoint*>(callback.get())) found.push_back(checkpoint);
  }
  return found;
}

void Trainer::Runner::make_run_dir(Stage stage, const ModuleSource& source) {
  const bool saves = stage == Stage::fit && options_.enable_checkpointing;
  const bool writes = writes_profile(options_) || (options_.fast_dev_run == 0 && (options_.logger || saves));
  if (std::exchange(is_folder_of_finders_, false)) take_over_folder_of_finders(source);
  if (!writes || !run_dir_.empty()) return;
  run_dir_ = Processes::get().from_rank_zero([&] { return new_run_dir(source).string(); });
}

std::filesystem::path Trainer::Runner::new_run_dir(const ModuleSource& source) {
  const auto run_dir = create_run_dir(options_.default_root_dir, run_name(source));
  write_config(run_dir, source);
  begin_restarts(run_dir);
  return run_dir;
}

void Trainer::Runner::write_config(const std::filesystem::path& run_dir, const ModuleSource& source) {
  std::ofstream file(run_dir / "config.toml");
  file << to_toml(all_groups(source));
  if (!file.flush()) throw UsageError("cannot write " + (run_dir / "config.toml").string());
}

void Trainer::Runner::record(const ModuleSource& source, Finding finding) {
  if (!options_.logger || options_.fast_dev_run > 0) return;
  auto& processes = Processes::get();
  if (run_dir_.empty()) {
    run_dir_ = processes.from_rank_zero([&] { return new_run_dir(source).string(); });
    is_folder_of_finders_ = true;
  }
  if (!processes.is_rank_zero()) return;
  files_ = run_files(source);
  auto devices = choose_devices(options_.accelerator, options_.devices, processes.local_rank());
  if (divides_batches(options_.strategy)) devices.resize(1, devices.front());
  say_devices(*files_, devices);
  files_->add(std::move(finding));
  if (const auto problem = files_->take_problem(); !problem.empty()) std::cerr << "troupe: warning: " + problem + '\n';
}

// What finders suggest may have become the options of the first stage.
void Trainer::Runner::take_over_folder_of_finders(const ModuleSource& source) {
  Processes::get().from_rank_zero([&] {
    write_config(run_dir_, source);
    return "";
  });
  if (files_) files_->set_options(option_values(all_groups(source)));
}

std::vector<OptionGroup> Trainer::Runner::all_groups(const ModuleSource& source) {
  std::vector<OptionGroup> groups = trainer_groups(given_);
  groups.insert(groups.end(), source.groups.begin(), source.groups.end());
  groups.insert(groups.end(), extra_groups_.begin(), extra_groups_.end());
  return groups;
}

// Those of the stage before, if there was one.
std::shared_ptr<RunFiles> Trainer::Runner::run_files(const ModuleSource& source) {
  if (files_ && files_->folder() == run_dir_) return std::exchange(files_, nullptr);
  RunCard card = new_run_card(all_groups(source));
  card.name = run_name(source);
  card.version = run_dir_.filename().string();
  card.environment = find_environment();
  return std::make_shared<RunFiles>(std::move(card),
                                    RunFiles::Options{.folder = run_dir_, .writes_page = options_.logger});
}

void Trainer::Runner::add_sinks(cast::RunSetup& setup, const ModuleSource& source) {
  if (!Processes::get().is_rank_zero()) return;
  setup.files = run_files(source);
  say_devices(*setup.files, setup.devices);
  if (!options_.logger || run_dir_.empty()) return;
  setup.warnings = sink_warnings_;
  const auto warn = [warnings = sink_warnings_](const std::string& text) { warnings->warn(text); };
  if (std::ranges::count(options_.loggers, "mlflow") > 0) setup.files->ask_git();  // a tag of its run
  // One for all stages: a tracker's run is the same, and curves know where they stand.
  if (sinks_.empty()) sinks_ = make_sinks(options_.loggers, {run_dir_, setup.files->card(), options_, warn});
  setup.sinks = all_sinks();
}

// Those that get the run's records.
std::vector<std::shared_ptr<Sink>> Trainer::Runner::all_sinks() const {
  if (!options_.logger || run_dir_.empty()) return {};
  auto sinks = sinks_;
  sinks.insert(sinks.end(), options_.sinks.begin(), options_.sinks.end());
  return sinks;
}

// Made before the run, so that a port that is taken is told from it. A further stage keeps the port.
std::shared_ptr<live::LiveServer> Trainer::Runner::make_live(Stage stage) {
  const bool has_socket = options_.attach != Attach::off && !run_dir_.empty();
  if (!Processes::get().is_rank_zero() || (!has_socket && !options_.metrics_port)) return nullptr;
  live::LiveServer::Options options;
  if (has_socket) options.folder = run_dir_;
  options.permits_control = options_.attach == Attach::control;
  options.metrics_port = metrics_port_ ? metrics_port_ : options_.metrics_port;
  options.run = run_dir_.empty() ? "" : (run_dir_.parent_path().filename() / run_dir_.filename()).string();
  options.stage = stage;
  std::shared_ptr<live::LiveServer> live;
  try {
    live = std::make_shared<live::LiveServer>(options);
  } catch (const UsageError&) {
    if (!metrics_port_ || options_.metrics_port != 0) throw;
    options.metrics_port = 0;  // somebody has taken the one of the stage before
    live = std::make_shared<live::LiveServer>(options);
  }
  if (options_.metrics_port) metrics_port_ = live->metrics_port();
  return live;
}

std::string Trainer::Runner::run_name(const ModuleSource& source) const {
  return options_.name.empty() ? snake_case_class_name(source.class_name) : options_.name;
}

nlohmann::json Trainer::Runner::run_identity(const ModuleSource& source) const {
  const auto as_text = [](const std::string& bytes) { return is_utf8(bytes) ? bytes : shown(bytes); };
  return {{"name", as_text(run_name(source))},
          {"model", model_options(source, extra_groups_)},
          {"launch", as_text(launch_id())}};
}

// Rank zero says which file "last", "best" and "auto" are; all read it. Empty: there is none, and rank zero knows what
// was passed over.
Checkpoint Trainer::Runner::read_found(const std::string& wanted, const ModuleSource& source, std::string& path,
                                       std::string& passed_over) const {
  std::optional<Checkpoint> checkpoint;
  path = Processes::get().from_rank_zero([&]() -> std::string {
    CheckpointChoice choice(run_name(source), run_identity(source), source, wanted == "auto" ? launch_id() : "");
    auto found = wanted == "best" ? find_best(options_.default_root_dir, choice.filter())
                                  : find_last(options_.default_root_dir, choice.filter());
    choice.warn(found);
    if (!found) {
      passed_over = choice.passed_over();
      return "";
    }
    checkpoint = std::move(found->checkpoint);
    return found->path.string();
  });
  if (!path.empty()) check_all_see(Processes::get(), path);
  if (checkpoint || path.empty()) return checkpoint ? std::move(*checkpoint) : Checkpoint();
  return read_checkpoint(path);
}

void Trainer::Runner::refuse_missing(const std::string& wanted, const ModuleSource& source,
                                     const std::string& passed_over) const {
  const auto name = run_name(source);
  std::string text = "ckpt_path = \"" + wanted + "\": there is no checkpoint of " + shown(name) +
                     (passed_over.empty() ? "" : " that fits") + " below " +
                     std::filesystem::absolute(options_.default_root_dir).string() + (passed_over.empty() ? "" : "; ") +
                     passed_over;
  const auto others = run_names(options_.default_root_dir);
  if (!others.empty() && others != std::vector{name}) {
    text += "; there are runs of " + joined_as(others, shown) + " (trainer.name says which is meant)";
  }
  throw UsageError(text);
}

// Before anything is built.
void Trainer::Runner::add_checkpoint(cast::RunSetup& setup, Stage stage, const ModuleSource& source,
                                     const RunArguments& arguments) const {
  if (restored_) {
    setup.replica.checkpoint = restored_;
    setup.state.checkpoint = restored_;
    return;
  }
  const auto wanted = arguments.ckpt_path.value_or("");
  if (wanted.empty()) return;
  Checkpoint checkpoint;
  const auto own = best_model_path();
  if (wanted == "auto" || wanted == "last" || (wanted == "best" && own.empty())) {
    std::string path, passed_over;
    checkpoint = read_found(wanted, source, path, passed_over);
    if (path.empty() && wanted == "auto") return;
    if (path.empty()) refuse_missing(wanted, source, passed_over);
  } else {
    const auto path = Processes::get().from_rank_zero([&] { return wanted == "best" ? own.string() : wanted; });
    check_all_see(Processes::get(), path);
    checkpoint = stage == Stage::fit ? read_run_checkpoint(path)
                 : wanted == "best"  ? read_checkpoint(path)
                                     : read_weights(path);
  }
  setup.replica.checkpoint = std::make_shared<Checkpoint>(std::move(checkpoint));
  setup.replica.weights_only = stage != Stage::fit;
  if (stage == Stage::fit) setup.state.checkpoint = setup.replica.checkpoint;
}

cast::RunSetup Trainer::Runner::make_setup(Stage stage, const ModuleSource& source, const RunArguments& arguments) {
  cast::RunSetup setup;
  const auto groups = all_groups(source);
  compare_ranks(Processes::get(), groups,
                {{"stage", to_string(stage)}, {"ckpt_path", arguments.ckpt_path.value_or("")}});
  setup.given = option_values(groups);
  setup.devices = choose_devices(options_.accelerator, options_.devices, Processes::get().local_rank());
  add_checkpoint(setup, stage, source, arguments);
  make_run_dir(stage, source);
  if (stage == Stage::fit && options_.enable_checkpointing && model_checkpoints().empty()) {
    options_.callbacks.push_back(std::make_shared<ModelCheckpoint>(ModelCheckpointOptions{.save_last = true}));
  }
  const auto checkpoints = model_checkpoints();
  setup.weights_only_checkpoints = std::any_of(checkpoints.begin(), checkpoints.end(), [](const auto* checkpoint) {
    return checkpoint->options().save_weights_only;
  });
  setup.state.stage = stage;
  setup.state.info.run_dir = run_dir_;
  if (stage != Stage::fit) setup.state.progress = curves_.fitted();
  setup.replica.stage = stage;
  setup.replica.make_module = source.make;
  setup.replica.overridden = source.overridden;
  setup.replica.callbacks = options_.callbacks;
  setup.replica.datamodule = arguments.datamodule;
  setup.replica.run_dir = run_dir_;
  setup.replica.keeps_predictions = arguments.return_predictions;
  setup.replica.run_identity = run_identity(source);
  setup.replica.curves = curves_;
  setup.actors = actors_;
  try {
    add_workers(setup, source);
    add_sinks(setup, source);
    setup.live = make_live(stage);
  } catch (...) {
    record_refusal(setup, stage, source);
    throw;
  }
  return setup;
}

// The folder is there already: it says why nothing has run.
void Trainer::Runner::record_refusal(cast::RunSetup& setup, Stage stage, const ModuleSource& source) {
  if (run_dir_.empty() || !Processes::get().is_rank_zero()) return;
  if (kept_ && Processes::get().has_losses()) return;  // the run goes on
  files_ = setup.files ? std::move(setup.files) : run_files(source);
  files_->begin_stage(stage);
  files_->end_stage(RunStatus::failed, current_exception_text());
}

// The devices of this process, and how their workers reach all others.
void Trainer::Runner::add_workers(cast::RunSetup& setup, const ModuleSource& source) {
  auto& processes = Processes::get();
  setup.replica.device = setup.devices.front();
  setup.make_more = source.make_more;
  if (!source.make_more && setup.devices.size() > 1) {
    throw UsageError("trainer.devices = " + std::to_string(options_.devices) +
                     " needs a module for each device, and one module was given: give its options instead, as in"
                     " fit<M>(options)");
  }
  if (options_.strategy == Strategy::dp && !processes.is_alone()) {
    throw UsageError("strategy = dp divides batches among the devices of one process, and there are " +
                     std::to_string(processes.size()) + " processes: use ddp2, or ddp");
  }
  if (validates_beside(setup)) refuse_async_validation(setup, source);
  if (divides_batches(options_.strategy)) {
    // One worker, which computes on all of them.
    setup.replica.part_devices.assign(setup.devices.begin() + 1, setup.devices.end());
    setup.replica.make_part = source.make_more;
    setup.devices.resize(1, setup.devices.front());
  }
  setup.peers = processes.make_peers(setup.devices, options_);
  for (const auto& peers : setup.peers) {
    setup.pulses.push_back(std::make_shared<Pulse>("worker " + std::to_string(peers->place().global_rank)));
  }
  if (setup.pulses.empty()) setup.pulses.push_back(std::make_shared<Pulse>("worker 0"));
  if (validates_beside(setup)) setup.pulses.push_back(std::make_shared<Pulse>("the validation worker"));
  setup.state.has_other_processes = !processes.is_alone();
  setup.state.info.decides_times = processes.is_rank_zero();
  auto options = options_;
  divide_processors(setup, options);
  setup.state.options = setup.replica.options = std::make_shared<const TrainerOptions>(std::move(options));
  if (processes.is_alone()) return;
  setup.host = processes.host();
  setup.tell_others = [&processes](const Failure& failure) { processes.tell_failure(failure); };
  setup.absent_processes = [&processes](std::chrono::milliseconds patience) { return processes.absent(patience); };
  setup.kept = kept_;
  if (kept_) setup.has_losses = [&processes] { return processes.has_losses(); };
}

bool Trainer::Runner::validates_beside(const cast::RunSetup& setup) const {
  return setup.state.stage == Stage::fit && options_.async_validation;
}

void Trainer::Runner::refuse_async_validation(const cast::RunSetup& setup, const ModuleSource& source) const {
  const auto refuse = [](const std::string& why) {
    throw UsageError("trainer.async_validation = true " + why + "; async_validation = false validates in turn");
  };
  const auto& processes = Processes::get();
  const auto devices = static_cast<int64_t>(setup.devices.size()) * processes.size();
  if (devices > 1) {
    refuse("is for a run of one device, and this one has " + std::to_string(devices) +
           ": their validation exchanges metrics, which would have to be ordered with the training's own exchanges");
  }
  if (!setup.devices.front().is_cpu()) {
    refuse("is for the CPU: on " + setup.devices.front().str() +
           " training and validation would take turns in one queue, and draw from one generator of random numbers");
  }
  if (!source.make_more) {
    refuse(
        "needs a second module, for the copy that validates, and one module was given: give its options instead, as in"
        " fit<M>(options)");
  }
}

// What this process may use goes to its workers in equal parts. LibTorch's default, which OMP_NUM_THREADS can set,
// counts neither other processes nor other workers nor a quota.
void Trainer::Runner::divide_processors(const cast::RunSetup& setup, TrainerOptions& options) const {
  auto& processes = Processes::get();
  const double share = processes.cpu_share();
  const bool on_cpu = setup.devices.front().is_cpu();
  if (on_cpu && options_.devices > 1 && static_cast<double>(options_.devices) > share && processes.is_rank_zero()) {
    std::cerr << "troupe: warning: trainer.devices = " + std::to_string(options_.devices) + " compute on " +
                     (share < 1 ? "less than one" : std::to_string(static_cast<int64_t>(share))) + " processor(s)" +
                     ", which takes longer than fewer devices would\n";
  }
  if (options_.num_threads > 0) return;
  options.num_threads = threads_of_device(share, options_.devices + (validates_beside(setup) ? 1 : 0));
}

}  // namespace troupe
