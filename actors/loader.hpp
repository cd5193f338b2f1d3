// A loader serves the batches of one data loader to one worker, in order, ahead of need.
#pragma once

#include "troupe/actors/caf.hpp"
#include "troupe/actors/loader_messages.hpp"
#include "troupe/modules/data/data_loader.hpp"
#include "troupe/modules/stage.hpp"

#include <cstdint>
#include <string>

namespace troupe::cast {

/// What a loader serves, and for whom.
struct LoaderSetup {
  DataLoader loader;
  uint64_t seed = 0;          ///< of the order and of the random states
  int64_t loader_idx = 0;     ///< position among the stage's loaders; only failures show it
  bool allow_shuffle = true;  ///< false: leave out `shuffle` (overfit_batches)
  Stage stage = Stage::fit;   ///< for failures
  int64_t shard = 0;          ///< the part of the data that this rank serves
  int64_t shards = 1;
  Division division = Division::padded_samples;
  int64_t rank = 0;        ///< of the worker, for failures
  ActorRef watchdog = {};  ///< that looks at the loader and its fetchers; null: nobody does
  ActorRef owner = {};     ///< the loader ends with it, opened or not; null: with whoever opened it last
};

/// What failures call the loader at this position: "loader", "loader 1".
inline std::string loader_name(int64_t loader_idx) {
  return loader_idx == 0 ? "loader" : "loader " + std::to_string(loader_idx);
}

/// Spawns a loader; it never runs on the worker's thread.
///
///     OpenLoader  -> (to its sender) BatchReady*, then EndOfData or LoaderFailed; under the credit window (rule P2)
///     Credit      -> more of them
///                    (in both cases BatchesReady too, if the sender takes groups)
///     CloseLoader -> nothing; what is in flight is dropped
///     EndLoader   -> nothing; the loader and its fetchers end
///
/// It has a thread of its own, also where `num_workers` fetchers with threads of theirs do the fetching: samplers and
/// datasets are a user's code that may block, and two blocked loaders would hold all threads of a small machine's
/// scheduler. With `num_workers = 0` it looks for messages between any two batches, so that Credit and CloseLoader come
/// in between.
///
/// Batches fetched, waiting for their turn and being made are never more than the credit (rules P2 and P5). Order and
/// per-sample random states do not depend on the number of fetchers (rule P9). The loader ends on EndLoader, on an exit
/// message, and when its owner or the worker that opened it ends; batches in the making are given up between two
/// samples.
ActorRef spawn_loader(caf::actor_system& system, LoaderSetup setup);

}  // namespace troupe::cast
