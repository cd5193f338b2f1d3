#include "troupe/launch/help.hpp"

#include <algorithm>
#include <iterator>
#include <sstream>

namespace troupe {
namespace {

constexpr std::size_t page_width = 120;
constexpr std::size_t widest_left = 52;

struct Row {
  std::string left;
  std::string right;
  std::string last = "";  ///< behind `right`, not broken into lines
};

struct Section {
  std::string title;
  std::vector<Row> rows;
};

std::vector<std::string> words_of(const Row& row) {
  std::istringstream stream(row.right);
  std::vector<std::string> words{std::istream_iterator<std::string>(stream), {}};
  if (!row.last.empty()) words.push_back(row.last);
  return words;
}

/// Puts the words into lines of `width`, all but the first behind `indent` blanks.
std::string wrapped(const std::vector<std::string>& words, std::size_t indent, std::size_t width) {
  std::string out;
  std::size_t used = 0;
  for (const auto& word : words) {
    const bool fits = used + 1 + word.size() <= width;
    if (used > 0) out += fits ? " " : "\n" + std::string(indent, ' ');
    used = used > 0 && fits ? used + 1 + word.size() : word.size();
    out += word;
  }
  return out;
}

std::string formatted(const Row& row, std::size_t column) {
  std::string out = "  " + row.left;
  const bool fits = out.size() + 2 <= column;
  out += fits ? std::string(column - out.size(), ' ') : "\n" + std::string(column, ' ');
  return out + wrapped(words_of(row), column, page_width - column) + "\n";
}

Section general_section() {
  return {
      "options",
      {{"--config FILE",
        "options from a TOML file with one table per group; may be given several times, and later files beat earlier"
        " ones; TROUPE__GROUP__NAME in the environment beats files, and the command line beats both"},
       {"--set GROUP.NAME=VALUE", "the same as --GROUP.NAME=VALUE"},
       {"--ckpt_path PATH|best|last|auto", "checkpoint to go on from, or to evaluate; auto: the last, or none"},
       {"--print_config", "print the resulting options as a file for --config, and do nothing"},
       {"--quiet", "the same as --trainer.quiet: say nothing on the terminal but results, warnings and errors"},
       {"--help", "print this, and do nothing"}}};
}

Section group_section(const OptionGroup& group) {
  Section section{group.name + " options", {}};
  for (const auto& option : group.options) {
    const OptionInfo info = option_info(option);
    const bool is_bool = std::holds_alternative<bool*>(option.value);
    const std::string value = is_bool ? "[=BOOL]" : " " + info.type;
    const std::string shown_default = info.default_value.empty() ? "\"\"" : info.default_value;
    section.rows.push_back(
        {"--" + group.name + "." + info.name + value, info.meaning, "(default: " + shown_default + ")"});
  }
  return section;
}

}  // namespace

std::string help_text(const std::string& program, const std::vector<OptionGroup>& groups) {
  std::vector<Section> sections = {general_section()};
  for (const auto& group : groups) sections.push_back(group_section(group));
  std::size_t column = 0;
  for (const auto& section : sections) {
    for (const auto& row : section.rows) {
      if (row.left.size() <= widest_left) column = std::max(column, row.left.size() + 4);
    }
  }
  std::string out = "usage: " + program +
                    " STAGE [options]\n\nSTAGE is fit, validate, test, predict or tune (finders: see tune options).\n" +
                    program + " completion bash|zsh|fish prints a script that completes words in a shell.\n";
  for (const auto& section : sections) {
    out += "\n" + section.title + ":\n";
    for (const auto& row : section.rows) out += formatted(row, column);
  }
  return out;
}

}  // namespace troupe
