#include "troupe/launch/processes.hpp"

#include "troupe/base/failure_json.hpp"
#include "troupe/runtime/collectives/gather.hpp"
#include "troupe/runtime/collectives/launch_environment.hpp"
#include "troupe/runtime/collectives/memory_world.hpp"
#include "troupe/runtime/collectives/nccl_backend.hpp"
#include "troupe/runtime/collectives/roll_call.hpp"
#include "troupe/runtime/process/cpu_budget.hpp"

#include <ATen/Parallel.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <utility>

namespace troupe {

namespace {

// Ranks rarely have a core for each of their threads, so one that waits for another rank must not take it from the
// training: a vote is cast a whole step before it is needed. For gradients all ranks wait at about one time.
constexpr std::chrono::microseconds keeps_core_for_words{50}, keeps_core_for_tensors{2000};

// How long a question to all processes, or its answer, waits for one that takes no messages; and how long a failure.
constexpr std::chrono::milliseconds patience_with_silence{200}, patience_to_tell{2000};

CollectiveOptions options_of(double timeout_seconds) {
  CollectiveOptions options;
  options.timeout = std::chrono::milliseconds(std::max<int64_t>(1, static_cast<int64_t>(timeout_seconds * 1000)));
  return options;
}

}  // namespace

struct Processes::State {
  std::unique_ptr<Launch> launch;
  // What join() has made; none in a process that is alone.
  c10::intrusive_ptr<CollectiveBackend> between;
  std::unique_ptr<RollCall> roll_call;
  c10::intrusive_ptr<c10d::Store> store;
  int64_t runs = 0;
  int exit_status = 0;  // of this process, once it ends

  std::mutex mutex;
  std::function<void(const Failure&)> listener;
  int64_t run = 0;                 // that this process has begun since the last recovery, counted alike on all
  std::optional<Failure> unheard;  // told while nobody listened
  int64_t unheard_run = 0;         // that it belongs to

  bool is_alone() const { return launch->size() == 1 || launch->is_spare(); }

  // The processes that the launch has now.
  void join() {
    if (is_alone()) return;
    make_roll_call();
    between = launch->make_between({}, keeps_core_for_words);
    launch->listen({.told = [this](const std::string& told) { hear(told); },
                    .lost = [this](Failure failure) { hear_losses(std::move(failure)); }});
  }

  void part() {
    launch->stop_listening();
    between.reset();
    roll_call.reset();
    store.reset();  // spares that are called up have none: all make it anew, and count its runs alike
    runs = 0;
  }

  void make_roll_call() {
    roll_call = std::make_unique<RollCall>(launch->rank(), launch->size(), [this](const std::string& message) {
      try {
        launch->announce(message, patience_with_silence);
      } catch (const std::exception&) {
        // Who cannot be reached does not answer.
      }
    });
  }

  // Each run's keys have names of their own.
  c10::intrusive_ptr<c10d::Store> store_of_run(std::chrono::milliseconds timeout) {
    if (!store) store = launch->make_store(timeout);
    return c10::make_intrusive<c10d::PrefixStore>("run_" + std::to_string(runs++), store);
  }

  // The end of a sentence about an operation that is late.
  std::string who_is_missing() {
    std::string missing;
    const auto answers = roll_call->ask();
    for (std::size_t process = 0; process < answers.size(); ++process) {
      const std::string says =
          answers[process] ? *answers[process] : launch->name_of(static_cast<int64_t>(process)) + " does not answer";
      if (!says.empty()) missing += (missing.empty() ? "" : "; ") + says;
    }
    return missing.empty() ? "all ranks called it, so the connection is too slow, or cut" : missing;
  }

  void hear(const std::string& told) {
    if (roll_call->hear(told)) return;
    const auto json = nlohmann::json::parse(told);
    Failure failure = failure_in(StateReader(json, "what another process said"));
    const auto of_run = json.value("run", int64_t{0});
    std::lock_guard lock(mutex);
    take(std::move(failure), of_run);
  }

