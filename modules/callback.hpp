// Behaviour that is added to a run from outside of the module.
#pragma once

#include <nlohmann/json.hpp>

#include <string>

namespace troupe {

class Callback {
 public:
  virtual ~Callback() = default;
  /// Identifies the callback's state in a checkpoint; must be unique in a run.
  virtual std::string state_key() const { return ""; }
  /// State to store in a checkpoint.
  virtual nlohmann::json state_dict() const { return nullptr; }
  /// Gets back what state_dict returned. The value comes from a file: check it, throw UsageError where it is wrong.
  virtual void load_state_dict(const nlohmann::json& state) { (void)state; }
};

}  // namespace troupe
