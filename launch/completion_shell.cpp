#include "troupe/launch/completion_shell.hpp"

#include "troupe/base/text.hpp"

#include <algorithm>
#include <cctype>
#include <utility>

namespace troupe {
namespace {

using Places = std::vector<std::pair<std::string, std::string>>;

/// `text` with each @NAME@ replaced.
std::string with_places_filled(std::string text, const Places& places) {
  for (const auto& [name, value] : places) {
    for (std::size_t at = 0; (at = text.find(name, at)) != std::string::npos; at += value.size()) {
      text.replace(at, name.size(), value);
    }
  }
  return text;
}

bool is_plain_word(const std::string& word) {
  return !word.empty() && std::ranges::all_of(word, [](unsigned char c) {
    return std::isalnum(c) || std::string_view("-_./=+,%@").find(static_cast<char>(c)) != std::string_view::npos;
  });
}

/// Words for a shell that splits them at blanks and takes away quotes.
std::string word_list(std::vector<std::string> words) {
  for (auto& word : words) word = is_plain_word(word) ? word : shell_quoted(word);
  return joined(words, " ");
}

/// What the scripts call a kind.
std::string kind_name(Completion kind) {
  switch (kind) {
    case Completion::nothing: return "nothing";
    case Completion::words: return "words";
    case Completion::list: return "list";
    case Completion::files: return "files";
    case Completion::configs: return "configs";
    case Completion::weights: return "weights";
    case Completion::folders: return "folders";
    case Completion::runs: return "runs";
    case Completion::metrics: return "metrics";
    case Completion::columns: return "columns";
  }
  return "nothing";
}

/// The names under which an option can be given.
std::vector<std::string> spellings(const CompletedOption& option) {
  std::vector<std::string> out{"--" + option.name};
  if (option.letter != '\0') out.push_back(std::string("-") + option.letter);
  return out;
}

bool has_commands_below(const CompletedProgram& program, const std::string& command) {
  return std::ranges::any_of(program.commands,
                             [&](const auto& other) { return other.name.starts_with(command + " "); });
}

// --- bash ---

// Names of runs and metrics may be a stranger's: they are never expanded, as the words of `compgen -W` are.
constexpr const char* kBash =
    R"sh(# Completes the words of @NAME@ in bash. For this shell:  source <(@NAME@ completion bash)
# shellcheck shell=bash
@ID@() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
  local assigned="" command="" run="" kind="" words="" options="" head="" word i
  COMPREPLY=()
  if [[ $cur == "=" ]]; then
    cur="" assigned=yes
  elif [[ $prev == "=" ]]; then
    prev=${COMP_WORDS[COMP_CWORD - 2]} assigned=yes
  fi
  for ((i = 1; i < COMP_CWORD; ++i)); do
    word=${COMP_WORDS[i]}
    case "$command $word" in
@COMMANDS@      *) [[ -n $command && -z $run && $word != -* ]] && run=$word ;;
    esac
  done
  case "$command $prev" in
@VALUES@  esac
  if [[ -z $kind && -n $assigned ]]; then kind=words words="true false"; fi
  if [[ -z $kind && $cur == -* ]]; then
    kind=words words=@COMMON@
    case $command in
@OPTIONS@    esac
    words+=" $options"
  fi
  if [[ -z $kind ]]; then
    case $command in
@ARGUMENTS@    esac
  fi
  if [[ $kind == metrics && -z $run ]]; then kind=runs; fi
  case $kind in
    words) mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur") ;;
    list)
      [[ $cur == *,* ]] && head=${cur%,*},
      mapfile -t COMPREPLY < <(compgen -P "$head" -W "$words" -- "${cur##*,}")
      ;;
    files | configs | weights | folders | runs)
      compopt -o filenames 2>/dev/null
      case $kind in
        files) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        configs) mapfile -t COMPREPLY < <(compgen -d -- "$cur"; compgen -f -X '!*.toml' -- "$cur") ;;
        weights)
          mapfile -t COMPREPLY < <(
            compgen -W "$words" -- "$cur"; compgen -d -- "$cur"
            for word in safetensors pth pt bin ckpt; do compgen -f -X "!*.$word" -- "$cur"; done
          )
          ;;
        *) mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
      esac
      [[ $kind == runs ]] || return 0
      for word in runs/last runs/*/ runs/*/version_*/; do
        word=${word#runs/} word=${word%/}
        [[ $word != *'*'* && $word == "$cur"* ]] && COMPREPLY+=("$word")
      done
      ;;
    metrics)
      while IFS= read -r word; do
        [[ $word == "$cur"* ]] && COMPREPLY+=("$(printf %q "$word")")
      done < <("${COMP_WORDS[0]}" query "$run" 2>/dev/null)
      ;;
    columns)
      [[ -d $run ]] || run=runs
      head=""
      [[ $cur == *,* ]] && head=${cur%,*},
      [[ $cur == -* ]] && head=-
      while IFS= read -r word; do
        [[ $head$word == "$cur"* ]] && COMPREPLY+=("$head$(printf %q "$word")")
      done < <("${COMP_WORDS[0]}" runs "$run" --columns 2>/dev/null)
      ;;
  esac
  return 0
}
complete -F @ID@ -- @WORD@
)sh";

