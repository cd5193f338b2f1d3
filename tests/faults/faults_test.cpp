// Faults, injected for real: how the run ends, what it says, and that the next start goes on to the end.
#include "tests/support/program.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/base/host_name.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int timed_out = 124;  // what timeout(1) says

class Faults : public ::testing::Test {
 protected:
  // One process, or so many ranks.
  Finished run(const std::string& fault, const std::string& options = "", int ranks = 1) const {
    const std::string launcher =
        ranks > 1 ? std::string(TROUPE_SOURCE_DIR) + "/tests/mpirun.sh " + std::to_string(ranks) + " " : "";
    return run_program("OMP_NUM_THREADS=1 timeout 60 " + launcher + example("../tests/fault_program") +
                       " fit --ckpt_path auto --trainer.default_root_dir " + root_.path().string() + " --model.fault " +
                       fault + " " + options + " 2>&1");
  }

  // Two ranks, of which the second one runs `differs` in its shell first: a change of its variables or of `program`.
  Finished run_differing(const std::string& differs, const std::string& options = "") const {
    return run_program("OMP_NUM_THREADS=1 timeout 60 " TROUPE_SOURCE_DIR "/tests/mpirun.sh 2 bash -c 'more=; program=" +
                       example("../tests/fault_program") + "; if [ $OMPI_COMM_WORLD_RANK = 1 ]; then " + differs +
                       "; fi; exec $program fit --trainer.default_root_dir " + root_.path().string() + " " + options +
                       " $more' 2>&1");
  }

  // The run ended by itself, with `said`, no process is left, and the next start comes to the end of the training.
  void expect_end(const Finished& ended, const std::string& said, int ranks = 1) const {
    EXPECT_NE(ended.status, 0) << ended.output;
    EXPECT_NE(ended.status, timed_out) << ended.output;
    EXPECT_THAT(ended.output, HasSubstr(said));
    EXPECT_EQ(run_program("pgrep -f '[f]ault_program.*" + root_.path().filename().string() + "'").output, "");
    const auto next = run("none", "", ranks);
    EXPECT_EQ(next.status, 0) << next.output;
    EXPECT_THAT(next.output, Not(HasSubstr("error")));
  }

  const TempDir root_;
};

// Under the address sanitizer a process whose memory runs out, or that crashes, ends in its report.
#ifdef __SANITIZE_ADDRESS__
#define TROUPE_SKIP_WITH_SANITIZER() GTEST_SKIP() << "the address sanitizer ends the process itself"
#else
#define TROUPE_SKIP_WITH_SANITIZER() static_cast<void>(0)
#endif

constexpr const char* watched = "--trainer.watchdog_timeout 1";

TEST_F(Faults, AStepThatThrows) {
  expect_end(run("step"), "step is out of luck (in training_step, stage fit, epoch 1, batch 2");
}

TEST_F(Faults, ADatasetThatThrows) {
  expect_end(run("dataset", "--model.fetchers 2"), "dataset is out of luck (in loader, stage fit, epoch 1");
}

TEST_F(Faults, ACallbackThatThrows) {
  expect_end(run("callback"), "callback is out of luck (in on_train_batch_end, stage fit, epoch 1, batch 2");
}

TEST_F(Faults, ACallbackActorThatThrowsEndsAloneAndIsNamed) {
  const auto ended = run("actor");
  EXPECT_EQ(ended.status, 0) << ended.output;
  EXPECT_THAT(ended.output, HasSubstr("warning: the actor watcher threw, and has ended: actor is out of luck"));
}

TEST_F(Faults, ASinkThatThrows) {
  expect_end(run("sink"), "sink is out of luck (in logger numbers, stage fit");
}

TEST_F(Faults, MemoryThatRunsOut) {
  TROUPE_SKIP_WITH_SANITIZER();
  expect_end(run("memory"), "(in training_step, stage fit, epoch 1, batch 2");
}

TEST_F(Faults, AProcessThatIsKilled) {
  expect_end(run("kill"), "fault at ");
}

TEST_F(Faults, AProcessThatAborts) {
  TROUPE_SKIP_WITH_SANITIZER();
  expect_end(
      run("abort"),
      "the process crashed: SIGABRT (abort was called) (in training_step, stage fit, epoch 1, batch 2, rank 0): ");
}

TEST_F(Faults, AProcessThatCrashesLeavesItsPlaceInTheRunsFolder) {
  TROUPE_SKIP_WITH_SANITIZER();
  const auto ended = run("segv");
  EXPECT_THAT(ended.output, HasSubstr("/failure.json\n"));
  const auto written = run_program("cat " + root_.path().string() + "/*/version_0/failure.json").output;
  EXPECT_THAT(written, AllOf(HasSubstr("\"signal\":\"SIGSEGV\""), HasSubstr("\"hook\":\"training_step\""),
                             HasSubstr("\"epoch\":1"), HasSubstr("\"batch\":2"), HasSubstr("\"device\":\"cpu\""),
                             HasSubstr("\"host\":\"" + host_name() + "\"")));
  expect_end(ended, "SIGSEGV (invalid memory access)");
}

