#include "troupe/runtime/fabric/fabric_loader.hpp"

#include "troupe/runtime/data/batch_maker.hpp"
#include "troupe/runtime/data/epoch_plan.hpp"
#include "troupe/runtime/device/copy_ahead.hpp"
#include "troupe/runtime/precision/convert.hpp"
#include "troupe/runtime/process/compute_threads.hpp"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

namespace troupe {

namespace {

using BatchSource = std::variant<BatchMaker, StreamReader>;

}  // namespace

struct FabricLoader::State {
  DataLoader loader;
  FabricLoaderPlace place;
  std::vector<std::unique_ptr<BatchSource>> sources;  // one for each thread
  int64_t next_epoch = 0, next_batch = 0;
  int64_t epoch = -1;
  int64_t beginnings = 0;
  std::unique_ptr<Epoch> running;  // destroyed before the sources
  std::optional<CopiedBatch> copied;

  State(DataLoader loader_in, FabricLoaderPlace place_in) : loader(std::move(loader_in)), place(place_in) {}
  std::optional<Batch> next();
};

/// The threads of one epoch, and the batches that they have made and nobody has taken.
class FabricLoader::Epoch {
 public:
  Epoch(State& state, int64_t epoch, int64_t from_batch)
      : state_(state), epoch_(epoch), next_(from_batch), taken_(from_batch) {
    if (!state.loader.stream()) {
      plan_.emplace(state.loader, EpochRequest{.seed = state.place.seed,
                                               .epoch = epoch,
                                               .shard = state.place.shard,
                                               .shards = state.place.shards,
                                               .division = state.place.division});
      end_ = plan_->batches();
    }
    for (auto& source : state.sources) threads_.emplace_back([this, &source = *source] { make_batches(source); });
  }

