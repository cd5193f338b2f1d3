#include "troupe/runtime/sinks/mlflow_sink.hpp"

#include "tests/runtime/sinks/fake_mlflow.hpp"
#include "tests/support/file_content.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/sinks/mlflow_sync.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <csignal>
#include <future>

#include <sys/resource.h>

namespace troupe {
namespace {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

// A run's folder with what a sink for it is made from.
struct LoggedRun {
  TempDir dir;
  RunCard card;
  TrainerOptions options;
  std::mutex mutex;
  std::vector<std::string> warnings;

  explicit LoggedRun(const std::string& address) {
    options.mlflow.uri = address;
    options.mlflow.timeout = 5;
    card.name = "digits";
    card.version = "version_3";
    card.options = {{"trainer", {{"max_epochs", 3}}}};
  }
  std::unique_ptr<MlflowSink> sink(milliseconds at_end = milliseconds(20000)) {
    const auto warn = [this](const std::string& text) {
      const std::scoped_lock lock(mutex);
      warnings.push_back(text);
    };
    return std::make_unique<MlflowSink>(SinkPlace{dir.path(), card, options, warn},
                                        MlflowPatience{.first_retry = milliseconds(1),
                                                       .longest_retry = milliseconds(5),
                                                       .at_end = at_end,
                                                       .with_artifacts = at_end});
  }
};

void log_mlflow_loss(Sink& sink, int64_t step, double value) {
  sink.write(ScalarsRecord{.step = step, .epoch = 0, .values = {{"loss", value}}});
}

void end_mlflow_stage(Sink& sink, RunStatus status = RunStatus::finished, const std::string& message = "") {
  sink.write(StageEndedRecord{.stage = Stage::fit, .status = status, .step = 0, .metrics = {}, .message = message});
  sink.flush();
}

TEST(MlflowSink, SendsOptionsMetricsAndTheEnd) {
  FakeMlflow server;
  LoggedRun run(server.address());
  run.card.environment.git_commit = "0123";
  const auto sink = run.sink();
  sink->write(HparamsRecord{{{"width", 128}}});
  sink->write(ScalarsRecord{.step = 9, .epoch = 1, .values = {{"acc@5", 0.5}, {"nan", NAN}, {"inf", -INFINITY}}});
  end_mlflow_stage(*sink);
  EXPECT_EQ(server.seen().metrics_text(), "acc_5=0.5@9 epoch=1.0@9 inf=-Infinity@9 nan=NaN@9 ");
  EXPECT_EQ(server.seen().params, (std::map<std::string, std::string>{{"trainer.max_epochs", "3"}, {"width", "128"}}));
  EXPECT_EQ(server.seen().tags.at("mlflow.source.git.commit"), "0123");
  EXPECT_EQ(server.seen().tags.at("troupe.status"), "finished");
  EXPECT_EQ(server.seen().status, "FINISHED");
  EXPECT_GT(server.seen().end_time, 1700000000000);
  EXPECT_THAT(run.warnings, ElementsAre(HasSubstr("'acc@5' is called 'acc_5'")));
  EXPECT_EQ(std::filesystem::file_size(run.dir / "mlflow.spool"), 0U);
}

TEST(MlflowSink, SaysHowARunEnded) {
  for (const auto& [status, word] :
       {std::pair(RunStatus::failed, "FAILED"), std::pair(RunStatus::interrupted, "KILLED")}) {
    FakeMlflow server;
    LoggedRun run(server.address());
    end_mlflow_stage(*run.sink(), status, "loss is nan");
    EXPECT_EQ(server.seen().status, word);
    EXPECT_EQ(server.seen().tags.at("troupe.message"), "loss is nan");
  }
}

TEST(MlflowSink, GoesOnWithTheRunInALaterStage) {
  FakeMlflow server;
  LoggedRun run(server.address());
  {
    const auto sink = run.sink();
    log_mlflow_loss(*sink, 1, 0.5);
    end_mlflow_stage(*sink);
    const auto next = run.sink();  // while the first is still there
    log_mlflow_loss(*next, 2, 0.25);
    next->flush();
    server.wait_for([&] { return server.status == "RUNNING" && server.metrics.size() == 4; });
    end_mlflow_stage(*next);
  }
  EXPECT_EQ(server.seen().created, 1);
  EXPECT_EQ(server.seen().status, "FINISHED");
  EXPECT_THAT(run.warnings, IsEmpty());
}

TEST(MlflowSink, SendsManyMetricsInBatches) {
  FakeMlflow server;
  LoggedRun run(server.address());
  const auto sink = run.sink();
  for (int64_t step = 0; step < 1500; ++step) log_mlflow_loss(*sink, step, 1);
  ScalarsRecord wide{.step = 1500, .epoch = -1, .values = {}};
  for (int i = 0; i < 2500; ++i) wide.values.emplace_back("m" + std::to_string(i), i);
  sink->write(wide);
  end_mlflow_stage(*sink);
  EXPECT_THAT(server.seen().metrics, SizeIs(2 * 1500 + 2500));
  EXPECT_THAT(run.warnings, IsEmpty());
}

TEST(MlflowSink, KeepsWhatAServerMissesForSync) {
  FakeMlflow server;
  LoggedRun run(server.address());
  const auto sink = run.sink();
  log_mlflow_loss(*sink, 1, 0.5);
  sink->flush();
  server.wait_for([&] { return server.metrics.size() == 2; });
  const int port = server.port();
  server.stop();
  log_mlflow_loss(*sink, 2, 0.25);
  end_mlflow_stage(*sink);
  EXPECT_THAT(run.warnings,
              ElementsAre(AllOf(HasSubstr("cannot reach"), HasSubstr("the run goes on")),
                          AllOf(HasSubstr("record"), HasSubstr("troupe sync " + run.dir.path().string()))));
  EXPECT_NE(sync_run(run.dir.path()).problem, "");
  server.start(port);
  const auto result = sync_run(run.dir.path());
  EXPECT_EQ(result.problem, "");
  EXPECT_GE(result.sent, 2);  // and what it had, if the answer to that was cut off
  EXPECT_EQ(result.waiting, 0);
  EXPECT_EQ(server.seen().metrics_text(), "epoch=0.0@1 epoch=0.0@2 loss=0.25@2 loss=0.5@1 ");
  EXPECT_EQ(server.seen().status, "FINISHED");
  EXPECT_EQ(sync_run(run.dir.path()).sent, 0);
  EXPECT_EQ(server.seen().created, 1);
}

TEST(MlflowSink, RunsWithoutAServerFromTheStart) {
  const int port = closed_port();
  LoggedRun run("http://127.0.0.1:" + std::to_string(port));
  const auto sink = run.sink();
  log_mlflow_loss(*sink, 1, 0.5);
  end_mlflow_stage(*sink);
  EXPECT_THAT(run.warnings, SizeIs(2));
  FakeMlflow server(port);
  const auto result = sync_run(run.dir.path());
  EXPECT_EQ(result.problem, "");
  EXPECT_EQ(result.run_id, "abc0");
  EXPECT_EQ(server.seen().metrics_text(), "epoch=0.0@1 loss=0.5@1 ");
  EXPECT_EQ(server.seen().params.at("trainer.max_epochs"), "3");
}

TEST(MlflowSink, SurvivesAnswersThatAreNone) {
  for (const std::string& answer :
       {http_response(500, "oops"), http_response(200, "<html>log in</html>"), http_response(200, "[]"), std::string(),
        http_response(200, "{\"run\":{\"info\":{\"run_id\":\"../x\"}}}"),
        http_response(302, "", "Location: http://a/\r\n"),
        http_response(403, "Invalid Host header - possible DNS rebinding attack detected")}) {
    FakeMlflow server;
    LoggedRun run(server.address());
    server.set_trouble([&](const HttpRequest&) { return answer; });
    const auto sink = run.sink();
    log_mlflow_loss(*sink, 1, 0.5);
    end_mlflow_stage(*sink);
    EXPECT_THAT(run.warnings, SizeIs(2)) << answer;
    if (answer.find("Host header") != std::string::npos) {
      EXPECT_THAT(run.warnings[0], HasSubstr("--allowed-hosts 127.0.0.1"));
    }
    server.set_trouble({});
    EXPECT_EQ(sync_run(run.dir.path()).problem, "") << answer;
    EXPECT_EQ(server.seen().metrics_text(), "epoch=0.0@1 loss=0.5@1 ");
  }
}

TEST(MlflowSink, CreatesNoSecondRunWhenTheAnswerToTheFirstIsLost) {
  FakeMlflow server;
  LoggedRun run(server.address());
  bool is_lost = false;
  server.set_trouble([&](const HttpRequest& request) -> std::string {
    if (is_lost || request.path.find("runs/create") == std::string::npos) return "go on";
    is_lost = true;
    server.created = 1;
    return "";
  });
  const auto sink = run.sink();
  end_mlflow_stage(*sink);
  server.set_trouble({});
  (void)sync_run(run.dir.path());
  EXPECT_EQ(server.seen().status, "FINISHED");
}

TEST(MlflowSink, ComesBackWhenTheServerDoes) {
  FakeMlflow server;
  LoggedRun run(server.address());
  int answers = 0;
  server.set_trouble([&](const HttpRequest&) { return ++answers < 5 ? http_response(503, "") : "go on"; });
  const auto sink = run.sink();
  log_mlflow_loss(*sink, 1, 0.5);
  sink->flush();
  server.wait_for([&] { return server.metrics.size() == 2; });
  end_mlflow_stage(*sink);
  EXPECT_THAT(run.warnings, ElementsAre(HasSubstr("the run goes on")));
}

TEST(MlflowSink, EndsThoughTheServerDoesNotAnswer) {
  FakeMlflow server;
  LoggedRun run(server.address());
  run.options.mlflow.timeout = 1000;
  std::atomic<bool> is_over = false;
  server.set_trouble([&](const HttpRequest&) {
    while (!is_over) std::this_thread::yield();
    return std::string();
  });
  end_mlflow_stage(*run.sink(milliseconds(10)));
  is_over = true;
  EXPECT_THAT(run.warnings, ElementsAre(HasSubstr("takes too long")));
}

TEST(MlflowSink, GoesOnWhenTheDiskIsFull) {
  FakeMlflow server;
  LoggedRun run(server.address());
  const auto sink = run.sink();
  sink->flush();
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit full{10, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &full);
  log_mlflow_loss(*sink, 1, 0.5);
  sink->flush();
  log_mlflow_loss(*sink, 2, 0.25);
  sink->flush();
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  end_mlflow_stage(*sink);
  EXPECT_THAT(run.warnings, Contains(HasSubstr("mlflow.spool")));
  EXPECT_EQ(server.seen().metrics_text(), "epoch=0.0@1 epoch=0.0@2 loss=0.25@2 loss=0.5@1 ");
  EXPECT_EQ(server.seen().status, "FINISHED");
}

TEST(MlflowSink, CountsWhatADiskThatStaysFullHasCostApartFromWhatWaits) {
  LoggedRun run("http://127.0.0.1:" + std::to_string(closed_port()));
  const auto sink = run.sink(milliseconds(10));
  log_mlflow_loss(*sink, 1, 0.5);
  sink->flush();
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit full{std::filesystem::file_size(run.dir / "mlflow.spool"), before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &full);
  for (int step = 2; step < 7; ++step) log_mlflow_loss(*sink, step, 0.5);
  end_mlflow_stage(*sink);
  EXPECT_THAT(run.warnings, Contains(HasSubstr("6 records are lost, since")));
  const auto in_file = content_of(run.dir / "mlflow.spool");
  EXPECT_THAT(run.warnings,
              Contains(HasSubstr(std::to_string(std::ranges::count(in_file, '\n')) + " records wait in")));
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
}

TEST(MlflowSink, GoesOnWithARunWithoutAWordOnTheOptionThatSaysSo) {
  FakeMlflow server;
  LoggedRun run(server.address());
  server.params["mlflow.run_id"] = "";  // as the run says that made it
  run.card.options["mlflow"]["run_id"] = "abc";
  const auto sink = run.sink();
  end_mlflow_stage(*sink);
  EXPECT_EQ(server.seen().tags.at("troupe.param.mlflow.run_id"), "abc");
  EXPECT_THAT(run.warnings, Not(Contains(HasSubstr("another value of the param"))));
}

TEST(MlflowSink, LosesNoBatchForOneValueThatIsRefused) {
  FakeMlflow server;
  LoggedRun run(server.address());
  server.params["trainer.max_epochs"] = "7";  // as another run says
  run.card.options["trainer"]["devices"] = 2;
  const auto sink = run.sink();
  sink->write(ScalarsRecord{.step = 1, .epoch = -1, .values = {{"a", 1}, {"refused", 2}, {"z", 3}}});
  end_mlflow_stage(*sink);
  EXPECT_EQ(server.seen().metrics_text(), "a=1.0@1 z=3.0@1 ");
  EXPECT_EQ(server.seen().params.at("trainer.max_epochs"), "7");
  EXPECT_EQ(server.seen().params.at("trainer.devices"), "2");
  EXPECT_EQ(server.seen().tags.at("troupe.param.trainer.max_epochs"), "3");
  EXPECT_EQ(server.seen().status, "FINISHED");
  EXPECT_THAT(run.warnings, SizeIs(2));
}

TEST(MlflowSink, DropsNothingForARunThatWasDeleted) {
  FakeMlflow server;
  LoggedRun run(server.address());
  const auto sink = run.sink();
  log_mlflow_loss(*sink, 1, 0.5);
  sink->flush();
  server.wait_for([&] { return server.metrics.size() == 2; });
  server.set_trouble([&](const HttpRequest&) {
    server.is_deleted = true;
    return "go on";
  });
  log_mlflow_loss(*sink, 2, 0.5);
  end_mlflow_stage(*sink);
  server.set_trouble([&](const HttpRequest&) {
    server.is_deleted = false;
    return "go on";
  });
  EXPECT_EQ(sync_run(run.dir.path()).waiting, 0);
  EXPECT_THAT(server.seen().metrics, SizeIs(4));
}

TEST(MlflowSink, GoesOnWithARunOfTheServers) {
  FakeMlflow server;
  LoggedRun run(server.address());
  run.options.mlflow.run_id = "abc0";
  const auto sink = run.sink();
  end_mlflow_stage(*sink);
  EXPECT_EQ(server.seen().created, 0);
  EXPECT_EQ(server.seen().status, "FINISHED");
}

TEST(MlflowSink, SendsTheRunsFilesAndNoOthers) {
  FakeMlflow server;
  LoggedRun run(server.address());
  run.options.mlflow.artifacts = true;
  TempDir elsewhere;
  put(elsewhere / "secret", "secret");
  put(run.dir / "config.toml", "[trainer]");
  const auto end = [&](Sink& sink) {
    end_mlflow_stage(sink);
    EXPECT_THAT(server.seen().files, Not(Contains(testing::Key("run.json")))) << "it may change until it is complete";
    sink.files_are_complete();
  };
  std::filesystem::create_symlink(elsewhere / "secret", run.dir / "report.html");
  std::filesystem::create_directory(run.dir / "checkpoints");
  put(run.dir / "checkpoints/best-epoch=1.safetensors", "weights");
  run.card.id = std::string(32, 'a');
  run.card.best_checkpoint = run.dir / "checkpoints/best-epoch=1.safetensors";
  write_run_card(run.card, run.dir.path());
  end(*run.sink());
  EXPECT_EQ(server.seen().files.at("config.toml"), "[trainer]");
  EXPECT_EQ(server.seen().files.at("checkpoints/best-epoch%3D1.safetensors"), "weights");
  EXPECT_TRUE(server.seen().files.contains("run.json"));
  EXPECT_THAT(server.seen().files, SizeIs(3));
  EXPECT_THAT(run.warnings, IsEmpty());
  run.card.best_checkpoint = elsewhere / "secret";
  write_run_card(run.card, run.dir.path());
  server.files.clear();
  end(*run.sink());
  EXPECT_THAT(server.seen().files, SizeIs(2));
}

TEST(MlflowSink, NeedsNoServerThatServesFiles) {
  FakeMlflow server;
  LoggedRun run(server.address());
  run.options.mlflow.artifacts = true;
  put(run.dir / "config.toml", "[trainer]");
  server.set_trouble([](const HttpRequest& request) {
    return request.method == "PUT" ? http_response(503, "Artifact serving is disabled. Run with `--serve-artifacts`")
                                   : std::string("go on");
  });
  const auto sink = run.sink();
  end_mlflow_stage(*sink);
  sink->files_are_complete();
  EXPECT_THAT(run.warnings, ElementsAre(HasSubstr("config.toml is not sent")));
  EXPECT_EQ(sync_run(run.dir.path()).waiting, 0);
}

TEST(MlflowSink, LeavesFilesToSyncThatMayNotBeComplete) {
  FakeMlflow server;
  LoggedRun run(server.address());
  run.options.mlflow.artifacts = true;
  put(run.dir / "config.toml", "[trainer]");
  end_mlflow_stage(*run.sink());  // and nobody says that they are
  EXPECT_THAT(run.warnings, ElementsAre(HasSubstr("troupe sync")));
  EXPECT_THAT(server.seen().files, IsEmpty());
  EXPECT_EQ(sync_run(run.dir.path()).problem, "");
  EXPECT_EQ(server.seen().files.at("config.toml"), "[trainer]");
}

TEST(MlflowSink, LeavesFilesToSyncThatNobodyTakes) {
  FakeMlflow server;
  LoggedRun run("http://127.0.0.1:" + std::to_string(closed_port()));
  run.options.mlflow.artifacts = true;
  put(run.dir / "config.toml", "[trainer]");
  const auto sink = run.sink();
  end_mlflow_stage(*sink);
  sink->files_are_complete();
  std::vector<std::string> told;
  const SyncOptions options{.uri = server.address(), .on_file = [&](const auto& name) { told.push_back(name); }};
  EXPECT_EQ(sync_run(run.dir.path(), options).problem, "");
  EXPECT_EQ(server.seen().files.at("config.toml"), "[trainer]");
  EXPECT_THAT(told, ElementsAre("config.toml"));
}

TEST(MlflowSink, NamesARunThatTheServerDoesNotHave) {
  FakeMlflow server;
  LoggedRun run(server.address());
  run.options.mlflow.run_id = "wrong0";
  server.set_trouble([](const HttpRequest& request) {
    return request.path.find("runs/get?run_id=wrong0") == std::string::npos
               ? std::string("go on")
               : http_response(404, R"({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Run not found"})");
  });
  end_mlflow_stage(*run.sink());
  const auto says = HasSubstr("has no run 'wrong0': set mlflow.run_id to one that it has");
  EXPECT_THAT(run.warnings, Contains(says));
  EXPECT_THAT(sync_run(run.dir.path()).problem, AllOf(says, HasSubstr("--run-id")));
  const auto result = sync_run(run.dir.path(), {.run_id = new_mlflow_run});
  EXPECT_EQ(result.problem, "");
  EXPECT_EQ(result.waiting, 0);
  EXPECT_EQ(result.run_id, "abc0");
  EXPECT_EQ(server.seen().status, "FINISHED");
}

TEST(MlflowSink, RefusesWhatIsNoServer) {
  const auto refused = [](const std::function<void(MlflowOptions&)>& change) {
    LoggedRun run("http://127.0.0.1:1");
    change(run.options.mlflow);
    return refusal([&] { (void)run.sink(); });
  };
  EXPECT_THAT(refused([](auto& options) { options.uri = ""; }),
              "trainer.loggers names mlflow, and neither mlflow.uri nor MLFLOW_TRACKING_URI says where the server is");
  EXPECT_THAT(refused([](auto& options) { options.uri = "sqlite:///mlflow.db"; }), HasSubstr("sqlite:///mlflow.db"));
  EXPECT_THAT(refused([](auto& options) { options.timeout = 0; }), HasSubstr("mlflow.timeout"));
  EXPECT_THAT(refused([](auto& options) { options.run_id = "a/b"; }), HasSubstr("'a/b'"));
  EXPECT_THAT(refused([](auto& options) { options.experiment = std::string(501, 'a'); }), HasSubstr("500"));
}

TEST(SyncRun, EndsARunThatWasKilledAsItsCardSays) {
  FakeMlflow server;
  LoggedRun run(server.address());
  const auto folder = run.dir.path();
  {
    const auto sink = run.sink();
    log_mlflow_loss(*sink, 1, 0.5);
  }  // without its end
  EXPECT_EQ(server.seen().status, "RUNNING");
  EXPECT_EQ(sync_run(folder).problem, "");
  EXPECT_EQ(server.seen().status, "RUNNING");  // nobody knows
  run.card.id = std::string(32, 'a');
  run.card.status = RunStatus::failed;
  write_run_card(run.card, folder);
  run.card.options = {{"mlflow", {{"artifacts", true}}}};
  write_run_card(run.card, folder);
  EXPECT_EQ(sync_run(folder).problem, "");
  EXPECT_EQ(server.seen().status, "FAILED");
  EXPECT_TRUE(server.seen().files.contains("run.json"));
}

TEST(SyncRun, SaysWhatItSendsAndEndsInTime) {
  FakeMlflow server;
  LoggedRun run("http://127.0.0.1:" + std::to_string(closed_port()));
  {
    const auto sink = run.sink();
    log_mlflow_loss(*sink, 1, 0.5);
    end_mlflow_stage(*sink);
  }
  std::vector<SyncPlan> plans;
  SyncOptions options{.timeout = 0.2, .on_begin = [&](const SyncPlan& plan) { plans.push_back(plan); }};
  std::promise<void> enough;
  server.set_trouble([&, waits = enough.get_future().share()](const HttpRequest&) {
    waits.wait();  // no answer
    return std::string();
  });
  options.uri = server.address();
  EXPECT_THAT(sync_run(run.dir.path(), options).problem, HasSubstr("cannot reach " + server.address()));
  enough.set_value();
  ASSERT_THAT(plans, SizeIs(1));
  EXPECT_EQ(plans[0].address, server.address());
  EXPECT_EQ(plans[0].experiment, "digits");
  EXPECT_GT(plans[0].waiting, 0);
  server.set_trouble(nullptr);
  options.timeout = 30;
  EXPECT_EQ(sync_run(run.dir.path(), options).waiting, 0);
  EXPECT_EQ(sync_run(run.dir.path()).address, server.address()) << "mlflow.json says so now";
}

TEST(SyncRun, LeavesARunAloneThatGoesOn) {
  FakeMlflow server;
  LoggedRun run(server.address());
  const auto sink = run.sink();
  EXPECT_THAT(sync_run(run.dir.path()).problem, HasSubstr("another process"));
}

TEST(SyncRun, SendsCredentialsToNoServerButTheirOwn) {
  LoggedRun run("http://127.0.0.1:" + std::to_string(closed_port()));
  end_mlflow_stage(*run.sink());
  ::setenv("MLFLOW_TRACKING_TOKEN", "secret", 1);
  const auto problem = sync_run(run.dir.path()).problem;
  ::unsetenv("MLFLOW_TRACKING_TOKEN");
  EXPECT_THAT(problem, AllOf(HasSubstr("MLFLOW_TRACKING_URI"), Not(HasSubstr("secret"))));
}

TEST(SyncRun, SaysThatAFolderIsNone) {
  TempDir dir;
  EXPECT_THAT(refusal([&] { (void)sync_run(dir.path()); }), HasSubstr("mlflow.json"));
}

}  // namespace
}  // namespace troupe
