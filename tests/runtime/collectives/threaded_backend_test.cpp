// What happens to those who wait while the transport's thread is stuck in its call, as in MPI when a rank has ended.
#include "troupe/runtime/collectives/threaded_backend.hpp"

#include "tests/runtime/collectives/ranks.hpp"
#include "troupe/runtime/collectives/collective_error.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <latch>
#include <memory>

namespace troupe {
namespace {

using std::chrono::milliseconds;

// A call that is under way until somebody opens the gate.
struct Gate {
  std::latch entered{1};
  std::latch open{1};
  std::latch left{1};
};

class StuckBackend : public ThreadedBackend {
 public:
  explicit StuckBackend(std::shared_ptr<Gate> gate, CollectiveOptions options = {})
      : ThreadedBackend(0, 2, "stuck", options, [gate = std::move(gate)](const CollectiveCall&) {
          gate->entered.count_down();
          gate->open.wait();
          gate->left.count_down();
        }) {}
};

// Lets the thread that a backend left behind come to its end before the test does.
void release(Gate& gate) {
  gate.open.count_down();
  if (gate.entered.try_wait()) gate.left.wait();
}

TEST(ThreadedBackend, WakesThoseWhoWaitWhenItIsAborted) {
  const auto gate = std::make_shared<Gate>();
  {
    StuckBackend backend(gate);
    const auto work = backend.barrier();
    const auto queued = backend.barrier();
    gate->entered.wait();
    backend.abort("a good reason");
    EXPECT_EQ(error_of([&] { work->wait(); }), "a good reason");
    EXPECT_EQ(error_of([&] { queued->wait(); }), "a good reason");
    EXPECT_EQ(error_of([&] { backend.barrier(); }), "a good reason");
    backend.abort("another one");
    EXPECT_EQ(error_of([&] { backend.barrier(); }), "a good reason");
  }  // does not wait for the thread
  release(*gate);
}

TEST(ThreadedBackend, EndsWaitsForFuturesAtTheTimeout) {
  const auto gate = std::make_shared<Gate>();
  {
    StuckBackend backend(gate, {.timeout = milliseconds(20)});
    const auto work = backend.barrier();
    const auto future = work->getFuture();
    future->wait();  // which has no timeout of its own
    EXPECT_TRUE(future->hasError());
    EXPECT_THAT(error_of([&] { work->wait(); }),
                testing::HasSubstr("barrier number 1 of rank 0 of 2 (0 bytes) was not finished within 0.02 s"));
    EXPECT_THROW(backend.barrier(), CollectiveTimeout);
  }
  release(*gate);
}

TEST(ThreadedBackend, FailsWorksThatItsEndFindsUnfinished) {
  const auto gate = std::make_shared<Gate>();
  c10::intrusive_ptr<c10d::Work> work;
  {
    StuckBackend backend(gate);
    work = backend.barrier();
    gate->entered.wait();
  }
  EXPECT_THAT(error_of([&] { work->wait(); }), testing::HasSubstr("has ended"));
  release(*gate);
}

}  // namespace
}  // namespace troupe
