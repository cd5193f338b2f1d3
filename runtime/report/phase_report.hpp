// Where the time of a stage went.
#pragma once

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace troupe {

/// One kind of work: "waiting for data", "forward", "EarlyStopping.on_validation_end".
struct PhaseTime {
  std::string name;
  double seconds = 0;  ///< in all
  int64_t count = 0;   ///< how often
  double longest = 0;  ///< seconds of one time

  /// Joins another one's time to it.
  void add(const PhaseTime& other) {
    seconds += other.seconds;
    count += other.count;
    longest = std::max(longest, other.longest);
  }
};

/// A phase over all ranks.
struct PhaseSpread {
  std::string name;
  double median = 0;   ///< seconds
  double slowest = 0;  ///< seconds of the rank that took longest
  int64_t slowest_rank = 0;
};

struct PhaseReport {
  std::string stage;
  double seconds = 0;                ///< from its start until now, or its end
  int64_t batches = 0;               ///< of training, or of the evaluation
  std::vector<PhaseTime> phases;     ///< of the first worker, longest first; together they are `seconds`
  std::vector<PhaseTime> meanwhile;  ///< on other threads at the same time: a checkpoint being written, the logger
  std::vector<PhaseSpread> ranks;    ///< empty if there is one rank, and until the end
  std::string advice;                ///< one sentence, if something other than the step takes most; else empty
  /// Of the phase "validation" of fit, longest first; together they are its seconds.
  std::vector<PhaseTime> parts_of_validation = {};
};

/// Which phases a table has.
enum class PhaseTable {
  large,  ///< those below 0.1 % are one line together
  all,    ///< every hook that was called
};
/// A table in lines of at most 100 characters, each ended by '\n'.
std::string to_text(const PhaseReport& report, PhaseTable table = PhaseTable::large);

nlohmann::json to_json(const PhaseReport& report);
/// Throws UsageError for what to_json did not write. `what` begins the sentence.
PhaseReport phase_report_from_json(const nlohmann::json& json, const std::string& what);

}  // namespace troupe
