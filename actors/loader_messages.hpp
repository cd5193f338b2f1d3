// What a worker and its loaders, and a loader and its fetchers, say to each other.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/modules/batch.hpp"
#include "troupe/runtime/data/epoch_origin.hpp"
#include "troupe/runtime/data/epoch_plan.hpp"

#include <caf/allowed_unsafe_message_type.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace troupe::cast {

/// Worker to loader: start serving an epoch. Whatever was open before is closed.
struct OpenLoader {
  int64_t ticket = 0;       ///< chosen by the worker, repeated in every answer; answers to an older ticket are stale
  int64_t epoch = 0;        ///< for the sampler and the random states
  int64_t position = 0;     ///< index of the first batch wanted (a resumed epoch starts in its middle)
  int64_t limit = -1;       ///< serve batches with an index below this one; -1: to the end
  int64_t credit = 0;       ///< batches the worker is ready to receive now
  EpochOrigin origin = {};  ///< of this epoch
  int64_t group = 1;        ///< batches at most that one message may hold
};

/// Worker to loader: ready for `count` more.
struct Credit {
  int64_t ticket = 0;
  int64_t count = 0;
  int64_t group = 1;  ///< as OpenLoader has it, from now on
};

/// Worker to loader: stop serving, forget what is in flight. The loader stays and can be opened again.
struct CloseLoader {};

/// Worker to loader: close, and end the loader and its fetchers. Not needed where the loader's owner ends.
struct EndLoader {};

/// Loader to worker: one batch, in order, within the credit.
struct BatchReady {
  int64_t ticket = 0;
  int64_t index = 0;  ///< position in the epoch, from 0
  bool last = false;  ///< no further batch follows in this epoch (the limit is counted in)
  Batch batch;
};

/// Loader to worker: several of them in order, if the worker takes groups.
struct BatchesReady {
  int64_t ticket = 0;  ///< of all
  std::vector<BatchReady> batches;
};

/// Loader to worker: the epoch is over; `batches` is its length (an empty one has 0). Follows the last batch.
struct EndOfData {
  int64_t ticket = 0;
  int64_t batches = 0;
};

/// Loader to worker: the dataset, the sampler or the collate function threw. The message names the sample's index.
/// Comes after the batches before the one that failed; nothing follows it. Rank and device are the worker's to fill in.
struct LoaderFailed {
  int64_t ticket = 0;
  Failure failure;
};

/// Loader to fetcher: make batch `index` out of the samples that the plan has for it (for a stream: of the next ones).
struct Fetch {
  int64_t serving = 0;  ///< the loader's own count of openings, repeated in the answer
  int64_t epoch = 0;
  int64_t index = 0;
  int64_t position = 0;                   ///< of the batch in the epoch of all ranks: for random states
  std::shared_ptr<const EpochPlan> plan;  ///< null for a stream
  EpochOrigin origin;
  bool look_ahead = false;  ///< of a stream: find out whether another batch follows
};

/// Fetcher to loader: a batch, or what went wrong. Every Fetch is answered, a cancelled one without a batch.
struct Fetched {
  int64_t serving = 0;
  int64_t index = 0;
  int64_t fetcher = 0;  ///< which one answers
  Batch batch;
  bool is_whole = false;  ///< the dataset has served it as a whole (Dataset::get_batch)
  int64_t length = -1;  ///< of a stream: batches of the epoch once its end was seen; then batch `length` does not exist
  bool failed = false;
  std::string error;
};

/// Loader to itself: fetch the next batch. Credit and CloseLoader come in between.
struct FetchNext {
  int64_t serving = 0;
};

}  // namespace troupe::cast

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::OpenLoader)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::Credit)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::CloseLoader)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::EndLoader)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::BatchReady)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::BatchesReady)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::EndOfData)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::LoaderFailed)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::Fetch)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::Fetched)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::FetchNext)
