// `PROGRAM STAGE [options]`: the command line of every program made with the library.
//
//     TrainerOptions trainer;  DigitsOptions model;
//     CommandLine command_line("digits", {option_group("trainer", trainer), option_group("model", model)});
//     const Invocation invocation = command_line.parse(argc, argv);      // throws UsageError
//     if (invocation.help) std::cout << command_line.help();
//     if (invocation.print_config) std::cout << to_toml(command_line.groups(), invocation.ckpt_path);
//
// The stage comes first. Values follow after a blank or a `=`; a value that begins with -- needs the `=`. A flag (a
// bool, or a switchable number) without a value is true. --set GROUP.NAME=VALUE is the same as --GROUP.NAME=VALUE, and
// --quiet as --trainer.quiet. An option given twice has its last value.
//
// Parts are named by --optimizer, --scheduler, --callbacks and --logger, and have options of their own
// (launch/chosen_parts.hpp): --optimizer muon --optimizer.lr 0.02. --help optimizer lists them, --help optimizer.muon
// the options of one, --help trainer those of a group.
//
// Files named with --config are applied in the order in which they are given, then the environment, then the command
// line, wherever the files stand in it. In the environment TROUPE__TRAINER__MAX_EPOCHS is trainer.max_epochs: the
// prefix, the group and the name, with two underscores between them, in capitals or not. Nobody else's variables begin
// with TROUPE__, so one that stands for no option is refused.
#pragma once

#include "troupe/launch/option_group.hpp"
#include "troupe/modules/stage.hpp"

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

class ChosenParts;

/// What to do. With `tune` that is no stage: finders (launch/tune_command.hpp). With `help` or `print_config` the stage
/// may be missing from the command line and is `fit` then.
struct Invocation {
  Stage stage = Stage::fit;
  std::optional<std::string> ckpt_path;  ///< "best", "last", "auto" or a path; --ckpt_path none takes back a file's
  bool help = false;                     ///< the other arguments were not looked at
  std::string help_topic = "";           ///< what --help is asked about: "optimizer.muon"; empty: all
  bool print_config = false;
  bool tune = false;
};

/// Sets the options of its groups. The objects behind them must outlive it.
class CommandLine {
 public:
  /// The values that the options have now are the defaults that help shows. Group names must differ. `parts` are those
  /// that it may name, and are resolved by parse(); null: none.
  CommandLine(std::string program, std::vector<OptionGroup> groups, ChosenParts* parts = nullptr);

  /// Throws UsageError, in one sentence, for a missing or unknown stage, an unknown option (naming the nearest), a
  /// missing or malformed value, a variable of the environment that is none of the options or has a malformed value,
  /// and for a config file that cannot be used. The options may be partly set by then.
  Invocation parse(int argc, const char* const* argv) const;
  /// The same without the program's name: {"fit", "--trainer.max_epochs", "3"}.
  Invocation parse(const std::vector<std::string>& arguments) const;

  /// Usage, then every option with type, meaning and default, in lines of at most 120 characters.
  const std::string& help() const { return help_; }
  /// About a group ("trainer"), a kind of parts ("optimizer") or a part ("optimizer.muon"); empty: all. Throws
  /// UsageError for another topic, with the nearest.
  std::string help(const std::string& topic) const;
  const std::vector<OptionGroup>& groups() const { return groups_; }

 private:
  std::vector<OptionGroup> groups_;
  ChosenParts* parts_;
  std::string help_;
};

/// The stage called `name`; throws UsageError that lists them.
Stage stage_from_text(const std::string& name);

}  // namespace troupe
