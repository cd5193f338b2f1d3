#include "troupe/launch/chosen_parts.hpp"

#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/parts/named_optimizer.hpp"

#include <algorithm>
#include <map>
#include <utility>

namespace troupe {
namespace {

constexpr std::string_view no_part = "none";

OptionRef option_of(Part& part, const PartKind& kind, const std::string& part_name, const PartSetting& setting) {
  const auto name = option_of_part(setting.name);
  const auto options = part.options();
  std::vector<std::string> names;
  for (const auto& option : options) {
    if (option.name == name) return option;
    names.emplace_back(option.name);
  }
  for (const auto& option : options) {
    if (setting.any_case && small_letters(std::string(option.name)) == small_letters(name)) return option;
  }
  const std::string group = std::string(kind.name) + ".";
  const std::string unknown = kind.registry().kind() + " " + part_name + " has no option " + group + shown(name);
  if (names.empty()) throw UsageError(unknown + ", nor any other");
  throw UsageError(unknown + "; did you mean " + group + nearest(name, names) + "? (" + joined(names) + ")");
}

/// Calls `call`, and puts `source` before what it refuses.
template <class Call>
void say_source(const std::string& source, Call call) {
  try {
    call();
  } catch (const UsageError& error) {
    throw UsageError(source + error.what());
  }
}

template <class Registry>
std::shared_ptr<typename Registry::Named> named(const std::shared_ptr<Part>& part) {
  return std::static_pointer_cast<typename Registry::Named>(part);
}

}  // namespace

const std::array<PartKind, 4>& part_kinds() {
  static constexpr std::array<PartKind, 4> kinds = {{
      {"optimizer", "optimizer of all parameters, in place of what configure_optimizers returns", false,
       []() -> const PartRegistry& { return optimizer_registry(); }},
      {"scheduler", "scheduler of that optimizer, or of the one that configure_optimizers returns", false,
       []() -> const PartRegistry& { return scheduler_registry(); }},
      {"callbacks", "callbacks besides the program's own", true,
       []() -> const PartRegistry& { return callback_registry(); }},
      {"logger", "where metrics go, in place of trainer.loggers", true,
       []() -> const PartRegistry& { return logger_registry(); }},
  }};
  return kinds;
}

std::vector<std::string> part_kind_names() {
  std::vector<std::string> names;
  for (const auto& kind : part_kinds()) names.emplace_back(kind.name);
  return names;
}

const PartKind* part_kind_of(std::string_view name) {
  const auto first = name.substr(0, name.find('.'));
  const auto found = std::ranges::find(part_kinds(), first, &PartKind::name);
  return found == part_kinds().end() ? nullptr : &*found;
}

std::vector<std::string> ChosenParts::lists() const {
  std::vector<std::string> names;
  for (const auto& kind : part_kinds()) {
    if (kind.is_list) names.emplace_back(kind.name);
  }
  return names;
}

void ChosenParts::add(PartSetting setting) {
  const bool is_name = names_parts(setting.name);
  given_.push_back({std::move(setting), place_, is_name});
}

void ChosenParts::forget_loggers() {
  std::erase_if(given_, [this](const Given& given) {
    return given.place < place_ && std::string_view(part_kind_of(given.setting.name)->name) == "logger";
  });
}

void ChosenParts::resolve() {
  for (const auto& kind : part_kinds()) {
    (void)kind.registry().names();  // two of one name are refused, whether they are named or not
    std::vector<const Given*> its;
    for (const auto& given : given_) {
      if (part_kind_of(given.setting.name) == &kind) its.push_back(&given);
    }
    if (its.empty()) continue;
    kind.is_list ? resolve_list(kind, its) : resolve_one(kind, its);
  }
}

void ChosenParts::resolve_one(const PartKind& kind, const std::vector<const Given*>& given) {
  std::unique_ptr<Chosen> current;
  std::vector<const Given*> waiting;  // options without a name so far
  for (auto begin = given.begin(); begin != given.end();) {
    const int place = (*begin)->place;
    const auto end = std::find_if(begin, given.end(), [&](const Given* each) { return each->place != place; });
    for (auto each = begin; each != end; ++each) {
      if (!(*each)->is_name) continue;
      const auto& setting = (*each)->setting;
      if (setting.parts.size() != 1) {
        throw UsageError(setting.source + kind.name + " = " + shown(joined(setting.parts)) +
                         (setting.parts.empty() ? " names nothing" : " names several") + "; name one, or none");
      }
      if (setting.parts[0] == no_part) {
        current = nullptr;
        waiting.clear();
        continue;
      }
      auto next = std::make_unique<Chosen>(chosen(kind, setting.parts[0], setting.source));
      if (!current || current->name != next->name) current = std::move(next);
    }
    for (; begin != end; ++begin) {
      if (!(*begin)->is_name) waiting.push_back(*begin);
    }
    if (!current) continue;
    for (const auto* each : waiting) set(*current, each->setting);
    waiting.clear();
  }
  if (!waiting.empty()) {
    const auto& setting = waiting.front()->setting;
    throw UsageError(setting.source + shown(setting.name) + " is given, and no " + kind.registry().kind() +
                     " is named; name one of " + joined(kind.registry().names()) + ", as in --" + kind.name + " " +
                     kind.registry().names().front());
  }
  if (current) chosen_.push_back(std::move(current));
}

void ChosenParts::resolve_list(const PartKind& kind, const std::vector<const Given*>& given) {
  std::vector<std::unique_ptr<Chosen>> list;
  for (const auto* each : given) {
    const auto& setting = each->setting;
    if (!each->is_name) {
      if (list.empty()) {
        throw UsageError(setting.source + shown(setting.name) + " is given, and no " + kind.registry().kind() +
                         " is named before it; name one of " + joined(kind.registry().names()));
      }
      set(*list.back(), setting);
      continue;
    }
    for (const auto& name : setting.parts) {
      if (name == no_part) {
        list.clear();
      } else {
        list.push_back(std::make_unique<Chosen>(chosen(kind, name, setting.source)));
      }
    }
  }
  if (std::string_view(kind.name) == "logger") has_named_loggers_ = true;
  std::ranges::move(list, std::back_inserter(chosen_));
}

ChosenParts::Chosen ChosenParts::chosen(const PartKind& kind, const std::string& name,
                                        const std::string& source) const {
  Chosen out{&kind, "", nullptr, nullptr};
  say_source(source, [&] {
    out.name = kind.registry().info(name).name;
    out.part = kind.registry().new_part(name);
  });
  for (const auto& option : out.part->options()) {
    if (option.name != "name") continue;
    throw UsageError(kind.registry().kind() + " " + out.name + " has an option called name, as which " + kind.name +
                     ".name cannot be given: call it otherwise");
  }
  out.defaults = to_json_object(out.part->options());
  out.defaults["name"] = "";
  if (std::string_view(kind.name) != "logger") return out;
  // Of a logger that has options among the Trainer's: they are the same.
  for (const auto& group : trainer_groups(options_)) {
    if (group.name == out.name) set_from_json_object(out.part->options(), to_json_object(group.options), group.name);
  }
  return out;
}

void ChosenParts::set(const Chosen& chosen, const PartSetting& setting) {
  say_source(setting.source,
             [&] { setting.set(option_of(*chosen.part, *chosen.kind, chosen.name, setting), chosen.kind->name); });
}

const ChosenParts::Chosen* ChosenParts::only(const char* kind) const {
  const auto found =
      std::ranges::find_if(chosen_, [&](const auto& each) { return std::string_view(each->kind->name) == kind; });
  return found == chosen_.end() ? nullptr : found->get();
}

OptionGroup ChosenParts::group(Chosen& chosen, const std::string& name) const {
  OptionGroup group{name, {}, chosen.defaults, chosen.kind->is_list ? chosen.kind->name : ""};
  group.options.push_back({"name", chosen.kind->meaning, false, &chosen.name});
  for (auto& option : chosen.part->options()) group.options.push_back(option);
  return group;
}

std::vector<OptionGroup> ChosenParts::groups() {
  std::vector<OptionGroup> groups;
  std::map<std::string, int> seen;
  for (auto& each : chosen_) {
    std::string name = each->kind->name;
    if (each->kind->is_list) {
      name += "." + each->name;
      if (const int before = seen[name]++; before > 0) name += "_" + std::to_string(before + 1);
    }
    groups.push_back(group(*each, name));
  }
  return groups;
}

void ChosenParts::put_into_options() {
  const auto* optimizer = only("optimizer");
  const auto* scheduler = only("scheduler");
  if (has_named_loggers_) options_.loggers.clear();
  for (const auto& each : chosen_) {
    const std::string_view kind = each->kind->name;
    if (kind == "callbacks") options_.callbacks.push_back(named<CallbackRegistry>(each->part)->make());
    if (kind == "logger") named<LoggerRegistry>(each->part)->make(options_);
  }
  if (!optimizer && !scheduler) return;
  NamedOptimizer::Choice choice;
  if (optimizer) choice = {optimizer->name, named<OptimizerRegistry>(optimizer->part)};
  NamedOptimizer::ScheduleChoice schedule;
  if (scheduler) schedule = {scheduler->name, named<SchedulerRegistry>(scheduler->part)};
  options_.callbacks.push_back(std::make_shared<NamedOptimizer>(std::move(choice), std::move(schedule)));
}

}  // namespace troupe
