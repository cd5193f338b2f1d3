#include "troupe/runtime/process/crash_note.hpp"

#include "troupe/base/failure_json.hpp"
#include "troupe/runtime/report/failure_file.hpp"

#include "tests/support/temp_dir.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <thread>

namespace troupe {
namespace {

// Under a sanitizer the signals have handlers, which are left alone.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TROUPE_SKIP_CRASH() GTEST_SKIP() << "the sanitizer reports crashes itself"
#else
#define TROUPE_SKIP_CRASH() static_cast<void>(0)
#endif

std::shared_ptr<Pulse> pulse_in_training() {
  auto pulse = std::make_shared<Pulse>("worker 3");
  pulse->works = true;
  pulse->stage = Stage::fit;
  pulse->hook = Hook::training_step;
  pulse->epoch = 1;
  pulse->batch = 2;
  return pulse;
}

/// `crash` on the thread of a worker, in a process that notes it.
void crash_noted(const std::filesystem::path& folder, const std::function<void()>& crash,
                 const std::string& thread = "worker 3") {
  const auto pulse = pulse_in_training();
  const CrashNote note(folder,
                       {{std::make_shared<Pulse>("worker 2"), 2, "", "cpu"}, {pulse, 3, "a \"host\"", "cuda:1"}});
  std::thread([&] {
    enter_thread(thread == pulse->who ? pulse : std::make_shared<Pulse>(thread, "loader"));
    crash();
  }).join();
}

nlohmann::json noted(const std::filesystem::path& folder) {
  std::ifstream file(folder / "failure.json");
  return nlohmann::json::parse(file);
}

// Deeper than any stack.
[[gnu::noinline]] int64_t overflow_stack(volatile int64_t* outer, int64_t depth) {
  volatile int64_t frame[512];
  frame[0] = *outer + 1;
  return depth == 0 ? frame[0] : overflow_stack(frame, depth - 1) + frame[0];
}

class CrashNoteTest : public testing::Test {
 protected:
  CrashNoteTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }

  // The place is another one in the process of a threadsafe death test.
  static std::filesystem::path fresh(const std::string& name) {
    const auto folder = std::filesystem::temp_directory_path() / ("troupe-crash-" + name);
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    return folder;
  }
};

TEST_F(CrashNoteTest, WritesWhereTheWorkerWasAndEndsByTheSignal) {
  TROUPE_SKIP_CRASH();
  const auto folder = fresh("segv");
  EXPECT_EXIT(
      crash_noted(folder, [] { raise(SIGSEGV); }), testing::KilledBySignal(SIGSEGV),
      "^troupe: the process crashed: SIGSEGV \\(invalid memory access\\) \\(in training_step, stage fit, epoch 1, "
      "batch 2, rank 3\\): .*/failure.json\n$");
  const auto json = noted(folder);
  Failure failure{.rank = 3,
                  .host = "a \"host\"",
                  .device = "cuda:1",
                  .stage = "fit",
                  .hook = "training_step",
                  .epoch = 1,
                  .batch_idx = 2,
                  .message = "the process crashed: SIGSEGV (invalid memory access)"};
  EXPECT_EQ(json, failure_file(failure, "SIGSEGV", json.at("time")));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 1);
  std::filesystem::remove_all(folder);
}

TEST_F(CrashNoteTest, PutsTheSameBehindThePage) {
  TROUPE_SKIP_CRASH();
  const auto folder = fresh("page");
  std::ofstream(folder / "report.html") << "<html></html>\n";
  EXPECT_EXIT(crash_noted(
                  folder, [] { raise(SIGSEGV); }, "</script>"),
              testing::KilledBySignal(SIGSEGV), "");
  std::ifstream file(folder / "report.html");
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  const std::string begin = "<html></html>\n<script type=\"application/json\" id=\"crash\">", end = "</script>\n";
  ASSERT_TRUE(page.starts_with(begin) && page.ends_with(end)) << page;
  const auto json = page.substr(begin.size(), page.size() - begin.size() - end.size());
  EXPECT_EQ(json.find('<'), std::string::npos);
  EXPECT_EQ(nlohmann::json::parse(json), noted(folder));
  EXPECT_NE(noted(folder).at("message").get<std::string>().find("'</script>'"), std::string::npos);
  std::filesystem::remove_all(folder);
}

TEST_F(CrashNoteTest, LeavesAPageAloneThatIsALink) {
  TROUPE_SKIP_CRASH();
  const auto folder = fresh("page_link");
  std::ofstream(folder / "mine") << "mine";
  std::filesystem::create_symlink("mine", folder / "report.html");
  EXPECT_EXIT(crash_noted(folder, [] { raise(SIGSEGV); }), testing::KilledBySignal(SIGSEGV), "");
  EXPECT_EQ(std::filesystem::file_size(folder / "mine"), 4u);
  std::filesystem::remove_all(folder);
}

