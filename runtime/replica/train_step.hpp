// What a training batch carries through its step, and an optimizer from batch to batch.
#pragma once

#include "troupe/modules/batch.hpp"
#include "troupe/modules/step_output.hpp"

#include <torch/types.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>

namespace troupe {

/// One batch, or one chunk of a batch of sequences, on its way through the passes and the step of one optimizer.
struct TrainStep {
  const Batch* batch = nullptr;  ///< null for a rank that has none in a step of the others
  int64_t batch_idx = 0;
  int64_t batch_size = 1;
  double own = 1;  ///< what this rank's gradient counts,
  double all = 1;  ///< of so much: equal in a run of one rank, or if all have batches of one size
  std::size_t optimizer = 0;
  bool is_first_of_window = true;
  bool closes_window = true;
  bool in_chunks = false;  ///< truncated back-propagation through time
  std::size_t chunk = 0, chunk_count = 1;
  StepOutput output;
  torch::Tensor loss;  ///< as it enters the window
};

/// What an optimizer carries from batch to batch. Without an optimizer there is one as well.
struct OptimizerTrack {
  // The window of accumulation.
  bool has_gradients = false;
  bool is_carried = false;  ///< the window began in a run with another number of ranks, at another place
  double samples = 0;       ///< in the window so far
  double nominal = 0;       ///< in a window of batches like the first
  StepOutput hiddens;       ///< of the chunk before
  std::string bad;          ///< why the window's step is to be left out
  bool skips = false;       ///< it is
  // The run.
  std::deque<double> losses;            ///< the latest, if spikes are looked for
  int64_t skipped_in_row = 0;           ///< steps
  bool is_unstepped = false;            ///< with manual optimization: a backward pass came after its step
  bool was_checked_for_unused = false;  ///< parameters, if detect_unused_parameters asks for it
  std::size_t checked_parameters = 0;   ///< how many are known to be the module's

  /// No window reaches over the end of an epoch.
  void begin_epoch() {
    has_gradients = is_carried = skips = false;
    samples = nominal = 0;
    hiddens = {};
    bad.clear();
  }
};

}  // namespace troupe
