// Actors whose messages a test delivers by hand, one by one on its own thread: nobody has a thread, and time passes
// when the test says so. A run of it is the same each time.
#pragma once

#include "troupe/actors/caf.hpp"

#include <caf/scheduler/test_coordinator.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace troupe::cast {

class HandDelivery {
 public:
  HandDelivery() { system_.await_actors_before_shutdown(false); }
  // Whoever is left hears what is left to hear, and ends: the system would wait for it.
  ~HandDelivery() {
    for (int i = 0; i < most_timers; ++i) {
      if (!all() || !scheduler().trigger_timeout()) break;
    }
    for (const auto& [name, actor] : known_) caf::anon_send_exit(actor, caf::exit_reason::kill);
    all();
    known_.clear();
  }
  HandDelivery(const HandDelivery&) = delete;
  HandDelivery& operator=(const HandDelivery&) = delete;

  caf::actor_system& system() { return system_; }

  /// Delivers the oldest message that is not for one of `held`; false: there is none.
  bool one(const std::vector<ActorRef>& held = {}) {
    auto& jobs = scheduler().jobs;
    for (auto* job : jobs) meet(job);
    const auto next = std::ranges::find_if(jobs, [&](caf::resumable* job) { return !is_one_of(held, job); });
    if (next == jobs.end()) return false;
    std::rotate(jobs.begin(), next, next + 1);
    return scheduler().try_run_once();
  }
  /// Delivers messages until none is left, those for `held` aside. False when that takes too many.
  bool all(const std::vector<ActorRef>& held = {}) {
    for (int i = 0; i < most_messages; ++i) {
      if (!one(held)) return true;
    }
    return false;
  }
  /// Delivers messages until `is_done`, which it returns. False when none is left, and when it takes too many.
  bool until(const std::function<bool()>& is_done, const std::vector<ActorRef>& held = {}) {
    for (int i = 0; i < most_messages && !is_done(); ++i) {
      if (!one(held)) break;
    }
    return is_done();
  }
  /// Time passes, and what was to be sent by then is sent, but not delivered.
  void pass(std::chrono::milliseconds time) { scheduler().advance_time(time); }

  /// The actor of this name that was spawned first, of those that had something to do; null: there is none.
  ActorRef actor(const std::string& name) {
    for (auto* job : scheduler().jobs) meet(job);
    const auto found = known_.find(name);
    return found == known_.end() ? nullptr : found->second;
  }

 private:
  static constexpr int most_messages = 100'000, most_timers = 100;

  struct Config : caf::actor_system_config {
    Config() { set_scheduler(*this, "testing"); }
  };

  caf::scheduler::test_coordinator& scheduler() {
    return dynamic_cast<caf::scheduler::test_coordinator&>(system_.scheduler());
  }
  void meet(caf::resumable* job) {
    if (auto* actor = dynamic_cast<caf::local_actor*>(job)) known_.emplace(actor->name(), ref_to(actor));
  }
  static bool is_one_of(const std::vector<ActorRef>& actors, caf::resumable* job) {
    const auto* actor = dynamic_cast<caf::abstract_actor*>(job);
    return std::ranges::any_of(
        actors, [&](const ActorRef& each) { return caf::actor_cast<caf::abstract_actor*>(each) == actor; });
  }

  Config config_;
  caf::actor_system system_{config_};
  std::map<std::string, ActorRef> known_;
};

}  // namespace troupe::cast