TEST_F(CrashNoteTest, CatchesWhatTheProcessorReports) {
  TROUPE_SKIP_CRASH();
  const auto folder = fresh("real");
  EXPECT_EXIT(crash_noted(folder, [] { *reinterpret_cast<volatile int*>(8) = 1; }), testing::KilledBySignal(SIGSEGV),
              "SIGSEGV");
  EXPECT_EQ(noted(folder).at("signal"), "SIGSEGV");
  std::filesystem::remove_all(folder);
}

TEST_F(CrashNoteTest, HasAStackOfItsOwnWhenTheThreadsHasOverflowed) {
  TROUPE_SKIP_CRASH();
  const auto folder = fresh("overflow");
  EXPECT_EXIT(crash_noted(folder,
                          [] {
                            volatile int64_t bottom = 0;
                            std::exit(overflow_stack(&bottom, int64_t{1} << 40) > 0);
                          }),
              testing::KilledBySignal(SIGSEGV), "SIGSEGV");
  EXPECT_EQ(noted(folder).at("hook"), "training_step");
  std::filesystem::remove_all(folder);
}

TEST_F(CrashNoteTest, CatchesAbort) {
  TROUPE_SKIP_CRASH();
  const auto folder = fresh("abort");
  EXPECT_EXIT(crash_noted(folder, [] { std::abort(); }), testing::KilledBySignal(SIGABRT), "SIGABRT");
  EXPECT_EQ(noted(folder).at("signal"), "SIGABRT");
  std::filesystem::remove_all(folder);
}

TEST_F(CrashNoteTest, NamesTheThreadIfItIsNoWorkers) {
  TROUPE_SKIP_CRASH();
  const auto folder = fresh("loader");
  EXPECT_EXIT(crash_noted(
                  folder, [] { raise(SIGFPE); }, "fetcher 0 of the loader"),
              testing::KilledBySignal(SIGFPE), "in the thread 'fetcher 0 of th' \\(in training_step");
  EXPECT_EQ(noted(folder).at("rank"), 3);  // the worker that was at work
  std::filesystem::remove_all(folder);
}

TEST_F(CrashNoteTest, SaysALineWhereNothingCanBeWritten) {
  TROUPE_SKIP_CRASH();
  EXPECT_EXIT(crash_noted("", [] { raise(SIGILL); }), testing::KilledBySignal(SIGILL), "rank 3\\)\n$");
  EXPECT_EXIT(crash_noted("/nowhere/at/all", [] { raise(SIGBUS); }), testing::KilledBySignal(SIGBUS), "rank 3\\)\n$");
}

TEST_F(CrashNoteTest, KeepsTheFirstFailureOfTheRun) {
  TROUPE_SKIP_CRASH();
  const auto folder = fresh("first");
  const auto crash = [&] {
    std::ofstream(folder / "failure.json") << "{\"message\":\"first\"}";
    raise(SIGSEGV);
  };
  EXPECT_EXIT(crash_noted(folder, crash), testing::KilledBySignal(SIGSEGV), "rank 3\\)\n$");
  EXPECT_EQ(noted(folder).at("message"), "first");
  std::filesystem::remove_all(folder);
}

void pass_crash_by(int) {}

TEST_F(CrashNoteTest, LeavesHandlersOfOthersAloneAndTakesItsOwnBack) {
  TROUPE_SKIP_CRASH();
  std::signal(SIGFPE, pass_crash_by);
  {
    const CrashNote note("", {{pulse_in_training(), 0, "", "cpu"}});
    struct sigaction now {};
    sigaction(SIGFPE, nullptr, &now);
    EXPECT_EQ(now.sa_handler, pass_crash_by);
    sigaction(SIGSEGV, nullptr, &now);
    EXPECT_NE(now.sa_handler, SIG_DFL);
    const CrashNote second("", {{pulse_in_training(), 0, "", "cpu"}});
    std::signal(SIGILL, pass_crash_by);  // meanwhile
  }
  struct sigaction now {};
  sigaction(SIGSEGV, nullptr, &now);
  EXPECT_EQ(now.sa_handler, SIG_DFL);
  sigaction(SIGILL, nullptr, &now);
  EXPECT_EQ(now.sa_handler, pass_crash_by);
  std::signal(SIGILL, SIG_DFL);
  std::signal(SIGFPE, SIG_DFL);
}

}  // namespace
}  // namespace troupe
