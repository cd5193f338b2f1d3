#include "troupe/launch/command/command.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"

#include <algorithm>

namespace troupe::command {
namespace {

constexpr std::size_t widest_name = 30;

bool is_bool(const OptionRef& option) {
  return std::holds_alternative<bool*>(option.value);
}

/// A word that begins with a - and is no negative number and no sole -, which is an argument.
bool is_option_word(const std::string& word) {
  return word.size() > 1 && word[0] == '-' && !(word[1] >= '0' && word[1] <= '9') && word[1] != '.';
}

/// The name of the option that `word` spells, without what follows a =.
std::string option_name(const Command& command, const std::string& word) {
  if (word.starts_with("--")) return word.substr(2, word.find('=') - 2);
  const auto letter = command.letters.find(word[1]);
  if (letter != command.letters.end() && (word.size() == 2 || word[2] == '=')) return letter->second;
  std::vector<std::string> known;
  for (const auto& [name, meaning] : command.letters) known.push_back(std::string("-") + name);
  for (const auto& option : command.options) known.push_back("--" + std::string(option.name));
  throw UsageError(
      "unknown option " + shown(word) +
      (known.empty() ? ", and '" + command.name + "' has none" : "; did you mean " + nearest(word, known) + "?"));
}

OptionRef option_called(const Command& command, const std::string& name) {
  std::vector<std::string> known{"help"};
  for (const auto& option : command.options) {
    if (option.name == name) return option;
    known.emplace_back(option.name);
  }
  throw UsageError("unknown option --" + shown(name) + "; did you mean --" + nearest(name, known) + "? (troupe " +
                   command.name + " --help lists all)");
}

void check_count(const Command& command, std::size_t given) {
  const auto& arguments = command.arguments;
  if (given >= arguments.least && given <= arguments.most) return;
  const auto usage = arguments.usage.empty() ? "no arguments" : arguments.usage;
  throw UsageError("troupe " + command.name + " takes " + usage + ", and got " +
                   (given == 0 ? "nothing" : std::to_string(given) + (given == 1 ? " argument" : " arguments")));
}

/// `left`, then `right` behind `column`; on the next line if `left` is longer.
std::string two_columns(const std::string& left, const std::string& right, std::size_t column) {
  std::string out = "  " + left;
  out += out.size() + 2 <= column ? std::string(column - out.size(), ' ') : "\n" + std::string(column, ' ');
  return out + right + "\n";
}

std::string spelled(const Command& command, const OptionRef& option) {
  std::string out;
  for (const auto& [letter, name] : command.letters) {
    if (name == option.name) out += std::string("-") + letter + ", ";
  }
  const auto type = option_info(option).type;
  return out + "--" + std::string(option.name) + (is_bool(option) ? "" : " " + type);
}

std::string options_text(const Command& command) {
  std::vector<std::pair<std::string, std::string>> lines;
  std::size_t column = 0;
  for (const auto& option : command.options) {
    const auto value = option_info(option).default_value;
    const bool says_default = !is_bool(option) && !value.empty() && value != "none";
    lines.emplace_back(spelled(command, option),
                       std::string(option.meaning) + (says_default ? " (default: " + value + ")" : ""));
  }
  lines.emplace_back("-h, --help", "print this, and do nothing");
  for (const auto& [left, right] : lines) {
    if (left.size() <= widest_name) column = std::max(column, left.size() + 4);
  }
  std::string out = "\noptions:\n";
  for (const auto& [left, right] : lines) out += two_columns(left, right, column);
  return out;
}

}  // namespace

std::vector<std::string> read_words(const Command& command, const std::vector<std::string>& words) {
  std::vector<std::string> arguments;
  bool only_arguments = false;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const auto& word = words[i];
    if (word == "--" && !only_arguments) {
      only_arguments = true;
      continue;
    }
    if (only_arguments || !is_option_word(word)) {
      arguments.push_back(word);
      continue;
    }
    const auto option = option_called(command, option_name(command, word));
    const auto equals = word.find('=');
    if (equals != std::string::npos) {
      set_from_text(option, word.substr(equals + 1));
    } else if (is_bool(option)) {
      set_from_text(option, "true");
    } else if (i + 1 < words.size() && !words[i + 1].starts_with("--")) {
      set_from_text(option, words[++i]);
    } else {
      throw UsageError("option " + shown(word) + " needs a value");
    }
  }
  check_count(command, arguments.size());
  return arguments;
}

std::string help_of(const Command& command) {
  const auto& arguments = command.arguments.usage;
  std::string out = "usage: troupe " + command.name + (arguments.empty() ? "" : " " + arguments) +
                    (command.options.empty() ? "" : " [options]") + "\n\n" + command.text + "\n";
  out += options_text(command);
  if (command.examples.empty()) return out;
  out += "\nexamples:\n";
  for (const auto& [words, meaning] : command.examples) {
    out += "  # " + meaning + "\n  troupe " + command.name + (words.empty() ? "" : " " + words) + "\n";
  }
  return out;
}

