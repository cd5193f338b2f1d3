// The status of a run in files and messages.
#pragma once

#include "troupe/base/state_reader.hpp"
#include "troupe/base/text.hpp"
#include "troupe/modules/options/choices.hpp"
#include "troupe/modules/record.hpp"

#include <algorithm>

namespace troupe {

/// What `status` names, as name_of(RunStatus) writes it; the reader refuses anything else.
inline RunStatus run_status_in(const StateReader& reader) {
  const auto name = reader.text("status");
  const auto choices = choices_of<RunStatus>();
  const auto found = std::ranges::find(choices, name, &Choice::name);
  if (found == choices.end()) reader.refuse("status is '" + shown(name) + "', which no run has");
  return static_cast<RunStatus>(found->value);
}

}  // namespace troupe
