// What a run and those who are attached to it say to each other: JSON, a line each (docs/attach.md).
//
// A reader here may be given anything. It throws UsageError, with one sentence, for what is no such message.
#pragma once

#include "troupe/modules/events.hpp"
#include "troupe/modules/record.hpp"
#include "troupe/runtime/report/phase_report.hpp"
#include "troupe/runtime/terminal/progress_line.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace troupe::live {

/// Counts on when a message means something else than before; new members and kinds do not count.
inline constexpr int64_t protocol_version = 1;

/// A request that is longer is none; neither is a longer message of a run.
inline constexpr std::size_t longest_request = 4096, longest_message = std::size_t{8} << 20;

// --- From a viewer ---------------------------------------------------------------------------------------------------

/// What the viewer wants to get from now on, and whether it means to control the run.
struct Watch {
  bool state = false;     ///< State, when something is new, twice a second at most
  bool progress = false;  ///< ProgressState, ten times a second at most
  bool events = false;    ///< all but those of batches
  bool batches = false;   ///< TrainBatchEnded too
  bool control = false;   ///< without it nothing below is done
};
struct StopRunRequest {
  std::string reason;
};
struct CheckpointRequest {};
struct ValidateRequest {};
struct SetRateRequest {
  double lr = 0;
};
/// It is no request, though a message: the answer says why, and nothing else happens.
struct RefusedRequest {
  std::string why;
};
using Request = std::variant<Watch, StopRunRequest, CheckpointRequest, ValidateRequest, SetRateRequest, RefusedRequest>;

/// The words of `do`: "watch", "stop", ...
const std::vector<std::string>& request_words();
/// Throws UsageError for what is no JSON object with a text `do`.
Request request_from_line(std::string_view line);
/// Without the newline.
std::string line_of(const Request& request);

/// A rate as a user writes it. Throws UsageError for what is no number, negative or not finite.
double rate_from_text(const std::string& text);

// --- From a run ------------------------------------------------------------------------------------------------------

/// The first message.
struct Hello {
  int64_t protocol = protocol_version;
  std::string troupe;  ///< the version of the library
  std::string run;     ///< "digits/version_3"
  std::string stage;
  int64_t pid = 0;
  bool permits_control = false;
};

/// All that a view needs, by itself.
struct State {
  std::string run, stage, message, host;
  RunStatus status = RunStatus::running;
  double started = 0, updated = 0;  ///< seconds since 1970
  int64_t pid = 0;
  std::vector<std::string> devices;  ///< of rank zero's process
  int64_t world_size = 1;
  Progress progress;
  std::optional<int64_t> total_batches;
  std::optional<double> seconds_left;
  MetricMap metrics;                                                ///< the latest
  std::vector<std::pair<std::string, std::vector<double>>> curves;  ///< of each metric that is logged, thinned out
  std::optional<PhaseReport> phases;                                ///< of the stage
  std::vector<std::string> workers;                                 ///< what those of rank zero's process are doing
  int64_t warnings = 0;
  std::string latest_warning;
  int64_t checkpoints = 0;  ///< that are kept
  std::string best_checkpoint;
};

/// To a request, in the order of the requests.
struct RequestAnswer {
  bool is_taken = false;
  std::string text;  ///< what will happen, or why nothing does
};

using Message = std::variant<Hello, State, ProgressState, Event, RequestAnswer>;

/// Without the newline.
std::string line_of(const Message& message);
/// Nothing for a kind that this version does not know.
std::optional<Message> message_from_line(std::string_view line);

}  // namespace troupe::live
