#include "troupe/runtime/process/crash_note.hpp"

#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/checkpoint/strict_json.hpp"

#include <nlohmann/json.hpp>

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <ctime>
#include <string_view>

namespace troupe {

namespace {

struct Crash {
  int signal;
  std::string_view name, meaning;
};

constexpr std::array<Crash, 5> crashes = {{{SIGSEGV, "SIGSEGV", "invalid memory access"},
                                           {SIGBUS, "SIGBUS", "memory that is not there, as of a file cut short"},
                                           {SIGFPE, "SIGFPE", "an arithmetic error, as division by zero"},
                                           {SIGILL, "SIGILL", "an invalid instruction"},
                                           {SIGABRT, "SIGABRT", "abort was called"}}};

constexpr std::size_t name_of_thread_size = 16;  // the kernel's

/// Text in memory that is there already; what is too long is cut.
class CrashText {
 public:
  void add(std::string_view text) {
    for (const char c : text) {
      if (used_ < text_.size()) text_[used_++] = c;
    }
  }
  /// Within quotes of JSON.
  void add_quoted(std::string_view text) {
    for (const char c : text) {
      const bool is_plain = static_cast<unsigned char>(c) >= 0x20 && static_cast<unsigned char>(c) < 0x7F;
      add(is_plain && c != '"' && c != '\\' ? std::string_view(&c, 1) : "?");
    }
  }
  void add(int64_t number) {
    std::array<char, 24> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
    add(std::string_view(digits.data(), static_cast<std::size_t>(end - digits.data())));
  }
  void add_field(std::string_view before, int64_t number) {
    add(before);
    add(number);
  }
  /// Within a script of a page, which "</script>" would end.
  void add_for_page(std::string_view json) {
    for (const char c : json) add(c == '<' ? std::string_view("\\u003c") : std::string_view(&c, 1));
  }
  std::string_view text() const { return {text_.data(), used_}; }
  bool write_to(int file) const {
    std::size_t written = 0;
    while (written < used_) {
      const ssize_t count = write(file, text_.data() + written, used_ - written);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return false;
      written += static_cast<std::size_t>(count);
    }
    return true;
  }

 private:
  std::array<char, 8192> text_;
  std::size_t used_ = 0;
};

/// Where a worker was.
struct CrashPoint {
  std::string_view stage, hook;
  int64_t epoch = -1, batch = -1;
};

// Pulse::place() makes a string, which allocates.
CrashPoint point_of(const Pulse& pulse) {
  const char* const named = pulse.name;
  CrashPoint point{to_string(static_cast<Stage>(pulse.stage)), named, pulse.epoch, pulse.batch};
  if (*named == 0) point.hook = pulse.part.empty() ? to_string(static_cast<Hook>(pulse.hook)) : pulse.part;
  return point;
}

// Open MPI prints a stack and goes on to what was there before.
bool is_of_open_mpi(const struct sigaction& action) {
  Dl_info info{};
  void* handler = nullptr;
  std::memcpy(&handler, &action.sa_sigaction, sizeof handler);
  return dladdr(handler, &info) != 0 && info.dli_fname &&
         std::string_view(info.dli_fname).find("libopen-pal") != std::string_view::npos;
}

}  // namespace

// A thread in the handler reads what the constructor has made; only `thread` changes then.
struct CrashNote::State {
  /// Its place, with texts as they stand in JSON.
  struct Worker {
    CrashPlace place;
    std::string thread, host, device;
  };

  std::vector<Worker> workers;
  std::string path, temporary, page;  // empty: nothing is written
  time_t began = 0;
  pid_t process = 0;
  bool is_terminal = false;
  std::array<struct sigaction, crashes.size()> before{};
  std::array<bool, crashes.size()> is_installed{};
  std::atomic<pid_t> thread{0};  // that crashed first

  static inline std::atomic<State*> active{nullptr};

  static void on_crash(int signal, siginfo_t* info, void* context);
  void install();
  void take_back(std::size_t index);
  void note(const Crash& crash) const;
  static CrashText crash_json(const Worker& worker, const CrashPoint& point, std::string_view signal,
                              const CrashText& message);
  const Worker& worker_of(std::string_view thread_name, bool& is_own) const;
  bool write_file(const CrashText& json) const;
  void write_to_page(const CrashText& json) const;
};

void CrashNote::State::install() {
  struct sigaction own {};
  own.sa_sigaction = on_crash;
  own.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&own.sa_mask);
  for (std::size_t i = 0; i < crashes.size(); ++i) {
    if (sigaction(crashes[i].signal, nullptr, &before[i]) != 0) continue;
    const bool is_free = (before[i].sa_flags & SA_SIGINFO) == 0 && before[i].sa_handler == SIG_DFL;
    const bool is_ignored = (before[i].sa_flags & SA_SIGINFO) == 0 && before[i].sa_handler == SIG_IGN;
    if (!is_free && (is_ignored || !is_of_open_mpi(before[i]))) continue;
    is_installed[i] = sigaction(crashes[i].signal, &own, nullptr) == 0;
  }
}

