#include "troupe/launch/fabric.hpp"

#include "troupe/base/exception_text.hpp"
#include "troupe/launch/end_of_ranks.hpp"
#include "troupe/launch/new_run_card.hpp"
#include "troupe/launch/option_group.hpp"
#include "troupe/launch/processes.hpp"
#include "troupe/launch/rank_facts.hpp"
#include "troupe/launch/run_dir.hpp"
#include "troupe/runtime/capture/offered_memory.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/device/device.hpp"
#include "troupe/runtime/fabric/fabric_rank.hpp"
#include "troupe/runtime/sinks/sink_by_name.hpp"

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>

namespace troupe {

namespace {

/// The devices of this process, and what has gone wrong on one of them first.
class FabricRun {
 public:
  FabricRun(FabricOptions& options, Processes& processes) : options_(options), processes_(processes) {
    compare_ranks(processes, {option_group("fabric", options)}, {{"loop", "fabric"}});
    TrainerOptions run_options = trainer_options(options);
    devices_ = choose_devices(options.accelerator, options.devices, processes.local_rank());
    const double share = processes.cpu_share();
    if (options.num_threads == 0) run_options.num_threads = threads_of_device(share, options.devices);
    setup_.options = std::make_shared<const TrainerOptions>(std::move(run_options));
    if (!options.loggers.empty()) make_sinks_of_names();
    peers_ = processes.make_peers(devices_, *setup_.options);
    processes_.on_failure([this](const Failure& failure) {
      told_.tell(failure);
      give_up(failure.describe());
    });
  }
  ~FabricRun() { processes_.on_failure(nullptr); }
  FabricRun(const FabricRun&) = delete;
  FabricRun& operator=(const FabricRun&) = delete;

  std::size_t devices() const { return devices_.size(); }

  /// On the thread of a device. Never throws.
  void run(std::size_t index, const std::function<void(std::unique_ptr<FabricRank>)>& loop) {
    try {
      FabricRankSetup setup = setup_;
      setup.device = devices_[index];
      if (!peers_.empty()) setup.peers = peers_[index];
      const Place place = setup.peers ? setup.peers->place() : Place();
      setup.pulse = std::make_shared<Pulse>("rank " + std::to_string(place.global_rank));
      if (place.global_rank == 0) {
        setup.sinks = sinks_;
        setup.sinks.insert(setup.sinks.end(), options_.sinks.begin(), options_.sinks.end());
      }
      loop(std::make_unique<FabricRank>(std::move(setup)));
    } catch (...) {
      fail(index);
    }
  }

  /// When all have ended: throws what failed first, here or on another process.
  void end() {
    if (error_) std::rethrow_exception(error_);
    if (told_.first()) throw RunError(*told_.first());
    if (processes_.is_alone()) return;
    const auto failure = failure_of_others(peers_, patience_with_ranks(setup_.options->collective_timeout), told_);
    if (failure) throw RunError(*failure);
  }

 private:
  void make_sinks_of_names() {
    setup_.run_dir =
        processes_.from_rank_zero([&] { return create_run_dir(options_.default_root_dir, options_.name).string(); });
    if (!processes_.is_rank_zero()) return;
    RunCard card = new_run_card({option_group("fabric", options_)});
    card.name = options_.name;
    card.version = setup_.run_dir.filename().string();
    sinks_ = make_sinks(options_.loggers, {setup_.run_dir, card, *setup_.options});
  }

  void give_up(const std::string& reason) {
    for (const auto& each : peers_) each->abort(reason);
  }

  // What comes of the others' giving up is no failure of its own.
  void fail(std::size_t index) {
    Failure failure;
    {
      const std::lock_guard lock(mutex_);
      if (error_ || told_.first()) return;
      error_ = std::current_exception();
    }
    failure.rank = peers_.empty() ? 0 : peers_[index]->place().global_rank;
    failure.device = devices_[index].str();
    failure.hook = "the loop of Fabric::launch";
    failure.message = current_exception_text();
    if (!processes_.is_alone()) {
      failure.host = processes_.host();
      processes_.tell_failure(failure);
    }
    give_up(failure.describe());
  }

  FabricOptions& options_;
  Processes& processes_;
  FabricRankSetup setup_;
  std::vector<torch::Device> devices_;
  std::vector<std::shared_ptr<Peers>> peers_;
  std::vector<std::shared_ptr<Sink>> sinks_;
  std::mutex mutex_;
  std::exception_ptr error_;
  Told told_;
};

}  // namespace

// --- Launch ---

Fabric::Fabric(FabricOptions options) : options_(std::move(options)) {
  (void)trainer_options(options_);
  check_sink_names(options_.loggers);
  if (!options_.seed) {
    options_.seed = std::stoull(Processes::get().from_rank_zero([] { return std::to_string(drawn_seed()); }));
  }
}

Fabric::Fabric(std::unique_ptr<FabricRank> rank, FabricOptions options)
    : options_(std::move(options)), rank_(std::move(rank)) {}

Fabric::~Fabric() = default;

void Fabric::launch(const std::function<void(Fabric& fabric)>& loop) {
  if (rank_) throw UsageError("launch was called within the function that launch runs");
  if (!loop) throw UsageError("launch was given no function");
  require_own_generators();
  if (options_.capture_step != CaptureStep::off) capture::prepare_for_offers();
  FabricRun run(options_, Processes::get());
  const auto on_device = [&](std::unique_ptr<FabricRank> rank) {
    Fabric fabric(std::move(rank), options_);
    loop(fabric);
    fabric.rank_->flush_sinks();
  };
  if (run.devices() == 1) {
    run.run(0, on_device);
  } else {
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < run.devices(); ++i) {
      threads.emplace_back([&, i] {
        enter_thread(std::make_shared<Pulse>("device " + std::to_string(i)));
        run.run(i, on_device);
      });
    }
    for (auto& thread : threads) thread.join();
  }
  run.end();
}

