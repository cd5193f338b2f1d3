// Events (modules/events.hpp) as messages.
#pragma once

#include "troupe/modules/events.hpp"

#include <caf/allowed_unsafe_message_type.hpp>

namespace troupe {

namespace cast {

/// To an usher: an event for its callback actor.
struct Publish {
  Event event;
};

}  // namespace cast

}  // namespace troupe

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::Publish)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::RunStarted)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::TrainBatchEnded)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::ValidationEnded)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::TrainEpochEnded)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::CheckpointSaved)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::RunEnded)
