// What trainer.capture_step came to in a run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// A step that was recorded and is replayed; see docs/captured-step.md.
struct CapturedProgram {
  std::string step;             ///< "training_step"
  std::string inputs;           ///< shapes of the batches that it is for: "Float [8, 784], Long [8]"
  std::size_t optimizer = 0;    ///< which one it computes gradients for; of an evaluation: the data loader
  bool opens_window = true;     ///< false: it adds to the gradients of earlier batches (accumulate_grad_batches)
  std::size_t operators = 0;    ///< that a replay does
  std::size_t recorded = 0;     ///< that the step did; of them
  std::size_t views = 0;        ///< looked at memory only, or allocated it,
  std::size_t constants = 0;    ///< computed what is always the same, and is computed once,
  std::size_t unused = 0;       ///< computed what nobody reads
  std::size_t bytes = 0;        ///< of memory for what is computed in between
  std::size_t plain_bytes = 0;  ///< the most that the recorded step had allocated for it at one time
  int64_t replays = 0;
};

struct CapturedSteps {
  std::vector<CapturedProgram> programs;  ///< in the order in which they were made
  std::vector<std::string> refusals;      ///< why steps were computed the plain way, each once
  /// Of all programs of a step.
  int64_t replays(std::string_view step = "training_step") const {
    int64_t all = 0;
    for (const auto& program : programs) all += program.step == step ? program.replays : 0;
    return all;
  }
};

}  // namespace troupe