// --- Hangs ---

TEST_F(Faults, AStepThatHangsIsNamedWithTheStacksOfAllThreads) {
  const auto ended = run("hung_step", std::string(watched) + " --trainer.watchdog_stacks true");
  EXPECT_THAT(ended.output, AllOf(HasSubstr("(worker 0)"), HasSubstr("(the logger)"), HasSubstr("pthread_cond_wait")));
  expect_end(ended,
             "worker 0 has made no progress for 1.0 s (trainer.watchdog_timeout) (in training_step, stage fit, epoch 1,"
             " batch 2");
}

TEST_F(Faults, ADatasetThatHangsInAFetcher) {
  expect_end(run("hung_dataset", std::string(watched) + " --model.fetchers 2"),
             "of the loader has made no progress for 1.0 s (trainer.watchdog_timeout) (in loader, stage fit, epoch ");
}

TEST_F(Faults, ADatasetThatHangsInTheLoader) {
  expect_end(run("hung_dataset", watched), "the loader has made no progress for 1.0 s");
}

// The run is over by then: its result counts, and the process ends.
TEST_F(Faults, AFetcherThatHangsOnABatchThatNobodyWantsAnyMore) {
  const auto ended =
      run("hung_last_fetch", "--model.fetchers 1 --model.epoch 0 --trainer.max_steps 3 --trainer.watchdog_timeout 2");
  EXPECT_EQ(ended.status, 0) << ended.output;
  EXPECT_THAT(ended.output, HasSubstr("a loader is in its dataset still, 2.0 s after the run"));
}

// Without an option a step has 10 s, or 20 times the longest before. The small factor leaves the floor the larger one,
// however long a busy machine takes for a step.
TEST_F(Faults, AStepThatHangsIsFoundByTheTimeOfTheStepsBefore) {
  expect_end(run("hung_step",
                 "--model.epoch 40 --trainer.max_epochs 50 --trainer.watchdog_floor 2 --trainer.watchdog_factor 2"),
             "worker 0 has made no progress for 2.0 s in a step (trainer.watchdog_floor) (in training_step, stage fit,"
             " epoch 40, batch 2");
}

TEST_F(Faults, ALoaderThatStallsIsNoHang) {
  const auto stalled = run("slow_dataset", "--model.epoch 40 --trainer.max_epochs 41 --trainer.watchdog_floor 0.5");
  EXPECT_EQ(stalled.status, 0) << stalled.output;
  EXPECT_THAT(stalled.output, HasSubstr("stalls at "));
}

TEST_F(Faults, ASinkThatHangs) {
  expect_end(run("hung_sink", watched), "the logger has made no progress for 1.0 s");
}

TEST_F(Faults, ACallbackThatHangs) {
  expect_end(run("hung_callback", watched), "(in on_train_batch_end, stage fit, epoch 1, batch 2");
}

TEST_F(Faults, PreparingDataAndASlowStepAreNoHangs) {
  const auto prepared = run("slow_prepare_data", watched);
  EXPECT_EQ(prepared.status, 0) << prepared.output;
  const auto slow = run("slow_step", "--model.epoch 3 --trainer.max_epochs 4 " + std::string(watched));
  EXPECT_EQ(slow.status, 0) << slow.output;
}

// --- Three ranks, which CTest runs as faults_of_ranks_test ---

class FaultsOfRanks : public Faults {};

TEST_F(FaultsOfRanks, ARankThatCrashesEndsAll) {
  TROUPE_SKIP_WITH_SANITIZER();
  const auto ended = run("segv", "--model.rank 1", 3);
  EXPECT_THAT(ended.output, HasSubstr("(in training_step, stage fit, epoch 1, batch 2, rank 1): "));
  expect_end(ended, "signal 11 (Segmentation fault)", 3);
}

TEST_F(FaultsOfRanks, ARankThatIsStoppedEndsAllAfterTheTimeout) {
  const auto ended = run("stop", "--model.rank 1 --trainer.collective_timeout 3", 3);
  EXPECT_THAT(ended.output, ContainsRegex("was not finished within 3 s: process 1 on [^ ]+ does not answer"));
  EXPECT_THAT(ended.output, Not(ContainsRegex("process 2 on [^ ]+ does not answer")));
  expect_end(ended, "stage fit, epoch 1, batch ", 3);
}

TEST_F(FaultsOfRanks, ARankThatIsStoppedDoesNotAnswerAndEndsAllLongBeforeTheTimeout) {
  const auto ended = run("stop", "--model.rank 1 --trainer.watchdog_floor 1", 3);
  EXPECT_THAT(ended.output, Not(HasSubstr("process 2 on ")));
  expect_end(ended, "has not answered twice, while worker ", 3);
  EXPECT_THAT(ended.output, HasSubstr("process 1 on "));
}

