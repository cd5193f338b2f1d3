#include "troupe/actors/loader.hpp"

#include "troupe/actors/fetcher.hpp"
#include "troupe/actors/handlers.hpp"
#include "troupe/actors/messages.hpp"
#include "troupe/runtime/data/epoch_plan.hpp"
#include "troupe/runtime/process/compute_threads.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace troupe::cast {

namespace {

// Fetches that one fetcher holds: one in the making, and one more so that it need not wait for the loader.
constexpr int64_t kFetcherDepth = 2;
// A batch that came this soon after the one before waits for more of its group; a later one is sent at once.
constexpr std::chrono::microseconds kQuick{100};
constexpr int64_t kUnknown = std::numeric_limits<int64_t>::max();

class LoaderState {
 public:
  static constexpr const char* name = "loader";

  explicit LoaderState(caf::event_based_actor* self) : self_(self) {}
  ~LoaderState() { serving_->store(-1); }

  caf::behavior start(LoaderSetup setup);

 private:
  struct Fetcher {
    ActorRef actor;
    int64_t load = 0;  // fetches given to it and not answered
  };

  void open(const OpenLoader& request);
  void close();
  void begin_epoch(const OpenLoader& request);
  void hire();
  void pump();
  Fetch fetch_for(int64_t index) const;
  void fetch_next(const FetchNext& next);
  bool may_fetch() const;
  void take(Fetched fetched);
  void accept(Fetched fetched);
  void deliver(Fetched fetched);
  void send(BatchReady ready, bool is_whole);
  void send_group();
  void finish(int64_t batches);
  void fail(int64_t index, std::string message);
  void watched_end(const caf::actor_addr& who, const std::string& why);
  Fetcher* idlest();
  std::string title() const { return loader_name(setup_->loader_idx); }
  std::shared_ptr<Pulse> watched_pulse(const std::string& who) const;

  caf::event_based_actor* self_;
  std::optional<LoaderSetup> setup_;
  std::shared_ptr<Serving> serving_ = std::make_shared<Serving>(0);
  std::shared_ptr<Pulse> pulse_;
  std::optional<FetchWork> own_work_;  // without fetchers
  std::vector<Fetcher> fetchers_;
  bool hired_ = false;
  bool fetch_next_queued_ = false;

