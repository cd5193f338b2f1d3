// Whole runs that others attach to while they go on.
#include "tests/support/endless_run.hpp"
#include "tests/support/file_content.hpp"
#include "tests/support/python_output.hpp"
#include "tests/support/refusal.hpp"
#include "troupe/runtime/live/live_client.hpp"
#include "troupe/runtime/live/prometheus.hpp"
#include "troupe/runtime/report/run_card.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdio>

namespace troupe {
namespace {

using live::LiveClient;
using live::Watch;
using testing::AllOf;
using testing::Contains;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::IsSupersetOf;
using testing::MatchesRegex;

/// The first message of that type that `wanted` is true of; nothing if the run has ended before.
template <class Wanted, class Condition>
std::optional<Wanted> first_message(LiveClient& client, Condition is_wanted) {
  while (const auto line = client.next_line(std::chrono::seconds(60))) {
    const auto message = live::message_from_line(*line);
    const auto* found = message ? std::get_if<Wanted>(&*message) : nullptr;
    if (found && is_wanted(*found)) return *found;
  }
  return std::nullopt;
}
template <class Kind, class Condition>
std::optional<Kind> first_event(LiveClient& client, Condition is_wanted) {
  const auto event = first_message<Event>(client, [&](const Event& each) {
    const auto* kind = std::get_if<Kind>(&each);
    return kind && is_wanted(*kind);
  });
  return event ? std::optional(std::get<Kind>(*event)) : std::nullopt;
}
constexpr auto any = [](const auto&) { return true; };

class AttachedRunTest : public testing::TestWithParam<int64_t> {};

TEST_P(AttachedRunTest, DoesWhatItsViewerAsksForAndNotesIt) {
  const TempDir dir;
  TrainerOptions options;
  options.attach = Attach::control;
  options.devices = GetParam();
  EndlessRun run(dir.path(), options);
  LiveClient client(run.folder());
  EXPECT_EQ(client.hello().run, "line/version_0");
  (void)client.ask(Watch{.state = true, .progress = true, .events = true, .batches = true, .control = true});

  (void)client.ask(live::SetRateRequest{0.0625});
  const auto batch = first_event<TrainBatchEnded>(client, [](const TrainBatchEnded& event) {
    const auto rate = event.metrics.find("lr-SGD");
    return rate != event.metrics.end() && rate->second == 0.0625;
  });
  ASSERT_TRUE(batch);
  EXPECT_TRUE(batch->metrics.contains("train_loss_step")) << "as a callback actor gets it";

  (void)client.ask(live::ValidateRequest{});
  const auto validation = first_event<ValidationEnded>(client, any);
  ASSERT_TRUE(validation);
  EXPECT_TRUE(validation->metrics.contains("val_loss"));

  (void)client.ask(live::CheckpointRequest{});
  EXPECT_TRUE(first_event<CheckpointSaved>(client, [](const CheckpointSaved& event) {
    return event.path.filename().string().starts_with("requested-step=") && std::filesystem::exists(event.path);
  }));

  (void)client.ask(live::StopRunRequest{"it has learnt enough"});
  const auto ended = first_event<RunEnded>(client, any);
  ASSERT_TRUE(ended);
  EXPECT_THAT(ended->reason, HasSubstr("it has learnt enough"));
  const auto last =
      first_message<live::State>(client, [](const live::State& state) { return state.status == RunStatus::finished; });
  EXPECT_TRUE(last);
  EXPECT_THAT(run.ended().stop_reason(), MatchesRegex("asked for by a viewer .pid [0-9]+.: it has learnt enough"));
  EXPECT_FALSE(std::filesystem::exists(run.folder() / live::socket_name));

  EXPECT_THAT(
      read_run_card(run.folder()).warnings,
      IsSupersetOf<testing::Matcher<std::string>>(
          {HasSubstr("has asked for a learning rate of 0.0625"), ContainsRegex("rate is 0.0625 from step [0-9]+ on"),
           HasSubstr("has asked for a validation"), HasSubstr("has asked for a checkpoint"),
           HasSubstr("has asked the run to stop: it has learnt enough")}));
}

INSTANTIATE_TEST_SUITE_P(Devices, AttachedRunTest, testing::Values(1, 2));

TEST(Attach, ShowsAQuietRunWithItsCurvesPhasesAndWorkers) {
  const TempDir dir;
  EndlessRun run(dir.path());
  LiveClient client(run.folder());
  (void)client.ask(Watch{.state = true, .progress = true});
  const auto progress = first_message<ProgressState>(client, any);
  ASSERT_TRUE(progress);
  EXPECT_EQ(progress->activity, Activity::train);
  EXPECT_EQ(progress->total_batches, 4);
  const auto state = first_message<live::State>(
      client, [](const live::State& each) { return each.phases && each.curves.size() > 1 && !each.metrics.empty(); });
  ASSERT_TRUE(state);
  EXPECT_EQ(state->run, "line/version_0");
  EXPECT_EQ(state->status, RunStatus::running);
  EXPECT_EQ(state->pid, getpid());
  EXPECT_THAT(state->workers, testing::ElementsAre(HasSubstr("worker 0")));
  EXPECT_GT(state->progress.global_step, 0);
}

TEST(Attach, OffMeansThatThereIsNoSocket) {
  const TempDir dir;
  TrainerOptions options;
  options.attach = Attach::off;
  const EndlessRun run(dir.path(), options);
  EXPECT_FALSE(std::filesystem::exists(run.folder() / live::socket_name));
  EXPECT_THAT(refusal([&] { const LiveClient client(run.folder()); }), HasSubstr("unless trainer.attach = off"));
}

TEST(Attach, AValidationThatTheRunHasNotIsAWarning) {
  const TempDir dir;
  auto options = quiet(dir);
  options.max_epochs = 1;
  options.name = "line";
  Trainer trainer(options);
  trainer.add_actor("asker", on_events([](const TrainBatchEnded& event, RunHandle& run) {
                      if (event.progress.global_step == 1) run.request_validation();
                      if (event.progress.global_step == 1) {
                        EXPECT_THROW(run.set_learning_rate(-1), UsageError);
                      }
                    }),
                    {.patience = 60});
  trainer.fit<Line>({}, points());
  EXPECT_THAT(read_run_card(trainer.run_dir()).warnings, Contains("a validation was asked for, and this run has none"));
}

TEST(Attach, ACallbackInAnotherProcessGetsTheEventsAndSteersTheRun) {
  const TempDir dir;
  TrainerOptions options;
  options.attach = Attach::control;
  EndlessRun run(dir.path(), options);
  int batches = 0;
  std::string reason;
  follow_run(run.folder(),
             on_events(
                 [&](const TrainBatchEnded&, RunHandle& handle) {
                   if (++batches == 3) handle.request_validation();
                 },
                 [](const ValidationEnded& event, RunHandle& handle) {
                   if (event.metrics.contains("val_loss")) handle.request_stop("from afar");
                 },
                 [&](const RunEnded& event, RunHandle&) { reason = event.reason; }),
             {.control = true, .batches = true});
  EXPECT_GE(batches, 3);
  EXPECT_THAT(reason, HasSubstr("from afar"));
  EXPECT_THAT(run.ended().stop_reason(), HasSubstr("from afar"));
}

TEST(Attach, TheExampleFollowsARunInAnotherProcess) {
  const TempDir dir;
  EndlessRun run(dir.path());
  FILE* callback = popen((example("remote_callback") + " '" + run.folder().string() + "' 2>&1").c_str(), "r");
  ASSERT_TRUE(callback);
  std::array<char, 4096> text{};
  ASSERT_TRUE(fgets(text.data(), text.size(), callback));
  EXPECT_THAT(text.data(), testing::StartsWith("saved \""));
  run.trainer().request_stop("the test has seen enough");
  std::string rest;
  while (fgets(text.data(), text.size(), callback)) rest += text.data();
  EXPECT_EQ(pclose(callback), 0);
  EXPECT_THAT(rest, ContainsRegex("ended after [0-9]+ steps: the test has seen enough"));
}

TEST(Attach, ACallbackInAnotherProcessMustBePermittedToSteer) {
  const TempDir dir;
  TrainerOptions options;
  options.attach = Attach::view;  // the default
  EndlessRun run(dir.path(), options);
  EXPECT_THAT(refusal([&] { follow_run(run.folder(), on_events(), {.control = true}); }),
              HasSubstr("it was started with trainer.attach = view, not control"));
  EXPECT_THAT(refusal([&] {
                follow_run(run.folder(), on_events([](const TrainBatchEnded&, RunHandle& handle) {
                             handle.request_stop("I may not");
                           }),
                           {.batches = true});
              }),
              HasSubstr("give {.control = true} to steer it"));
  EXPECT_THAT(refusal([&] { follow_run(dir.path(), on_events()); }), HasSubstr("it has no socket"));
}

TEST(Attach, PrometheusReadsAllThatIsKnownOfARun) {
  live::State state;
  state.run = "line/version_0";
  state.stage = "fit";
  state.host = "node7";
  state.progress = {1, 2, 30, 31, 30};
  state.total_batches = 100;
  state.metrics = {{"train_loss", 0.25}, {"val_loss", std::nan("")}};
  state.phases = PhaseReport{"fit", 60, 25, {{"forward", 30, 25, 2}}, {}, {}, ""};
  state.metrics["odd \"name\"\\\n"] = HUGE_VAL;
  const TempDir dir;
  put(dir / "metrics", live::prometheus_text(state));
  EXPECT_EQ(python_output("prometheus_samples.py", "'" + (dir / "metrics").string() + "'"),
            "troupe_batches_expected gauge {} 100.0\n"
            "troupe_batches_total counter {} 31.0\n"
            "troupe_checkpoints gauge {} 0.0\n"
            "troupe_epoch gauge {} 1.0\n"
            "troupe_metric gauge {'name': 'odd \"name\"\\\\\\n'} inf\n"
            "troupe_metric gauge {'name': 'train_loss'} 0.25\n"
            "troupe_metric gauge {'name': 'val_loss'} nan\n"
            "troupe_optimizer_steps_total counter {} 30.0\n"
            "troupe_phase_seconds_total counter {'stage': 'fit', 'phase': 'forward'} 30.0\n"
            "troupe_ranks gauge {} 1.0\n"
            "troupe_run_info gauge {'run': 'line/version_0', 'stage': 'fit', 'status': 'running', 'host': 'node7'} "
            "1.0\n"
            "troupe_run_start_time_seconds gauge {} 0.0\n"
            "troupe_run_update_time_seconds gauge {} 0.0\n"
            "troupe_warnings_total counter {} 0.0\n");
}

TEST(Attach, PrometheusScrapesARunWhosePortNobodyElseGets) {
  const TempDir dir;
  TrainerOptions options;
  options.metrics_port = live::port_of(live::listen_on_loopback(0).get());
  const auto address = "http://127.0.0.1:" + std::to_string(*options.metrics_port) + "/metrics";
  EndlessRun run(dir.path(), options);
  const auto scraped = python_output("prometheus_samples.py", address);
  EXPECT_THAT(scraped,
              AllOf(HasSubstr("troupe_run_info gauge {'run': 'line/version_0', 'stage': 'fit', 'status': "
                              "'running'"),
                    HasSubstr("troupe_optimizer_steps_total counter {} "), HasSubstr("troupe_ranks gauge {} 1.0")));
  // The first values come with the recorder's first look.
  std::string later = scraped;
  for (int i = 0; i < 20 && later.find("train_loss") == std::string::npos; ++i) {
    later = python_output("prometheus_samples.py", address);
  }
  EXPECT_THAT(later, HasSubstr("troupe_metric gauge {'name': 'train_loss_step'} "));

  TrainerOptions second = quiet(dir);
  second.metrics_port = options.metrics_port;
  EXPECT_THAT(error_of([&] { Trainer(second).fit<Line>({}, points()); }),
              HasSubstr("is taken by another program; use another one, or 0 for any that is free"));
}

}  // namespace
}  // namespace troupe
