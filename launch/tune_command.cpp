#include "troupe/launch/tune_command.hpp"

#include "troupe/launch/processes.hpp"
#include "troupe/launch/tuner.hpp"
#include "troupe/launch/tuner_trials.hpp"
#include "troupe/runtime/parts/named_optimizer.hpp"

#include <algorithm>
#include <iostream>

namespace troupe {

namespace {

NamedOptions options_of_group(const std::string& name, const std::vector<OptionGroup>& groups) {
  const auto group = std::ranges::find(groups, name, &OptionGroup::name);
  if (group == groups.end()) return {name};
  const auto& options = group->options;
  return {name, [&options, name] { return to_json_object(options, name); },
          [&options, name](const nlohmann::json& json) { set_from_json_object(options, json, name); }};
}

// "optimizer.lr" if an optimizer was named, else the module's.
std::string rate_option(const TrainerOptions& options, const NamedOptions& of_model, const std::string& attr_name) {
  const auto names_optimizer = [](const auto& callback) {
    const auto* named = dynamic_cast<const NamedOptimizer*>(callback.get());
    return named && named->has_optimizer();
  };
  if (attr_name.empty() && std::ranges::any_of(options.callbacks, names_optimizer)) return "optimizer.lr";
  return "model." + learning_rate_option(of_model, attr_name);
}

// What finders suggest, and where to say it.
class Suggestions {
 public:
  Suggestions(bool speaks, bool is_quiet) : speaks_(speaks), is_quiet_(is_quiet) {}
  /// Also if a later finder has none.
  ~Suggestions() {
    if (speaks_ && !line_.empty()) std::cout << line_ + '\n' << std::flush;
  }
  Suggestions(const Suggestions&) = delete;
  Suggestions& operator=(const Suggestions&) = delete;

  void add(const std::string& option, const std::string& value) {
    line_ += (line_.empty() ? "--" : " --") + option + ' ' + value;
  }
  void say(const std::string& text) const {
    if (speaks_ && !is_quiet_) std::cerr << text + '\n';
  }
  void say(const std::string& what, const MeasureResult& result) const {
    say(what + ": " + result.says);
    for (const auto& each : result.settings) {
      say("  " + std::to_string(each.value) + ": " + finders::in_short(each.seconds_per_batch * 1000) +
          " ms per batch (median), spread " + finders::in_short(each.spread * 1000) + " ms");
    }
  }

 private:
  bool speaks_, is_quiet_;
  std::string line_;
};

}  // namespace

std::vector<OptionGroup> tune_groups(TuneSettings& settings) {
  return {option_group(tune_word, settings.tune), option_group("lr_find", settings.lr_find),
          option_group("scale_batch_size", settings.scale_batch_size), option_group("measure", settings.measure)};
}

void refuse_finders(const TuneOptions& options) {
  const auto all = to_json_object(options);  // items() refers to it
  for (const auto& [name, is_wanted] : all.items()) {
    if (is_wanted != true) continue;
    throw UsageError("--tune." + name + " belongs to the stage tune, which finds it: use tune --tune." + name +
                     ", and give the other stages what it suggests");
  }
}

void tune(const TuneSettings& settings, Trainer& trainer, const std::vector<OptionGroup>& groups,
          const std::function<ModuleSource()>& source, const std::function<DataModulePtr()>& data) {
  const auto& wanted = settings.tune;
  if (!wanted.lr && !wanted.batch_size && !wanted.threads && !wanted.fetchers) {
    throw UsageError(
        "tune was not told what to find: use --tune.lr, --tune.batch_size, --tune.threads or"
        " --tune.fetchers, one or several");
  }
  const TunedModule module{source, options_of_group("model", groups)};
  TunedData tuned_data;
  tuned_data.datamodule = data;
  tuned_data.options = options_of_group("data", groups);
  auto lr_find = settings.lr_find;
  lr_find.update_attr = false;
  const auto rate = wanted.lr ? rate_option(trainer.options(), module.options, lr_find.attr_name) : "";
  // Before anything runs: what is asked for can be found.
  const auto owner_of = [&](bool is_wanted, const std::string& name, const char* role) {
    return is_wanted ? &owner_of_option(name, role, tuned_data.options, module.options) : nullptr;
  };
  const auto& size_name = settings.scale_batch_size.batch_arg_name;
  const auto* size_owner = owner_of(wanted.batch_size, size_name, "the batch size (scale_batch_size.batch_arg_name)");
  const auto& workers_name = settings.measure.workers_arg_name;
  const auto* workers_owner =
      owner_of(wanted.fetchers, workers_name, "the number of fetchers (measure.workers_arg_name)");

  Tuner tuner(trainer);
  Suggestions suggestions(Processes::get().is_rank_zero(), trainer.options().quiet);
  finders::ChangedOption size(size_owner, size_name);  // back at the end, also if a finder fails
  if (wanted.batch_size) {
    const auto found = tuner.find_batch_size(module, tuned_data, settings.scale_batch_size);
    suggestions.say("batch size: " + found.says);
    suggestions.add(size_owner->group + "." + size_name, std::to_string(found.batch_size));
  }
  if (wanted.lr) {
    const auto found = tuner.find_lr(module, tuned_data, lr_find);
    suggestions.say("learning rate: " + found.says);
    suggestions.add(rate, finders::in_short(*found.suggestion()));
  }
  if (wanted.threads) {
    const auto found = tuner.time_threads(module, tuned_data, settings.measure);
    suggestions.say("threads", found);
    suggestions.add("trainer.num_threads", std::to_string(found.suggestion));
  }
  if (wanted.fetchers) {
    const auto found = tuner.time_fetchers(module, tuned_data, settings.measure);
    suggestions.say("fetchers", found);
    suggestions.add(workers_owner->group + "." + workers_name, std::to_string(found.suggestion));
  }
  if (!trainer.run_dir().empty()) suggestions.say("curves: " + (trainer.run_dir() / "report.html").string());
}

}  // namespace troupe
