// The sinks that `trainer.loggers` can name.
#pragma once

#include "troupe/modules/options/trainer_options.hpp"
#include "troupe/runtime/report/run_card.hpp"
#include "troupe/runtime/sinks/sink_warning.hpp"

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace troupe {

/// Of the run that a sink is made for.
struct SinkPlace {
  const std::filesystem::path& folder;
  const RunCard& card;  ///< as the run begins
  const TrainerOptions& options;
  SinkWarning warn = warn_on_stderr;  ///< of sinks that go on without what they could not write
};

/// "csv", "tensorboard", ...
std::vector<std::string> sink_names();
/// Throws UsageError for a name that is none, with the nearest that is, and for one given twice.
void check_sink_names(const std::vector<std::string>& names);
/// What each of them is. Throws UsageError if one cannot be made.
std::vector<std::shared_ptr<Sink>> make_sinks(const std::vector<std::string>& names, const SinkPlace& place);

}  // namespace troupe
