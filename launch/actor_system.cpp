#include "troupe/launch/actor_system.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <thread>
#include <utility>

namespace troupe {
namespace {

caf::actor_system_config caf_config() {
  caf::actor_system_config config;
  // Idle threads of "stealing", the default, poll; the workers want the cores.
  cast::set_scheduler(config, "sharing");
  config.set("scheduler.max-threads", std::size_t{2});
  return config;
}

}  // namespace

ActorSystem::ActorSystem() : config_(caf_config()), actors_(std::make_unique<caf::actor_system>(config_)) {
  cast::forget_system();
}

ActorSystem::~ActorSystem() {
  std::thread([this] { actors_.reset(); }).join();
}

void ActorSystem::stop(const std::string& reason, bool interrupt, int signal) {
  std::lock_guard lock(mutex_);
  if (run_) {
    run_->stop(reason, interrupt, signal);
  } else if (asked_) {
    asked_->push_back({reason, interrupt, signal});
  }
}

void ActorSystem::begin_run() {
  std::lock_guard lock(mutex_);
  asked_.emplace();
}

void ActorSystem::set(const cast::Run* current) {
  std::lock_guard lock(mutex_);
  run_ = current;
  const auto asked = std::exchange(asked_, std::nullopt);
  if (!run_ || !asked) return;
  for (const auto& request : *asked) run_->stop(request.reason, request.interrupt, request.signal);
}

bool ActorSystem::has_ended_within(double seconds) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::microseconds longest_look{20'000};
  const auto begin = Clock::now();
  for (std::chrono::microseconds look{50}; actors_->registry().running() > 0; look = std::min(2 * look, longest_look)) {
    if (Clock::now() - begin > std::chrono::duration<double>(seconds)) return false;
    std::this_thread::sleep_for(look);
  }
  return true;
}

}  // namespace troupe
