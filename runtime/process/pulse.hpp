// What a thread of the cast is doing, for those who look at it from another one.
//
// With Serving (actors/fetcher.hpp) it is what actors share outside of messages: a thread that hangs answers none.
#pragma once

#include "troupe/modules/hooks.hpp"
#include "troupe/modules/stage.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <utility>

namespace troupe {

/// Of the steady clock.
inline int64_t nanoseconds_now() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// A value that one thread writes and any may read. Values of several of them may be of different moments.
template <class T>
class Shared {
 public:
  Shared(T value) : value_(value) {}  // NOLINT(google-explicit-constructor): stands for the value
  Shared& operator=(T value) {
    value_.store(value, std::memory_order_relaxed);
    return *this;
  }
  operator T() const { return value_.load(std::memory_order_relaxed); }  // NOLINT(google-explicit-constructor)

 private:
  std::atomic<T> value_;
};

/// The owner's thread writes, a watchdog reads.
struct Pulse {
  explicit Pulse(std::string who_in, std::string part_in = "") : who(std::move(who_in)), part(std::move(part_in)) {}

  const std::string who;   ///< "worker 0", "fetcher 1 of the train loader"
  const std::string part;  ///< of the cast, where it runs no hooks: "loader"

  Shared<uint64_t> beats = 0;  ///< counts on with each piece of work
  Shared<bool> works = false;  ///< false: it waits for messages
  Shared<bool> waits = false;  ///< for another member of the cast, which is watched itself
  Shared<Stage> stage = Stage::fit;
  Shared<Hook> hook = Hook::prepare_data;
  Shared<const char*> name = "";  ///< of what is no hook; a literal
  Shared<int64_t> epoch = -1;
  Shared<int64_t> batch = -1;

  /// Collective operations that this thread has begun and that are not finished. They have a time limit of their own,
  /// and end on other threads.
  std::atomic<int64_t> collectives = 0;
  std::atomic<int64_t> collective_begun_at = 0;  ///< the latest one, in nanoseconds of the steady clock
  std::atomic<int64_t> waited = 0;               ///< nanoseconds from there until none was left, in all

  Shared<uint64_t> steps = 0;        ///< batches begun, by a worker
  Shared<bool> is_in_batch = false;  ///< of training or of an evaluation

  void beat() { beats = beats + 1; }
  /// Where in user code, or which part of the cast.
  std::string place() const;
  /// For others that wait for it: "worker 1 is in training_step, stage fit, epoch 3, batch 17". Empty if it waits
  /// for others itself, in a collective operation.
  std::string whereabouts() const;
};

/// The owner's thread, at its beginning: takes the pulse's name, and what it does is counted there from now on.
void enter_thread(std::shared_ptr<Pulse> pulse);

/// The time of one piece of work.
class Working {
 public:
  explicit Working(Pulse& pulse) : pulse_(pulse) {
    pulse_.beat();
    pulse_.works = true;
  }
  ~Working() { pulse_.works = false; }
  Working(const Working&) = delete;
  Working& operator=(const Working&) = delete;

 private:
  Pulse& pulse_;
};

/// The time of one batch of a worker.
class InBatch {
 public:
  explicit InBatch(Pulse& pulse) : pulse_(pulse) {
    pulse_.steps = pulse_.steps + 1;
    pulse_.is_in_batch = true;
  }
  ~InBatch() { pulse_.is_in_batch = false; }
  InBatch(const InBatch&) = delete;
  InBatch& operator=(const InBatch&) = delete;

 private:
  Pulse& pulse_;
};

/// The time of something that is no hook, under its name. What throws keeps the name: the failure is to say it.
class During {
 public:
  /// `name` is a literal.
  During(Pulse& pulse, const char* name) : pulse_(pulse), exceptions_(std::uncaught_exceptions()) {
    pulse_.name = name;
  }
  ~During() {
    if (std::uncaught_exceptions() == exceptions_) pulse_.name = "";
  }
  During(const During&) = delete;
  During& operator=(const During&) = delete;

 private:
  Pulse& pulse_;
  const int exceptions_;
};

/// The time that a thread waits for another member of the cast; on a thread without a pulse it does nothing.
class Waiting {
 public:
  Waiting();
  ~Waiting();
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  std::shared_ptr<Pulse> pulse_;
};

/// A collective operation, from its begin on the thread that this is made on to end(), on any.
class CollectiveInFlight {
 public:
  CollectiveInFlight();
  ~CollectiveInFlight() { end(); }
  CollectiveInFlight(const CollectiveInFlight&) = delete;
  CollectiveInFlight& operator=(const CollectiveInFlight&) = delete;
  void end();

 private:
  std::shared_ptr<Pulse> pulse_;
};

}  // namespace troupe