// Unless somebody else has put a handler there meanwhile.
void CrashNote::State::take_back(std::size_t index) {
  struct sigaction now {};
  if (!is_installed[index] || sigaction(crashes[index].signal, nullptr, &now) != 0) return;
  if ((now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == on_crash) {
    sigaction(crashes[index].signal, &before[index], nullptr);
  }
}

// What the signal's cause repeats when the handler returns, or what is sent once more, ends the process.
void CrashNote::State::on_crash(int signal, siginfo_t* info, void*) {
  const int error = errno;
  State* const state = active.load();
  std::size_t index = 0;
  while (index + 1 < crashes.size() && crashes[index].signal != signal) ++index;
  const auto thread = static_cast<pid_t>(syscall(SYS_gettid));
  if (state && state->process == getpid()) {
    pid_t first = 0;
    if (state->thread.compare_exchange_strong(first, thread)) {
      state->note(crashes[index]);
    } else if (first != thread) {
      for (int waits = 0; waits < 10; ++waits) {  // the first one ends the process
        timespec moment{0, 100'000'000};
        nanosleep(&moment, nullptr);
      }
    }
  }
  if (state) {
    sigaction(signal, &state->before[index], nullptr);
  } else {
    std::signal(signal, SIG_DFL);
  }
  const bool was_sent = info->si_code <= 0;  // by abort, raise or kill
  if (was_sent) syscall(SYS_tgkill, getpid(), thread, signal);
  errno = error;
}

// A thread bears the beginning of its pulse's name.
const CrashNote::State::Worker& CrashNote::State::worker_of(std::string_view thread_name, bool& is_own) const {
  for (const auto& worker : workers) {
    is_own = thread_name == worker.thread;
    if (is_own) return worker;
  }
  for (const auto& worker : workers) {
    if (worker.place.pulse->works) return worker;
  }
  return workers.front();
}

void CrashNote::State::note(const Crash& crash) const {
  std::array<char, name_of_thread_size + 1> thread_name{};
  prctl(PR_GET_NAME, thread_name.data());
  bool is_own = false;
  const Worker& worker = worker_of(thread_name.data(), is_own);
  const CrashPoint point = point_of(*worker.place.pulse);
  CrashText message;
  message.add("the process crashed: ");
  message.add(crash.name);
  message.add(" (");
  message.add(crash.meaning);
  message.add(")");
  if (!is_own) {
    message.add(" in the thread '");
    message.add_quoted(thread_name.data());
    message.add("'");
  }
  const CrashText json = crash_json(worker, point, crash.name, message);
  const bool is_written = write_file(json);
  write_to_page(json);
  CrashText line;
  line.add(is_terminal ? "\ntroupe: " : "troupe: ");  // the bar may stand there
  line.add(message.text());
  line.add(" (in ");
  line.add_quoted(point.hook);
  line.add(", stage ");
  line.add(point.stage);
  if (point.epoch >= 0) line.add_field(", epoch ", point.epoch);
  if (point.batch >= 0) line.add_field(", batch ", point.batch);
  line.add_field(", rank ", worker.place.rank);
  line.add(")");
  if (is_written) {
    line.add(": ");
    line.add(path);
  }
  line.add("\n");
  (void)line.write_to(STDERR_FILENO);
}

// As failure_file (runtime/report/failure_file.hpp) has it.
CrashText CrashNote::State::crash_json(const Worker& worker, const CrashPoint& point, std::string_view signal,
                                       const CrashText& message) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  CrashText json;
  json.add_field("{\"batch\":", point.batch);
  json.add(",\"device\":");
  json.add(worker.device);
  json.add_field(",\"epoch\":", point.epoch);
  json.add(",\"hook\":\"");
  json.add_quoted(point.hook);
  json.add("\",\"host\":");
  json.add(worker.host);
  json.add(",\"message\":\"");
  json.add(message.text());
  json.add_field("\",\"rank\":", worker.place.rank);
  json.add(",\"signal\":\"");
  json.add(signal);
  json.add("\",\"stage\":\"");
  json.add(point.stage);
  json.add_field("\",\"time\":", now.tv_sec);
  json.add("}\n");
  return json;
}

bool CrashNote::State::write_file(const CrashText& json) const {
  if (path.empty()) return false;
  struct stat there {};
  if (stat(path.c_str(), &there) == 0 && there.st_mtime >= began) return false;
  const int file = open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (file < 0) return false;
  const bool is_written = json.write_to(file) && fsync(file) == 0;
  close(file);
  if (is_written && rename(temporary.c_str(), path.c_str()) == 0) return true;
  unlink(temporary.c_str());
  return false;
}

// Behind what the page says already, since nobody can write it anew here: the page reads it before it shows itself.
void CrashNote::State::write_to_page(const CrashText& json) const {
  if (page.empty()) return;
  const int file = open(page.c_str(), O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) return;
  struct stat there {};
  if (fstat(file, &there) == 0 && S_ISREG(there.st_mode)) {
    CrashText element;
    element.add("<script type=\"application/json\" id=\"crash\">");
    element.add_for_page(json.text());
    element.add("</script>\n");
    (void)element.write_to(file);
  }
  close(file);
}

CrashNote::CrashNote(const std::filesystem::path& folder, std::vector<CrashPlace> places)
    : state_(std::make_unique<State>()) {
  for (auto& place : places) {
    State::Worker worker{place, place.pulse->who.substr(0, name_of_thread_size - 1), json_text(place.host),
                         json_text(place.device)};
    state_->workers.push_back(std::move(worker));
  }
  if (!folder.empty()) {
    const auto absolute = std::filesystem::absolute(folder);
    state_->path = (absolute / "failure.json").string();
    state_->temporary = temporary_path(absolute).string();
    state_->page = (absolute / "report.html").string();
  }
  state_->began = std::time(nullptr);
  state_->process = getpid();
  state_->is_terminal = isatty(STDERR_FILENO) != 0;
  State* none = nullptr;
  if (state_->workers.empty() || !State::active.compare_exchange_strong(none, state_.get())) {
    state_.reset();
    return;
  }
  state_->install();
}

CrashNote::~CrashNote() {
  if (!state_) return;
  for (std::size_t i = 0; i < crashes.size(); ++i) state_->take_back(i);
  State::active = nullptr;
  if (state_->thread != 0) (void)state_.release();  // a thread is in the handler, and the process about to end
}

}  // namespace troupe
