// Who looks at a run from outside: what is said, and what the run is protected from.
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/live/live_client.hpp"
#include "troupe/runtime/live/live_server.hpp"
#include "troupe/runtime/live/live_state.hpp"
#include "troupe/runtime/live/prometheus.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <future>
#include <mutex>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

namespace troupe::live {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;
using namespace std::chrono_literals;

constexpr auto patience = 20s;  // with what comes in a moment

State some_state() {
  State state;
  state.run = "line/version_0";
  state.stage = "fit";
  state.host = "node7";
  state.devices = {"cpu"};
  state.progress = {1, 2, 30, 31, 30};
  state.total_batches = 100;
  state.metrics = {{"train_loss", 0.25}, {"val_loss", std::nan("")}};
  state.curves = {{"train_loss", {3, 2, 0.25}}};
  state.phases = PhaseReport{"fit", 60, 25, {{"forward", 30, 25, 2}}, {}, {}, ""};
  return state;
}

/// A run that remembers what it is asked, and its server.
struct Served {
  struct Asked : RunHandle::Control {
    explicit Asked(Served& served) : to(served) {}
    void request_stop(std::string reason) const override { to.add("stop " + reason); }
    void request_checkpoint() const override { to.add("checkpoint"); }
    void request_validation() const override { to.add("validate"); }
    void set_learning_rate(double lr) const override { to.add("lr " + std::to_string(lr)); }
    void log(const std::string&, double, int64_t) const override {}
    Served& to;
  };

  explicit Served(LiveServer::Options options = {}) {
    options.folder = folder.path();
    options.run = "line/version_0";
    server.emplace(std::move(options));
    EXPECT_EQ(server->socket_problem(), "");
    server->begin(RunHandle(std::make_shared<Asked>(*this)),
                  [this](const std::string& text) { add("warning " + text); }, {});
  }
  void add(std::string text) {
    const std::lock_guard lock(mutex);
    said.push_back(std::move(text));
  }
  std::vector<std::string> all_said() {
    const std::lock_guard lock(mutex);
    return said;
  }
  std::filesystem::path socket() const { return folder / socket_name; }

  TempDir folder;
  std::mutex mutex;
  std::vector<std::string> said;
  std::optional<LiveServer> server;
};

/// The next message of that type; nothing if the run has ended before.
template <class Wanted>
std::optional<Wanted> next(LiveClient& client) {
  while (const auto line = client.next_line(patience)) {
    const auto message = message_from_line(*line);
    if (const auto* wanted = message ? std::get_if<Wanted>(&*message) : nullptr) return *wanted;
  }
  return std::nullopt;
}

RequestAnswer answer(LiveClient& client, const Request& request) {
  EXPECT_TRUE(client.ask(request));
  return next<RequestAnswer>(client).value_or(RequestAnswer{false, "no answer"});
}

/// Waits until the run closes the connection.
void await_end(LiveClient& client) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!client.has_ended() && std::chrono::steady_clock::now() < deadline) (void)client.next_line(100ms);
  EXPECT_TRUE(client.has_ended());
}

/// A connection without a reader of its own.
Descriptor raw_connection(const Served& served) {
  return connect_to(served.folder.path());
}

TEST(LiveMessage, IsReadAsItWasWritten) {
  const std::vector<Message> messages = {Hello{1, "0.2.0", "line/version_0", "fit", 42, true},
                                         some_state(),
                                         ProgressState{.activity = Activity::validate,
                                                       .epoch = 2,
                                                       .batch = 3,
                                                       .elapsed = 1.5,
                                                       .batches_per_second = std::nan(""),
                                                       .metrics = {{"loss", HUGE_VAL}}},
                                         RequestAnswer{true, "watching"},
                                         Event(RunStarted{Stage::test, "runs/a"}),
                                         Event(TrainBatchEnded{{1, 2, 3, 4, 5}, {{"loss", -HUGE_VAL}}}),
                                         Event(ValidationEnded{{}, {{"val_loss", 0.5}}}),
                                         Event(TrainEpochEnded{{}, {}}),
                                         Event(CheckpointSaved{"a.safetensors"}),
                                         Event(RunEnded{{}, {}, "enough", true})};
  for (const auto& message : messages) {
    const auto line = line_of(message);
    EXPECT_THAT(line, Not(HasSubstr("\n")));
    const auto read = message_from_line(line);
    ASSERT_TRUE(read) << line;
    EXPECT_EQ(read->index(), message.index()) << line;
    EXPECT_EQ(line_of(*read), line);
  }
  EXPECT_FALSE(message_from_line(R"({"kind": "weather", "rain": true})")) << "a later version's";
  EXPECT_THAT(refusal([] { (void)message_from_line("{}"); }), HasSubstr("kind is not a text"));
  EXPECT_THAT(refusal([] { (void)message_from_line("no JSON"); }), Not(IsEmpty()));
}

