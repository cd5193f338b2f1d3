// Where CAF is spelled. What differs between 0.17 and 1.x is here, so that a port stays a change to this header, but
// for:
// - the lists of messages at the end of messages.hpp, loader_messages.hpp, events.hpp and usher.hpp;
// - usher.cpp, where an usher asks a user's actor and waits for its answer, which nobody else does;
// - `caf::behavior` and `caf::event_based_actor`, which a user's actor may be written with, too
// (caf_callback_actor.hpp).
#pragma once

#include "troupe/base/exception_text.hpp"

#include <caf/actor.hpp>
#include <caf/actor_ostream.hpp>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/atom.hpp>
#include <caf/behavior.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/exit_reason.hpp>
#include <caf/logger.hpp>
#include <caf/scheduler/abstract_coordinator.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/sec.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>

#include <chrono>
#include <exception>
#include <string>
#include <utility>

namespace troupe::cast {

using ActorRef = caf::actor;

/// How the threads of the actors without a thread of their own are used: "sharing", "stealing", or "testing", where
/// nobody has a thread and messages are delivered by hand.
inline void set_scheduler(caf::actor_system_config& config, const std::string& policy) {
  config.set("scheduler.policy", caf::atom_from_string(policy));
}

/// What an actor of `State` keeps from message to message.
template <class State>
State& state_of(caf::stateful_actor<State>* self) {
  return self->state;
}

/// Sends one message; never blocks.
template <class Self, class Message>
void tell(Self* self, const ActorRef& to, Message&& message) {
  self->send(to, std::forward<Message>(message));
}

/// The same with high priority: it overtakes what waits in the mailbox.
template <class Self, class Message>
void tell_urgently(Self* self, const ActorRef& to, Message&& message) {
  self->template send<caf::message_priority::high>(to, std::forward<Message>(message));
}

/// Sends from outside of any actor.
template <class Message>
void tell_anonymously(const ActorRef& to, Message&& message) {
  caf::anon_send(to, std::forward<Message>(message));
}

/// The time that `tell_later` goes by.
template <class Self>
std::chrono::steady_clock::time_point time_of(Self* self) {
  return self->clock().now();
}

/// Sends to self after `delay`.
template <class Self, class Message>
void tell_later(Self* self, std::chrono::milliseconds delay, Message&& message) {
  self->delayed_send(self, delay, std::forward<Message>(message));
}

/// The reason of an end that comes too early, for those who watch.
inline caf::error early_end(std::string why) {
  return caf::make_error(caf::sec::runtime_error, std::move(why));
}

/// What an actor throws ends it, and CAF forgets what it was: here it is the reason of the end.
template <class Behavior, class Self, class... Params>
auto keeping_what_it_throws(Behavior (*behavior)(Self*, Params...)) {
  return [behavior](Self* self, Params... params) -> Behavior {
    self->set_exception_handler([](std::exception_ptr& thrown) -> caf::error {
      try {
        std::rethrow_exception(thrown);
      } catch (...) {
        return early_end(current_exception_text());
      }
    });
    return behavior(self, std::forward<Params>(params)...);
  };
}

/// Spawns an actor on the shared scheduler.
template <class Behavior, class Self, class... Params, class... Args>
ActorRef spawn_shared(caf::actor_system& system, Behavior (*behavior)(Self*, Params...), Args&&... args) {
  return system.spawn(keeping_what_it_throws(behavior), std::forward<Args>(args)...);
}

/// Spawns an actor with a thread of its own, for actors that compute or block. Not where messages are delivered by
/// hand.
template <class Behavior, class Self, class... Params, class... Args>
ActorRef spawn_threaded(caf::actor_system& system, Behavior (*behavior)(Self*, Params...), Args&&... args) {
  if (!system.scheduler().detaches_utility_actors()) {
    return spawn_shared(system, behavior, std::forward<Args>(args)...);
  }
  return system.spawn<caf::detached>(keeping_what_it_throws(behavior), std::forward<Args>(args)...);
}

/// The actor whose message is being handled; null when it was sent anonymously.
template <class Self>
ActorRef sender_of(Self* self) {
  return caf::actor_cast<ActorRef>(self->current_sender());
}

/// Whether messages wait for `self`, which handles one: a chance to go on with its work until one does.
template <class Self>
bool has_mail(Self* self) {
  return !self->mailbox().empty();
}

template <class Self>
ActorRef ref_to(Self* self) {
  return caf::actor_cast<ActorRef>(self);
}

/// Why an actor has ended: what it threw, or CAF's word for the reason; empty if it ended by itself.
inline std::string why_it_ended(const caf::error& reason) {
  if (!reason) return "";
  const auto& context = reason.context();
  return context.match_elements<std::string>() ? context.get_as<std::string>(0) : to_string(reason);
}

/// Calls `ended(actor, why)` in `self` when an actor that it watches has ended, for whatever reason (why_it_ended).
/// What that one told `self` before, not urgently, has come by then.
template <class Self, class Handler>
void on_watched_end(Self* self, Handler ended) {
  self->set_down_handler([ended](caf::down_msg& down) { ended(down.source, why_it_ended(down.reason)); });
}

/// Of one that has ended already `self` hears too.
template <class Self>
void watch(Self* self, const ActorRef& actor) {
  self->monitor(actor);
}

/// `self` ends when `other` does, and watches nobody else.
template <class Self>
void end_with(Self* self, const ActorRef& other) {
  on_watched_end(self, [self](const caf::actor_addr&, const std::string&) { self->quit(); });
  watch(self, other);
}

/// Calls `ended(why)` when the actor has ended, on the thread that it had or, where it has ended already, at once.
template <class Handler>
void on_end_of(const ActorRef& actor, Handler ended) {
  caf::actor_cast<caf::abstract_actor*>(actor)->attach_functor(
      [ended](const caf::error& reason) { ended(why_it_ended(reason)); });
}

/// Ends `self` on an exit message of any reason; by default one that says "normal" is ignored.
template <class Self>
void quit_on_exit(Self* self) {
  self->set_exit_handler([self](caf::exit_msg& exit) { self->quit(std::move(exit.reason)); });
}

/// Calls `asked(why)` in `self`, instead of ending it, when somebody sends it an exit message.
template <class Self, class Handler>
void on_exit_message(Self* self, Handler asked) {
  self->set_exit_handler([asked](caf::exit_msg& exit) { asked(why_it_ended(exit.reason)); });
}

/// By a thread that is no actor's, after it has made a system or spawned in one: CAF keeps the system's logger for such
/// a thread, and the end of the system waits until nobody has it.
inline void forget_system() {
  caf::logger::set_current_actor_system(nullptr);
}

/// Ends another actor, from outside of any actor.
inline void end_anonymously(const ActorRef& actor) {
  caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
}

}  // namespace troupe::cast