FabricRank& Fabric::rank(const char* what) const {
  if (rank_) return *rank_;
  throw UsageError(
      std::string(what) +
      " belongs into the function that launch runs, on the Fabric that it is given: fabric.launch([&](Fabric&"
      " fabric) { ... })");
}

int64_t Fabric::global_rank() const {
  return rank("global_rank").global_rank();
}
int64_t Fabric::local_rank() const {
  return rank("local_rank").local_rank();
}
int64_t Fabric::world_size() const {
  return rank("world_size").world_size();
}
torch::Device Fabric::device() const {
  return rank("device").device();
}

// --- Setting up ---

void Fabric::setup_module(std::shared_ptr<torch::nn::Module> module, std::string name) {
  rank("setup").setup_module(std::move(module), std::move(name));
}

FabricOptimizer Fabric::one_optimizer(Optimizers optimizer) {
  auto& own = rank("setup");
  if (optimizer.size() != 1) {
    throw UsageError("setup was given " + std::to_string(optimizer.size()) +
                     " optimizers where one belongs; setup_all takes several");
  }
  if (!optimizer.lr_schedulers().empty()) {
    throw UsageError("setup was given a scheduler, which nobody would call: call its step() in the loop");
  }
  OptimizerPtr pointer = optimizer.at(0);
  const auto index = own.setup_optimizer(pointer);
  return {own, index, std::move(pointer)};
}

FabricLoader Fabric::setup_dataloaders(DataLoader loader, Division division) {
  return rank("setup_dataloaders").setup_loader(std::move(loader), division);
}

// --- A step ---

void Fabric::backward(const torch::Tensor& loss, const std::vector<FabricOptimizer>& optimizers) {
  std::vector<std::size_t> indices;
  for (const auto& optimizer : optimizers) indices.push_back(optimizer.index());
  rank("backward").backward(loss, indices);
}

torch::Tensor Fabric::clip_gradients(const FabricOptimizer& optimizer, double bound, GradientClipAlgorithm algorithm) {
  return rank("clip_gradients").clip_gradients(optimizer.index(), bound, algorithm);
}

Autocast Fabric::autocast() const {
  const auto& own = rank("autocast");
  return {own.precision(), own.device()};
}

Fabric::NoBackwardSync::NoBackwardSync(FabricRank* rank) : rank_(rank) {
  if (rank_) before_ = rank_->hold_gradients(true);
}
Fabric::NoBackwardSync::~NoBackwardSync() {
  if (rank_) rank_->release_gradients(before_);
}

Fabric::NoBackwardSync Fabric::no_backward_sync(bool enabled) {
  auto& own = rank("no_backward_sync");
  return {enabled ? &own : nullptr};
}

FabricStep Fabric::capture(std::function<StepOutput(const Batch& batch)> f, std::string name) {
  return FabricStep(std::make_shared<FabricFunction>(rank("capture"), std::move(f), std::move(name)));
}

StepOutput FabricStep::operator()(const Batch& batch) const {
  return function_->call(batch);
}
const CapturedSteps& FabricStep::captured() const {
  return function_->report();
}

void FabricOptimizer::zero_grad() const {
  rank_->zero_grad(index_);
}
void FabricOptimizer::step() const {
  rank_->step(index_, nullptr);
}
void FabricOptimizer::step(const OptimizerClosure& closure) const {
  rank_->step(index_, closure);
}

// --- What ranks tell each other ---

torch::Tensor Fabric::all_reduce(const torch::Tensor& tensor, Reduce reduce) {
  return rank("all_reduce").all_reduce(tensor, reduce);
}
torch::Tensor Fabric::all_gather(const torch::Tensor& tensor) {
  return rank("all_gather").all_gather(tensor);
}
torch::Tensor Fabric::broadcast(const torch::Tensor& tensor, int64_t source) {
  return rank("broadcast").broadcast(tensor, source);
}
std::string Fabric::broadcast(const std::string& text, int64_t source) {
  return rank("broadcast").broadcast(text, source);
}
void Fabric::barrier() {
  rank("barrier").barrier();
}

// --- Files and words ---

void Fabric::save(const std::filesystem::path& path, const nlohmann::json& state) {
  rank("save").save(path, state);
}
nlohmann::json Fabric::load(const std::filesystem::path& path) {
  return rank("load").load(path);
}

void Fabric::print(const std::string& line) {
  rank("print").print(line);
}
void Fabric::log(std::string_view name, const torch::Tensor& value, std::optional<int64_t> step) {
  rank("log").log_value(name, value, step);
}
void Fabric::log(std::string_view name, double value, std::optional<int64_t> step) {
  rank("log").log_value(name, value, step);
}
void Fabric::log_dict(const std::vector<std::pair<std::string, torch::Tensor>>& values, std::optional<int64_t> step) {
  for (const auto& [name, value] : values) log(name, value, step);
}
const MetricMap& Fabric::logged() const {
  return rank("logged").logged_metrics();
}
const std::filesystem::path& Fabric::run_dir() const {
  return rank("run_dir").run_dir();
}
void Fabric::seed_everything(uint64_t seed) {
  rank("seed_everything").seed_everything(seed);
}

}  // namespace troupe