std::string help_of(const std::vector<Command>& commands) {
  std::string out =
      "usage: troupe COMMAND [arguments] [options]\n\n"
      "Makes a project, looks at runs of programs made with Troupe and at their checkpoints.\n\ncommands:\n";
  std::size_t column = 0;
  for (const auto& command : commands) column = std::max(column, command.name.size() + 4);
  for (const auto& command : commands) out += two_columns(command.name, command.summary, column);
  return out +
         "\ntroupe COMMAND --help explains a command; troupe --version prints the version.\n\n"
         "A RUN is a folder, or a name below ./runs: digits/version_3; digits, its newest; last, the newest of all.\n"
         "Results go to stdout and errors to stderr. The program ends with 0; 1 for a failure, or a difference that "
         "was\n"
         "asked for; 2 for arguments that cannot be.\n";
}

std::pair<const Command*, std::size_t> find_command(const std::vector<Command>& commands,
                                                    const std::vector<std::string>& words) {
  std::vector<std::string> first, second;
  for (const auto& command : commands) {
    if (!words.empty() && command.name == words[0]) return {&command, 1};
    if (words.size() > 1 && command.name == words[0] + " " + words[1]) return {&command, 2};
    const auto blank = command.name.find(' ');
    if (blank != std::string::npos && !words.empty() && command.name.substr(0, blank) == words[0]) {
      second.push_back(command.name.substr(blank + 1));
    }
    if (first.empty() || first.back() != command.name.substr(0, blank)) first.push_back(command.name.substr(0, blank));
  }
  if (words.empty()) throw UsageError("no command; troupe --help lists them: " + joined(first));
  if (second.empty()) {
    throw UsageError("unknown command '" + shown(words[0]) + "'; did you mean " + nearest(words[0], first) + "? (" +
                     joined(first) + ")");
  }
  if (words.size() == 1) {
    throw UsageError("troupe " + words[0] + " needs to know what to do: " + joined(second) + "; troupe " + words[0] +
                     " show FILE, for example");
  }
  throw UsageError("unknown command '" + words[0] + " " + shown(words[1]) + "'; did you mean " + words[0] + " " +
                   nearest(words[1], second) + "? (" + joined(second) + ")");
}

CompletedProgram completed_program(const std::vector<Command>& commands) {
  CompletedProgram program{"troupe", {}, {{"help", "explain, and do nothing", false}}};
  for (const auto& command : commands) {
    const auto blank = command.name.find(' ');
    const auto group = command.name.substr(0, blank);
    const bool is_new = std::ranges::none_of(program.commands, [&](const auto& other) { return other.name == group; });
    if (blank != std::string::npos && is_new)
      program.commands.push_back({group, "look at checkpoints, merge and convert them"});
    CompletedCommand out{command.name, command.summary, {}, command.arguments.completion, command.arguments.words};
    for (const auto& option : command.options) {
      CompletedOption completed{std::string(option.name), std::string(option.meaning), !is_bool(option)};
      const auto value = command.values.find(completed.name);
      if (value != command.values.end()) completed.value = value->second;
      if (const auto* choice = std::get_if<ChoicePointer>(&option.value)) {
        completed.value = Completion::words;
        for (const auto& one : choice->choices) completed.words.emplace_back(one.name);
      }
      for (const auto& [letter, name] : command.letters) {
        if (name == completed.name) completed.letter = letter;
      }
      out.options.push_back(std::move(completed));
    }
    program.commands.push_back(std::move(out));
  }
  return program;
}

std::vector<Command> all_commands() {
  std::vector<Command> commands{new_command(),
                                runs_command(),
                                attach_command(),
                                query_command(),
                                report_command(),
                                sync_command(),
                                checkpoint_show_command(),
                                checkpoint_diff_command(),
                                checkpoint_verify_command(),
                                checkpoint_merge_command(),
                                checkpoint_convert_command()};
  commands.push_back({.name = "completion",
                      .summary = "print a script that completes these words in a shell",
                      .arguments = {"bash|zsh|fish", 1, 1, Completion::words, completion_shells()},
                      .text =
                          "Prints a script that completes commands, options and their values. It holds all words: the\n"
                          "program runs only for names of metrics. Every program made with troupe::main has the same\n"
                          "command for its own options.",
                      .examples = {{"bash >> ~/.bashrc", "for bash, from the next shell on"},
                                   {"zsh > ~/.zfunc/_troupe", "for zsh, if ~/.zfunc is in fpath"},
                                   {"fish > ~/.config/fish/completions/troupe.fish", "for fish"}}});
  commands.back().run = [](const auto& arguments, const Screen& screen) {
    screen.print(completion_answer(completed_program(all_commands()), arguments));
    return succeeded;
  };
  return commands;
}

}  // namespace troupe::command
