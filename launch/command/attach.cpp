#include "troupe/launch/command/attach_view.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/host_name.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/launch/command/command.hpp"
#include "troupe/launch/command/run_list.hpp"
#include "troupe/runtime/live/live_client.hpp"
#include "troupe/runtime/terminal/progress_bar.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <iostream>
#include <memory>
#include <utility>

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

namespace troupe::command {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr auto redraw_interval = std::chrono::milliseconds(100);
constexpr auto line_interval = std::chrono::seconds(5);  // between two lines of progress
constexpr auto patience_for_answer = std::chrono::seconds(5);
const fs::path runs_folder = "runs";

struct AttachOptions {
  bool control = false;
  bool once = false;
  bool json = false;
};
TROUPE_OPTIONS(AttachOptions, (control, "take commands, a line each: stop, checkpoint, validate, lr RATE"),
               (once, "carry out the commands, print what is known now, and end"),
               (json, "print what the run says, a line of JSON each; with --once its state alone"))

// --- Which run -------------------------------------------------------------------------------------------------------

/// The one run below `root` that goes on.
fs::path only_running(const fs::path& root, const std::string& whose) {
  std::vector<std::string> names;
  fs::path found;
  for (const auto& folder : run_folders(root)) {
    const auto run = listed_run(folder, runs_folder);
    if (run.state != RunState::running) continue;
    names.push_back(run.reference);
    found = folder;
  }
  if (names.size() == 1) return found;
  if (names.empty())
    throw UsageError("no run" + whose + " goes on below " + shown(root.string()) + "; troupe runs lists all");
  throw UsageError(std::to_string(names.size()) + " runs" + whose + " go on: " + brief_list(names) +
                   "; name one of them");
}

/// Of a name of several runs the one that goes on.
fs::path run_to_attach(const std::vector<std::string>& arguments) {
  if (arguments.empty()) return only_running(runs_folder, "");
  const auto& reference = arguments[0];
  std::error_code error;
  for (const auto& folder : {fs::path(reference), runs_folder / reference}) {
    if (reference.empty() || !fs::is_directory(folder, error) || is_run_folder(folder)) continue;
    const auto versions = run_folders(folder);
    const auto goes_on = [](const fs::path& each) { return listed_run(each, runs_folder).state == RunState::running; };
    if (std::ranges::count_if(versions, goes_on) > 0) return only_running(folder, " of " + shown(reference));
  }
  return find_run(reference);
}

/// What is over cannot be attached to, and its folder says why.
void check_goes_on(const ListedRun& run) {
  if (run.state == RunState::lost) {
    throw UsageError("the run " + run.reference + " is gone: its process has ended without a word");
  }
  const bool is_over =
      run.state == RunState::finished || run.state == RunState::interrupted || run.state == RunState::failed;
  if (is_over) {
    throw UsageError("the run " + run.reference + " is over (" + std::string(name_of(run.state)) + "); troupe report " +
                     run.reference + " makes its page");
  }
  if (!run.card) return;
  if (run.card->environment.host != host_name()) {
    throw UsageError("the run " + run.reference + " goes on at " + shown(run.card->environment.host) +
                     ", and can be attached to there alone");
  }
  const auto trainer = run.card->options.find("trainer");
  if (trainer != run.card->options.end() && trainer->is_object() && trainer->value("attach", "") == "off") {
    throw UsageError("nobody can attach to the run " + run.reference + ": it was started with trainer.attach = off");
  }
}

// --- What is asked of it ---------------------------------------------------------------------------------------------

const std::vector<std::string> command_words = {"stop", "checkpoint", "validate", "lr"};

/// "lr 0.001", "stop it has learnt enough". Throws UsageError.
live::Request request_of(const std::string& line) {
  const auto first = line.find_first_not_of(" \t");
  const auto text = first == std::string::npos ? "" : line.substr(first, line.find_last_not_of(" \t\r") - first + 1);
  const auto blank = std::min(text.find_first_of(" \t"), text.size());
  const auto word = text.substr(0, blank);
  const auto begin = std::min(text.find_first_not_of(" \t", blank), text.size());
  const auto rest = text.substr(begin);
  if (word == "stop") return live::StopRunRequest{rest};
  if (word == "lr") {
    if (rest.empty()) throw UsageError("lr needs a rate, such as lr 0.001");
    return live::SetRateRequest{live::rate_from_text(rest)};
  }
  const bool is_known = std::ranges::find(command_words, word) != command_words.end();
  if (is_known && !rest.empty()) throw UsageError(word + " takes nothing, and got '" + shown(rest) + "'");
  if (word == "checkpoint") return live::CheckpointRequest{};
  if (word == "validate") return live::ValidateRequest{};
  throw UsageError("unknown command '" + shown(word) + "'; did you mean " + nearest(word, command_words) + "? (" +
                   joined(command_words) + ")");
}

// --- The terminal ----------------------------------------------------------------------------------------------------

volatile std::sig_atomic_t is_told_to_leave = 0;

void leave(int) {
  is_told_to_leave = 1;
}

/// While it lives, signals that end a program only have it leave.
class LeavesInOrder {
 public:
  LeavesInOrder() {
    struct sigaction action {};
    action.sa_handler = leave;
    sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < signals.size(); ++i) sigaction(signals[i], &action, &before_[i]);
  }
  ~LeavesInOrder() {
    for (std::size_t i = 0; i < signals.size(); ++i) sigaction(signals[i], &before_[i], nullptr);
  }
  LeavesInOrder(const LeavesInOrder&) = delete;
  LeavesInOrder& operator=(const LeavesInOrder&) = delete;

