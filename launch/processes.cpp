#include "troupe/launch/processes.hpp"

#include "troupe/base/failure_json.hpp"
#include "troupe/base/host_name.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/runtime/collectives/collective_error.hpp"
#include "troupe/runtime/collectives/failure_channel.hpp"
#include "troupe/runtime/collectives/gather.hpp"
#include "troupe/runtime/collectives/launch_environment.hpp"
#include "troupe/runtime/collectives/memory_world.hpp"
#include "troupe/runtime/collectives/mpi_backend.hpp"
#include "troupe/runtime/collectives/mpi_losses.hpp"
#include "troupe/runtime/collectives/mpi_store.hpp"
#include "troupe/runtime/collectives/mpi_world.hpp"
#include "troupe/runtime/collectives/nccl_backend.hpp"
#include "troupe/runtime/collectives/roll_call.hpp"
#include "troupe/runtime/collectives/store_backend.hpp"
#include "troupe/runtime/collectives/store_failure_channel.hpp"
#include "troupe/runtime/process/cpu_budget.hpp"

#include <ATen/Parallel.h>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <iostream>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

namespace troupe {

namespace {

// Ranks rarely have a core for each of their threads, so one that waits for another rank must not take it from the
// training: a vote is cast a whole step before it is needed. For gradients all ranks wait at about one time.
constexpr std::chrono::microseconds keeps_core_for_words{50}, keeps_core_for_tensors{2000};

// How long torchrun's store may take to answer at the start.
constexpr std::chrono::seconds store_patience{60};

// How long a question to all processes, or its answer, waits for one that takes no messages.
constexpr std::chrono::milliseconds patience_with_silence{200};

// How long those that are left may take to find out who they are: it is a matter of milliseconds.
constexpr std::chrono::seconds patience_with_recovery{30};

// The same of MPI's end after that.
constexpr std::chrono::seconds patience_with_end{30};

// And of its start, in which Open MPI 5 waits for ever for a process that is lost there.
constexpr std::chrono::seconds patience_with_start{300};

std::string in_words(std::chrono::milliseconds patience) {
  return double_to_text(std::chrono::duration<double>(patience).count()) + " s";
}

// A call of MPI that nothing else can end has `patience` while this exists. Then `then` is called, on another thread.
class EndOfPatience {
 public:
  EndOfPatience(std::chrono::milliseconds patience, const std::function<void()>& then)
      : thread_([this, patience, then] {
          std::unique_lock lock(mutex_);
          if (!over_.wait_for(lock, patience, [this] { return is_over_; })) then();
        }) {}
  ~EndOfPatience() {
    {
      const std::lock_guard lock(mutex_);
      is_over_ = true;
    }
    over_.notify_all();
    thread_.join();
  }
  EndOfPatience(const EndOfPatience&) = delete;
  EndOfPatience& operator=(const EndOfPatience&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable over_;
  bool is_over_ = false;
  std::thread thread_;  // the last: it uses the others
};

[[noreturn]] void end_before_start() {
  std::cerr << "troupe: MPI has not started within " + in_words(patience_with_start) +
                   ": another process is lost, or does not come; this one ends\n";
  std::cerr.flush();
  std::_Exit(1);
}

CollectiveOptions options_of(double timeout_seconds) {
  CollectiveOptions options;
  options.timeout = std::chrono::milliseconds(std::max<int64_t>(1, static_cast<int64_t>(timeout_seconds * 1000)));
  return options;
}

}  // namespace

struct Processes::State {
  // Of mpirun or srun; or of torchrun, with its store. A process that was started alone has none of them.
  std::unique_ptr<MpiWorld> mpi;
  LaunchEnvironment launched;
  c10::intrusive_ptr<c10d::TCPStore> launcher_store;
  int64_t connections = 0;  // groups over that store
  c10::intrusive_ptr<CollectiveBackend> between;
  std::unique_ptr<FailureChannel> failures;
  std::unique_ptr<StoreFailureChannel> store_failures;
  std::unique_ptr<RollCall> roll_call;
  c10::intrusive_ptr<c10d::Store> store;
  int64_t runs = 0;
  std::string host;

