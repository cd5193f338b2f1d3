#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/launch/command/command.hpp"
#include "troupe/launch/command/run_list.hpp"
#include "troupe/runtime/sinks/mlflow_sync.hpp"

#include <iostream>
#include <limits>

namespace troupe::command {
namespace {

/// Whether all of the run is there now. A run that cannot be sent keeps no other one from it.
bool sync(const std::string& reference, const Screen& screen) {
  const auto folder = find_run(reference);
  try {
    const auto result = sync_run(folder);
    screen.print(shown(folder.string()) + ": sent " + std::to_string(result.sent) + ", waiting " +
                 std::to_string(result.waiting) +
                 (result.run_id.empty() ? "" : ", run " + shown(result.run_id) + " of " + shown(result.address)) +
                 "\n");
    if (result.problem.empty()) return true;
    std::cerr << "troupe: " + shown(folder.string()) + ": " + single_line(result.problem) + '\n';
  } catch (const ReaderGone&) {
    throw;
  } catch (const std::exception& error) {
    std::cerr << "troupe: " + shown(folder.string()) + ": " + single_line(error.what()) + '\n';
  }
  return false;
}

}  // namespace

Command sync_command() {
  return {.name = "sync",
          .summary = "send MLflow what its server has missed",
          .arguments = {"RUN...", 1, std::numeric_limits<std::size_t>::max(), Completion::runs},
          .text =
              "Sends what waits in mlflow.spool of each run: the server was away, or the run was killed. It may be\n"
              "called again; what the server has is not sent twice. Ends with 1 if something still waits.",
          .examples = {{"last", "the newest run"}, {"digits/version_3 digits/version_4", "two runs"}},
          .options = {},
          .values = {},
          .letters = {},
          .run = [](const auto& runs, const Screen& screen) {
            bool all_sent = true;
            for (const auto& run : runs) all_sent = sync(run, screen) && all_sent;
            return all_sent ? succeeded : failed;
          }};
}

}  // namespace troupe::command
