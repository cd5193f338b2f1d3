// Counts out of checkpoints, which may be a stranger's.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>

namespace troupe {

/// What every reader of JSON can carry (RFC 8259, section 6); a run has room to count on from there.
inline constexpr int64_t largest_saved_count = (int64_t{1} << 53) - 1;

/// Whether `value` is a whole number from `least` to `most`.
inline bool is_saved_count(const nlohmann::json& value, int64_t least = 0, int64_t most = largest_saved_count) {
  if (!value.is_number_integer()) return false;
  const auto count = value.get<int64_t>();  // what is beyond its range comes out negative
  return count >= least && count <= most;
}

}  // namespace troupe
