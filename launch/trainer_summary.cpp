// What a Trainer says at a stage's end, and where its process was when it crashed.
#include "troupe/base/host_name.hpp"
#include "troupe/launch/processes.hpp"
#include "troupe/launch/trainer_runner.hpp"
#include "troupe/modules/callbacks/model_checkpoint.hpp"
#include "troupe/runtime/terminal/progress_bar.hpp"
#include "troupe/runtime/terminal/run_summary.hpp"
#include "troupe/runtime/terminal/terminal_style.hpp"

#include <unistd.h>

#include <iostream>

namespace troupe {

std::string Trainer::Runner::summary() const {
  if (!stage_) return "";
  if (result_.failure && run_dir_.empty() && result_.progress.total_batches == 0) return "";  // the error says it all
  RunCard card;
  card.stage = to_string(*stage_);
  card.status = result_.status();
  card.progress = result_.progress;
  card.metrics = result_.metrics;
  card.phases = {result_.phases};
  RunSummaryOptions options;
  options.colours = terminal_style(isatty(STDERR_FILENO) != 0).colours;
  options.width = terminal_width(STDERR_FILENO);
  options.folder = run_dir_;
  options.seconds = seconds_;
  options.first_metrics = result_.bar_metrics;
  options.captured = result_.captured.programs;
  // The others hear of rank zero's after it has said this.
  card.best_checkpoint = Processes::get().is_rank_zero() ? own_best_model_path() : best_model_path();
  for (const auto* checkpoint : model_checkpoints()) {
    if (checkpoint->best_model_path().empty()) continue;
    options.monitor = checkpoint->options().monitor;
    options.monitor_value = checkpoint->best_model_score();
    break;
  }
  return run_summary(card, options);
}

void Trainer::Runner::say_summary() const {
  if (!options_.quiet && Processes::get().is_rank_zero()) std::cerr << summary();
}

std::vector<CrashPlace> Trainer::Runner::crash_places(const cast::RunSetup& setup) const {
  std::vector<CrashPlace> places;
  for (std::size_t i = 0; i < setup.pulses.size(); ++i) {
    CrashPlace place{setup.pulses[i], 0, setup.host.empty() ? host_name() : setup.host, ""};
    if (i < setup.peers.size()) place.rank = setup.peers[i]->place().global_rank;
    if (i < setup.devices.size()) place.device = setup.devices[i].str();
    places.push_back(std::move(place));
  }
  return places;
}

}  // namespace troupe
