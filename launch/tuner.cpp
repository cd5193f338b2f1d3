#include "troupe/launch/tuner.hpp"

#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/launch/signals.hpp"
#include "troupe/launch/trainer_runner.hpp"
#include "troupe/launch/tuner_trials.hpp"

#include <algorithm>

namespace troupe {

TunerInterrupted::TunerInterrupted(int signal)
    : std::runtime_error("interrupted by " + std::string(name_of_signal(signal))), signal_(signal) {}

std::string learning_rate_option(const NamedOptions& options, const std::string& attr_name) {
  if (!options.read) {
    throw UsageError(
        "the module has no options that could take the rate, since it is no ModuleWith: set update_attr ="
        " false and take the suggestion");
  }
  const auto names = finders::names_in(options);
  for (const auto& name :
       attr_name.empty() ? std::vector<std::string>{"lr", "learning_rate"} : std::vector{attr_name}) {
    if (std::ranges::count(names, name) > 0) return name;
  }
  const auto wanted = attr_name.empty() ? std::string("lr") : attr_name;
  throw UsageError(
      "no option of the module is called " + (attr_name.empty() ? "lr or learning_rate" : shown(wanted)) +
      (names.empty() ? ": it has none" : "; did you mean " + nearest(wanted, names) + "? (" + joined(names) + ")") +
      "; lr_find.attr_name names the one that holds the rate");
}

const NamedOptions& owner_of_option(const std::string& name, const std::string& role, const NamedOptions& data,
                                    const NamedOptions& model) {
  for (const auto* options : {&data, &model}) {
    if (std::ranges::count(finders::names_in(*options), name) > 0) return *options;
  }
  std::vector<std::string> names;
  for (const auto* options : {&data, &model}) {
    for (const auto& each : finders::names_in(*options)) names.push_back(each);
  }
  throw UsageError(
      "no option of the data or the module is called " + shown(name) +
      (names.empty() ? ": they have none" : "; did you mean " + nearest(name, names) + "? (" + joined(names) + ")") +
      "; name the one that holds " + role + ", or give loaders");
}

Tuner::Tuner(Trainer& trainer) : trainer_(trainer) {
  if (const auto batches = trainer.options().fast_dev_run; batches > 0) {
    throw UsageError("trainer.fast_dev_run = " + std::to_string(batches) +
                     " trains too little to find anything: leave it out for the Tuner");
  }
}

void Tuner::record(const ModuleSource& source, Finding finding) {
  trainer_.runner_->record(source, std::move(finding));
}

}  // namespace troupe