std::string bash_values(const std::string& command, const std::vector<CompletedOption>& options) {
  std::string out;
  for (const auto& option : options) {
    if (!option.takes_value) continue;
    std::vector<std::string> patterns;
    for (const auto& name : spellings(option)) {
      patterns.push_back((command.empty() ? "*" : "") + shell_quoted(command + " " + name));
    }
    out += "    " + joined(patterns, " | ") + ") kind=" + kind_name(option.value) +
           " words=" + shell_quoted(word_list(option.words)) + " ;;\n";
  }
  return out;
}

std::string option_words(const std::vector<CompletedOption>& options) {
  std::vector<std::string> words;
  for (const auto& option : options) words.push_back("--" + option.name);
  return shell_quoted(word_list(words));
}

std::string bash_arguments(const CompletedProgram& program, const std::string& command) {
  std::vector<std::string> names;
  for (const auto& below : commands_below(program, command)) names.push_back(below.name);
  return "      " + shell_quoted(command) + ") kind=words words=" + shell_quoted(word_list(names)) + " ;;\n";
}

/// Shell patterns that tell how a command goes on behind `$command $word`, and what it is called then.
std::string command_cases(const CompletedProgram& program, const std::string& indent, const std::string& then) {
  std::string out;
  for (const auto& command : program.commands) {
    const auto pattern = command.name.find(' ') == std::string::npos ? " " + command.name : command.name;
    out += indent + shell_quoted(pattern) + ") command=" + shell_quoted(command.name) + then + " ;;\n";
  }
  return out;
}

// --- zsh ---