TEST_F(FaultsOfRanks, AStalledLoaderOfOneRankKeepsTheOthersWaiting) {
  const auto stalled = run("slow_dataset", "--model.rank 1 --trainer.watchdog_floor 0.5", 3);
  EXPECT_EQ(stalled.status, 0) << stalled.output;
}

// Without the watchdog: those that wait ask where the others are.
TEST_F(FaultsOfRanks, ARankThatIsWaitedForIsNamedWithItsPlace) {
  const auto ended = run("hung_step", "--model.rank 1 --trainer.collective_timeout 3 --trainer.watchdog_timeout 0", 3);
  expect_end(ended, "was not finished within 3 s: worker 1 is in training_step, stage fit, epoch 1, batch 2 (", 3);
}

TEST_F(FaultsOfRanks, ARankThatHangsIsTheOneThatIsNamed) {
  const auto ended = run("hung_step", "--model.rank 1 " + std::string(watched), 3);
  EXPECT_THAT(ended.output, Not(HasSubstr("worker 0 has made no progress")));
  EXPECT_THAT(ended.output, Not(HasSubstr("worker 2 has made no progress")));
  expect_end(ended, "worker 1 has made no progress for 1.0 s", 3);
  EXPECT_THAT(ended.output, HasSubstr("(in training_step, stage fit, epoch 1, batch 2, rank 1 on "));
}

// --- Ranks that do not fit together ---

// One sentence for all ranks: rank zero's. Each line has its rank before it.
void expect_one_sentence(const Finished& ended, const std::string& part) {
  EXPECT_EQ(ended.status, 2) << ended.output;
  EXPECT_THAT(ended.output, ContainsRegex("\\[1,0\\]<stderr>: ?fault_program: rank 1 on [^\n]*" + part));
  EXPECT_THAT(ended.output, Not(ContainsRegex("\\[1,1\\]<stderr>: ?fault_program: ")));
}

TEST_F(FaultsOfRanks, RanksWithOtherOptionsDoNotBegin) {
  const auto ended = run_differing("more=\"--model.batch 7\"");
  expect_one_sentence(ended, "model.batch = 7 and not 2");
}

TEST_F(FaultsOfRanks, RanksOfTwoProgramsDoNotBegin) {
  const auto copy = root_.path() / "older_program";
  const auto ended =
      run_differing("cp $program " + copy.string() + "; echo >>" + copy.string() + "; program=" + copy.string());
  expect_one_sentence(ended, copy.string() + " \\(hash [^\n]*/fault_program \\(hash ");
}

TEST_F(FaultsOfRanks, ACheckpointThatOneRankDoesNotSeeIsNamed) {
  ASSERT_EQ(run("none").status, 0);
  const auto last = "$(find " + root_.path().string() + " -name last.safetensors -printf %P)";
  const auto ended = run_program("cd " + root_.path().string() + " && last=" + last +
                                 " && OMP_NUM_THREADS=1 timeout 60 " TROUPE_SOURCE_DIR
                                 "/tests/mpirun.sh 2 bash -c '[ $OMPI_COMM_WORLD_RANK = 0 ] || cd /; exec " +
                                 example("../tests/fault_program") + " fit --ckpt_path '$last 2>&1");
  expect_one_sentence(ended, "does not see ");
}

TEST_F(FaultsOfRanks, RanksThatAreMoreThanTheSamplesDoNotBegin) {
  const auto ended = run("none", "--model.samples 2", 3);
  EXPECT_EQ(ended.status, 1) << ended.output;
  EXPECT_THAT(ended.output, AllOf(HasSubstr("the train loader has 2 sample(s) for 3 ranks, and each needs one of its "
                                            "own: use 2 rank(s) at most"),
                                  Not(HasSubstr("training at "))));
  const auto fewer = run("none", "--model.samples 2", 2);
  EXPECT_EQ(fewer.status, 0) << fewer.output;
}

TEST_F(FaultsOfRanks, DataThatOneRankDoesNotSeeIsNamedWithTheRank) {
  std::ofstream(root_.path() / "book.txt") << std::string(5000, 'a');
  const auto ended = run_program("cd " + root_.path().string() +
                                 " && OMP_NUM_THREADS=1 timeout 60 " TROUPE_SOURCE_DIR
                                 "/tests/mpirun.sh 2 bash -c '[ $OMPI_COMM_WORLD_RANK = 0 ] || cd /; exec " +
                                 example("char_rnn") + " fit --data.files book.txt' 2>&1");
  EXPECT_EQ(ended.status, 1) << ended.output;
  EXPECT_THAT(ended.output, ContainsRegex("book.txt: No such file or directory [^\n]*rank 1 on "));
}

}  // namespace
}  // namespace troupe