  void hear_losses(Failure failure) {
    between->abort(failure.message);
    std::lock_guard lock(mutex);
    take(std::move(failure), run);
  }

  // With the mutex held.
  void take(Failure failure, int64_t of_run) {
    if (of_run < run) return;  // which is over here too
    if (listener && of_run == run) return listener(failure);
    if (unheard && unheard_run >= of_run) return;
    unheard = std::move(failure);
    unheard_run = of_run;
  }
};

Processes& Processes::get() {
  static Processes processes;
  // Behind the object itself, whose destructor wants to know it.
  static const int watched =
      on_exit([](int status, void* all) { static_cast<State*>(all)->exit_status = status; }, processes.state_.get());
  static_cast<void>(watched);
  return processes;
}

Processes::Processes() : state_(std::make_unique<State>()) {
  const auto launched = launch_environment();
  // A pipe leads to the launcher: without this a line would come out when some thousand bytes are together, and not at
  // all if the process is killed.
  if (launched.launcher != Launcher::none) std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
  state_->launch = make_launch(launched);
  state_->join();
}

Processes::~Processes() {
  state_->launch->prepare_end(state_->exit_status);
  state_->part();
  state_ = nullptr;
}

int64_t Processes::rank() const {
  return state_->launch->rank();
}

int64_t Processes::size() const {
  return state_->launch->size();
}

bool Processes::is_alone() const {
  return state_->is_alone();
}

int64_t Processes::local_rank() const {
  return state_->launch->local_rank();
}

int64_t Processes::local_size() const {
  return state_->launch->local_size();
}

const std::string& Processes::host() const {
  return state_->launch->host();
}

void Processes::keep_spares(int64_t most) {
  state_->launch->keep_spares(
      most, {.part = [state = state_.get()] { state->part(); }, .join = [state = state_.get()] { state->join(); }});
}

bool Processes::is_spare() const {
  return state_->launch->is_spare();
}

bool Processes::survives_losses() const {
  return state_->launch->survives_losses();
}

bool Processes::has_losses(std::chrono::milliseconds patience) {
  return state_->launch->has_losses(patience);
}

Processes::Outcome Processes::agree(Outcome mine, std::chrono::milliseconds patience) {
  return state_->launch->agree(mine, patience);
}

std::string Processes::recover() {
  const auto part = [state = state_.get()] {
    state->part();
    const std::lock_guard lock(state->mutex);
    state->unheard.reset();
    state->run = 0;  // a spare that is called up has begun none
  };
  return state_->launch->recover({.part = part, .join = [state = state_.get()] { state->join(); }});
}

void Processes::leave_the_others(const std::string& why) {
  Launch::leave_the_others(why);
}

double Processes::cpu_share() {
  const nlohmann::json mine{{"host", host()}, {"cpus", allowed_cpus()}};
  const auto all = all_gather_bytes(mine.dump());
  std::vector<std::vector<int>> here;
  std::size_t own = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto process = nlohmann::json::parse(all[i]);
    if (process.at("host") != mine.at("host")) continue;
    if (static_cast<int64_t>(i) == rank()) own = here.size();
    here.push_back(process.at("cpus").get<std::vector<int>>());
  }
  return troupe::cpu_share(here, own, cpu_quota());
}

int64_t threads_of_device(double cpu_share, int64_t devices) {
  constexpr double rounding = 1e-6;
  const auto threads = static_cast<int64_t>(cpu_share / static_cast<double>(devices) + rounding);
  return std::clamp<int64_t>(threads, 1, at::get_num_threads());
}

std::vector<std::string> Processes::all_gather_bytes(const std::string& mine) {
  if (is_alone()) return {mine};
  return troupe::all_gather_bytes(*state_->between, mine);
}