  std::mutex mutex;
  std::condition_variable lost_one;
  bool has_losses = false;  // since the last recovery
  bool has_recovered = false;
  int exit_status = 0;  // of this process, once it ends
  std::function<void(const Failure&)> listener;
  int64_t run = 0;                 // that this process has begun, counted alike on all
  std::optional<Failure> unheard;  // told while nobody listened
  int64_t unheard_run = 0;         // that it belongs to

  // Where NCCL's communicators find each other; each run's keys have names of their own.
  c10::intrusive_ptr<c10d::Store> store_of_run(std::chrono::milliseconds timeout) {
    if (!store) {
      if (mpi) {
        store = c10::make_intrusive<MpiStore>(*mpi, timeout);
      } else if (launcher_store) {
        store = connection("nccl");
      } else {
        store = c10::make_intrusive<c10d::HashStore>();
      }
    }
    return c10::make_intrusive<c10d::PrefixStore>("run_" + std::to_string(runs++), store);
  }

  // The processes' way to each other on the CPU; collective, since the groups are told apart by their order.
  c10::intrusive_ptr<CollectiveBackend> make_between(const CollectiveOptions& options,
                                                     std::chrono::microseconds keeps_core) {
    if (mpi) return c10::make_intrusive<MpiBackend>(*mpi, options, keeps_core);
    return c10::make_intrusive<StoreBackend>(connection("group_" + std::to_string(connections++)), launched.rank,
                                             launched.size, options);
  }

  // A connection of its own, with keys of its own: after a restart those of the last attempt are still there.
  c10::intrusive_ptr<c10d::Store> connection(const std::string& name) {
    const auto attempt = environment_variable("TORCHELASTIC_RESTART_COUNT").value_or("0");
    return c10::make_intrusive<c10d::PrefixStore>("troupe/attempt_" + attempt + "/" + name, launcher_store->clone());
  }

  void connect() {
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(launched.store_port);
    options.waitWorkers = false;
    options.timeout = store_patience;
    try {
      launcher_store = c10::make_intrusive<c10d::TCPStore>(launched.store_host, options);
    } catch (const std::exception& error) {
      throw CollectiveError("torchrun's store at " + launched.store_host + ":" + std::to_string(launched.store_port) +
                            " (MASTER_ADDR, MASTER_PORT) does not answer: is this process one of torchrun's? " +
                            std::string(error.what()).substr(0, 200));
    }
  }

  int64_t rank() const { return mpi ? mpi->rank() : launched.rank; }
  int64_t size() const { return mpi ? mpi->size() : launched.size; }

  // To all other processes; waits `limit` for those that do not listen.
  void announce(const std::string& message, std::chrono::milliseconds limit = std::chrono::seconds(2)) const {
    if (failures) failures->announce(message, limit);
    if (store_failures) store_failures->announce(message);
  }

