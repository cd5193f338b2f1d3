// The last lines of a stage: what came of it, where the time went, and where the files are.
#pragma once

#include "troupe/modules/captured_steps.hpp"
#include "troupe/runtime/report/run_card.hpp"

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

/// "14 operators, was 30 (left out: 15 of views and memory, 1 constant, 0 unused); 52.7 kB, was 51.4 kB".
std::string captured_text(const CapturedProgram& program);

/// What a summary shows besides the card.
struct RunSummaryOptions {
  int width = 80;  ///< columns; sentences and lists go on in a next line, paths are never broken
  bool colours = false;
  std::filesystem::path folder = {};                   ///< the run's; empty: nothing was written
  std::optional<double> seconds = std::nullopt;        ///< of the stage; nothing: from the card's phases or its times
  std::string monitor = {};                            ///< that chose the best checkpoint; empty: none did
  std::optional<double> monitor_value = std::nullopt;  ///< of that checkpoint
  std::vector<std::string> first_metrics = {};         ///< those on the progress bar, which are shown first
  std::vector<CapturedProgram> captured = {};          ///< steps that were replayed
};

/// Whole lines, of card.stage as it has ended:
///
///     fit finished in 00:12: 2 epochs, 250 steps
///     metrics:         train_loss=0.745, val_acc=0.942, val_loss=0.199
///     time:            backward 41 %, forward 30 %, waiting for data 12 %
///                      12 % waiting for data: raise data.num_workers from 0
///     captured:        training_step: 14 operators, was 30 (left out: 15 of views and memory, 1 constant, 0 unused);
///                      52.7 kB, was 51.4 kB; 248 replays
///     best val_loss:   0.199
///     best checkpoint: runs/digits/version_0/checkpoints/epoch=1-step=250.safetensors
///     run:             runs/digits/version_0
///     page:            runs/digits/version_0/report.html
///
/// At most ten metrics, the five longest phases that took 1 % at least, and four captured steps. A run that failed has
/// a line with the path of failure.json; the failure itself is for whoever catches it to say. The page and failure.json
/// are named if they are there. Metrics and the checkpoint are those of a fit: an evaluation's results are its
/// caller's.
std::string run_summary(const RunCard& card, const RunSummaryOptions& options);

}  // namespace troupe
