// A fetcher calls the dataset on a thread of its own and hands the batches to its loader.
#pragma once

#include "troupe/actors/caf.hpp"
#include "troupe/actors/loader_messages.hpp"
#include "troupe/modules/data/data_loader.hpp"
#include "troupe/runtime/data/batch_maker.hpp"
#include "troupe/runtime/process/pulse.hpp"
#include "troupe/runtime/profile/thread_lane.hpp"

#include <atomic>
#include <cstdint>
#include <memory>
#include <variant>

namespace troupe::cast {

/// The opening that a loader serves. It is the one thing that a loader and its fetchers share outside of messages: a
/// fetcher must see that its batch is no longer wanted before the messages queued ahead of that news are through.
using Serving = std::atomic<int64_t>;

/// A fetcher's work without the actor; a loader without fetchers does it itself. Belongs to one thread.
class FetchWork {
 public:
  /// May throw what the dataset's replicate() throws.
  FetchWork(const DataLoader& loader, uint64_t seed, int64_t shard, int64_t shards,
            std::shared_ptr<const Serving> serving);
  /// Never throws for what the user's code throws: the answer says it. A Fetch of an opening that is no longer served
  /// is answered at once, and given up between two samples.
  Fetched run(const Fetch& fetch, Pulse& pulse);

 private:
  std::variant<BatchMaker, StreamReader> source_;
  std::shared_ptr<const Serving> serving_;
  int64_t open_ = -1;  // the opening that the stream was started for
};

/// The lane of a thread that reads data: "loader of train", "fetcher 1 of the loader of train".
inline void name_data_lane(const Pulse& pulse) {
  const Stage stage = pulse.stage;
  name_lane(pulse.who + " of " + (stage == Stage::fit ? "train" : std::string(to_string(stage))));
}

/// Spawns fetcher number `id` of `loader`, on a thread of its own; it ends when the loader ends.
///
///     Fetch -> Fetched
ActorRef spawn_fetcher(caf::actor_system& system, const ActorRef& loader, int64_t id, FetchWork work,
                       std::shared_ptr<Pulse> pulse);

}  // namespace troupe::cast
