#include "troupe/launch/command_line.hpp"

#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/launch/config_file.hpp"
#include "troupe/launch/help.hpp"
#include "troupe/launch/tune_command.hpp"

#include <unistd.h>

#include <algorithm>
#include <cctype>
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

void apply_environment(const std::vector<OptionGroup>& groups) {
  const std::string prefix = "TROUPE__";
  const auto variables = option_variables(prefix);
  if (variables.empty()) return;
  std::vector<std::string> names;  // of variables, beside the options
  std::vector<GroupedOption> options;
  for (const auto& group : groups) {
    for (const auto& option : group.options) {
      names.push_back(in_capitals(prefix + group.name + "__" + std::string(option.name)));
      options.push_back({group.name, option});
    }
  }
  for (const auto& [name, value] : variables) {
    const auto found = std::ranges::find(names, in_capitals(name));
    if (found == names.end()) {
      throw UsageError("the environment's " + shown(name) + " is no option; did you mean " +
                       nearest(in_capitals(name), names) + "?");
    }
    const auto& [group, option] = options[static_cast<std::size_t>(found - names.begin())];
    try {
      set_from_text(option, value, group);
    } catch (const UsageError& error) {
      throw UsageError("the environment's " + name + ": " + error.what());
    }
  }
}

void apply(const Argument& argument, const std::vector<OptionGroup>& groups) {
  const auto [group, option] =
      find_grouped_option(groups, argument.name, "--", {"config", "ckpt_path", "print_config", "quiet", "set", "help"});
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

CommandLine::CommandLine(std::string program, std::vector<OptionGroup> groups)
    : groups_(std::move(groups)), help_(help_text(program, groups_)) {}

Invocation CommandLine::parse(int argc, const char* const* argv) const {
  return parse(std::vector<std::string>(argv + std::min(argc, 1), argv + argc));
}

Invocation CommandLine::parse(const std::vector<std::string>& words) const {
  Invocation out;
  out.help = std::any_of(words.begin(), words.end(), asks_for_help);
  if (out.help) return out;

  const bool has_stage = !words.empty() && !words[0].starts_with("-");
  out.tune = has_stage && words[0] == tune_word;
  if (has_stage && !out.tune) out.stage = stage_from_text(words[0]);

  std::vector<Argument> settings;
  std::vector<std::string> files;
  std::vector<Argument> ckpt_paths;
  for (std::size_t position = has_stage ? 1 : 0; position < words.size();) {
    Argument argument = take_argument(words, position);
    if (argument.name == "config") {
      files.push_back(value_of(argument));
    } else if (argument.name == "ckpt_path") {
      ckpt_paths.push_back(std::move(argument));
    } else if (argument.name == "print_config") {
      out.print_config = print_config_of(argument);
    } else {
      if (argument.name == "quiet") argument.name = "trainer.quiet";
      if (argument.name == "set") argument = setting_of(argument);
      settings.push_back(std::move(argument));
    }
  }
  if (!has_stage && !out.print_config) {
    throw UsageError((words.empty() ? "no stage" : "'" + shown(words[0]) + "' is not a stage") + "; " + stage_rule);
  }
  for (const auto& file : files) {
    if (auto ckpt_path = apply_config_file(file, groups_)) out.ckpt_path = std::move(ckpt_path);
  }
  apply_environment(groups_);
  for (const auto& argument : settings) apply(argument, groups_);
  for (const auto& argument : ckpt_paths) out.ckpt_path = ckpt_path_of(argument);
  return out;
}

}  // namespace troupe
