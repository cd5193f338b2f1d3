#include "troupe/runtime/live/follow_run.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/live/live_client.hpp"

#include <memory>
#include <string>
#include <utility>

namespace troupe {

namespace {

class RemoteControl : public RunHandle::Control {
 public:
  RemoteControl(std::shared_ptr<live::LiveClient> client, bool is_permitted)
      : client_(std::move(client)), is_permitted_(is_permitted) {}

  void request_stop(std::string reason) const override { ask(live::StopRunRequest{std::move(reason)}); }
  void request_checkpoint() const override { ask(live::CheckpointRequest{}); }
  void request_validation() const override { ask(live::ValidateRequest{}); }
  void set_learning_rate(double lr) const override { ask(live::SetRateRequest{lr}); }
  void log(const std::string& name, double, int64_t) const override {
    throw UsageError("follow_run: another process cannot log '" + shown(name) +
                     "' into a run; an actor of the run can");
  }

 private:
  void ask(const live::Request& request) const {
    if (!is_permitted_) throw UsageError("follow_run: the run is only watched; give {.control = true} to steer it");
    (void)client_->ask(request);  // that the run is gone is heard in its turn
  }

  std::shared_ptr<live::LiveClient> client_;
  bool is_permitted_;
};

[[noreturn]] void lose_run(const std::filesystem::path& run_dir) {
  Failure failure;
  failure.hook = "follow_run";
  failure.message = "the run in " + shown(run_dir.string()) +
                    " has closed the connection without a last word: its process is gone, or this one was too slow";
  throw RunError(std::move(failure));
}

}  // namespace

void follow_run(const std::filesystem::path& run_dir, ActorBehavior behavior, FollowOptions options) {
  const auto client = std::make_shared<live::LiveClient>(run_dir);
  if (options.control && !client->hello().permits_control) {
    throw UsageError("follow_run: the run in " + shown(run_dir.string()) +
                     " may be looked at only: it was started with trainer.attach = view, not control");
  }
  RunHandle run(std::make_shared<RemoteControl>(client, options.control));
  (void)client->ask(live::Watch{.events = true, .batches = options.batches, .control = options.control});
  while (!client->has_ended()) {
    const auto line = client->next_line(std::chrono::hours(1));
    const auto message = line ? live::message_from_line(*line) : std::nullopt;
    if (!message) continue;
    if (const auto* answer = std::get_if<live::RequestAnswer>(&*message); answer && !answer->is_taken) {
      throw UsageError("follow_run: the run refuses: " + single_line(answer->text));
    }
    const auto* event = std::get_if<Event>(&*message);
    if (!event) continue;
    behavior(*event, run);
    if (std::holds_alternative<RunEnded>(*event)) return;
  }
  lose_run(run_dir);
}

}  // namespace troupe