 private:
  static constexpr std::array signals = {SIGINT, SIGTERM, SIGHUP};
  std::array<struct sigaction, 3> before_{};
};

/// While it lives, keys come one by one and are not shown, and the view has a screen of its own.
class OwnScreen {
 public:
  explicit OwnScreen(const Screen& screen) : screen_(screen) {
    has_keys_ = isatty(STDIN_FILENO) != 0 && tcgetattr(STDIN_FILENO, &before_) == 0;
    if (has_keys_) {
      auto raw = before_;
      raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
      tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    screen_.print("\x1b[?1049h\x1b[?25l");
  }
  ~OwnScreen() {
    try {
      screen_.print("\x1b[?25h\x1b[?1049l");
    } catch (...) {
      // The terminal is gone.
    }
    if (has_keys_) tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  OwnScreen(const OwnScreen&) = delete;
  OwnScreen& operator=(const OwnScreen&) = delete;

 private:
  Screen screen_;
  bool has_keys_ = false;
  termios before_{};
};

int terminal_height() {
  winsize size{};
  constexpr int usual = 24;
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 ? size.ws_row : usual;
}

/// Lines of the standard input, as they come.
class Commands {
 public:
  explicit Commands(bool are_read) : is_open_(are_read) {}

  bool is_open() const { return is_open_; }
  const std::string& typed() const { return typed_; }
  bool wants_to_leave() const { return wants_to_leave_; }

  /// Those that have come to their end. `has_keys`: of a terminal that shows nothing by itself.
  std::vector<std::string> read_some(bool has_keys) {
    std::array<char, 1024> bytes;
    const auto count = ::read(STDIN_FILENO, bytes.data(), bytes.size());
    std::vector<std::string> lines;
    if (count < 0 && errno == EINTR) return lines;
    if (count <= 0) {
      is_open_ = false;
      if (!typed_.empty()) lines.push_back(std::exchange(typed_, ""));
      return lines;
    }
    for (ssize_t i = 0; i < count; ++i) take(bytes[static_cast<std::size_t>(i)], has_keys, lines);
    return lines;
  }

 private:
  void take(char key, bool has_keys, std::vector<std::string>& lines) {
    constexpr char del = '\x7f', backspace = '\b', end_of_input = '\x04';
    if (key == '\n') {
      auto line = std::exchange(typed_, "");
      if (has_keys && (line == "q" || line == "quit")) {
        wants_to_leave_ = true;
      } else if (line.find_first_not_of(" \t\r") != std::string::npos) {
        lines.push_back(std::move(line));
      }
    } else if (has_keys && (key == del || key == backspace)) {
      while (!typed_.empty() && (static_cast<unsigned char>(typed_.back()) & 0xC0U) == 0x80U) typed_.pop_back();
      if (!typed_.empty()) typed_.pop_back();
    } else if (has_keys && key == end_of_input) {
      wants_to_leave_ = true;
    } else if (!has_keys || static_cast<unsigned char>(key) >= ' ') {
      if (typed_.size() < live::longest_request) typed_ += key;
    }
  }

  bool is_open_;
  std::string typed_;
  bool wants_to_leave_ = false;
};

// --- The view --------------------------------------------------------------------------------------------------------

class Attached {
 public:
  Attached(live::LiveClient& client, const AttachOptions& options, const Screen& screen)
      : client_(client),
        options_(options),
        screen_(screen),
        is_view_(screen.width > 0 && !options.json && !options.once),
        has_keys_(is_view_ && isatty(STDIN_FILENO) != 0),
        commands_(has_keys_ || (options.control && (!options.once || isatty(STDIN_FILENO) == 0))) {
    run_.hello = client.hello();
    run_.has_control = options.control;
  }

  int follow() {
    const LeavesInOrder leaves;
    std::optional<OwnScreen> own;
    if (is_view_) own.emplace(screen_);
    (void)client_.ask(
        live::Watch{.state = true, .progress = true, .events = !options_.once, .control = options_.control});
    if (options_.json && !options_.once) print_line(client_.hello_line());
    if (!is_view_ && !options_.json && !options_.once) {
      print_line("attached to " + run_.hello.run + ": " + run_.hello.stage + ", pid " + std::to_string(run_.hello.pid) +
                 (options_.control ? ", with control" : ""));
    }
    while (is_told_to_leave == 0 && !commands_.wants_to_leave() && !client_.has_ended() && !is_done()) {
      wait();
      take_lines();
      if (is_view_) draw();
    }
    own.reset();
    return finish();
  }

 private:
  void wait() {
    std::array<pollfd, 2> waiting = {pollfd{client_.descriptor(), POLLIN, 0}, pollfd{STDIN_FILENO, POLLIN, 0}};
    const nfds_t count = commands_.is_open() ? 2 : 1;
    const int timeout = static_cast<int>(redraw_interval.count());
    if (::poll(waiting.data(), count, timeout) <= 0 || count == 1 || waiting[1].revents == 0) return;
    for (const auto& line : commands_.read_some(has_keys_)) carry_out(line);
  }

  void carry_out(const std::string& line) {
    try {
      if (!options_.control) throw UsageError("'" + shown(line) + "' needs control: attach with --control");
      const auto request = request_of(line);
      if (client_.ask(request)) {
        ++answers_due_;
        asked_at_ = Clock::now();
      }
    } catch (const UsageError& wrong) {
      was_refused_ = true;
      answer(wrong.what(), /*is_error=*/true);
    }
  }

  void take_lines() {
    while (const auto line = client_.next_line(std::chrono::milliseconds(0))) {
      auto message = live::message_from_line(*line);
      if (options_.json && !options_.once) print_line(*line);
      if (message) std::visit([this](auto& concrete) { take(concrete); }, *message);
    }
  }

  void take(live::Hello&) {}
  void take(live::State& state) {
    const bool has_new_warning = run_.state && state.warnings > run_.state->warnings;
    if (has_new_warning) say("warning: " + single_line(state.latest_warning));
    run_.state = std::move(state);
  }
  void take(ProgressState& progress) {
    const bool is_due = Clock::now() - printed_at_ >= line_interval;
    if (!is_view_ && !options_.json && !options_.once && is_due) {
      print_line(render_plain(progress));
      printed_at_ = Clock::now();
    }
    run_.progress = std::move(progress);
  }
  void take(Event& event) {
    if (const auto line = event_line(event); !line.empty()) say(line);
    if (const auto* ended = std::get_if<RunEnded>(&event)) {
      has_ended_ = true;
      has_failed_ = ended->failed;
    }
  }
  void take(live::RequestAnswer& taken) {
    if (!std::exchange(has_watch_answer_, true)) return;
    if (answers_due_ > 0) --answers_due_;
    was_refused_ |= !taken.is_taken;
    answer(taken.text, !taken.is_taken);
  }

  /// What happened, where it is seen.
  void say(const std::string& text) {
    run_.latest = text;
    if (!is_view_ && !options_.json && !options_.once) print_line(text);
  }
  /// To a command, in the same way.
  void answer(const std::string& text, bool is_error) {
    run_.answer = text;
    if (is_view_) return;
    if (is_error) {
      std::cerr << "troupe: " + single_line(text) + '\n';
    } else if (!options_.json && !options_.once) {
      print_line(text);
    }
  }
  void print_line(const std::string& line) const { screen_.print(line + "\n"); }

  /// All that --once waits for is there.
  bool is_done() const {
    if (!options_.once || commands_.is_open()) return false;
    return (run_.state && answers_due_ == 0) || Clock::now() - asked_at_ > patience_for_answer;
  }

  void draw() {
    Screen now = screen_;
    now.width = terminal_width(STDOUT_FILENO);
    const int height = terminal_height();
    auto lines = view_lines(run_, now, height - 1);
    std::string out = "\x1b[H";
    for (const auto& line : lines) out += line + "\x1b[K\r\n";
    out += "\x1b[J\x1b[" + std::to_string(height) + ";1H";
    const std::string hint =
        options_.control ? "stop, checkpoint, validate, lr RATE; q leaves > " : "q and Enter, or Ctrl-C, leave ";
    out += now.styled(fit_columns(hint, now.width - 1), Style::dim);
    out += fit_columns(single_line(commands_.typed()), std::max(0, now.width - 1 - columns(hint)));
    out += "\x1b[K";
    if (out != drawn_) screen_.print(out);
    drawn_ = std::move(out);
  }

  int finish() {
    if (options_.once && !options_.json) print_view();
    if (options_.once && options_.json && run_.state) print_line(live::line_of(*run_.state));
    if (options_.once) return was_refused_ || !run_.state ? failed : succeeded;
    if (is_view_ && has_ended_) print_view();
    if (client_.has_ended() && !has_ended_) {
      std::cerr << "troupe: the run " + run_.hello.run +
                       " has closed the connection without a last word: its process is gone, or it was too slow here\n";
      return failed;
    }
    return has_failed_ || (was_refused_ && !is_view_) ? failed : succeeded;
  }
  void print_view() const {
    for (const auto& line : view_lines(run_, screen_, 0)) print_line(line);
  }

  live::LiveClient& client_;
  const AttachOptions& options_;
  const Screen& screen_;
  bool is_view_, has_keys_;
  Commands commands_;
  AttachedRun run_;
  int64_t answers_due_ = 0;
  Clock::time_point asked_at_ = Clock::now(), printed_at_{};
  bool has_watch_answer_ = false, was_refused_ = false, has_ended_ = false, has_failed_ = false;
  std::string drawn_;
};

int attach(const std::vector<std::string>& arguments, const AttachOptions& options, const Screen& screen) {
  const auto folder = run_to_attach(arguments);
  check_goes_on(listed_run(folder, runs_folder));
  live::LiveClient client(folder);
  if (options.control && !client.hello().permits_control) {
    throw UsageError("the run " + client.hello().run +
                     " may be looked at only: it was started with trainer.attach = view; --trainer.attach control "
                     "permits more");
  }
  return Attached(client, options, screen).follow();
}

}  // namespace

Command attach_command() {
  const auto options = std::make_shared<AttachOptions>();
  return {
      .name = "attach",
      .summary = "look at a run while it goes on, and control it",
      .arguments = {"[RUN]", 0, 1, Completion::runs},
      .text =
          "Shows a run that goes on, on this machine and of the same user: its progress,\n"
          "metrics with their curves, where the time goes, what its workers do. Without\n"
          "RUN, the one run below ./runs that goes on; of a name, the version that does.\n"
          "The run does not wait for whoever looks.\n\n"
          "With --control, which a run permits that was started with --trainer.attach\n"
          "control, lines of the input are commands: stop [WHY], checkpoint, validate,\n"
          "lr RATE. Each happens after the batch at hand, and is among the run's warnings.\n"
          "If the output is no terminal, lines are printed. It ends with the run, with 1\n"
          "if that fails.",
      .examples = {{"", "the run that goes on; q and Enter leaves it"},
                   {"digits --control", "with a line for commands"},
                   {"last --once", "how far it is, once"},
                   {"last --json | jq -c 'select(.kind == \"event\")'", "for other programs"},
                   {"last --control --once < commands.txt", "from a script: lr 0.001, for example"}},
      .options = option_refs(*options),
      .values = {},
      .letters = {},
      .run = [options](const auto& arguments, const Screen& screen) { return attach(arguments, *options, screen); }};
}

}  // namespace troupe::command
