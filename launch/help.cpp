#include "troupe/launch/help.hpp"

#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/launch/chosen_parts.hpp"

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
       {"--help [GROUP]", "print this, or the options of one group, and do nothing"}}};
}

Section option_section(const std::string& title, const std::string& group, const std::vector<OptionRef>& options) {
  Section section{title, {}};
  for (const auto& option : options) {
    const OptionInfo info = option_info(option);
    const bool is_bool = std::holds_alternative<bool*>(option.value);
    const std::string value = is_bool ? "[=BOOL]" : " " + info.type;
    const std::string shown_default = info.default_value.empty() ? "\"\"" : info.default_value;
    section.rows.push_back({"--" + group + "." + info.name + value, info.meaning, "(default: " + shown_default + ")"});
  }
  return section;
}

Section group_section(const OptionGroup& group) {
  return option_section(group.name + " options", group.name, group.options);
}

Section part_section() {
  Section section{"parts by name", {}};
  for (const auto& kind : part_kinds()) {
    const std::string name = kind.name;
    section.rows.push_back({"--" + name + " NAME", std::string(kind.meaning) + ": " + joined(kind.registry().names()) +
                                                       (kind.is_list ? "; may be given several times" : "")});
    section.rows.push_back({"--" + name + "." + "OPTION VALUE", std::string("an option of ") +
                                                                    (kind.is_list ? "the last one" : "it") +
                                                                    "; --help " + name + ".NAME lists them"});
  }
  return section;
}

Section kind_section(const PartKind& kind) {
  Section section{std::string("--") + kind.name + " NAME, " + kind.meaning, {}};
  for (const auto& name : kind.registry().names()) {
    const auto& info = kind.registry().info(name);
    const auto others = info.other_names.empty() ? "" : "(also " + joined(info.other_names) + ")";
    section.rows.push_back({name, info.meaning + (others.empty() ? "" : " " + others)});
  }
  return section;
}

Section named_part_section(const PartKind& kind, const std::string& name) {
  const auto& info = kind.registry().info(name);
  const auto part = kind.registry().new_part(name);
  std::string title = std::string("--") + kind.name + " " + info.name;
  if (!info.meaning.empty()) title += ", " + info.meaning;
  if (part->options().empty()) title += "; it has no options";
  return option_section(title, kind.name, part->options());
}

std::string text_of(const std::vector<Section>& sections) {
  std::size_t column = 0;
  for (const auto& section : sections) {
    for (const auto& row : section.rows) {
      if (row.left.size() <= widest_left) column = std::max(column, row.left.size() + 4);
    }
  }
  std::string out;
  for (const auto& section : sections) {
    out += (out.empty() ? "" : "\n") + section.title + ":\n";
    for (const auto& row : section.rows) out += formatted(row, column);
  }
  return out;
}

}  // namespace

std::string help_text(const std::string& program, const std::vector<OptionGroup>& groups, bool with_parts) {
  std::vector<Section> sections = {general_section()};
  if (with_parts) sections.push_back(part_section());
  for (const auto& group : groups) sections.push_back(group_section(group));
  return "usage: " + program +
         " STAGE [options]\n\nSTAGE is fit, validate, test, predict or tune (finders: see tune options).\n" + program +
         " completion bash|zsh|fish prints a script that completes words in a shell.\n\n" + text_of(sections);
}

std::string help_about(const std::string& topic, const std::vector<OptionGroup>& groups, bool with_parts) {
  std::vector<std::string> topics;
  for (const auto& group : groups) {
    if (group.name == topic) return text_of({group_section(group)});
    topics.push_back(group.name);
  }
  if (const auto* kind = with_parts ? part_kind_of(topic) : nullptr) {
    const auto point = topic.find('.');
    return text_of(
        {point == std::string::npos ? kind_section(*kind) : named_part_section(*kind, topic.substr(point + 1))});
  }
  if (with_parts) std::ranges::copy(part_kind_names(), std::back_inserter(topics));
  throw UsageError("there is no help about '" + shown(topic) + "'; did you mean " + nearest(topic, topics) + "? (" +
                   joined(topics) + (with_parts ? "; and parts, as optimizer.adamw" : "") + ")");
}

}  // namespace troupe
