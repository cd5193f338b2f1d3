#include "troupe/runtime/collectives/memory_world.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/collectives/chunk_pool.hpp"
#include "troupe/runtime/collectives/collective_error.hpp"
#include "troupe/runtime/collectives/deadline_watch.hpp"
#include "troupe/runtime/collectives/memory_steps.hpp"
#include "troupe/runtime/process/cpu_budget.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <deque>
#include <mutex>
#include <optional>
#include <sstream>
#include <thread>
#include <utility>

namespace troupe {
namespace {

// Below this much memory moved, waking another thread costs more than the work.
constexpr int64_t inline_bytes = 256 * 1024;
// What one thread does in one go: large against the price of taking it, small enough to share and to stay in the cache.
constexpr int64_t chunk_bytes = 512 * 1024;

// The threads of a pool: those who wait help, so that one less than the ranks is enough.
int pool_threads(int local_size) {
  return std::clamp(local_size - 1, 1, static_cast<int>(allowed_cpus().size()));
}

std::string reason_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "unknown error";
  }
}

}  // namespace

// One operation, from its first caller until its works have their outcome.
struct MemoryWorld::Meeting {
  explicit Meeting(int ranks) : calls(static_cast<std::size_t>(ranks)), works(static_cast<std::size_t>(ranks)) {}
  std::vector<CollectiveCall> calls;
  std::vector<c10::intrusive_ptr<CollectiveWork>> works;
  int arrived = 0;
  std::size_t first = 0;  // who came first
  MemorySteps steps;
};

// Whatever is under way on another thread holds it.
struct MemoryWorld::State : std::enable_shared_from_this<MemoryWorld::State> {
  using MeetingPtr = std::shared_ptr<Meeting>;

  State(c10::intrusive_ptr<CollectiveBackend> outer, int ranks, CollectiveOptions given)
      : local_size(ranks),
        options(given),
        between(std::move(outer)),
        next(static_cast<std::size_t>(ranks), 0),
        pool(pool_threads(ranks)) {
    if (between) place = {between->getRank(), between->getSize()};
  }

  void start_watch() {
    watch.emplace([state = weak_from_this()](CollectiveWork& work) {
      if (const auto held = state.lock()) held->expire(work);
    });
  }

  int global(std::size_t local) const { return place.process * local_size + static_cast<int>(local); }

  void arrive(std::size_t rank, CollectiveCall call, const c10::intrusive_ptr<CollectiveWork>& work);
  void check_match(const Meeting& meeting, std::size_t rank) const;
  void carry_out(const MeetingPtr& meeting, bool alone);
  void go_between(const MeetingPtr& meeting);
  void do_step(const MeetingPtr& meeting, MemoryStep& step, bool here, void (State::*then)(const MeetingPtr&));
  void finish(const MeetingPtr& meeting);
  void expire(CollectiveWork& work);
  std::string missing(const CollectiveWork& work);
  void fail(std::exception_ptr error);
  void throw_if_aborted() const {
    if (aborted) std::rethrow_exception(aborted);
  }

  const int local_size;
  const CollectiveOptions options;
  const c10::intrusive_ptr<CollectiveBackend> between;
  MemoryPlace place;

  std::mutex mutex;
  std::deque<MeetingPtr> gathering;  // operations that wait for ranks; the front has the number `front`
  uint64_t front = 0;
  std::vector<uint64_t> next;       // the number of each rank's next operation
  std::vector<MeetingPtr> running;  // operations that all ranks have called
  std::exception_ptr aborted;

  ChunkPool pool;
  std::optional<DeadlineWatch> watch;
};

class MemoryWorld::Rank : public CollectiveBackend {
 public:
  Rank(std::shared_ptr<MemoryWorld> world, int local_rank)
      : CollectiveBackend(world->state_->global(static_cast<std::size_t>(local_rank)), world->size(),
                          world->state_->between ? "hierarchical" : "memory", world->state_->options),
        world_(std::move(world)),
        local_rank_(static_cast<std::size_t>(local_rank)) {}

  c10::intrusive_ptr<CollectiveWork> start(CollectiveCall call, std::chrono::milliseconds timeout) override {
    auto work = make_work(call, timeout);
    // Not the world itself: it holds the works that are not finished.
    work->assist = [world = std::weak_ptr(world_)] {
      if (const auto held = world.lock()) held->state_->pool.help();
    };
    world_->state_->arrive(local_rank_, std::move(call), work);
    return work;
  }

