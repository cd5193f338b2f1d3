// Completion for shells: what can stand behind a program's name, written as a script for bash, zsh or fish.
//
//     source <(digits completion bash)          # ~/.bashrc
//
// The script holds all words; the program does not run when somebody presses the key.
#pragma once

#include "troupe/launch/option_group.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// `PROGRAM completion SHELL` prints the script; the word is no stage.
inline constexpr std::string_view completion_word = "completion";

/// What completes an option's value, or the arguments of a command.
enum class Completion {
  nothing,
  words,    ///< one of a list
  list,     ///< several of a list, with commas between
  files,    ///< any file
  configs,  ///< *.toml
  weights,  ///< *.safetensors, *.pth, *.pt, *.bin, *.ckpt
  folders,  ///< any folder
  runs,     ///< folders, and names of runs below ./runs
  metrics,  ///< the first argument is a run, the others are names of its metrics
  columns,  ///< of the table of runs, with the metrics of the runs below the first argument (a folder) or ./runs
};

struct CompletedOption {
  std::string name;     ///< "trainer.max_epochs", without --
  std::string meaning;  ///< one line
  bool takes_value = true;
  Completion value = Completion::nothing;
  std::vector<std::string> words = {};
  char letter = '\0';  ///< also called so, behind one -
};

struct CompletedCommand {
  std::string name;  ///< "fit"; "checkpoint show" is a command of the command "checkpoint"
  std::string meaning;
  std::vector<CompletedOption> options = {};
  Completion arguments = Completion::nothing;
  std::vector<std::string> words = {};
};

struct CompletedProgram {
  std::string name;
  std::vector<CompletedCommand> commands;
  std::vector<CompletedOption> options;  ///< of all commands
};

/// What `troupe::main` takes: stages, the options of `groups`, the general ones, and parts by name with the options of
/// all of them.
CompletedProgram completed_program(const std::string& name, const std::vector<OptionGroup>& groups);

/// "bash", "zsh", "fish".
std::vector<std::string> completion_shells();

/// The script for `shell`. Throws UsageError, with the nearest, for another one.
std::string completion_script(const CompletedProgram& program, const std::string& shell);

/// The answer to `PROGRAM completion SHELL`: the script for the one shell that `arguments` name. Throws UsageError for
/// other arguments.
std::string completion_answer(const CompletedProgram& program, const std::vector<std::string>& arguments);

}  // namespace troupe