  ~Epoch() {
    {
      const std::lock_guard lock(mutex_);
      is_cancelled_ = true;
    }
    may_make_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  Epoch(const Epoch&) = delete;
  Epoch& operator=(const Epoch&) = delete;

  /// The next batch in order; nothing at the end. With `waits` false also if it is not made yet.
  std::optional<Batch> take(bool waits) {
    std::unique_lock lock(mutex_);
    const auto is_there = [&] { return ready_.contains(taken_) || is_over(); };
    if (!waits && !is_there()) return std::nullopt;
    is_made_.wait(lock, is_there);
    if (is_over()) return std::nullopt;
    Made made = std::move(ready_.extract(taken_).mapped());
    if (made.error) {
      if (waits) std::rethrow_exception(made.error);
      ready_.emplace(taken_, std::move(made));  // for whoever waits for it
      return std::nullopt;
    }
    ++taken_;
    lock.unlock();
    may_make_.notify_one();
    return std::move(made.batch);
  }

 private:
  struct Made {
    Batch batch;
    std::exception_ptr error;
  };

  bool is_over() const { return end_ && taken_ >= *end_; }
  bool may_make() const { return next_ - taken_ < state_.loader.options().prefetch && (!end_ || next_ < *end_); }

  void make_batches(BatchSource& source) {
    use_one_compute_thread();
    bool is_open = false;
    std::unique_lock lock(mutex_);
    for (;;) {
      may_make_.wait(lock, [&] { return is_cancelled_ || (end_ && next_ >= *end_) || may_make(); });
      if (is_cancelled_ || !may_make()) return;
      const int64_t index = next_++;
      lock.unlock();
      Made made;
      int64_t length = -1;
      try {
        made.batch = make(source, index, std::exchange(is_open, true), length);
      } catch (...) {
        made.error = std::current_exception();
      }
      lock.lock();
      if (length >= 0) end_ = length;
      const bool failed = made.error != nullptr;
      ready_.emplace(index, std::move(made));
      is_made_.notify_one();
      if (failed) return;
    }
  }

  Batch make(BatchSource& source, int64_t index, bool is_open, int64_t& length) {
    const auto cancelled = [this] {
      const std::lock_guard lock(mutex_);
      return is_cancelled_;
    };
    const auto& place = state_.place;
    if (auto* maker = std::get_if<BatchMaker>(&source)) {
      const int64_t position = place.shard + index * place.shards;
      return maker->make(epoch_, position, plan_->batch(index), cancelled).value_or(Batch());
    }
    auto& reader = std::get<StreamReader>(source);
    if (!is_open) reader.open(epoch_, index);
    auto part = reader.next(/*look_ahead=*/true, cancelled);
    length = part.length;
    return std::move(part.batch).value_or(Batch());
  }

  State& state_;
  const int64_t epoch_;
  std::optional<EpochPlan> plan_;  // none for a stream
  std::mutex mutex_;               // for all below
  std::condition_variable is_made_, may_make_;
  std::map<int64_t, Made> ready_;
  std::optional<int64_t> end_;  // batches of the epoch, as soon as it is known
  int64_t next_, taken_;        // to be made, to be taken
  bool is_cancelled_ = false;
  std::vector<std::thread> threads_;
};

FabricLoader::FabricLoader(DataLoader loader, FabricLoaderPlace place)
    : state_(std::make_shared<State>(std::move(loader), place)) {}

FabricLoader::Iterator FabricLoader::begin() {
  State& state = *state_;
  state.copied.reset();
  state.running.reset();
  const auto& loader = state.loader;
  const int64_t threads = loader.stream() ? 1 : std::max<int64_t>(1, loader.options().num_workers);
  while (static_cast<int64_t>(state.sources.size()) < threads) {
    state.sources.push_back(std::make_unique<BatchSource>(
        loader.stream() ? BatchSource(StreamReader(loader, state.place.seed, state.place.shard, state.place.shards))
                        : BatchSource(BatchMaker(loader, state.place.seed))));
  }
  state.epoch = std::exchange(state.next_epoch, state.next_epoch + 1);
  state.running = std::make_unique<Epoch>(state, state.epoch, std::exchange(state.next_batch, 0));
  ++state.beginnings;
  return Iterator(state_);
}

std::optional<Batch> FabricLoader::State::next() {
  if (!running) return std::nullopt;
  Batch batch;
  if (!copied) {
    auto made = running->take(/*waits=*/true);
    if (!made) {
      running.reset();
      return std::nullopt;
    }
    if (place.copier) {
      copied = place.copier->begin(std::move(*made));
    } else {
      batch = std::move(*made);
    }
  }
  if (place.copier) {
    CopiedBatch now = std::move(*copied);
    copied.reset();
    // The way of the next one to the device begins before this one is computed on.
    if (auto ahead = running->take(/*waits=*/false)) copied = place.copier->begin(std::move(*ahead));
    batch = place.copier->finish(std::move(now));
  }
  return place.floating_type == torch::kFloat32 ? std::move(batch)
                                                : with_floating_type(std::move(batch), place.floating_type);
}

FabricLoader::Iterator::Iterator(std::shared_ptr<State> state)
    : state_(std::move(state)), beginning_(state_->beginnings) {
  ++*this;
}

FabricLoader::Iterator& FabricLoader::Iterator::operator++() {
  auto next = beginning_ == state_->beginnings ? state_->next() : std::nullopt;
  is_over_ = !next;
  batch_ = std::move(next).value_or(Batch());
  return *this;
}

std::optional<int64_t> FabricLoader::size() const {
  const auto& place = state_->place;
  if (place.division == Division::padded_samples) return state_->loader.batch_count(place.shards);
  const auto all = state_->loader.batch_count();
  return all ? std::optional(share_of(*all, place.shard, place.shards)) : std::nullopt;
}

void FabricLoader::set_epoch(int64_t epoch, int64_t from_batch) {
  if (epoch < 0 || from_batch < 0) {
    throw UsageError("set_epoch(" + std::to_string(epoch) + ", " + std::to_string(from_batch) +
                     "): epochs and batches count from 0");
  }
  state_->next_epoch = epoch;
  state_->next_batch = from_batch;
}

int64_t FabricLoader::epoch() const {
  return state_->epoch;
}

}  // namespace troupe
