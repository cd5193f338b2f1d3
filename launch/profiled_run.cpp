#include "troupe/launch/profiled_run.hpp"

#include "troupe/base/exception_text.hpp"

#include <iostream>
#include <string>
#include <utility>

namespace troupe {

namespace {

void warn_of_profile(const std::string& what) {
  std::cerr << "troupe: warning: " + what + '\n';
}

}  // namespace

bool writes_profile(const TrainerOptions& options) {
  return options.profiler == Profiler::operators || options.profiler == Profiler::trace;
}

ProfiledRun::ProfiledRun(const TrainerOptions& options, Stage stage, const std::filesystem::path& run_dir, int64_t rank)
    : prints_(rank == 0 && !options.quiet) {
  ProfileSetup setup;
  setup.kind = options.profiler;
  setup.batches = profile_steps_of(options);
  setup.stage = to_string(stage);
  setup.rank = rank;
  setup.folder = run_dir;
  const bool is_wanted = Profiling::is_wanted(setup);
  profiling_ = Profiling::start(std::move(setup));
  if (is_wanted && !profiling_) warn_of_profile("another run of this process is being profiled, and this one is not");
}

ProfiledRun::~ProfiledRun() {
  if (!profiling_) return;
  const std::string problem = text_thrown_by([&] {
    const ProfileEnd end = profiling_->end();
    if (prints_) std::cout << end.text << std::flush;
    for (const auto& warning : end.warnings) warn_of_profile(warning);
  });
  if (!problem.empty()) warn_of_profile("the profile is lost: " + problem);
}

}  // namespace troupe
