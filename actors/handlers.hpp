// The handlers of an actor as its behavior, which a profile sees: a span for each message, in the lane of the actor.
#pragma once

#include "troupe/actors/caf.hpp"
#include "troupe/base/type_name.hpp"
#include "troupe/runtime/loops/script.hpp"
#include "troupe/runtime/profile/thread_lane.hpp"

#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

namespace troupe::cast {

/// "WriteRecord"; of a command that is carried out "TrainCommand".
template <class Message>
const std::string& span_name() {
  static const std::string name = type_name(typeid(Message));
  return name;
}
template <class Message>
const std::string& span_name(const Message& message) {
  if constexpr (requires { message.command; }) {
    return std::visit(
        [](const auto& command) -> const std::string& { return span_name<std::decay_t<decltype(command)>>(); },
        message.command);
  } else {
    return span_name<Message>();
  }
}

template <class Handler, class Result, class Message>
auto traced_handler(std::shared_ptr<LaneOwner> lane, Handler handler, Result (Handler::*)(Message) const) {
  return [lane = std::move(lane), handler = std::move(handler)](Message message) -> Result {
    if (!Profiling::is_recording()) [[likely]]
      return handler(static_cast<Message&&>(message));
    const TracedWork traced(lane.get(), SpanKind::message, span_name(message));
    return handler(static_cast<Message&&>(message));
  };
}

/// The behavior of an actor with a thread of its own, whose lane that is (name_lane).
class Handlers {
 public:
  template <class... Each>
  explicit Handlers(Each... each) : behavior_{traced_handler(nullptr, std::move(each), &Each::operator())...} {}
  operator caf::behavior() { return behavior_; }  // NOLINT(google-explicit-constructor): stands for it

 private:
  caf::behavior behavior_;
};

/// The behavior of an actor of CAF's scheduler, which runs on one thread at a time and not always on the same.
class HandlersInLane {
 public:
  template <class... Each>
  explicit HandlersInLane(std::string name, Each... each)
      : lane_(std::make_shared<LaneOwner>(LaneOwner{std::move(name)})),
        behavior_{traced_handler(lane_, std::move(each), &Each::operator())...} {}
  operator caf::behavior() { return behavior_; }  // NOLINT(google-explicit-constructor): stands for it

 private:
  std::shared_ptr<LaneOwner> lane_;
  caf::behavior behavior_;
};

}  // namespace troupe::cast