  // The end of a sentence about an operation that is late.
  std::string who_is_missing() {
    std::string missing;
    const auto answers = roll_call->ask();
    for (std::size_t process = 0; process < answers.size(); ++process) {
      const std::string says = answers[process] ? *answers[process] : name_of(process) + " does not answer";
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

  // With the mutex held.
  void take(Failure failure, int64_t of_run) {
    if (of_run < run) return;  // which is over here too
    if (listener && of_run == run) return listener(failure);
    if (unheard && unheard_run >= of_run) return;
    unheard = std::move(failure);
    unheard_run = of_run;
  }

  // "process 1 on node7"; under torchrun, which names no hosts, without it.
  std::string name_of(std::size_t process) const {
    return "process " + std::to_string(process) + (mpi ? " on " + mpi->hosts()[process] : "");
  }
  // "process 1 on node7, process 2 on node8"
  std::string names_of(const std::vector<int>& ranks) const {
    std::string text;
    for (const int rank : ranks) text += (text.empty() ? "" : ", ") + name_of(static_cast<std::size_t>(rank));
    return text;
  }

  // MPI knows that these processes are gone; none: another process knows of one.
  void hear_losses(const std::vector<int>& ranks) {
    Failure failure;
    failure.is_loss = true;
    failure.hook = "the run as a whole";
    if (!ranks.empty()) {
      failure.rank = ranks.back();
      failure.host = mpi->hosts()[static_cast<std::size_t>(ranks.back())];
    }
    failure.message = (ranks.empty() ? "a process" : names_of(ranks)) + (ranks.size() > 1 ? " are lost" : " is lost");
    between->abort(failure.message);
    std::lock_guard lock(mutex);
    has_losses = true;
    lost_one.notify_all();
    take(std::move(failure), run);
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
  state_->launched = launch_environment();
  if (state_->launched.launcher == Launcher::none) return;
  // A pipe leads to the launcher: without this a line would come out when some thousand bytes are together, and not at
  // all if the process is killed.
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
  if (state_->launched.launcher == Launcher::torchrun) {
    if (state_->launched.size == 1) return;
    state_->connect();
    make_roll_call();
    state_->host = host_name();
    state_->between = state_->make_between({}, keeps_core_for_words);
    state_->store_failures =
        std::make_unique<StoreFailureChannel>(state_->connection("failures"), state_->connection("failures"),
                                              [this](const std::string& told) { state_->hear(told); });
    return;
  }
  {
    std::optional<EndOfPatience> end;
    if (mpi_survives_losses()) end.emplace(patience_with_start, [] { end_before_start(); });
    state_->mpi = std::make_unique<MpiWorld>();
  }
  check_size_of_mpi(state_->launched, state_->mpi->size());
  join_processes();
}

// Those that MPI has.
void Processes::join_processes() {
  if (is_alone()) return;
  make_roll_call();
  state_->host = state_->mpi->hosts()[static_cast<std::size_t>(rank())];
  state_->between = state_->make_between({}, keeps_core_for_words);
  // A loss is to be noticed within milliseconds.
  const std::chrono::milliseconds look_interval(survives_losses() ? 5 : 50);
  state_->failures = std::make_unique<FailureChannel>(
      *state_->mpi, [this](int, const std::string& told) { state_->hear(told); }, look_interval,
      [this](const std::vector<int>& ranks) { state_->hear_losses(ranks); });
}

void Processes::make_roll_call() {
  state_->roll_call = std::make_unique<RollCall>(rank(), size(), [state = state_.get()](const std::string& message) {
    try {
      state->announce(message, patience_with_silence);
    } catch (const std::exception&) {
      // Who cannot be reached does not answer.
    }
  });
}

void Processes::keep_spares(int64_t most) {
  if (!survives_losses() || is_spare() || size() <= most) return;
  state_->failures.reset();
  state_->between.reset();
  state_->roll_call.reset();
  state_->mpi->keep_spares(static_cast<int>(most));
  try {
    state_->mpi->look_around();
    join_processes();
  } catch (const CollectiveError&) {
    const std::lock_guard lock(state_->mutex);
    state_->has_losses = true;
    throw;
  }
}

bool Processes::is_spare() const {
  return state_->mpi && state_->mpi->is_spare();
}

bool Processes::survives_losses() const {
  return state_->mpi && mpi_survives_losses();
}

bool Processes::has_losses(std::chrono::milliseconds patience) {
  if (!survives_losses()) return false;
  std::unique_lock lock(state_->mutex);
  return state_->lost_one.wait_for(lock, patience, [&] { return state_->has_losses; });
}

// Who is lost does not keep the others from ending what they wait in; they hear of it there and come here too. MPI is
// asked on another thread: nothing else ends that call, and a failure is to be told whoever does not come.
Processes::Outcome Processes::agree(Outcome mine, std::chrono::milliseconds patience) {
  constexpr unsigned none_lost = 1, none_failed = 2, none_has_trained = 4;
  const unsigned bits = (mine != Outcome::lost ? none_lost : 0) | (mine != Outcome::failed ? none_failed : 0) |
                        (is_spare() ? none_has_trained : 0);
  if (mine == Outcome::lost) state_->mpi->revoke();
  std::packaged_task<Agreement()> ask(
      [mpi = state_->mpi.get(), user = state_->mpi->user(), bits] { return mpi->agree(bits); });
  auto answer = ask.get_future();
  std::thread(std::move(ask)).detach();
  if (mine == Outcome::failed) patience = std::min<std::chrono::milliseconds>(patience, patience_with_recovery);
  if (answer.wait_for(patience) == std::future_status::timeout) {
    if (mine == Outcome::failed) return mine;
    leave_the_others("the processes have not come together within " + in_words(patience));
  }
  const auto all = answer.get();
  if (!(all.bits & none_failed)) return Outcome::failed;
  if (!(all.bits & none_lost) || (all.bits & none_has_trained)) return Outcome::lost;
  return all.all_are_there ? Outcome::well : Outcome::fewer;
}

// By a signal: of a process that exits MPI tells nobody.
void Processes::leave_the_others(const std::string& why) {
  std::cerr << "troupe: " + why + "; this process ends, and the others go on without it\n";
  std::cerr.flush();
  std::raise(SIGKILL);
  std::abort();  // it does not return
}

// Who notices one more loss revokes what the others wait in, so that all come back here.
std::string Processes::recover() {
  const EndOfPatience end(patience_with_recovery, [] {
    leave_the_others("the processes that are left have not come together within " + in_words(patience_with_recovery));
  });
  state_->has_recovered = true;
  std::string lost;
  for (bool all_are_here = false; !all_are_here;) {
    state_->failures.reset();
    state_->between.reset();
    state_->roll_call.reset();
    {
      const std::lock_guard lock(state_->mutex);
      state_->has_losses = false;
      state_->unheard.reset();
    }
    state_->mpi->revoke();
    const auto names = state_->names_of(state_->mpi->shrink());
    if (!names.empty()) lost += (lost.empty() ? "" : ", ") + names;
    try {
      state_->mpi->look_around();
      join_processes();
      all_are_here = true;
    } catch (const CollectiveError&) {
      state_->mpi->revoke();
    }
    const auto all = state_->mpi->agree(all_are_here ? 1 : 0);
    all_are_here = all.all_are_there && all.bits != 0;
  }
  return lost;
}

Processes::~Processes() {
  std::optional<EndOfPatience> end;
  if (state_->has_recovered) {
    end.emplace(patience_with_end, [status = state_->exit_status] {
      std::cerr << "troupe: MPI has not ended within " + in_words(patience_with_end) +
                       ": this process ends without it\n";
      std::cerr.flush();
      std::_Exit(status);
    });
  }
  state_ = nullptr;
}

int64_t Processes::rank() const {
  return state_->rank();
}

int64_t Processes::size() const {
  return state_->size();
}

int64_t Processes::local_rank() const {
  return state_->mpi ? state_->mpi->local_rank() : state_->launched.local_rank;
}

int64_t Processes::local_size() const {
  return state_->mpi ? state_->mpi->local_size() : state_->launched.local_size;
}

const std::string& Processes::host() const {
  return state_->host;
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
    return MemoryWorld::create_over(state_->make_between(collective, keeps_core), static_cast<int>(local), collective);
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
  state_->announce(told.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
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
  return state_->names_of(absent);
}

void Processes::on_failure(std::function<void(const Failure&)> listener) {
  std::lock_guard lock(state_->mutex);
  state_->listener = std::move(listener);
  if (!state_->listener || !state_->unheard || state_->unheard_run > state_->run) return;
  const Failure failure = *std::exchange(state_->unheard, std::nullopt);
  if (state_->unheard_run == state_->run) state_->listener(failure);
}

}  // namespace troupe
