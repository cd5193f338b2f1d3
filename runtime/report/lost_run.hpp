// A run whose process is gone leaves files that say that it goes on. Whoever finds that out puts them right.
#pragma once

#include "troupe/runtime/report/run_card.hpp"

#include <filesystem>

namespace troupe {

/// Writes `card`, which notice_loss has changed, to <folder>/run.json, and report.html anew (for the first time if it
/// is not there and trainer.logger was on): with the curves of metrics.jsonl or metrics.csv, or with those that the
/// page has if it is neither. Then other machines and open pages see it too. What cannot be written (a folder of
/// somebody else's) stays as it is; throws nothing.
void record_loss(const RunCard& card, const std::filesystem::path& folder) noexcept;

/// The same for a run of which nobody has read the card yet; one whose card cannot be read stays as it is.
void record_if_lost(const std::filesystem::path& folder) noexcept;

}  // namespace troupe
