#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/launch/command/command.hpp"
#include "troupe/launch/command/run_list.hpp"
#include "troupe/runtime/sinks/http_client.hpp"
#include "troupe/runtime/sinks/mlflow_client.hpp"
#include "troupe/runtime/sinks/mlflow_sync.hpp"

#include <chrono>
#include <iostream>
#include <limits>
#include <memory>
#include <utility>

namespace troupe::command {
namespace {

using Clock = std::chrono::steady_clock;

struct ServerOptions {
  double timeout = 30;
  std::string uri = "";
  std::string run_id = "";
};
TROUPE_OPTIONS(ServerOptions,
               (timeout,
                "seconds to wait for an answer; for a file, without a byte moved. The first that is late "
                "ends it"),
               (uri, "address of the server, if it has moved; empty: as the run was logged"),
               (run_id, "id of the run there that gets what waits; new: one that is made; empty: the run's own"))

/// What goes on, on stderr.
class SyncNews {
 public:
  explicit SyncNews(std::string run) : run_(std::move(run)) {}

  void begin(const SyncPlan& plan) {
    if (plan.waiting == 0) return;
    say("sending " + std::to_string(plan.waiting) + (plan.waiting == 1 ? " record" : " records") + " to " +
        shown(plan.address) + ", " +
        (plan.run_id.empty() ? "as the run " + shown(plan.run_name) + " of the experiment " + shown(plan.experiment)
                             : "run " + shown(plan.run_id)));
  }
  /// At most every two seconds.
  void progress(int64_t sent, int64_t waiting) {
    const auto now = Clock::now();
    if (waiting == 0 || now < due_) return;
    due_ = now + interval;
    say(std::to_string(sent) + " of " + std::to_string(sent + waiting) + " sent");
  }
  void file(const std::string& name) { say("sending " + shown(name)); }

 private:
  static constexpr std::chrono::seconds interval{2};

  void say(const std::string& text) const { std::cerr << "troupe: " + run_ + ": " + text + '\n'; }

  std::string run_;
  Clock::time_point due_ = Clock::now() + interval;
};

SyncOptions sync_options(const ServerOptions& given) {
  if (!(given.timeout > 0 && given.timeout <= 86400)) {
    throw UsageError("--timeout " + double_to_text(given.timeout) +
                     " is no time for a request: it has to be above 0 and at most 86400 seconds");
  }
  if (!given.run_id.empty() && !is_mlflow_run_id(given.run_id)) {
    throw UsageError("--run-id '" + shown(given.run_id) +
                     "' is no id of a run: those are letters and digits, as the server's page of the run shows them");
  }
  return {.timeout = given.timeout,
          .uri = given.uri.empty() ? "" : http_address(given.uri, "--uri"),
          .run_id = given.run_id};
}

/// Whether all of the run is there now. A run that cannot be sent keeps no other one from it.
bool sync(const std::string& reference, SyncOptions options, const Screen& screen) {
  const auto folder = find_run(reference);
  const auto name = shown(folder.string());
  SyncNews news(name);
  options.on_begin = [&](const SyncPlan& plan) { news.begin(plan); };
  options.on_progress = [&](int64_t sent, int64_t waiting) { news.progress(sent, waiting); };
  options.on_file = [&](const std::string& file) { news.file(file); };
  try {
    const auto result = sync_run(folder, options);
    screen.print(name + ": sent " + std::to_string(result.sent) + ", waiting " + std::to_string(result.waiting) +
                 (result.run_id.empty() ? "" : ", run " + shown(result.run_id) + " of " + shown(result.address)) +
                 "\n");
    if (result.problem.empty()) return true;
    std::cerr << "troupe: " + name + ": " + single_line(result.problem) + '\n';
  } catch (const ReaderGone&) {
    throw;
  } catch (const std::exception& error) {
    std::cerr << "troupe: " + name + ": " + single_line(error.what()) + '\n';
  }
  return false;
}

}  // namespace

Command sync_command() {
  const auto given = std::make_shared<ServerOptions>();
  auto refs = option_refs(*given);
  for (auto& ref : refs) {
    if (ref.name == "run_id") ref.name = "run-id";
  }
  return {.name = "sync",
          .summary = "send MLflow what its server has missed",
          .arguments = {"RUN...", 1, std::numeric_limits<std::size_t>::max(), Completion::runs},
          .text =
              "Sends what waits in mlflow.spool of each run: the server was away, or the run was killed. It says\n"
              "first on stderr what goes where. It may be called again; what the server has is not sent twice.\n"
              "Ends with 1 if something still waits.",
          .examples = {{"last", "the newest run"},
                       {"digits/version_3 digits/version_4", "two runs"},
                       {"last --uri http://tracking:5000 --timeout 5", "the server has moved, and answers quickly"},
                       {"last --run-id new", "mlflow.run_id was one that the server does not have"}},
          .options = std::move(refs),
          .values = {},
          .letters = {},
          .run = [given](const auto& runs, const Screen& screen) {
            const auto options = sync_options(*given);
            bool all_sent = true;
            for (const auto& run : runs) all_sent = sync(run, options, screen) && all_sent;
            return all_sent ? succeeded : failed;
          }};
}

}  // namespace troupe::command
