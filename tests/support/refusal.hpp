// What bad input is told, for tests.
#pragma once

#include "troupe/base/failure.hpp"

#include <functional>
#include <string>

namespace troupe {

/// The text of the UsageError that `act` throws; "accepted" when it throws nothing. Other exceptions pass through.
inline std::string refusal(const std::function<void()>& act) {
  try {
    act();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace troupe
