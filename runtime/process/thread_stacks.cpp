#include "troupe/runtime/process/thread_stacks.hpp"

#include <cxxabi.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <semaphore.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <sstream>

namespace troupe {

namespace {

constexpr int most_frames = 64;
constexpr int frames_of_handler = 2;
constexpr long patience_ns = 300'000'000;  // for a thread to answer

// What the handler, which may do very little, fills in.
std::array<void*, most_frames> frames;
std::atomic<int> frame_count{0};
std::atomic<pid_t> asked{0};
sem_t answered;

int own_signal() {
  return SIGRTMIN + 6;
}

void on_question(int) {
  const int error = errno;
  if (asked.exchange(0) == static_cast<pid_t>(syscall(SYS_gettid))) {
    frame_count = backtrace(frames.data(), most_frames);
    sem_post(&answered);
  }
  errno = error;
}

bool ask(pid_t thread) {
  frame_count = 0;
  asked = thread;
  if (syscall(SYS_tgkill, getpid(), thread, own_signal()) != 0) return false;
  timespec until{};
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_nsec += patience_ns;
  if (until.tv_nsec >= 1'000'000'000) {
    until.tv_nsec -= 1'000'000'000;
    until.tv_sec += 1;
  }
  while (sem_timedwait(&answered, &until) != 0) {
    if (errno == EINTR) continue;
    if (asked.exchange(0) == 0) sem_wait(&answered);  // at the last moment
    return frame_count > 0;
  }
  return true;
}

std::string described(void* address) {
  std::ostringstream text;
  Dl_info info{};
  if (dladdr(address, &info) == 0) {
    text << address;
    return text.str();
  }
  if (info.dli_sname) {
    int status = 0;
    const std::unique_ptr<char, void (*)(void*)> name(abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status),
                                                      std::free);
    text << (status == 0 ? name.get() : info.dli_sname);
  } else {
    text << "+0x" << std::hex << static_cast<char*>(address) - static_cast<char*>(info.dli_fbase);
  }
  text << " in " << std::filesystem::path(info.dli_fname).filename().string();
  return text.str();
}

std::string name_of(pid_t thread) {
  std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/comm");
  std::string name;
  std::getline(file, name);
  return name;
}

}  // namespace

std::string thread_stacks() {
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  backtrace(frames.data(), most_frames);  // loads what it needs, which the handler must not
  sem_init(&answered, 0, 0);
  struct sigaction action {
  }, before{};
  action.sa_handler = on_question;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(own_signal(), &action, &before);
  std::ostringstream text;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task", ignored)) {
    const auto thread = static_cast<pid_t>(std::atoi(entry.path().filename().c_str()));
    text << "thread " << thread << " (" << name_of(thread) << ")\n";
    if (!ask(thread)) {
      text << "  does not answer\n";
      continue;
    }
    for (int i = frames_of_handler; i < frame_count; ++i) {
      text << "  " << described(frames[static_cast<std::size_t>(i)]) << '\n';
    }
  }
  // The handler stays where a thread did not answer yet: without one its signal would end the process.
  if (before.sa_handler != SIG_DFL) sigaction(own_signal(), &before, nullptr);
  auto all = text.str();
  if (!all.empty()) all.pop_back();
  return all;
}

}  // namespace troupe