  // The opening being served.
  bool open_ = false;
  ActorRef client_;
  OpenLoader request_;
  std::shared_ptr<const EpochPlan> plan_;  // null for a stream
  int64_t end_ = 0;                        // first batch that is not served; kUnknown for a stream without a limit
  int64_t next_fetch_ = 0;                 // first batch that no fetcher was asked for
  int64_t next_send_ = 0;                  // first batch that was not sent
  int64_t credit_ = 0;                     // batches that the worker is ready for
  std::map<int64_t, Fetched> ready_;       // those that wait for their turn
  std::vector<BatchReady> group_;          // those that wait to be sent together
  std::chrono::steady_clock::time_point last_ready_{};
};

caf::behavior LoaderState::start(LoaderSetup setup) {
  setup_.emplace(std::move(setup));
  quit_on_exit(self_);
  on_watched_end(self_, [this](const caf::actor_addr& who, const std::string& why) { watched_end(who, why); });
  if (setup_->owner) watch(self_, setup_->owner);
  use_one_compute_thread();
  pulse_ = watched_pulse("the " + title());
  enter_thread(pulse_);
  name_data_lane(*pulse_);
  return Handlers{
      [this](const OpenLoader& request) { open(request); },
      [this](const Credit& credit) {
        if (!open_ || credit.ticket != request_.ticket) return;
        credit_ += std::max<int64_t>(0, credit.count);
        request_.group = credit.group;
        pump();
      },
      [this](CloseLoader) { close(); },
      [this](EndLoader) { self_->quit(); },
      [this](const FetchNext& next) { fetch_next(next); },
      [this](Fetched& fetched) { take(std::move(fetched)); },
  };
}

std::shared_ptr<Pulse> LoaderState::watched_pulse(const std::string& who) const {
  auto pulse = std::make_shared<Pulse>(who, title());
  pulse->stage = setup_->stage;
  if (setup_->watchdog) tell(self_, setup_->watchdog, WatchPulse{pulse, setup_->rank});
  return pulse;
}

void LoaderState::close() {
  serving_->fetch_add(1);
  open_ = false;
  plan_.reset();  // an order may be large
  ready_.clear();
  group_.clear();
}

void LoaderState::open(const OpenLoader& request) {
  close();
  const ActorRef sender = sender_of(self_);
  if (!sender) return;  // nobody to serve
  if (sender != client_ && sender != setup_->owner) watch(self_, sender);
  client_ = sender;
  request_ = request;
  open_ = true;
  const Working working(*pulse_);
  pulse_->epoch = request.epoch;
  pulse_->batch = -1;
  try {
    hire();
    begin_epoch(request);
  } catch (...) {
    fail(-1, current_exception_text());
    return;
  }
  if (next_send_ >= end_) return finish(end_);
  pump();
}

void LoaderState::begin_epoch(const OpenLoader& request) {
  next_fetch_ = next_send_ = std::max<int64_t>(0, request.position);
  credit_ = std::max<int64_t>(0, request.credit);
  if (setup_->loader.stream()) {
    const bool divides = setup_->division == Division::batches && request.limit >= 0;
    const int64_t limit = divides ? share_of(request.limit, setup_->shard, setup_->shards) : request.limit;
    end_ = limit >= 0 ? limit : kUnknown;
    return;
  }
  plan_ = std::make_shared<const EpochPlan>(setup_->loader, EpochRequest{.seed = setup_->seed,
                                                                         .epoch = request.epoch,
                                                                         .limit = request.limit,
                                                                         .allow_shuffle = setup_->allow_shuffle,
                                                                         .shard = setup_->shard,
                                                                         .shards = setup_->shards,
                                                                         .division = setup_->division,
                                                                         .origin = request.origin});
  end_ = plan_->batches();
}

void LoaderState::hire() {
  if (hired_) return;
  const auto& loader = setup_->loader;
  const auto work = [&] { return FetchWork(loader, setup_->seed, setup_->shard, setup_->shards, serving_); };
  const int64_t wanted = std::min<int64_t>(loader.options().num_workers, loader.stream() ? 1 : kUnknown);
  if (wanted == 0) own_work_.emplace(work());
  std::vector<FetchWork> works;  // all first: a replicate() that throws must not leave half of the fetchers behind
  while (static_cast<int64_t>(works.size()) < wanted) works.push_back(work());
  for (auto& each : works) {
    const auto id = static_cast<int64_t>(fetchers_.size());
    auto pulse = watched_pulse("fetcher " + std::to_string(id) + " of the " + title());
    fetchers_.push_back({spawn_fetcher(self_->system(), ref_to(self_), id, std::move(each), std::move(pulse))});
    watch(self_, fetchers_.back().actor);
  }
  hired_ = true;
}

LoaderState::Fetcher* LoaderState::idlest() {
  const auto found = std::min_element(fetchers_.begin(), fetchers_.end(),
                                      [](const Fetcher& a, const Fetcher& b) { return a.load < b.load; });
  return found->load < kFetcherDepth ? &*found : nullptr;
}

Fetch LoaderState::fetch_for(int64_t index) const {
  const bool stream = setup_->loader.stream() != nullptr;
  return {.serving = serving_->load(),
          .epoch = request_.epoch,
          .index = index,
          .position = setup_->shard + index * setup_->shards,
          .plan = plan_,
          .origin = request_.origin,
          .look_ahead = stream && index + 1 != end_};
}

/// As many batches as the credit covers, those fetched and not yet sent counted in.
bool LoaderState::may_fetch() const {
  return open_ && next_fetch_ < end_ && next_fetch_ - next_send_ < credit_;
}

void LoaderState::pump() {
  while (may_fetch()) {
    if (own_work_) {
      if (!std::exchange(fetch_next_queued_, true)) tell(self_, ref_to(self_), FetchNext{serving_->load()});
      return;
    }
    Fetcher* fetcher = idlest();
    if (!fetcher) return;
    fetcher->load += 1;
    tell(self_, fetcher->actor, fetch_for(next_fetch_++));
  }
}

// Batches until a message waits: a Credit or a CloseLoader comes in between any two.
void LoaderState::fetch_next(const FetchNext& next) {
  fetch_next_queued_ = false;
  if (next.serving != serving_->load()) return pump();
  do {
    if (!may_fetch()) return;
    accept(own_work_->run(fetch_for(next_fetch_++), *pulse_));
  } while (!has_mail(self_));
  pump();
}

void LoaderState::take(Fetched fetched) {
  fetchers_[static_cast<std::size_t>(fetched.fetcher)].load -= 1;
  accept(std::move(fetched));
  pump();
}

/// Sends what has come in order, keeps what has not.
void LoaderState::accept(Fetched fetched) {
  if (!open_ || fetched.serving != serving_->load()) return;
  if (fetched.index != next_send_) {
    ready_.emplace(fetched.index, std::move(fetched));
    return;
  }
  deliver(std::move(fetched));
  while (open_ && !ready_.empty() && ready_.begin()->first == next_send_) {
    Fetched next = std::move(ready_.begin()->second);
    ready_.erase(ready_.begin());
    deliver(std::move(next));
  }
  if (!own_work_) send_group();
}

void LoaderState::deliver(Fetched fetched) {
  if (fetched.failed) return fail(fetched.index, std::move(fetched.error));
  if (fetched.length >= 0) end_ = std::min(end_, fetched.length);
  if (fetched.index >= end_) return finish(end_);
  next_send_ += 1;
  credit_ -= 1;
  const bool last = next_send_ == end_;
  send(BatchReady{request_.ticket, fetched.index, last, std::move(fetched.batch)}, fetched.is_whole);
  if (last) finish(end_);
}

/// Waking the worker costs as much as a small batch, so those that are there together are sent in a group, which wakes
/// it once. From fetchers that is what has waited for its turn. Without fetchers a batch waits for the next one only if
/// the dataset serves whole batches and these come fast: `get`, and a stream, may wait for something at any time.
void LoaderState::send(BatchReady ready, bool is_whole) {
  bool waits = !ready.last && request_.group > 1;
  if (own_work_ && waits) {
    const auto now = std::chrono::steady_clock::now();
    waits = now - std::exchange(last_ready_, now) < kQuick && is_whole && credit_ > 0;
  }
  group_.push_back(std::move(ready));
  if (!waits || static_cast<int64_t>(group_.size()) >= request_.group) send_group();
}

void LoaderState::send_group() {
  if (group_.empty()) return;
  if (group_.size() == 1) {
    tell(self_, client_, std::move(group_.front()));
  } else {
    tell(self_, client_, BatchesReady{request_.ticket, std::move(group_)});
  }
  group_.clear();
}

void LoaderState::finish(int64_t batches) {
  send_group();
  tell(self_, client_, EndOfData{request_.ticket, batches});
  close();
}

void LoaderState::fail(int64_t index, std::string message) {
  Failure failure;
  failure.stage = to_string(setup_->stage);
  failure.hook = title();
  failure.epoch = request_.epoch;
  failure.batch_idx = index;
  failure.message = std::move(message);
  send_group();
  tell(self_, client_, LoaderFailed{request_.ticket, std::move(failure)});
  close();
}

void LoaderState::watched_end(const caf::actor_addr& who, const std::string& why) {
  if (setup_->owner && who == setup_->owner.address()) return self_->quit();
  if (client_ && who == client_.address()) {
    close();
    client_ = nullptr;
    if (!setup_->owner) self_->quit();
    return;
  }
  for (const auto& fetcher : fetchers_) {
    if (who != fetcher.actor.address()) continue;
    const std::string message = why.empty() ? "a fetcher has ended before its loader" : why;
    if (open_) fail(-1, message);
    return self_->quit(early_end(message));
  }
}

caf::behavior loader(caf::stateful_actor<LoaderState>* self, LoaderSetup setup) {
  return state_of(self).start(std::move(setup));
}

}  // namespace

ActorRef spawn_loader(caf::actor_system& system, LoaderSetup setup) {
  return spawn_threaded(system, loader, std::move(setup));
}

}  // namespace troupe::cast