  using CollectiveBackend::abort;
  void abort(const std::string& reason) override { world_->abort(reason); }

 private:
  const std::shared_ptr<MemoryWorld> world_;
  const std::size_t local_rank_;
};

// --- The life of an operation ----------------------------------------------------------------------------------------

void MemoryWorld::State::arrive(std::size_t rank, CollectiveCall call, const c10::intrusive_ptr<CollectiveWork>& work) {
  watch->add(work);
  MeetingPtr meeting;
  std::exception_ptr mismatch;
  bool here = false;
  {
    const std::lock_guard lock(mutex);
    throw_if_aborted();
    const auto place_in_line = static_cast<std::size_t>(next[rank]++ - front);
    if (place_in_line == gathering.size()) gathering.push_back(std::make_shared<Meeting>(local_size));
    meeting = gathering[place_in_line];
    if (meeting->arrived == 0) meeting->first = rank;
    meeting->calls[rank] = std::move(call);
    meeting->works[rank] = work;
    try {
      check_match(*meeting, rank);
    } catch (...) {
      mismatch = std::current_exception();
    }
    if (!mismatch && ++meeting->arrived == local_size) {
      gathering.pop_front();
      ++front;
      running.push_back(meeting);
      here = pool.idle();  // else it must not overtake the one before it
    } else {
      meeting = mismatch ? meeting : nullptr;
    }
  }
  if (mismatch) fail(mismatch);
  if (meeting && !mismatch) carry_out(meeting, here);
}

void MemoryWorld::State::check_match(const Meeting& meeting, std::size_t rank) const {
  const auto& first = meeting.calls[meeting.first];
  if (matches(first, meeting.calls[rank])) return;
  std::ostringstream text;
  text << "the ranks call different operations: rank " << global(meeting.first) << " calls " << first.describe()
       << ", rank " << global(rank) << " calls " << meeting.calls[rank].describe() << " (operation number "
       << meeting.works[rank]->getSequencenumber() << ")";
  throw CollectiveError(text.str());
}

void MemoryWorld::State::carry_out(const MeetingPtr& meeting, bool here) {
  try {
    meeting->steps = steps_of(meeting->calls, place);
  } catch (...) {
    fail(std::current_exception());
    return;
  }
  do_step(meeting, meeting->steps.combine, here, &State::go_between);
}

// Does a step, here and now where it is small and `here` allows that, else in the pool, and then goes on.
void MemoryWorld::State::do_step(const MeetingPtr& meeting, MemoryStep& step, bool here,
                                 void (State::*then)(const MeetingPtr&)) {
  const int64_t bytes = step.units * step.bytes_a_unit;
  if (here && bytes <= inline_bytes) {
    try {
      if (step.units > 0) step.run(0, step.units);
    } catch (...) {
      fail(std::current_exception());
      return;
    }
    (this->*then)(meeting);
    return;
  }
  constexpr int64_t line = 64;  // elements; two threads should not write into one cache line
  const int64_t a_chunk = std::max<int64_t>(1, chunk_bytes / std::max<int64_t>(1, step.bytes_a_unit) / line) * line;
  pool.add({.chunks = std::max<int64_t>(1, (step.units + a_chunk - 1) / a_chunk),
            .run =
                [&step, meeting, a_chunk](int64_t chunk) {
                  const int64_t begin = chunk * a_chunk;
                  const int64_t end = std::min(step.units, begin + a_chunk);
                  if (begin < end) step.run(begin, end);
                },
            .done =
                [self = shared_from_this(), meeting, then](const std::exception_ptr& error) {
                  if (error) {
                    self->fail(error);
                  } else {
                    (self.get()->*then)(meeting);
                  }
                }});
}

void MemoryWorld::State::go_between(const MeetingPtr& meeting) {
  if (!meeting->steps.between) {
    finish(meeting);
    return;
  }
  try {
    auto& call = *meeting->steps.between;
    const auto work = between->start(std::move(call), meeting->works[0]->timeout());
    work->getFuture()->addCallback([self = shared_from_this(), meeting](c10::ivalue::Future& future) {
      if (future.hasError()) {
        self->fail(future.exception_ptr());
      } else {
        self->do_step(meeting, meeting->steps.spread, true, &State::finish);
      }
    });
  } catch (...) {
    fail(std::current_exception());
  }
}

