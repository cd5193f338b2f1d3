#include "troupe/actors/fetcher.hpp"

#include "troupe/actors/handlers.hpp"
#include "troupe/base/exception_text.hpp"
#include "troupe/runtime/process/compute_threads.hpp"

#include <utility>

namespace troupe::cast {

namespace {

std::variant<BatchMaker, StreamReader> source_of(const DataLoader& loader, uint64_t seed, int64_t shard,
                                                 int64_t shards) {
  if (loader.stream()) return StreamReader(loader, seed, shard, shards);
  return BatchMaker(loader, seed);
}

caf::behavior fetcher(caf::event_based_actor* self, const ActorRef& loader, int64_t id,
                      const std::shared_ptr<FetchWork>& work, const std::shared_ptr<Pulse>& pulse) {
  quit_on_exit(self);
  end_with(self, loader);
  use_one_compute_thread();
  enter_thread(pulse);
  name_data_lane(*pulse);
  return Handlers{
      [=](const Fetch& fetch) {
        Fetched answer = work->run(fetch, *pulse);
        answer.fetcher = id;
        if (const auto asker = sender_of(self)) tell(self, asker, std::move(answer));
      },
  };
}

}  // namespace

FetchWork::FetchWork(const DataLoader& loader, uint64_t seed, int64_t shard, int64_t shards,
                     std::shared_ptr<const Serving> serving)
    : source_(source_of(loader, seed, shard, shards)), serving_(std::move(serving)) {}

Fetched FetchWork::run(const Fetch& fetch, Pulse& pulse) {
  const Working working(pulse);
  const TracedWork traced(nullptr, SpanKind::batch, "fetch batch", fetch.index);
  pulse.epoch = fetch.epoch;
  pulse.batch = fetch.index;
  Fetched out;
  out.serving = fetch.serving;
  out.index = fetch.index;
  const auto cancelled = [&] {
    pulse.beat();  // asked between two samples
    return serving_->load(std::memory_order_relaxed) != fetch.serving;
  };
  if (cancelled()) return out;
  try {
    if (auto* maker = std::get_if<BatchMaker>(&source_)) {
      const auto samples = fetch.plan->batch(fetch.index);
      if (auto batch = maker->make(fetch.epoch, fetch.position, samples, cancelled)) out.batch = std::move(*batch);
      out.is_whole = maker->was_whole();
      return out;
    }
    auto& reader = std::get<StreamReader>(source_);
    if (std::exchange(open_, fetch.serving) != fetch.serving) reader.open(fetch.epoch, fetch.index, fetch.origin);
    auto part = reader.next(fetch.look_ahead, cancelled);
    if (part.batch) out.batch = std::move(*part.batch);
    out.length = part.length;
  } catch (...) {
    out.failed = true;
    out.error = current_exception_text();
  }
  return out;
}

ActorRef spawn_fetcher(caf::actor_system& system, const ActorRef& loader, int64_t id, FetchWork work,
                       std::shared_ptr<Pulse> pulse) {
  return spawn_threaded(system, fetcher, loader, id, std::make_shared<FetchWork>(std::move(work)), std::move(pulse));
}

}  // namespace troupe::cast
