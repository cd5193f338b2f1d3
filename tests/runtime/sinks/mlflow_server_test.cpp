// A run's way to a real MLflow server and back through MLflow's own client: an answer of 200 proves nothing.
#include "tests/support/file_content.hpp"
#include "tests/support/http_server.hpp"
#include "tests/support/python_output.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/sinks/http_client.hpp"
#include "troupe/runtime/sinks/mlflow_sink.hpp"
#include "troupe/runtime/sinks/mlflow_spool.hpp"
#include "troupe/runtime/sinks/mlflow_sync.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <csignal>
#include <functional>
#include <mutex>
#include <thread>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace troupe {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

// `mlflow server` on a free port, with its data in a folder; it takes 15 to 30 s to start.
class RealMlflow {
 public:
  RealMlflow(std::filesystem::path folder, int port) : folder_(std::move(folder)), port_(port) {
    child_ = fork();
    if (child_ == 0) become_server();
    HttpClient http({.timeout = 5});
    for (int status = 0; waitpid(child_, &status, WNOHANG) == 0;) {
      try {
        if (http.get(address() + "/health").status == 200) return;
      } catch (const HttpError&) {
        // Not yet.
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    child_ = -1;
    throw std::runtime_error("mlflow server has ended: " + content_of(folder_ / "log"));
  }
  ~RealMlflow() { stop(); }
  RealMlflow(const RealMlflow&) = delete;
  RealMlflow& operator=(const RealMlflow&) = delete;

  // As a machine that loses its power would: with all of its workers.
  void stop() {
    if (child_ <= 0) return;
    ::kill(-child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    child_ = -1;
  }

  std::string address() const { return "http://127.0.0.1:" + std::to_string(port_); }
  int port() const { return port_; }

 private:
  [[noreturn]] void become_server() const {
    ::setpgid(0, 0);
    if (::chdir(folder_.c_str()) != 0) _exit(1);
    const int log = ::open("log", O_WRONLY | O_CREAT | O_APPEND, 0666);
    ::dup2(log, STDOUT_FILENO);
    ::dup2(log, STDERR_FILENO);
    ::setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false", 1);
    ::setenv("MLFLOW_DISABLE_TELEMETRY", "true", 1);
    const auto port = std::to_string(port_);
    ::execl(TROUPE_TEST_PYTHON, TROUPE_TEST_PYTHON, "-m", "mlflow", "server", "--backend-store-uri",
            "sqlite:///mlflow.db", "--artifacts-destination", "./files", "--host", "127.0.0.1", "--port", port.c_str(),
            "--workers", "1", nullptr);
    _exit(1);
  }

  std::filesystem::path folder_;
  int port_;
  pid_t child_ = -1;
};

class MlflowServer : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    data_ = std::make_unique<TempDir>();
    server_ = std::make_unique<RealMlflow>(data_->path(), closed_port());
  }
  static void TearDownTestSuite() {
    server_ = nullptr;
    data_ = nullptr;
  }

  MlflowServer() {
    options_.mlflow.uri = server_->address();
    options_.mlflow.timeout = 60;
    card_.name = testing::UnitTest::GetInstance()->current_test_info()->name();
    card_.version = "version_0";
  }

  std::unique_ptr<MlflowSink> sink(std::chrono::milliseconds at_end = std::chrono::minutes(2)) {
    return std::make_unique<MlflowSink>(SinkPlace{run_.path(), card_, options_, warn_},
                                        MlflowPatience{.at_end = at_end, .with_artifacts = at_end});
  }
  nlohmann::json read_back() {
    const auto state = read_mlflow_state(run_.path());
    return nlohmann::json::parse(python_output("read_mlflow.py", server_->address() + " " + state.value().run_id));
  }
  static StageEndedRecord end_of(RunStatus status, const std::string& message = "") {
    return {.stage = Stage::fit, .status = status, .step = 0, .metrics = {}, .message = message};
  }

  static inline std::unique_ptr<TempDir> data_;
  static inline std::unique_ptr<RealMlflow> server_;
  TempDir run_;
  RunCard card_;
  TrainerOptions options_;
  std::mutex mutex_;
  std::string warnings_;  // of several threads
  std::function<void(const std::string&)> warn_ = [this](const std::string& text) {
    const std::scoped_lock lock(mutex_);
    warnings_ += text + "\n";
  };
};

TEST_F(MlflowServer, HasAllOfARun) {
  options_.mlflow.artifacts = true;
  card_.environment.git_commit = "0123abc";
  card_.options = {{"trainer", {{"max_epochs", 3}, {"name", ""}}}, {"model", {{"text", std::string(7000, 'a')}}}};
  put(run_ / "config.toml", "[trainer]\n");
  const auto sink = this->sink();
  sink->write(HparamsRecord{{{"lr@start", 0.1}}});
  for (int64_t step = 1; step <= 3; ++step) {
    sink->write(ScalarsRecord{.step = step, .epoch = 0, .values = {{"val/größe", step / 4.0}, {"acc@5", 1}}});
  }
  sink->write(ScalarsRecord{.step = 4, .epoch = 1, .values = {{"n", NAN}, {"i", INFINITY}, {"m", -INFINITY}}});
  sink->write(ScalarsRecord{.step = 5, .epoch = -1, .values = {{std::string(300, 'k'), 2}, {"/a//b", 3}, {"😀", 4}}});
  sink->write(end_of(RunStatus::finished));
  sink->flush();
  sink->files_are_complete();
  const auto run = read_back();
  EXPECT_EQ(run["status"], "FINISHED");
  EXPECT_EQ(run["experiment"], "HasAllOfARun");
  EXPECT_EQ(run["name"], "version_0");
  EXPECT_EQ(run["runs"], 1);
  EXPECT_GT(run["ended"], 1700000000000);
  EXPECT_EQ(run["params"], (nlohmann::json{{"trainer.max_epochs", "3"},
                                           {"trainer.name", ""},
                                           {"model.text", std::string(6000, 'a')},
                                           {"lr_start", "0.1"}}));
  EXPECT_EQ(run["tags"]["mlflow.source.git.commit"], "0123abc");
  EXPECT_EQ(run["tags"]["troupe.status"], "finished");
  const auto points = [](const char* text) { return nlohmann::json::parse(text); };
  EXPECT_EQ(run["metrics"]["val/größe"], points("[[1,0.25],[2,0.5],[3,0.75]]"));
  EXPECT_EQ(run["metrics"]["acc_5"], points("[[1,1.0],[2,1.0],[3,1.0]]"));
  EXPECT_EQ(run["metrics"]["epoch"], points("[[1,0.0],[2,0.0],[3,0.0],[4,1.0]]"));
  EXPECT_EQ(run["metrics"]["n"], points("[[4,\"nan\"]]"));
  EXPECT_EQ(run["metrics"]["i"], points("[[4,1.7976931348623157e308]]"));  // the server's way
  EXPECT_EQ(run["metrics"]["m"], points("[[4,-1.7976931348623157e308]]"));
  EXPECT_EQ(run["metrics"][std::string(250, 'k')], points("[[5,2.0]]"));
  EXPECT_EQ(run["metrics"]["a/b"], points("[[5,3.0]]"));
  EXPECT_EQ(run["metrics"]["_"], points("[[5,4.0]]"));
  EXPECT_EQ(run["metrics"].size(), 9U);
  EXPECT_EQ(run["files"], (nlohmann::json{{"config.toml", 10}}));
}

TEST_F(MlflowServer, KnowsARunThatFailedAndOneThatGoesOnWithIt) {
  card_.options = {{"trainer", {{"max_epochs", 3}, {"devices", 1}}}};
  {
    const auto sink = this->sink();
    sink->write(end_of(RunStatus::failed, "loss is nan"));
    sink->flush();
  }
  EXPECT_EQ(read_back()["status"], "FAILED");
  EXPECT_THAT(warnings_, IsEmpty());
  TempDir other;  // a second run of ours writes to the same run of the server
  card_.options["trainer"]["max_epochs"] = 7;
  options_.mlflow.run_id = read_mlflow_state(run_.path()).value().run_id;
  MlflowSink sink({other.path(), card_, options_, warn_}, {.at_end = std::chrono::minutes(2)});
  sink.write(ScalarsRecord{.step = 1, .epoch = -1, .values = {{"loss", 1}}});
  sink.write(end_of(RunStatus::interrupted));
  sink.flush();
  const auto run = read_back();
  EXPECT_EQ(run["status"], "KILLED");
  EXPECT_EQ(run["params"], (nlohmann::json{{"trainer.max_epochs", "3"}, {"trainer.devices", "1"}}));
  EXPECT_EQ(run["tags"]["troupe.param.trainer.max_epochs"], "7");
  EXPECT_EQ(run["metrics"].size(), 1U);
  EXPECT_THAT(warnings_, HasSubstr("trainer.max_epochs"));
}

TEST_F(MlflowServer, GetsWhatItMissedWhileItWasGone) {
  const auto sink = this->sink(std::chrono::seconds(60));
  const auto log = [&](int64_t step) {
    sink->write(ScalarsRecord{.step = step, .epoch = -1, .values = {{"loss", static_cast<double>(step)}}});
    sink->flush();
  };
  for (int64_t step = 0; step < 50; ++step) log(step);
  while (read_mlflow_state(run_.path()).value().sent == 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  server_->stop();
  for (int64_t step = 50; step < 100; ++step) log(step);
  sink->write(end_of(RunStatus::finished));
  sink->flush();
  EXPECT_THAT(warnings_, HasSubstr("troupe sync"));
  EXPECT_NE(sync_run(run_.path()).problem, "");
  const auto port = server_->port();
  server_ = std::make_unique<RealMlflow>(data_->path(), port);
  auto state = read_mlflow_state(run_.path()).value();
  EXPECT_GT(state.sent, 0);
  state.sent = 0;  // as after a process that was killed before it wrote down what the server has
  write_mlflow_state(state, run_.path());
  const auto result = sync_run(run_.path());
  EXPECT_EQ(result.problem, "");
  EXPECT_EQ(result.waiting, 0);
  EXPECT_GE(result.sent, 101);
  EXPECT_EQ(sync_run(run_.path()).sent, 0);
  const auto run = read_back();
  ASSERT_EQ(run["metrics"]["loss"].size(), 100U);
  for (int step = 0; step < 100; ++step) EXPECT_EQ(run["metrics"]["loss"][step][0], step);
  EXPECT_EQ(run["status"], "FINISHED");
  EXPECT_EQ(run["runs"], 1);
}

}  // namespace
}  // namespace troupe
