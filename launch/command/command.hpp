// The sub-commands of the program `troupe`: what each is called, takes and says of itself, and how its words are read.
#pragma once

#include "troupe/launch/command/screen.hpp"
#include "troupe/launch/completion.hpp"
#include "troupe/modules/options/options.hpp"

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace troupe::command {

constexpr int succeeded = 0, failed = 1, misused = 2;  ///< what the program ends with, as `troupe::main`

/// How often an argument may be given.
struct Arguments {
  std::string usage;  ///< "RUN METRIC..."
  std::size_t least = 0;
  std::size_t most = 0;
  Completion completion = Completion::nothing;
  std::vector<std::string> words = {};  ///< for Completion::words
};

struct Command {
  std::string name;  ///< "checkpoint diff"
  std::string summary;
  Arguments arguments;
  std::string text;                                                ///< what help says; lines of at most 80 characters
  std::vector<std::pair<std::string, std::string>> examples = {};  ///< arguments, and what they do
  std::vector<OptionRef> options = {};                             ///< of objects that `run` keeps
  std::map<std::string, Completion> values = {};                   ///< what completes an option's value
  std::map<char, std::string> letters = {};                        ///< 'o': "output"
  /// Returns what the program ends with. Options are set by then.
  std::function<int(const std::vector<std::string>& arguments, const Screen& screen)> run = nullptr;
};

/// Sets the options that `words` name and returns the arguments. A value follows after a blank or a `=`; a bool is true
/// unless a `=` follows; behind `--` all are arguments. Throws UsageError, with the nearest name, for an unknown
/// option, a missing value, and for too few or too many arguments.
std::vector<std::string> read_words(const Command& command, const std::vector<std::string>& words);

/// Usage, text, options with their defaults, examples.
std::string help_of(const Command& command);

/// The commands in order, with what each is for.
std::string help_of(const std::vector<Command>& commands);

/// Which command the first of `words` name, and how many these are. Throws UsageError, with the nearest, for none.
std::pair<const Command*, std::size_t> find_command(const std::vector<Command>& commands,
                                                    const std::vector<std::string>& words);

/// For the scripts of completion.
CompletedProgram completed_program(const std::vector<Command>& commands);

// The commands themselves, a source each.

Command runs_command();
Command attach_command();
Command query_command();
Command report_command();
Command checkpoint_show_command();
Command checkpoint_diff_command();
Command checkpoint_verify_command();
Command checkpoint_merge_command();
Command checkpoint_convert_command();
Command sync_command();
Command new_command();

/// All of them, and `completion`.
std::vector<Command> all_commands();

}  // namespace troupe::command
