// Every spelling of CAF's that differs between 0.17 and 1.x, in one place: the port must stay a change to this header
// and to the message list (messages.hpp).
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_ostream.hpp>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/behavior.hpp>
#include <caf/event_based_actor.hpp>
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

}  // namespace troupe::cast