std::string Processes::from_rank_zero(const std::function<std::string()>& ask) {
  if (is_alone()) return ask();
  // The first letter says whether it is an answer or what went wrong.
  std::string mine;
  std::exception_ptr error;
  if (is_rank_zero()) {
    try {
      mine = "a" + ask();
    } catch (const std::exception& problem) {
      error = std::current_exception();
      mine = std::string("e") + problem.what();
    }
  }
  const std::string said = all_gather_bytes(mine).front();
  if (error) std::rethrow_exception(error);
  if (said.front() == 'e') throw UsageError(said.substr(1));
  return said.substr(1);
}

std::vector<std::shared_ptr<Peers>> Processes::make_peers(const std::vector<torch::Device>& devices,
                                                          const TrainerOptions& options) {
  const auto local = static_cast<int64_t>(devices.size());
  if (is_alone() && local == 1) return {};
  {
    std::lock_guard lock(state_->mutex);
    ++state_->run;
  }
  auto collective = options_of(options.collective_timeout);
  if (!is_alone()) collective.who_is_missing = [state = state_.get()] { return state->who_is_missing(); };
  const auto world = [&](std::chrono::microseconds keeps_core) {
    if (is_alone()) return MemoryWorld::create(static_cast<int>(local), collective);
    return MemoryWorld::create_over(state_->launch->make_between(collective, keeps_core), static_cast<int>(local),
                                    collective);
  };
  const auto control = world(keeps_core_for_words), votes = world(keeps_core_for_words);
  const auto tensor_channels = [&]() -> std::vector<Peers::Channel> {
    std::vector<Peers::Channel> channels;
    if (devices.front().is_cpu()) {
      const auto tensors = world(keeps_core_for_tensors);
      for (int i = 0; i < static_cast<int>(local); ++i) channels.push_back(tensors->backend(i));
      return channels;
    }
    const auto store = state_->store_of_run(collective.timeout);
    for (int64_t i = 0; i < local; ++i) {
      channels.push_back(make_nccl_backend(store, static_cast<int>(rank() * local + i),
                                           static_cast<int>(size() * local), devices[static_cast<std::size_t>(i)],
                                           collective.timeout));
    }
    return channels;
  }();
  std::vector<std::shared_ptr<Peers>> peers;
  for (int64_t i = 0; i < local; ++i) {
    Place place;
    place.global_rank = rank() * local + i;
    place.local_rank = local_rank() * local + i;
    place.world_size = size() * local;
    place.process = rank();
    place.processes = size();
    place.in_process = i;
    const auto at = static_cast<int>(i);
    peers.push_back(std::make_shared<Peers>(place, devices.front().type(), tensor_channels[static_cast<std::size_t>(i)],
                                            control->backend(at), votes->backend(at)));
  }
  return peers;
}

void Processes::tell_failure(const Failure& failure) {
  if (is_alone() || has_losses(std::chrono::milliseconds(0))) return;
  auto told = to_json(failure);
  {
    std::lock_guard lock(state_->mutex);
    told["run"] = state_->run;
  }
  state_->launch->announce(told.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), patience_to_tell);
}

void Processes::on_roll_call(std::function<std::string()> says) {
  if (state_->roll_call) state_->roll_call->set_presence(std::move(says));
}

std::string Processes::absent(std::chrono::milliseconds patience) {
  if (!state_->roll_call) return "";
  std::vector<int> absent;
  const auto answers = state_->roll_call->ask(patience);
  for (std::size_t process = 0; process < answers.size(); ++process) {
    if (!answers[process]) absent.push_back(static_cast<int>(process));
  }
  return state_->launch->names_of(absent);
}

void Processes::on_failure(std::function<void(const Failure&)> listener) {
  std::lock_guard lock(state_->mutex);
  state_->listener = std::move(listener);
  if (!state_->listener || !state_->unheard || state_->unheard_run > state_->run) return;
  const Failure failure = *std::exchange(state_->unheard, std::nullopt);
  if (state_->unheard_run == state_->run) state_->listener(failure);
}

}  // namespace troupe
