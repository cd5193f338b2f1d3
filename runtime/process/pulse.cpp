#include "troupe/runtime/process/pulse.hpp"

#include "troupe/runtime/process/alternate_stack.hpp"
#include "troupe/runtime/profile/phase_clock.hpp"

#include <pthread.h>

#include <utility>

namespace troupe {

namespace {

constexpr std::size_t longest_thread_name = 15;  // the kernel's

thread_local std::shared_ptr<Pulse> own_pulse;

}  // namespace

std::string Pulse::place() const {
  if (const char* named = name; *named != 0) return named;
  return part.empty() ? std::string(to_string(hook)) : part;
}

std::string Pulse::whereabouts() const {
  if (collectives > 0) return "";
  if (!works) return who + " waits for a batch or a command";
  std::string text = who + " is in " + place() + ", stage " + std::string(to_string(static_cast<Stage>(stage)));
  if (epoch >= 0) text += ", epoch " + std::to_string(epoch);
  if (batch >= 0) text += ", batch " + std::to_string(batch);
  return text;
}

void enter_thread(std::shared_ptr<Pulse> pulse) {
  thread_local const AlternateStack for_signals;  // crash_note.hpp
  pthread_setname_np(pthread_self(), pulse->who.substr(0, longest_thread_name).c_str());
  own_pulse = std::move(pulse);
  PhaseClock::set_of_thread(nullptr);  // threads are used again, and who was here before may have been killed
}

Waiting::Waiting() : pulse_(own_pulse) {
  if (pulse_) pulse_->waits = true;
}

Waiting::~Waiting() {
  if (pulse_) pulse_->waits = false;
}

CollectiveInFlight::CollectiveInFlight() : pulse_(own_pulse) {
  if (!pulse_) return;
  pulse_->collective_begun_at = nanoseconds_now();
  ++pulse_->collectives;
}

// The thread may have worked on meanwhile: but from the latest begin on there is little that it can do.
void CollectiveInFlight::end() {
  const auto pulse = std::exchange(pulse_, nullptr);
  if (!pulse || --pulse->collectives > 0) return;
  pulse->waited += nanoseconds_now() - pulse->collective_begun_at;
}

}  // namespace troupe
