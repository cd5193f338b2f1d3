#include "troupe/launch/command_line.hpp"

#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/launch/chosen_parts.hpp"
#include "troupe/launch/config_file.hpp"
#include "troupe/launch/help.hpp"
#include "troupe/launch/tune_command.hpp"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <iterator>
#include <map>
#include <string_view>

namespace troupe {
namespace {

constexpr const char* stage_rule = "the stage comes first: fit, validate, test, predict or tune";

/// One option of the command line as it was given.
struct Argument {
  std::string name;                  ///< without --
  std::optional<std::string> value;  ///< nothing if none follows
};

bool is_option(const std::string& word) {
  return word.starts_with("--");
}

/// Takes the option at `position` and its value, and moves `position` behind them.
Argument take_argument(const std::vector<std::string>& words, std::size_t& position) {
  const std::string& word = words[position++];
  if (!is_option(word) || word == "--") {
    throw UsageError("unexpected argument '" + shown(word) + "'; options are written --GROUP.NAME VALUE");
  }
  const auto equals = word.find('=');
  if (equals != std::string::npos) return {word.substr(2, equals - 2), word.substr(equals + 1)};
  if (position == words.size() || is_option(words[position])) return {word.substr(2), std::nullopt};
  return {word.substr(2), words[position++]};
}

const std::string& value_of(const Argument& argument) {
  if (!argument.value) throw UsageError("option --" + argument.name + " needs a value");
  return *argument.value;
}

// "GROUP.NAME=VALUE" of --set.
Argument setting_of(const Argument& argument) {
  const std::string& text = value_of(argument);
  const auto equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw UsageError("option --set has '" + shown(text) + "'; use GROUP.NAME=VALUE, as in --set trainer.max_epochs=3");
  }
  return {text.substr(0, equals), text.substr(equals + 1)};
}

std::string in_capitals(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

// The variables of the environment that stand for options, in the order of their names, so that what is said of two
// that are wrong does not depend on the shell.
std::map<std::string, std::string> option_variables(std::string_view prefix) {
  std::map<std::string, std::string> variables;
  for (char** each = environ; each != nullptr && *each != nullptr; ++each) {
    const std::string_view text = *each;
    const auto equals = text.find('=');
    if (equals != std::string_view::npos && text.starts_with(prefix)) {
      variables.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
  }
  return variables;
}

std::vector<std::string> split_names(const std::string& text) {
  std::vector<std::string> names;
  for (std::size_t begin = 0; begin <= text.size();) {
    const auto comma = std::min(text.find(',', begin), text.size());
    names.push_back(text.substr(begin, comma - begin));
    begin = comma + 1;
  }
  return names;
}

/// `name` is about a part, and so is `value`; nothing stands for a flag.
PartSetting part_setting(std::string name, const std::optional<std::string>& value) {
  PartSetting setting{.name = std::move(name)};
  if (names_parts(setting.name)) {
    if (!value) throw UsageError("option --" + setting.name + " needs a value");
    setting.parts = split_names(*value);
    return setting;
  }
  setting.set = [value, full_name = setting.name](const OptionRef& option, const std::string& group) {
    if (!value && !option.is_flag()) throw UsageError("option --" + full_name + " needs a value");
    set_from_text(option, value.value_or("true"), group);
  };
  return setting;
}

// "optimizer.lr" of "TROUPE__OPTIMIZER__LR"; empty if that is about no part. Of an option's name capitals are kept.
std::string part_in_variable(std::string_view variable, std::string_view prefix) {
  variable.remove_prefix(prefix.size());
  const auto end = variable.find("__");
  const std::string kind = small_letters(std::string(variable.substr(0, end)));
  if (!part_kind_of(kind)) return "";
  if (end == variable.npos) return kind;
  const std::string option(variable.substr(end + 2));
  return kind + "." + (small_letters(option) == "name" ? "name" : option);
}

void apply_environment(const std::vector<OptionGroup>& groups, ChosenParts* parts) {
  const std::string prefix = "TROUPE__";
  const auto variables = option_variables(prefix);
  if (variables.empty()) return;
  if (parts) parts->begin_place();
  std::vector<std::string> names;  // of variables, beside the options
  std::vector<GroupedOption> options;
  for (const auto& group : groups) {
    for (const auto& option : group.options) {
      names.push_back(in_capitals(prefix + group.name + "__" + std::string(option.name)));
      options.push_back({group.name, option});
    }
  }
  if (parts) {
    for (const auto& kind : part_kinds()) names.push_back(in_capitals(prefix + kind.name));
  }
  for (const auto& [name, value] : variables) {
    if (const auto part = parts ? part_in_variable(name, prefix) : ""; !part.empty()) {
      auto setting = part_setting(part, value);
      setting.source = "the environment's " + name + ": ";
      setting.any_case = true;
      parts->add(std::move(setting));
      continue;
    }
    const auto found = std::ranges::find(names, in_capitals(name));
    if (found == names.end()) {
      throw UsageError("the environment's " + shown(name) + " is no option; did you mean " +
                       nearest(in_capitals(name), names) + "?");
    }
    const auto& [group, option] = options[static_cast<std::size_t>(found - names.begin())];
    if (parts && group == "trainer" && option.name == "loggers") parts->forget_loggers();
    try {
      set_from_text(option, value, group);
    } catch (const UsageError& error) {
      throw UsageError("the environment's " + name + ": " + error.what());
    }
  }
}

void apply(const Argument& argument, const std::vector<OptionGroup>& groups, ChosenParts* parts) {
  if (parts && part_kind_of(argument.name)) return parts->add(part_setting(argument.name, argument.value));
  std::vector<std::string> others = {"config", "ckpt_path", "print_config", "quiet", "set", "help"};
  if (parts) std::ranges::copy(part_kind_names(), std::back_inserter(others));
  const auto [group, option] = find_grouped_option(groups, argument.name, "--", others);
  if (parts && argument.name == "trainer.loggers") parts->forget_loggers();
  const bool bare_flag = option.is_flag() && !argument.value;
  set_from_text(option, bare_flag ? "true" : value_of(argument), group);
}

std::optional<std::string> ckpt_path_of(const Argument& argument) {
  const std::string& value = value_of(argument);
  if (value.empty()) throw UsageError("option --ckpt_path is empty; use best, last, auto, none or a path");
  return value == "none" ? std::nullopt : std::optional(value);
}

bool print_config_of(const Argument& argument) {
  if (!argument.value) return true;
  throw UsageError("unexpected argument '" + shown(*argument.value) + "': --print_config takes no value");
}

bool asks_for_help(const std::string& word) {
  return word == "--help" || word == "-h";
}

/// What stands behind the stage, each in its order: options, files, and checkpoints.
struct SortedArguments {
  std::vector<Argument> settings;
  std::vector<std::string> files;
  std::vector<Argument> ckpt_paths;
};

SortedArguments sorted_arguments(const std::vector<std::string>& words, std::size_t position, Invocation& out) {
  SortedArguments sorted;
  while (position < words.size()) {
    Argument argument = take_argument(words, position);
    if (argument.name == "config") {
      sorted.files.push_back(value_of(argument));
    } else if (argument.name == "ckpt_path") {
      sorted.ckpt_paths.push_back(std::move(argument));
    } else if (argument.name == "print_config") {
      out.print_config = print_config_of(argument);
    } else {
      if (argument.name == "quiet") argument.name = "trainer.quiet";
      if (argument.name == "set") argument = setting_of(argument);
      sorted.settings.push_back(std::move(argument));
    }
  }
  return sorted;
}

}  // namespace

Stage stage_from_text(const std::string& name) {
  std::vector<std::string> names;
  for (const Stage stage : {Stage::fit, Stage::validate, Stage::test, Stage::predict}) {
    if (name == to_string(stage)) return stage;
    names.emplace_back(to_string(stage));
  }
  names.emplace_back(tune_word);
  throw UsageError("unknown stage '" + shown(name) + "'; did you mean " + nearest(name, names) +
                   "? (fit, validate, test, predict, tune)");
}

CommandLine::CommandLine(std::string program, std::vector<OptionGroup> groups, ChosenParts* parts)
    : groups_(std::move(groups)), parts_(parts), help_(help_text(program, groups_, parts != nullptr)) {}

std::string CommandLine::help(const std::string& topic) const {
  return topic.empty() ? help_ : help_about(topic, groups_, parts_ != nullptr);
}

Invocation CommandLine::parse(int argc, const char* const* argv) const {
  return parse(std::vector<std::string>(argv + std::min(argc, 1), argv + argc));
}

Invocation CommandLine::parse(const std::vector<std::string>& words) const {
  Invocation out;
  if (const auto help = std::ranges::find_if(words, asks_for_help); help != words.end()) {
    out.help = true;
    const bool has_topic = help + 1 != words.end() && !help[1].starts_with("-");
    if (has_topic) out.help_topic = help[1];
    return out;
  }

  const bool has_stage = !words.empty() && !words[0].starts_with("-");
  out.tune = has_stage && words[0] == tune_word;
  if (has_stage && !out.tune) out.stage = stage_from_text(words[0]);
  const auto [settings, files, ckpt_paths] = sorted_arguments(words, has_stage ? 1 : 0, out);
  if (!has_stage && !out.print_config) {
    throw UsageError((words.empty() ? "no stage" : "'" + shown(words[0]) + "' is not a stage") + "; " + stage_rule);
  }
  for (const auto& file : files) {
    if (auto ckpt_path = apply_config_file(file, groups_, parts_)) out.ckpt_path = std::move(ckpt_path);
  }
  apply_environment(groups_, parts_);
  if (parts_) parts_->begin_place();
  for (const auto& argument : settings) apply(argument, groups_, parts_);
  if (parts_) parts_->resolve();
  for (const auto& argument : ckpt_paths) out.ckpt_path = ckpt_path_of(argument);
  return out;
}

}  // namespace troupe
