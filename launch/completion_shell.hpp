// The scripts of completion.hpp, a shell each.
#pragma once

#include "troupe/launch/completion.hpp"

#include <string>

namespace troupe {

// https://www.gnu.org/software/bash/manual/html_node/Programmable-Completion.html
std::string bash_completion(const CompletedProgram& program);
// https://zsh.sourceforge.io/Doc/Release/Completion-System.html
std::string zsh_completion(const CompletedProgram& program);
// https://fishshell.com/docs/current/cmds/complete.html
std::string fish_completion(const CompletedProgram& program);

/// `text` in quotes that a POSIX shell takes as they are: it's becomes 'it'\''s'.
std::string shell_quoted(const std::string& text);

/// `name` as a part of a function's name: what is no letter or digit becomes _.
std::string shell_identifier(const std::string& name);

/// The commands directly below `command` ("" is the program), their last words as names.
std::vector<CompletedCommand> commands_below(const CompletedProgram& program, const std::string& command);

}  // namespace troupe