constexpr const char* kZsh = R"sh(#compdef @NAME@
# Completes the words of @NAME@ in zsh. For this shell:  source <(@NAME@ completion zsh)
@ID@_runs() {
  local -a names
  names=(last runs/*(N/:t) runs/*/version_*(N/))
  compadd -- ${names#runs/}
  _path_files -/
}
@ID@_metrics() {
  local -a names
  names=("${(@f)$("$program" query "$words[2]" 2>/dev/null)}")
  compadd -- $names
}
@ID@_columns() {
  local -a names
  local folder=runs
  [[ -d $words[2] ]] && folder=$words[2]
  names=("${(@f)$("$program" runs "$folder" --columns 2>/dev/null)}")
  compset -P '*,' || compset -P '-'
  compadd -- $names
}
@ID@() {
  local command="" program=$words[1]
  local -a list
  integer at=1
  while (( at + 1 < CURRENT )); do
    case "$command $words[at+1]" in
@COMMANDS@      *) break ;;
    esac
  done
  case $command in
@LISTS@  esac
  if (( $#list )) && (( at + 1 == CURRENT )) && [[ $words[CURRENT] != -* ]]; then
    _describe -t commands command list
    return
  fi
  shift $(( at - 1 )) words
  (( CURRENT -= at - 1 ))
  list=(
@COMMON@  )
  case $command in
@OPTIONS@  esac
  _arguments -s : $list
}
if [[ $funcstack[1] == @ID@ ]]; then @ID@ "$@"; else compdef @ID@ @WORD@; fi
)sh";

std::string zsh_escaped(const std::string& text, std::string_view special) {
  std::string out;
  for (const char c : text) {
    if (special.find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

std::string zsh_action(Completion kind, const std::vector<std::string>& words, const std::string& id) {
  std::vector<std::string> plain;
  for (const auto& word : words) plain.push_back(zsh_escaped(word, "\\ ():'\"[]"));
  switch (kind) {
    case Completion::nothing: return " ";
    case Completion::words: return "(" + joined(plain, " ") + ")";
    case Completion::list: return "_values -s , value " + joined(plain, " ");
    case Completion::files: return "_files";
    case Completion::configs: return "_files -g \"*.toml\"";
    case Completion::weights: {
      const std::string files = "_files -g \"*.(safetensors|pth|pt|bin|ckpt)\"";
      return plain.empty() ? files : "{compadd -- " + joined(plain, " ") + "; " + files + "}";
    }
    case Completion::folders: return "_path_files -/";
    case Completion::runs: return id + "_runs";
    case Completion::metrics: return id + "_metrics";
    case Completion::columns: return id + "_columns";
  }
  return " ";
}

std::string zsh_options(const std::vector<CompletedOption>& options, const std::string& indent, const std::string& id) {
  std::string out;
  for (const auto& option : options) {
    for (const auto& name : spellings(option)) {
      const bool is_long = name.starts_with("--");
      out += indent +
             shell_quoted(name +
                          (!option.takes_value ? ""
                           : is_long           ? "="
                                               : "+") +
                          "[" + zsh_escaped(option.meaning, "\\[]:") + "]" +
                          (option.takes_value ? ":value:" + zsh_action(option.value, option.words, id) : "")) +
             "\n";
    }
  }
  return out;
}

std::string zsh_arguments(const CompletedCommand& command, const std::string& id) {
  const auto argument = [&](const std::string& which, Completion kind) {
    return " " + shell_quoted(which + ":argument:" + zsh_action(kind, command.words, id));
  };
  if (command.arguments == Completion::nothing) return "";
  if (command.arguments == Completion::metrics)
    return argument("1", Completion::runs) + argument("*", command.arguments);
  return argument("*", command.arguments);
}

std::string zsh_list(const CompletedProgram& program, const std::string& command) {
  std::string out = "    " + shell_quoted(command) + ") list=(";
  for (const auto& below : commands_below(program, command)) {
    out += " " + shell_quoted(zsh_escaped(below.name, "\\:") + ":" + below.meaning);
  }
  return out + " ) ;;\n";
}

// --- fish ---

constexpr const char* kFish =
    R"sh(# Completes the words of @NAME@ in fish. For this shell:  @NAME@ completion fish | source
function @ID@_runs
  echo last
  for name in runs/*/ runs/*/version_*/
    string replace -r '^runs/(.*)/$' '$1' -- $name
  end
  __fish_complete_directories
end
function @ID@_run_or_metric
  set -l words (commandline -opc)
  if test (count $words) -lt 3
    @ID@_runs
  else
    $words[1] query $words[3] 2>/dev/null
  end
end
function @ID@_columns
  set -l words (commandline -opc)
  set -l folder runs
  if test (count $words) -ge 3; and test -d "$words[3]"
    set folder $words[3]
  end
  set -l value (string replace -r '^--[^=]*=' '' -- (commandline -ct))
  set -l head (string replace -rf '^(.*,|-).*$' '$1' -- $value)
  for name in ($words[1] runs $folder --columns 2>/dev/null)
    string join '' -- $head $name
  end
end
complete -c @WORD@ -f
)sh";

std::string fish_quoted(const std::string& text) {
  return "'" + zsh_escaped(text, "\\'") + "'";
}

std::string fish_values(Completion kind, const std::vector<std::string>& words, const std::string& id) {
  switch (kind) {
    case Completion::nothing: return "";
    case Completion::words: return " -a " + fish_quoted(joined(words, " "));
    case Completion::list: return " -a " + fish_quoted("(__fish_append , " + joined(words, " ") + ")");
    case Completion::files: return " -F";
    case Completion::configs: return " -a '(__fish_complete_suffix .toml)'";
    case Completion::weights:
      return " -a " + fish_quoted(joined(words, " ") + " (__fish_complete_suffix .safetensors)");
    case Completion::folders: return " -a '(__fish_complete_directories)'";
    case Completion::runs: return " -a " + fish_quoted("(" + id + "_runs)");
    case Completion::metrics: return " -a " + fish_quoted("(" + id + "_run_or_metric)");
    case Completion::columns: return " -a " + fish_quoted("(" + id + "_columns)");
  }
  return "";
}

std::string fish_options(const std::string& start, const std::vector<CompletedOption>& options, const std::string& id) {
  std::string out;
  for (const auto& option : options) {
    out += start + " -l " + fish_quoted(option.name);
    if (option.letter != '\0') out += std::string(" -s ") + option.letter;
    if (option.takes_value) {
      out += (option.value == Completion::files ? " -r" : " -x") + fish_values(option.value, option.words, id);
    }
    out += " -d " + fish_quoted(option.meaning) + "\n";
  }
  return out;
}

/// When the words so far name `command` and none below it.
std::string fish_condition(const CompletedProgram& program, const std::string& command) {
  if (command.empty()) return "__fish_use_subcommand";
  std::string out;
  for (std::size_t at = 0; at != std::string::npos;) {
    const auto end = command.find(' ', at);
    out += (out.empty() ? "" : "; and ") + std::string("__fish_seen_subcommand_from ") + command.substr(at, end - at);
    at = end == std::string::npos ? end : end + 1;
  }
  std::vector<std::string> below;
  for (const auto& other : commands_below(program, command)) below.push_back(other.name);
  return below.empty() ? out : out + "; and not __fish_seen_subcommand_from " + joined(below, " ");
}

}  // namespace

std::string shell_quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string shell_identifier(const std::string& name) {
  std::string out = "_troupe_";
  for (const char c : name) out += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return out;
}

std::vector<CompletedCommand> commands_below(const CompletedProgram& program, const std::string& command) {
  std::vector<CompletedCommand> out;
  const auto start = command.empty() ? "" : command + " ";
  for (const auto& other : program.commands) {
    if (!other.name.starts_with(start) || other.name.find(' ', start.size()) != std::string::npos) continue;
    out.push_back(other);
    out.back().name.erase(0, start.size());
  }
  return out;
}

std::string bash_completion(const CompletedProgram& program) {
  std::string values = bash_values("", program.options), options, arguments = bash_arguments(program, "");
  for (const auto& command : program.commands) {
    values += bash_values(command.name, command.options);
    options += "      " + shell_quoted(command.name) + ") options=" + option_words(command.options) + " ;;\n";
    arguments += has_commands_below(program, command.name)
                     ? bash_arguments(program, command.name)
                     : "      " + shell_quoted(command.name) + ") kind=" + kind_name(command.arguments) +
                           " words=" + shell_quoted(word_list(command.words)) + " ;;\n";
  }
  return with_places_filled(kBash, {{"@COMMANDS@", command_cases(program, "      ", "")},
                                    {"@VALUES@", values},
                                    {"@COMMON@", option_words(program.options)},
                                    {"@OPTIONS@", options},
                                    {"@ARGUMENTS@", arguments},
                                    {"@ID@", shell_identifier(program.name)},
                                    {"@WORD@", shell_quoted(program.name)},
                                    {"@NAME@", single_line(program.name)}});
}

std::string zsh_completion(const CompletedProgram& program) {
  const auto id = shell_identifier(program.name);
  std::string options, lists = zsh_list(program, "");
  for (const auto& command : program.commands) {
    if (has_commands_below(program, command.name)) lists += zsh_list(program, command.name);
    options += "    " + shell_quoted(command.name) + ") list+=(" + zsh_arguments(command, id) + "\n" +
               zsh_options(command.options, "      ", id) + "    ) ;;\n";
  }
  return with_places_filled(kZsh, {{"@COMMANDS@", command_cases(program, "      ", "; (( ++at ))")},
                                   {"@LISTS@", lists},
                                   {"@COMMON@", zsh_options(program.options, "    ", id)},
                                   {"@OPTIONS@", options},
                                   {"@ID@", id},
                                   {"@WORD@", shell_quoted(program.name)},
                                   {"@NAME@", single_line(program.name)}});
}

std::string fish_completion(const CompletedProgram& program) {
  const auto id = shell_identifier(program.name);
  const auto start = "complete -c " + fish_quoted(program.name);
  std::string out = with_places_filled(
      kFish, {{"@ID@", id}, {"@WORD@", fish_quoted(program.name)}, {"@NAME@", single_line(program.name)}});
  out += fish_options(start, program.options, id);
  const auto offer = [&](const std::string& command) {
    for (const auto& below : commands_below(program, command)) {
      out += start + " -n " + fish_quoted(fish_condition(program, command)) + " -a " + fish_quoted(below.name) +
             " -d " + fish_quoted(below.meaning) + "\n";
    }
  };
  offer("");
  for (const auto& command : program.commands) {
    offer(command.name);
    const auto here = start + " -n " + fish_quoted(fish_condition(program, command.name));
    out += fish_options(here, command.options, id);
    const auto values = fish_values(command.arguments, command.words, id);
    if (!values.empty()) out += here + values + "\n";
  }
  return out;
}

}  // namespace troupe
