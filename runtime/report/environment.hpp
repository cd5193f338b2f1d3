// What a run runs on, for its card.
#pragma once

#include "troupe/runtime/report/run_card.hpp"

#include <filesystem>

namespace troupe {

/// Host, system, processor and versions. Devices and ranks are not filled in.
RunEnvironment find_environment();

/// Commit of the git repository that `folder` is in, and whether it has changes that are not committed (files that git
/// does not know do not count). Asks the program git, waits for it 5 s at most, and leaves the fields empty where there
/// is no git, no repository or no answer.
void find_git_state(RunEnvironment& environment, const std::filesystem::path& folder);

/// The same of the folder that the process is in, as it was at the first call.
const RunEnvironment& git_state_of_process();

}  // namespace troupe
