#include "troupe/launch/completion.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/launch/chosen_parts.hpp"
#include "troupe/launch/completion_shell.hpp"
#include "troupe/modules/stage.hpp"
#include "troupe/runtime/sinks/sink_by_name.hpp"

#include <algorithm>
#include <iterator>

namespace troupe {
namespace {

/// Texts whose values are listed elsewhere than in a type.
std::vector<std::string> known_words(const std::string& name) {
  return name == "trainer.loggers" ? sink_names() : std::vector<std::string>{};
}

bool is_one_of_words(const OptionRef& option) {
  return std::holds_alternative<ChoicePointer>(option.value);
}

bool is_path(const OptionRef& option) {
  return std::holds_alternative<std::filesystem::path*>(option.value);
}

std::vector<std::string> words_of(const OptionRef& option, const std::string& name) {
  std::vector<std::string> words = known_words(name);
  if (std::holds_alternative<bool*>(option.value)) words = {"true", "false"};
  if (const auto* choice = std::get_if<ChoicePointer>(&option.value)) {
    for (const auto& one : choice->choices) {
      if (one.use == ChoiceUse::listed) words.emplace_back(one.name);
    }
  }
  return words;
}

CompletedOption completed_option(const std::string& group, const OptionRef& option) {
  CompletedOption out{group + "." + std::string(option.name), std::string(option.meaning)};
  out.takes_value = !std::holds_alternative<bool*>(option.value);
  out.words = words_of(option, out.name);
  if (!out.words.empty()) out.value = is_one_of_words(option) ? Completion::words : Completion::list;
  if (is_path(option)) out.value = Completion::files;
  return out;
}

/// The names of a kind's parts, and the options that any of them has. One that several have means the same for all.
std::vector<CompletedOption> completed_parts(const PartKind& kind) {
  const auto names = kind.registry().names();
  std::vector<CompletedOption> out = {
      {kind.name, kind.meaning, true, kind.is_list ? Completion::list : Completion::words, names}};
  for (const auto& name : names) {
    const auto part = kind.registry().new_part(name);
    for (const auto& option : part->options()) {
      auto one = completed_option(kind.name, option);
      if (std::ranges::find(out, one.name, &CompletedOption::name) == out.end()) out.push_back(std::move(one));
    }
  }
  return out;
}

}  // namespace

CompletedProgram completed_program(const std::string& name, const std::vector<OptionGroup>& groups) {
  CompletedProgram program{name,
                           {{"fit", "train"},
                            {"validate", "evaluate on the validation data"},
                            {"test", "evaluate on the test data"},
                            {"predict", "compute predictions"},
                            {"tune", "find a learning rate, a batch size, numbers of threads and fetchers"},
                            {"completion",
                             "print a script that completes words of this program",
                             {},
                             Completion::words,
                             completion_shells()}},
                           {{"config", "options from a TOML file", true, Completion::configs},
                            {"ckpt_path",
                             "checkpoint to go on from, or to evaluate",
                             true,
                             Completion::weights,
                             {"best", "last", "auto", "none"}},
                            {"set", "an option as GROUP.NAME=VALUE", true},
                            {"print_config", "print the resulting options, and do nothing", false},
                            {"quiet", "say nothing on the terminal but results, warnings and errors", false},
                            {"help", "print the options, and do nothing", false}}};
  for (const auto& kind : part_kinds()) std::ranges::move(completed_parts(kind), std::back_inserter(program.options));
  for (const auto& group : groups) {
    for (const auto& option : group.options) program.options.push_back(completed_option(group.name, option));
  }
  return program;
}

std::vector<std::string> completion_shells() {
  return {"bash", "zsh", "fish"};
}

std::string completion_script(const CompletedProgram& program, const std::string& shell) {
  if (shell == "bash") return bash_completion(program);
  if (shell == "zsh") return zsh_completion(program);
  if (shell == "fish") return fish_completion(program);
  throw UsageError("there is no completion for the shell '" + shown(shell) + "'; did you mean " +
                   nearest(shell, completion_shells()) + "? (" + joined(completion_shells()) + ")");
}

std::string completion_answer(const CompletedProgram& program, const std::vector<std::string>& arguments) {
  if (arguments.size() == 1) return completion_script(program, arguments[0]);
  throw UsageError("completion takes the name of one shell (" + joined(completion_shells()) + "), " +
                   (arguments.empty() ? "and none was given" : "and got " + std::to_string(arguments.size())));
}

}  // namespace troupe
