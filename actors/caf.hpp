// Every spelling of CAF's that differs between 0.17 and 1.x, in one place: the port must stay a change to this header
// and to the message list (messages.hpp).
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_ostream.hpp>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/behavior.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/exit_reason.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>

#include <chrono>
#include <utility>

namespace troupe::cast {

using ActorRef = caf::actor;

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

/// Sends to self after `delay`.
template <class Self, class Message>
void tell_later(Self* self, std::chrono::milliseconds delay, Message&& message) {
  self->delayed_send(self, delay, std::forward<Message>(message));
}

/// Spawns an actor on the shared scheduler.
template <class F, class... Args>
ActorRef spawn_shared(caf::actor_system& system, F behavior, Args&&... args) {
  return system.spawn(behavior, std::forward<Args>(args)...);
}

/// Spawns an actor with a thread of its own, for actors that compute or block.
template <class F, class... Args>
ActorRef spawn_threaded(caf::actor_system& system, F behavior, Args&&... args) {
  return system.spawn<caf::detached>(behavior, std::forward<Args>(args)...);
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

/// Calls `ended(actor)` in `self` when an actor that it watches has ended, for whatever reason.
template <class Self, class Handler>
void on_watched_end(Self* self, Handler ended) {
  self->set_down_handler([ended](caf::down_msg& down) { ended(down.source); });
}

template <class Self>
void watch(Self* self, const ActorRef& actor) {
  self->monitor(actor);
}

/// Ends `self` on an exit message of any reason; by default one that says "normal" is ignored.
template <class Self>
void quit_on_exit(Self* self) {
  self->set_exit_handler([self](caf::exit_msg& exit) { self->quit(std::move(exit.reason)); });
}

/// Ends another actor, from outside of any actor.
inline void end_anonymously(const ActorRef& actor) {
  caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
}

}  // namespace troupe::cast
