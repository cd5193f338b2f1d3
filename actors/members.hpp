// Who belongs to a run, and who of them has come to the end. The coordinator's.
#pragma once

#include "troupe/actors/caf.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>

namespace troupe::cast {

/// In the order in which a run ends.
enum class Role { worker, validator, usher, writer, recorder, console, watchdog };

struct Member {
  Role role = Role::worker;
  ActorRef actor;
  std::string name;        ///< for failures: "worker 1", "checkpointer"
  int64_t rank = 0;        ///< of what it does
  std::size_t index = 0;   ///< among those of its role
  bool has_ended = false;  ///< it has said so, or is gone
};

class Members {
 public:
  Member& add(Role role, ActorRef actor, std::string name, int64_t rank) {
    const auto index = static_cast<std::size_t>(std::ranges::count(members_, role, &Member::role));
    members_.push_back({role, std::move(actor), std::move(name), rank, index});
    return members_.back();
  }
  /// Null for somebody else.
  template <class Address>
  Member* find(const Address& who) {
    const auto found = std::ranges::find_if(members_, [&](const Member& each) { return each.actor == who; });
    return found == members_.end() ? nullptr : &*found;
  }
  bool have_ended(Role role) const {
    return std::ranges::all_of(members_, [&](const Member& each) { return each.role != role || each.has_ended; });
  }
  template <class Action>
  void for_each(Role role, Action action) {
    for (auto& member : members_) {
      if (member.role == role && !member.has_ended) action(member);
    }
  }

 private:
  std::deque<Member> members_;  // whose addresses stay
};

}  // namespace troupe::cast
