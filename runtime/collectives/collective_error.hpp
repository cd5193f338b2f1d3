// What goes wrong between ranks, as exceptions.
#pragma once

#include <stdexcept>

namespace troupe {

/// A collective operation failed: a rank called another one, the transport reported an error, or the group was aborted.
class CollectiveError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A collective operation was not finished in time; what() names the operation, its number in the group, the rank, the
/// size of the group, the bytes and the seconds.
class CollectiveTimeout : public CollectiveError {
 public:
  using CollectiveError::CollectiveError;
};

}  // namespace troupe