std::string refused(std::string_view line) {
  const auto request = request_from_line(line);
  const auto* refused = std::get_if<RefusedRequest>(&request);
  return refused ? refused->why : "taken";
}

TEST(LiveMessage, ARequestThatCannotBeIsToldWhy) {
  EXPECT_EQ(refused(line_of(SetRateRequest{0.5})), "taken");
  EXPECT_EQ(refused(R"({"do": "stopp"})"),
            "'stopp' is nothing that a run does; did you mean stop? (watch, stop, "
            "checkpoint, validate, set_lr)");
  EXPECT_EQ(refused(R"({"do": "set_lr", "lr": -0.5})"), "a learning rate of -0.5 is negative; use 0 or more");
  EXPECT_EQ(refused(R"({"do": "set_lr", "lr": "fast"})"),
            "a learning rate of \"fast\" is no number; use one such as 0.001");
  EXPECT_THAT(refused(R"({"do": "set_lr", "lr": "NaN"})"), HasSubstr("is not finite"));
  EXPECT_THAT(refused(R"({"do": "set_lr"})"), HasSubstr("lr is missing"));
  EXPECT_THAT(refused(R"({"do": "watch", "what": ["weather"]})"), HasSubstr("there are state, progress, events"));
  EXPECT_THAT(refusal([] { (void)request_from_line(R"({"lr": 1})"); }), HasSubstr("do is not a text"));
  EXPECT_EQ(rate_from_text("1e-3"), 1e-3);
  EXPECT_THAT(refusal([] { (void)rate_from_text("1e-3x"); }), HasSubstr("'1e-3x' is no number"));
  EXPECT_THAT(refusal([] { (void)rate_from_text("-1"); }), HasSubstr("is negative"));
  EXPECT_THAT(refusal([] { (void)rate_from_text("inf"); }), HasSubstr("is not finite"));
}

