// A callback actor in another process: it attaches to a run that goes on, gets its events, and may steer it.
//
//     troupe::follow_run("runs/digits/version_3", troupe::on_events(
//         [](const troupe::ValidationEnded& event, troupe::RunHandle& run) {
//           if (event.metrics.at("val_acc") > 0.95) run.request_stop("that is enough");
//         }), {.control = true});
#pragma once

#include "troupe/modules/callback_actor.hpp"

#include <filesystem>

namespace troupe {

struct FollowOptions {
  /// What the behavior asks for is done, if the run permits it (trainer.attach = control); else asking throws.
  bool control = false;
  /// TrainBatchEnded too, which has the run read its metrics back after every batch.
  bool batches = false;
};

/// Calls `behavior` on this thread with each event of the run in `run_dir` from now on, as Trainer::add_actor would,
/// until RunEnded, which is the last one. The run does not wait: if the behavior takes long, batches are left out, and
/// who takes nothing for 5 s is dropped.
///
/// Throws UsageError if the run cannot be attached to or refuses what is asked of it, RunError if its process is gone
/// without a word or drops this one, and what `behavior` throws. RunHandle::log is refused.
void follow_run(const std::filesystem::path& run_dir, ActorBehavior behavior, FollowOptions options = {});

}  // namespace troupe
