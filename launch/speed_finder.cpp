// Tuner::time_threads and time_fetchers: how fast a setting is.
#include "troupe/launch/processes.hpp"
#include "troupe/launch/tuner_trials.hpp"
#include "troupe/runtime/process/cpu_budget.hpp"
#include "troupe/runtime/report/finding.hpp"

#include <algorithm>

namespace troupe {

namespace {

void check_measurement(const MeasureOptions& how) {
  finders::require_at_least("measure.steps", how.steps, 3);
  finders::require_at_least("measure.warm_up", how.warm_up, 0);
  finders::require_at_least("measure.repeats", how.repeats, 1);
}

// The first ends where the time of the second begins.
int64_t batches_of_trial(const MeasureOptions& how) {
  return how.warm_up + how.steps + 1;
}

std::vector<int64_t> powers_of_two(int64_t from, int64_t most) {
  std::vector<int64_t> values;
  if (from == 0) values.push_back(0);
  for (int64_t value = 1; value < most; value *= 2) values.push_back(value);
  if (most > 0) values.push_back(most);
  return values;
}

// The medians of all trials of a setting, in turns.
MeasureResult measured(const std::vector<int64_t>& settings, const MeasureOptions& how,
                       const std::function<std::vector<double>(int64_t setting)>& intervals_with) {
  std::vector<std::vector<double>> seconds(settings.size());
  for (int64_t repeat = 0; repeat < how.repeats; ++repeat) {
    for (std::size_t i = 0; i < settings.size(); ++i) {
      const auto all = intervals_with(settings[i]);
      const auto first = std::min(all.size(), static_cast<std::size_t>(how.warm_up));
      seconds[i].insert(seconds[i].end(), all.begin() + static_cast<std::ptrdiff_t>(first), all.end());
    }
  }
  MeasureResult result;
  for (std::size_t i = 0; i < settings.size(); ++i) {
    const double median = finders::quantile(seconds[i], 0.5);
    result.settings.push_back(
        {settings[i], median, finders::quantile(seconds[i], 0.75) - finders::quantile(seconds[i], 0.25)});
  }
  const auto fastest = std::ranges::min_element(result.settings, {}, &MeasuredSetting::seconds_per_batch);
  const auto chosen = std::ranges::find_if(result.settings, [&](const MeasuredSetting& setting) {
    return setting.seconds_per_batch - fastest->seconds_per_batch <= std::max(setting.spread, fastest->spread);
  });
  result.suggestion = chosen->value;
  return result;
}

// In words, and as a curve.
Finding speed_finding(MeasureResult& result, const std::string& name, const std::string& title,
                      const std::string& setting) {
  Finding finding{.name = name, .title = title};
  finding.columns = {{setting, {}}, {"seconds_per_batch", {}}, {"spread", {}}};
  for (const auto& each : result.settings) {
    if (each.value == result.suggestion) {
      finding.chosen = finding.columns[0].values.size();
      result.says = finding.says = setting + " = " + std::to_string(each.value) + " takes " +
                                   finders::in_short(each.seconds_per_batch * 1000) +
                                   " ms per batch, and none is faster by more than the spread.";
    }
    finding.columns[0].values.push_back(static_cast<double>(each.value));
    finding.columns[1].values.push_back(each.seconds_per_batch);
    finding.columns[2].values.push_back(each.spread);
  }
  return finding;
}

}  // namespace

MeasureResult Tuner::time_threads(const TunedModule& module, const TunedData& data, const MeasureOptions& how) {
  check_measurement(how);
  finders::require_one_process("the measurement of threads");
  const Trials trials(trainer_, module, data);
  const auto most = threads_of_device(Processes::get().cpu_share(), trials.options().devices);
  auto options = finders::options_of_trial(trials.options(), batches_of_trial(how));
  auto result = measured(powers_of_two(1, most), how, [&](int64_t threads) {
    const auto probe = std::make_shared<finders::SpeedProbe>(batches_of_trial(how));
    options.num_threads = threads;
    trials.run(options, probe, data.loaders);
    return probe->intervals();
  });
  record(module.source(), speed_finding(result, "measure_threads", "Threads", "num_threads"));
  return result;
}

MeasureResult Tuner::time_fetchers(const TunedModule& module, const TunedData& data, const MeasureOptions& how) {
  check_measurement(how);
  finders::require_one_process("the measurement of fetchers");
  const auto* owner = data.loaders.empty()
                          ? &owner_of_option(how.workers_arg_name, "the number of fetchers (workers_arg_name)",
                                             data.options, module.options)
                          : nullptr;
  finders::ChangedOption option(owner, how.workers_arg_name);
  const Trials trials(trainer_, module, data);
  const auto options = finders::options_of_trial(trials.options(), batches_of_trial(how));
  const auto most = static_cast<int64_t>(usable_processors());
  auto result = measured(powers_of_two(0, most), how, [&](int64_t fetchers) {
    option.set(fetchers);
    const auto probe = std::make_shared<finders::SpeedProbe>(batches_of_trial(how));
    trials.run(options, probe, data.loaders.changed([fetchers](DataLoaderOptions& of) { of.num_workers = fetchers; }));
    return probe->intervals();
  });
  record(module.source(), speed_finding(result, "measure_fetchers", "Fetchers", how.workers_arg_name));
  return result;
}

}  // namespace troupe