void MemoryWorld::State::finish(const MeetingPtr& meeting) {
  {
    const std::lock_guard lock(mutex);
    std::erase(running, meeting);
  }
  meeting->steps = {};
  for (std::size_t rank = 0; rank < meeting->calls.size(); ++rank) {
    const auto call = std::exchange(meeting->calls[rank], {});  // its memory goes before the waiting thread goes on
    try {
      if (call.finish) call.finish();
    } catch (...) {
      meeting->works[rank]->fail(std::current_exception());
      continue;
    }
    meeting->works[rank]->succeed();
  }
}

// --- How it ends otherwise -------------------------------------------------------------------------------------------

void MemoryWorld::State::expire(CollectiveWork& work) {
  const std::string text =
      work.what() + " was not finished within " + in_seconds(work.timeout()) + ": " + missing(work);
  if (work.isCompleted()) return;  // while others were asked
  fail(std::make_exception_ptr(CollectiveTimeout(text)));
  work.fail(std::make_exception_ptr(CollectiveTimeout(text)));  // where another failure came first
}

std::string MemoryWorld::State::missing(const CollectiveWork& work) {
  std::unique_lock lock(mutex);
  for (const auto& meeting : gathering) {
    if (std::ranges::none_of(meeting->works, [&](const auto& other) { return other.get() == &work; })) continue;
    std::ostringstream text;
    text << "these ranks did not call it:";
    for (std::size_t rank = 0; rank < meeting->works.size(); ++rank) {
      if (!meeting->works[rank]) text << " " << global(rank);
    }
    return text.str();
  }
  lock.unlock();
  if (!between) return "it still runs";
  return options.who_is_missing ? options.who_is_missing()
                                : "all ranks of this process called it, and wait for other processes";
}

void MemoryWorld::State::fail(std::exception_ptr error) {
  std::vector<MeetingPtr> open;
  {
    const std::lock_guard lock(mutex);
    if (aborted) return;
    aborted = error;
    open.assign(gathering.begin(), gathering.end());
    open.insert(open.end(), running.begin(), running.end());
    gathering.clear();
    running.clear();
  }
  for (const auto& meeting : open) {
    for (const auto& work : meeting->works) {
      if (work) work->fail(error);
    }
  }
  if (between) between->abort(reason_of(error));
}

// --- The world -------------------------------------------------------------------------------------------------------

MemoryWorld::MemoryWorld(c10::intrusive_ptr<CollectiveBackend> between, int local_size, CollectiveOptions options)
    : state_(std::make_shared<State>(std::move(between), local_size, options)) {
  state_->start_watch();
}

MemoryWorld::~MemoryWorld() {
  abort("the group of ranks has ended");
}

std::shared_ptr<MemoryWorld> MemoryWorld::create(int size, CollectiveOptions options) {
  return create_over(nullptr, size, options);
}

std::shared_ptr<MemoryWorld> MemoryWorld::create_over(c10::intrusive_ptr<CollectiveBackend> between, int local_size,
                                                      CollectiveOptions options) {
  if (local_size < 1) {
    throw UsageError("a group of ranks has at least one rank a process, not " + std::to_string(local_size));
  }
  if (between) {
    auto ours = at::full({1}, local_size, at::kInt);
    auto all = at::empty({between->getSize()}, at::kInt);
    between->_allgather_base(all, ours)->wait();
    if (all.ne(ours).any().item<bool>()) {
      std::ostringstream text;
      text << "every process has to have as many workers as the others; by process they have:";
      for (int process = 0; process < between->getSize(); ++process) text << " " << all[process].item<int>();
      throw UsageError(text.str());
    }
  }
  return std::shared_ptr<MemoryWorld>(new MemoryWorld(std::move(between), local_size, options));
}

c10::intrusive_ptr<CollectiveBackend> MemoryWorld::backend(int local_rank) {
  if (local_rank < 0 || local_rank >= local_size()) {
    throw UsageError("there is no local rank " + std::to_string(local_rank) + "; this process has the ranks 0 to " +
                     std::to_string(local_size() - 1));
  }
  return c10::make_intrusive<Rank>(shared_from_this(), local_rank);
}

int MemoryWorld::local_size() const {
  return state_->local_size;
}

int MemoryWorld::size() const {
  return state_->local_size * state_->place.processes;
}

void MemoryWorld::abort(const std::string& reason) {
  state_->fail(std::make_exception_ptr(CollectiveError(reason)));
}

}  // namespace troupe
