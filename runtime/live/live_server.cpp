#include "troupe/runtime/live/live_server.hpp"

#include "troupe/base/exception_text.hpp"
#include "troupe/base/failure.hpp"
#include "troupe/base/host_name.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/base/unix_seconds.hpp"
#include "troupe/base/version.hpp"
#include "troupe/runtime/live/live_socket.hpp"
#include "troupe/runtime/live/prometheus.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <deque>
#include <list>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

namespace troupe::live {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t most_events = 1024;  // on their way from the run to the thread
constexpr std::size_t roomy = std::size_t{64}
                              << 10;  // bytes that may wait for a viewer before a state does not join them
constexpr std::size_t too_much = std::size_t{1} << 20;  // of events that nobody takes
constexpr std::size_t most_scrapes = 16;
constexpr auto look_interval = std::chrono::milliseconds(100);  // while somebody has something to take
constexpr auto accept_pause = std::chrono::seconds(1);

enum class Received { something, nothing, end };

// Appends what is there, 4 KiB at most.
Received receive(int socket, std::string& into) {
  std::array<char, 4096> buffer;
  const auto count = ::recv(socket, buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (count > 0) {
    into.append(buffer.data(), static_cast<std::size_t>(count));
    return Received::something;
  }
  if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return Received::nothing;
  return Received::end;
}

std::string said_of_worker(const Pulse& pulse) {
  const auto where = pulse.whereabouts();
  return where.empty() ? pulse.who + " waits for other ranks" : where;
}

}  // namespace

// Not in the unnamed namespace: a class that has a name elsewhere has them as members.

// Bytes on their way to a socket that does not block.
class Outbox {
 public:
  void add(std::string_view bytes) { bytes_ += bytes; }
  std::size_t waiting() const { return bytes_.size() - sent_; }
  /// False when the other end is gone.
  bool send(int socket) {
    while (waiting() > 0) {
      const auto count = ::send(socket, bytes_.data() + sent_, waiting(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
      sent_ += static_cast<std::size_t>(count);
      moved_ = Clock::now();
    }
    bytes_.clear();
    sent_ = 0;
    moved_ = Clock::now();
    return true;
  }
  Clock::time_point moved() const { return moved_; }  ///< when bytes went out last, or none waited

 private:
  std::string bytes_;
  std::size_t sent_ = 0;
  Clock::time_point moved_ = Clock::now();
};

struct Viewer {
  Descriptor socket;
  pid_t pid = 0;
  Watch watch = {};
  std::string in = {};
  Outbox out = {};
  std::shared_ptr<const State> shown = {};  // the latest state that it has
  int64_t shown_progress = 0;               // the number of the latest progress that it has
  bool is_gone = false;

  void tell(const std::string& line) { out.add(line + "\n"); }
  std::string name() const { return "a viewer (pid " + std::to_string(pid) + ")"; }
};

struct Scrape {
  Descriptor socket;
  Clock::time_point deadline;
  std::string in = {};
  Outbox out = {};
  bool is_answered = false, is_gone = false;
};

class LiveServer::Thread {
 public:
  Thread(LiveServer& server, Options options, SocketFile file, Descriptor endpoint)
      : server_(server),
        options_(std::move(options)),
        file_(std::move(file)),
        endpoint_(std::move(endpoint)),
        wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (!wake_) throw std::system_error(errno, std::generic_category(), "eventfd");
    State state;
    state.run = options_.run;
    state.stage = to_string(options_.stage);
    state.host = host_name();
    state.pid = ::getpid();
    state.started = state.updated = unix_seconds();
    state_ = std::make_shared<const State>(std::move(state));
    // Signals are for the program's threads.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { run(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  ~Thread() { finish(); }
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

  // By who has made it.
  void finish() {
    if (!thread_.joinable()) return;
    {
      const std::lock_guard lock(mutex_);
      news_.ends = true;
    }
    wake();
    thread_.join();
    const std::lock_guard lock(mutex_);
    control_.reset();
    warn_ = nullptr;
    workers_.clear();
  }
  void begin(RunHandle control, std::function<void(const std::string&)> warn,
             std::vector<std::shared_ptr<const Pulse>> workers) {
    const std::lock_guard lock(mutex_);
    control_ = std::move(control);
    warn_ = std::move(warn);
    workers_ = std::move(workers);
  }
  void show(State state) {
    {
      const std::lock_guard lock(mutex_);
      for (const auto& pulse : workers_) state.workers.push_back(said_of_worker(*pulse));
      news_.state = std::make_shared<const State>(std::move(state));
    }
    wake();
  }
  void show(ProgressState state) {
    {
      const std::lock_guard lock(mutex_);
      news_.progress = std::move(state);
    }
    wake();
  }
  // A batch makes room for what is rare.
  void publish(Event event) {
    {
      const std::lock_guard lock(mutex_);
      auto& events = news_.events;
      if (events.size() >= most_events) {
        const auto batch = std::ranges::find_if(
            events, [](const Event& each) { return std::holds_alternative<TrainBatchEnded>(each); });
        events.erase(batch == events.end() ? events.begin() : batch);
      }
      events.push_back(std::move(event));
    }
    wake();
  }

 private:
  struct News {
    std::shared_ptr<const State> state;
    std::optional<ProgressState> progress;
    std::deque<Event> events;
    bool ends = false;
  };

  void wake() const {
    const uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof one);
  }
  News take_news() {
    uint64_t count = 0;
    (void)!::read(wake_.get(), &count, sizeof count);
    const std::lock_guard lock(mutex_);
    return std::exchange(news_, {});
  }
  void warn(const std::string& text) {
    const std::lock_guard lock(mutex_);
    if (warn_) warn_(text);
  }
  void warn_once(const std::string& kind, const std::string& text) {
    if (warned_.insert(kind).second) warn(text);
  }

  void run() {
    const auto problem = text_thrown_by([this] {
      while (turn()) {
      }
      say_last_words();
    });
    if (!problem.empty()) warn("nobody can attach to the run any more: " + problem);
    file_.remove();
    endpoint_ = Descriptor();
    viewers_.clear();
    scrapes_.clear();
    say_what_is_wanted();
  }

  // False when the run is over.
  bool turn() {
    wait();
    auto news = take_news();
    take(news);
    say_what_is_wanted();
    if (file_.get() >= 0) accept_all(file_.get(), [this](Descriptor made) { attach(std::move(made)); });
    if (endpoint_) accept_all(endpoint_.get(), [this](Descriptor made) { take_scrape(std::move(made)); });
    for (auto& viewer : viewers_) serve(viewer);
    std::erase_if(viewers_, [](const Viewer& viewer) { return viewer.is_gone; });
    for (auto& scrape : scrapes_) serve(scrape);
    std::erase_if(scrapes_, [](const Scrape& scrape) { return scrape.is_gone; });
    say_what_is_wanted();
    return !news.ends;
  }

  void wait() {
    polled_.clear();
    const bool accepts = Clock::now() >= accepts_again_;
    bool is_waited_for = !accepts || !scrapes_.empty();
    const auto add = [this](int descriptor, bool writes) {
      polled_.push_back({descriptor, static_cast<short>(writes ? POLLIN | POLLOUT : POLLIN), 0});
    };
    add(wake_.get(), false);
    if (accepts && file_.get() >= 0) add(file_.get(), false);
    if (accepts && endpoint_) add(endpoint_.get(), false);
    for (const auto& viewer : viewers_) {
      add(viewer.socket.get(), viewer.out.waiting() > 0);
      is_waited_for |= viewer.out.waiting() > 0;
    }
    for (const auto& scrape : scrapes_) add(scrape.socket.get(), scrape.out.waiting() > 0);
    const int timeout = is_waited_for ? static_cast<int>(look_interval.count()) : -1;
    (void)::poll(polled_.data(), polled_.size(), timeout);
  }

  template <class Take>
  void accept_all(int listening, Take take) {
    while (true) {
      Descriptor made(::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (made) {
        take(std::move(made));
      } else if (errno != EINTR && errno != ECONNABORTED) {
        // Without descriptors left it would be tried for ever.
        if (errno != EAGAIN && errno != EWOULDBLOCK) accepts_again_ = Clock::now() + accept_pause;
        return;
      }
    }
  }

  // --- Viewers ---

  void attach(Descriptor made) {
    const auto peer = peer_of(made.get());
    if (!peer || peer->uid != ::geteuid()) {
      return warn_once("owner", "another user (uid " + (peer ? std::to_string(peer->uid) : "unknown") +
                                    ") tried to attach to the run, and was refused");
    }
    Viewer viewer{std::move(made), peer->pid};
    if (viewers_.size() >= options_.most_viewers) {
      viewer.tell(line_of(
          RequestAnswer{false, std::to_string(viewers_.size()) + " viewers are attached already, which is the most"}));
      (void)viewer.out.send(viewer.socket.get());
      return;
    }
    viewer.tell(line_of(Hello{protocol_version, library_version, options_.run, std::string(to_string(options_.stage)),
                              ::getpid(), options_.permits_control}));
    viewers_.push_back(std::move(viewer));
  }

  void take(News& news) {
    if (news.state) {
      state_ = std::move(news.state);
      state_line_.clear();
      state_is_current_ = true;
    }
    if (news.progress) {
      progress_line_ = viewers_.empty() ? "" : line_of(*news.progress);
      ++progress_number_;
    }
    for (const auto& event : news.events) {
      if (viewers_.empty()) break;
      const bool is_batch = std::holds_alternative<TrainBatchEnded>(event);
      std::string line;
      for (auto& viewer : viewers_) {
        const bool is_wanted = is_batch ? viewer.watch.batches && viewer.out.waiting() < roomy : viewer.watch.events;
        if (!is_wanted) continue;
        if (line.empty()) line = line_of(event);
        viewer.tell(line);
      }
    }
  }

  void serve(Viewer& viewer) {
    const auto received = receive(viewer.socket.get(), viewer.in);
    take_requests(viewer);
    if (viewer.is_gone) return;
    if (viewer.watch.state && state_is_current_ && viewer.shown != state_ && viewer.out.waiting() < roomy) {
      if (state_line_.empty()) state_line_ = line_of(*state_);
      viewer.tell(state_line_);
      viewer.shown = state_;
    }
    if (viewer.watch.progress && viewer.shown_progress != progress_number_ && viewer.out.waiting() < roomy) {
      if (!progress_line_.empty()) viewer.tell(progress_line_);
      viewer.shown_progress = progress_number_;
    }
    viewer.is_gone = !viewer.out.send(viewer.socket.get()) || received == Received::end;
    if (viewer.is_gone) return;
    const bool is_stuck = viewer.out.waiting() > 0 && Clock::now() - viewer.out.moved() > options_.patience;
    if (!is_stuck && viewer.out.waiting() <= too_much) return;
    viewer.is_gone = true;
    warn_once("slow", viewer.name() + " that is attached does not read, and is dropped");
  }

  void take_requests(Viewer& viewer) {
    std::size_t begin = 0;
    for (auto end = viewer.in.find('\n'); end != std::string::npos && !viewer.is_gone;
         begin = end + 1, end = viewer.in.find('\n', begin)) {
      take_line(viewer, std::string_view(viewer.in).substr(begin, end - begin));
    }
    viewer.in.erase(0, begin);
    if (viewer.in.size() > longest_request) drop_for_garbage(viewer, "a line has no end");
  }

  void take_line(Viewer& viewer, std::string_view line) {
    if (line.size() > longest_request) return drop_for_garbage(viewer, "a line is too long");
    Request request;
    const auto problem = text_thrown_by([&] { request = request_from_line(line); });
    if (!problem.empty()) return drop_for_garbage(viewer, problem);
    viewer.tell(line_of(answer_to(viewer, request)));
  }

  void drop_for_garbage(Viewer& viewer, const std::string& why) {
    viewer.tell(line_of(RequestAnswer{false, why}));
    (void)viewer.out.send(viewer.socket.get());
    viewer.is_gone = true;
    warn_once("garbage", viewer.name() + " sent what is no request, and is dropped: " + single_line(shown(why)));
  }

  RequestAnswer answer_to(Viewer& viewer, const Request& request) {
    if (const auto* watch = std::get_if<Watch>(&request)) {
      viewer.watch = *watch;
      viewer.shown = nullptr;
      viewer.shown_progress = progress_number_;  // which may be old
      say_what_is_wanted();                      // before the answer
      return {true, "watching"};
    }
    if (const auto* refused = std::get_if<RefusedRequest>(&request)) return {false, refused->why};
    if (!options_.permits_control) {
      return {false, "this run may be looked at only: it was started with trainer.attach = view, not control"};
    }
    if (!viewer.watch.control) return {false, "who attaches without control (--control) may only look"};
    if (options_.stage != Stage::fit) {
      return {false, "this run is at stage " + std::string(to_string(options_.stage)) +
                         ", and only a fit can be controlled; a signal (Ctrl-C) ends it"};
    }
    return carry_out(viewer, request);
  }

  RequestAnswer carry_out(const Viewer& viewer, const Request& request) {
    std::optional<RunHandle> given;
    {
      const std::lock_guard lock(mutex_);
      given = control_;
    }
    if (!given) return {false, "the run has not begun yet; try again in a moment"};
    const RunHandle& control = *given;
    const auto noted = [&](const std::string& asked, const std::string& answer) {
      warn(viewer.name() + " has asked " + asked);
      return RequestAnswer{true, answer};
    };
    if (const auto* stop = std::get_if<StopRunRequest>(&request)) {
      const auto reason = stop->reason.empty() ? "" : ": " + shown(stop->reason);
      control.request_stop("asked for by " + viewer.name() + reason);
      return noted("the run to stop" + reason,
                   "the run stops after this batch, once min_epochs and min_steps are "
                   "reached");
    }
    if (std::holds_alternative<CheckpointRequest>(request)) {
      control.request_checkpoint();
      return noted("for a checkpoint", "a checkpoint is written after this batch");
    }
    if (std::holds_alternative<ValidateRequest>(request)) {
      control.request_validation();
      return noted("for a validation", "a validation begins after this batch");
    }
    const double lr = std::get<SetRateRequest>(request).lr;
    control.set_learning_rate(lr);
    return noted("for a learning rate of " + double_to_text(lr),
                 "the learning rate is " + double_to_text(lr) + " after this batch");
  }

  // --- Prometheus ---

  void take_scrape(Descriptor made) {
    if (scrapes_.size() < most_scrapes) scrapes_.push_back({std::move(made), Clock::now() + options_.patience});
  }

  void serve(Scrape& scrape) {
    const auto received = receive(scrape.socket.get(), scrape.in);
    if (!scrape.is_answered) {
      if (const auto answer = scrape_answer(scrape.in, [this] { return prometheus_text(*state_); })) {
        scrape.out.add(*answer);
        scrape.is_answered = true;
      }
    }
    const bool is_open = scrape.out.send(scrape.socket.get());
    const bool is_done = scrape.is_answered && scrape.out.waiting() == 0;
    if (is_done) ::shutdown(scrape.socket.get(), SHUT_WR);
    scrape.is_gone = !is_open || is_done || received == Received::end || Clock::now() > scrape.deadline;
  }

  // --- The end ---

  void say_last_words() {
    const auto deadline = Clock::now() + options_.patience_at_end;
    while (Clock::now() < deadline) {
      polled_.clear();
      for (auto& viewer : viewers_) {
        if (!viewer.out.send(viewer.socket.get())) viewer.is_gone = true;
        if (!viewer.is_gone && viewer.out.waiting() > 0) polled_.push_back({viewer.socket.get(), POLLOUT, 0});
      }
      if (polled_.empty()) return;
      (void)::poll(polled_.data(), polled_.size(), static_cast<int>(look_interval.count()));
    }
  }

  void say_what_is_wanted() {
    const auto anybody = [this](bool Watch::*what) {
      return std::ranges::any_of(viewers_, [what](const Viewer& viewer) { return viewer.watch.*what; });
    };
    const bool wants_state = endpoint_ || anybody(&Watch::state);
    if (!wants_state) state_is_current_ = false;
    server_.wants_state_now_ = wants_state && !state_is_current_;
    server_.wants_state_ = wants_state;
    server_.wants_progress_ = anybody(&Watch::progress);
    server_.wants_batches_ = anybody(&Watch::batches);
    server_.has_viewers_ = !viewers_.empty();
  }

  LiveServer& server_;
  const Options options_;
  SocketFile file_;
  Descriptor endpoint_, wake_;

  // Of all threads.
  std::mutex mutex_;
  News news_;
  std::optional<RunHandle> control_;  // nothing: the run has not begun
  std::function<void(const std::string&)> warn_;
  std::vector<std::shared_ptr<const Pulse>> workers_;

  // Of the thread.
  std::list<Viewer> viewers_;
  std::list<Scrape> scrapes_;
  std::vector<pollfd> polled_;
  std::shared_ptr<const State> state_;
  bool state_is_current_ = false;  // it has been renewed since somebody wants it
  std::string state_line_, progress_line_;
  int64_t progress_number_ = 0;
  Clock::time_point accepts_again_ = {};
  std::set<std::string> warned_;

  std::thread thread_;
};

namespace {

Descriptor made_endpoint(const LiveServer::Options& options) {
  if (!options.metrics_port) return {};
  try {
    return listen_on_loopback(static_cast<int>(*options.metrics_port));
  } catch (const std::system_error& error) {
    const auto port = std::to_string(*options.metrics_port);
    const bool is_taken = error.code() == std::errc::address_in_use;
    throw UsageError("trainer.metrics_port = " + port +
                     (is_taken ? ": the port 127.0.0.1:" + port + " is taken by another program"
                               : ": cannot listen on 127.0.0.1:" + port + ", " + error.code().message()) +
                     "; use another one, or 0 for any that is free");
  }
}

}  // namespace

LiveServer::LiveServer(Options options) {
  auto endpoint = made_endpoint(options);
  if (endpoint) metrics_port_ = port_of(endpoint.get());
  SocketFile file;
  if (!options.folder.empty()) {
    try {
      file = SocketFile(options.folder);
    } catch (const std::system_error& error) {
      const bool is_served = error.code() == std::errc::address_in_use;
      socket_problem_ = std::string("nobody can attach to this run: ") +
                        (is_served ? "another process serves the socket " : "there can be no socket ") +
                        shown((options.folder / socket_name).string()) +
                        (is_served ? "" : ", " + error.code().message());
    }
  }
  thread_ = std::make_unique<Thread>(*this, std::move(options), std::move(file), std::move(endpoint));
}

LiveServer::~LiveServer() = default;

std::string LiveServer::metrics_address() const {
  return metrics_port_ == 0 ? "" : "http://127.0.0.1:" + std::to_string(metrics_port_) + "/metrics";
}

void LiveServer::begin(RunHandle control, std::function<void(const std::string&)> warn,
                       std::vector<std::shared_ptr<const Pulse>> workers) {
  thread_->begin(std::move(control), std::move(warn), std::move(workers));
}

void LiveServer::end() {
  thread_->finish();
}

void LiveServer::show(State state) {
  thread_->show(std::move(state));
}

void LiveServer::show(ProgressState state) {
  thread_->show(std::move(state));
}

void LiveServer::publish(Event event) {
  if (has_viewers_) thread_->publish(std::move(event));
}

}  // namespace troupe::live
