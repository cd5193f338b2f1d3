// `troupe`, the command: looks at runs and checkpoints.
#include "troupe/base/failure.hpp"
#include "troupe/base/version.hpp"
#include "troupe/launch/command/command.hpp"
#include "troupe/launch/signals.hpp"

#include <algorithm>
#include <iostream>
#include <string>

namespace troupe::command {
namespace {

bool asks_for_help(const std::string& word) {
  return word == "--help" || word == "-h" || word == "help";
}

int run_command(const std::vector<std::string>& words, const Screen& screen) {
  const auto commands = all_commands();
  if (!words.empty() && words[0] == "--version") {
    screen.print(std::string("troupe ") + library_version + "\n");
    return succeeded;
  }
  if (!words.empty() && asks_for_help(words[0])) {
    const bool is_about_one = words.size() > 1 && words[0] == "help";
    screen.print(is_about_one ? help_of(*find_command(commands, {words.begin() + 1, words.end()}).first)
                              : help_of(commands));
    return succeeded;
  }
  const auto is_group = [&](const auto& command) { return command.name.starts_with(words[0] + " "); };
  if (words.size() > 1 && asks_for_help(words[1]) && std::ranges::any_of(commands, is_group)) {
    std::vector<Command> group;
    std::ranges::copy_if(commands, std::back_inserter(group), is_group);
    screen.print(help_of(group));
    return succeeded;
  }
  const auto [command, count] = find_command(commands, words);
  const std::vector<std::string> rest(words.begin() + static_cast<std::ptrdiff_t>(count), words.end());
  const auto end_of_options = std::ranges::find(rest, "--");
  if (std::any_of(rest.begin(), end_of_options, [](const auto& word) { return word == "--help" || word == "-h"; })) {
    screen.print(help_of(*command));
    return succeeded;
  }
  return command->run(read_words(*command, rest), screen);
}

int main_of(const std::vector<std::string>& words) {
  outlive_readers();
  try {
    return run_command(words, standard_screen());
  } catch (const ReaderGone&) {
    return succeeded;
  } catch (const UsageError& error) {
    std::cerr << "troupe: " + std::string(error.what()) + '\n';
    return misused;
  } catch (const std::exception& error) {
    std::cerr << "troupe: " + std::string(error.what()) + '\n';
    return failed;
  }
}

}  // namespace
}  // namespace troupe::command

int main(int argc, char** argv) {
  return troupe::command::main_of({argv + std::min(argc, 1), argv + argc});
}
