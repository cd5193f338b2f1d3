#include "troupe/launch/new_run_card.hpp"

#include "troupe/base/random_id.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/report/without_passwords.hpp"

#include <fstream>

namespace troupe {

namespace {

std::vector<std::string> command_of_process() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> command;
  for (std::string argument; std::getline(file, argument, '\0');) {
    command.push_back(without_passwords(valid_utf8(argument)));
  }
  return command;
}

void leave_out_passwords(nlohmann::json& value) {
  if (value.is_string()) value = without_passwords(value.get<std::string>());
  if (!value.is_structured()) return;
  for (auto& each : value) leave_out_passwords(each);
}

}  // namespace

nlohmann::json option_values(const std::vector<OptionGroup>& groups) {
  nlohmann::json values = nlohmann::json::object();
  for (const auto& group : groups) values[group.name] = to_json_object(group.options, group.name);
  leave_out_passwords(values);
  return values;
}

RunCard new_run_card(const std::vector<OptionGroup>& groups) {
  RunCard card;
  card.id = random_id();
  card.command = command_of_process();
  card.options = option_values(groups);
  for (const auto& group : groups) card.defaults[group.name] = group.defaults;
  return card;
}

}  // namespace troupe
