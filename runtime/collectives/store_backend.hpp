// The transport over a key-value store: slow, but it needs nothing else. For the CPU under torchrun.
#pragma once

#include "troupe/runtime/collectives/threaded_backend.hpp"

#include <torch/csrc/distributed/c10d/Store.hpp>

namespace troupe {

/// Every rank writes what it gives into `store` and reads what the others gave; values are combined in the order of
/// ranks. An all-reduce of n bytes moves n bytes from each rank to the store and size * n bytes back to each, so that
/// this is for agreements, metrics and small models. Keys begin with "troupe/" and are deleted when all ranks have read
/// them: give every group a c10d::PrefixStore of its own. One connection, used by the backend's thread alone: pass a
/// clone() of a store that is used elsewhere. CollectiveOptions::check_calls has no use here: what does not fit in size
/// is an error anyway.
class StoreBackend : public ThreadedBackend {
 public:
  StoreBackend(c10::intrusive_ptr<c10d::Store> store, int rank, int size, CollectiveOptions options = {});
};

}  // namespace troupe