TEST(LiveState, ThinsCurvesOutAndKeepsTheirEnds) {
  MetricCurves curves;
  for (int64_t step = 0; step < 10'000; ++step) {
    curves.add({step, 0, {{"loss", static_cast<double>(step)}}});
  }
  curves.add({0, 0, {{"bad", std::nan("")}}});
  RunCard card;
  card.name = "line";
  card.version = "version_0";
  const auto state = state_of(card, curves);
  EXPECT_EQ(state.run, "line/version_0");
  ASSERT_THAT(state.curves, SizeIs(2));
  const auto& loss = state.curves[1].second;
  ASSERT_THAT(loss, SizeIs(most_shown_values));
  EXPECT_LT(loss.front(), 300);
  EXPECT_GT(loss.back(), 9'700);
  EXPECT_TRUE(std::isnan(state.curves[0].second.at(0)));
}

TEST(LiveServer, ShowsARunToTwoViewersAtOnce) {
  Served served;
  LiveClient one(served.folder.path()), other(served.folder.path());
  EXPECT_EQ(one.hello().run, "line/version_0");
  EXPECT_FALSE(one.hello().permits_control);
  for (auto* client : {&one, &other}) {
    EXPECT_TRUE(answer(*client, Watch{.state = true, .progress = true, .events = true}).is_taken);
  }
  EXPECT_TRUE(served.server->wants_state());
  EXPECT_TRUE(served.server->wants_progress());
  EXPECT_FALSE(served.server->wants_batches());
  served.server->show(some_state());
  served.server->show(ProgressState{.batch = 7});
  for (auto* client : {&one, &other}) {
    const auto state = next<State>(*client);
    ASSERT_TRUE(state);
    EXPECT_EQ(line_of(*state), line_of(some_state()));
  }
  served.server->publish(TrainBatchEnded{});  // nobody wants these
  served.server->publish(CheckpointSaved{"a.safetensors"});
  for (auto* client : {&one, &other}) {
    EXPECT_EQ(std::get<CheckpointSaved>(*next<Event>(*client)).path, "a.safetensors");
  }
  served.server->publish(RunEnded{.reason = "enough"});
  served.server->end();
  for (auto* client : {&one, &other}) {
    EXPECT_EQ(std::get<RunEnded>(*next<Event>(*client)).reason, "enough") << "the last words are sent";
    await_end(*client);
  }
  EXPECT_FALSE(std::filesystem::exists(served.socket()));
  EXPECT_FALSE(served.server->wants_state());
  EXPECT_THAT(served.all_said(), IsEmpty());
}

TEST(LiveServer, GivesAStateThatIsOfNowToWhoComesLater) {
  Served served;
  {
    LiveClient client(served.folder.path());
    (void)answer(client, Watch{.state = true});
    served.server->show(some_state());
    EXPECT_TRUE(next<State>(client));
    EXPECT_FALSE(served.server->wants_state_now());
  }
  LiveClient later(served.folder.path());
  (void)answer(later, Watch{.state = true});
  // The one from before is old, unless the first viewer's end has not been seen yet.
  auto renewed = some_state();
  renewed.progress.epoch = 9;
  served.server->show(renewed);
  std::optional<State> state;
  do {
    state = next<State>(later);
  } while (state && state->progress.epoch != 9);
  EXPECT_TRUE(state);
}

TEST(LiveServer, DoesWhatAViewerAsksForThatMayControlTheRun) {
  Served served({.permits_control = true});
  LiveClient client(served.folder.path());
  EXPECT_TRUE(client.hello().permits_control);
  EXPECT_THAT(answer(client, CheckpointRequest{}).text, HasSubstr("without control (--control) may only look"));
  (void)answer(client, Watch{.control = true});
  EXPECT_TRUE(answer(client, CheckpointRequest{}).is_taken);
  EXPECT_TRUE(answer(client, ValidateRequest{}).is_taken);
  EXPECT_THAT(answer(client, SetRateRequest{0.5}).text, HasSubstr("the learning rate is 0.5 after this batch"));
  EXPECT_TRUE(answer(client, StopRunRequest{"enough"}).is_taken);
  const auto pid = std::to_string(getpid());
  EXPECT_THAT(served.all_said(),
              ElementsAre("checkpoint", "warning a viewer (pid " + pid + ") has asked for a checkpoint", "validate",
                          "warning a viewer (pid " + pid + ") has asked for a validation", "lr 0.500000",
                          "warning a viewer (pid " + pid + ") has asked for a learning rate of 0.5",
                          "stop asked for by a viewer (pid " + pid + "): enough",
                          "warning a viewer (pid " + pid + ") has asked the run to stop: enough"));
}

TEST(LiveServer, RefusesControlWithoutTheRight) {
  Served served;
  LiveClient client(served.folder.path());
  (void)answer(client, Watch{.control = true});
  for (const Request& request : {Request(CheckpointRequest{}), Request(ValidateRequest{}), Request(StopRunRequest{}),
                                 Request(SetRateRequest{1})}) {
    const auto said = answer(client, request);
    EXPECT_FALSE(said.is_taken);
    EXPECT_THAT(said.text, HasSubstr("it was started with trainer.attach = view, not control"));
  }
  EXPECT_THAT(served.all_said(), IsEmpty());
}

TEST(LiveServer, AStageThatIsNoFitIsNotControlled) {
  Served served({.permits_control = true, .stage = Stage::test});
  LiveClient client(served.folder.path());
  (void)answer(client, Watch{.control = true});
  EXPECT_THAT(answer(client, ValidateRequest{}).text,
              HasSubstr("this run is at stage test, and only a fit can be controlled"));
}

TEST(LiveServer, DropsWhoSendsWhatIsNoRequestWithOneWarning) {
  Served served;
  const std::vector<std::string> garbage = {"GET / HTTP/1.1\r\n\r\n", "{}\n", std::string(100'000, 'x'),
                                            std::string(64, '[') + "\n", std::string("\0\xff\xfe\n", 4)};
  for (const auto& bytes : garbage) {
    LiveClient client(served.folder.path());
    (void)::send(client.descriptor(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    await_end(client);
  }
  EXPECT_THAT(served.all_said(), ElementsAre(AllOf(StartsWith("warning a viewer (pid "),
                                                   HasSubstr("sent what is no request, and is dropped: "))));
  LiveClient still(served.folder.path());
  EXPECT_TRUE(answer(still, Watch{}).is_taken) << "others are served";
}

TEST(LiveServer, DropsAViewerThatStopsReadingAndTheRunDoesNotWait) {
  Served served({.patience = 50ms});
  const auto silent = raw_connection(served);
  const auto watch = line_of(Watch{.state = true, .events = true, .batches = true}) + "\n";
  ASSERT_EQ(::send(silent.get(), watch.data(), watch.size(), 0), static_cast<ssize_t>(watch.size()));
  LiveClient reader(served.folder.path());
  (void)answer(reader, Watch{.events = true});
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!served.server->wants_batches() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  MetricMap many;
  for (int i = 0; i < 200; ++i) many["a_metric_with_a_long_name_" + std::to_string(i)] = i;
  // It has room for some of these in the kernel, and then takes nothing more.
  while (served.server->wants_batches() && std::chrono::steady_clock::now() < deadline) {
    served.server->publish(TrainBatchEnded{{}, many});
    (void)reader.next_line(1ms);
  }
  EXPECT_FALSE(served.server->wants_batches());
  EXPECT_THAT(served.all_said(), ElementsAre(HasSubstr("does not read, and is dropped")));
  served.server->publish(CheckpointSaved{"a.safetensors"});
  EXPECT_TRUE(next<Event>(reader)) << "who reads has lost nothing";
}

TEST(LiveServer, EndsInAMomentThoughAViewerDoesNotRead) {
  Served served({.patience = 1h, .patience_at_end = 50ms});
  const auto silent = raw_connection(served);
  const auto watch = line_of(Watch{.events = true}) + "\n";
  ASSERT_EQ(::send(silent.get(), watch.data(), watch.size(), 0), static_cast<ssize_t>(watch.size()));
  LiveClient reader(served.folder.path());
  (void)answer(reader, Watch{.events = true});
  const std::string reason(100'000, 'x');
  for (int i = 0; i < 8; ++i) served.server->publish(RunEnded{.metrics = {}, .reason = reason});
  const auto ended = std::async(std::launch::async, [&] { served.server->end(); });
  EXPECT_EQ(ended.wait_for(patience), std::future_status::ready);
}

TEST(LiveServer, RefusesMoreViewersThanItHasRoomFor) {
  Served served({.most_viewers = 1});
  LiveClient first(served.folder.path());
  EXPECT_THAT(refusal([&] { LiveClient second(served.folder.path()); }),
              HasSubstr("refuses: 1 viewers are attached already"));
}

TEST(LiveServer, IsTheOwnersAlone) {
  Served served;
  struct stat file {};
  ASSERT_EQ(::stat(served.socket().c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 07777U, 0600U);
  EXPECT_EQ(file.st_uid, geteuid());
  if (geteuid() != 0) GTEST_SKIP() << "another user is needed, whom root alone can become";
  // Even if the file's mode let somebody else in.
  ASSERT_EQ(::chmod(served.folder.path().c_str(), 0777), 0);
  ASSERT_EQ(::chmod(served.socket().c_str(), 0777), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    constexpr uid_t nobody = 65534;
    const auto path = served.socket().string();
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    const int made = ::socket(AF_UNIX, SOCK_STREAM, 0);
    char byte = 0;
    const bool is_refused = ::setuid(nobody) == 0 &&
                            ::connect(made, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
                            ::recv(made, &byte, 1, 0) <= 0;
    ::_exit(is_refused ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_THAT(served.all_said(), ElementsAre(HasSubstr("another user (uid 65534) tried to attach")));
}

TEST(LiveServer, ReplacesTheSocketOfARunThatWasKilledAndNoOther) {
  const TempDir folder;
  const pid_t child = ::fork();
  if (child == 0) {  // leaves its socket behind
    const SocketFile file(folder.path());
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(std::filesystem::exists(folder / socket_name));
  EXPECT_THAT(refusal([&] { LiveClient client(folder.path()); }),
              HasSubstr("is gone: its socket is left over, and nobody answers"));
  LiveServer server({.folder = folder.path(), .run = "line/version_0"});
  EXPECT_EQ(server.socket_problem(), "");
  EXPECT_EQ(LiveClient(folder.path()).hello().run, "line/version_0");

  LiveServer second({.folder = folder.path()});
  EXPECT_THAT(second.socket_problem(), HasSubstr("another process serves the socket"));
  second.end();
  EXPECT_EQ(LiveClient(folder.path()).hello().run, "line/version_0") << "its end leaves the other's socket alone";
}

TEST(LiveServer, HasASocketInAFolderWhosePathIsLong) {
  const TempDir dir;
  auto folder = dir.path();
  for (int i = 0; i < 8; ++i) folder /= std::string(100, static_cast<char>('a' + i));
  std::filesystem::create_directories(folder);
  LiveServer server({.folder = folder, .run = "line/version_0"});
  EXPECT_EQ(server.socket_problem(), "");
  EXPECT_TRUE(std::filesystem::is_socket(folder / socket_name));
  EXPECT_EQ(LiveClient(folder).hello().run, "line/version_0");
}

TEST(LiveServer, SaysWhyThereIsNoSocket) {
  const LiveServer server({.folder = "/proc/self"});
  EXPECT_THAT(server.socket_problem(), HasSubstr("nobody can attach to this run: there can be no socket /proc/self/"));
  EXPECT_THAT(refusal([] { LiveClient client("/proc/self"); }), HasSubstr("has no socket (attach.sock)"));
}

TEST(LiveClient, SaysThatARunDoesNotAnswer) {
  const TempDir folder;
  const SocketFile file(folder.path());  // nobody accepts
  EXPECT_THAT(refusal([&] { LiveClient client(folder.path(), 10ms); }), HasSubstr("does not answer"));
}

TEST(Prometheus, AnswersScrapesOfThisMachineAndNothingElse) {
  const auto answer_to = [](const std::string& request) {
    return scrape_answer(request, [] { return "numbers\n"; }).value_or("more has to come");
  };
  const std::string host = "Host: 127.0.0.1:9100\r\n";
  EXPECT_THAT(answer_to("GET /metrics HTTP/1.1\r\n" + host + "\r\n"),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"),
                    HasSubstr("Content-Length: 8\r\n"), testing::EndsWith("\r\n\r\nnumbers\n")));
  EXPECT_THAT(answer_to("HEAD /metrics?x=1 HTTP/1.1\r\nhost:LOCALHOST\r\n\r\n"),
              AllOf(HasSubstr("200 OK"), HasSubstr("Content-Length: 8"), testing::EndsWith("\r\n\r\n")));
  EXPECT_EQ(answer_to("GET /metrics HTTP/1.1\r\n" + host), "more has to come");
  EXPECT_THAT(answer_to("GET / HTTP/1.1\r\n" + host + "\r\n"), HasSubstr("404 Not Found"));
  EXPECT_THAT(answer_to("POST /metrics HTTP/1.1\r\n" + host + "\r\n"), HasSubstr("405 Method Not Allowed"));
  EXPECT_THAT(answer_to("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n"), HasSubstr("403 Forbidden"));
  EXPECT_THAT(answer_to("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1.evil.example:80\r\n\r\n"), HasSubstr("403"));
  EXPECT_THAT(answer_to("\r\n\r\n"), HasSubstr("400 Bad Request"));
  EXPECT_THAT(answer_to(std::string(longest_scrape, 'x')), HasSubstr("431 Request Header Fields Too Large"));
}

TEST(Prometheus, SaysThatAPortIsTaken) {
  const LiveServer first({.metrics_port = 0});
  EXPECT_EQ(first.metrics_address(), "http://127.0.0.1:" + std::to_string(first.metrics_port()) + "/metrics");
  const auto port = std::to_string(first.metrics_port());
  EXPECT_EQ(refusal([&] { LiveServer second({.metrics_port = first.metrics_port()}); }),
            "trainer.metrics_port = " + port + ": the port 127.0.0.1:" + port +
                " is taken by another program; use another one, or 0 for any that is free");
}

}  // namespace
}  // namespace troupe::live
