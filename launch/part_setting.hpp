// What files, the environment and a command line say of parts that are chosen by name, and who hears it.
#pragma once

#include "troupe/modules/options/options.hpp"

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// One thing that was given for a part.
struct PartSetting {
  std::string name;  ///< "callbacks", "callbacks.name" or "callbacks.patience"
  /// Of the first two: what was named.
  std::vector<std::string> parts = {};
  /// Of the third: sets the option of the part that it turns out to be for.
  std::function<void(const OptionRef& option, const std::string& group)> set = {};
  std::string source = "";  ///< "run.toml:3: ", before what is said of it
  bool any_case = false;    ///< the option's name may be in capitals, as in the environment
};

/// The option behind the kind of parts, "patience" of "callbacks.patience"; "name" for the kind alone.
inline std::string option_of_part(std::string_view name) {
  const auto point = name.find('.');
  return point == std::string_view::npos ? "name" : std::string(name.substr(point + 1));
}

/// Whether it names parts ("callbacks", "callbacks.name") and is no option of one.
inline bool names_parts(std::string_view name) {
  return option_of_part(name) == "name";
}

/// Takes what is said of parts. ChosenParts makes something of it.
class PartSettings {
 public:
  virtual ~PartSettings() = default;

  /// "optimizer", ...
  virtual std::vector<std::string> kinds() const = 0;
  /// Those of which a file may have an array of tables, [[callbacks]].
  virtual std::vector<std::string> lists() const = 0;
  /// Whether `name` ("optimizer", "optimizer.lr") is about one of them.
  virtual bool takes(std::string_view name) const = 0;
  /// What is added from now on beats what came before: another file, the environment, the command line.
  virtual void begin_place() = 0;
  virtual void add(PartSetting setting) = 0;
  /// trainer.loggers was given.
  virtual void forget_loggers() = 0;
};

}  // namespace troupe
