// Which lane a thread writes to, and what it says there beside LibTorch's operators.
#pragma once

#include "troupe/modules/hooks.hpp"
#include "troupe/modules/stage.hpp"
#include "troupe/runtime/profile/profiling.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace troupe {

/// The lane of a thread, or of an actor that has no thread of its own. It is made when something is to be written.
struct LaneOwner {
  std::string name = "";  ///< empty: the thread's, as the system knows it
  uint64_t profile = 0;   ///< the number of that which `lane` is of
  std::shared_ptr<Lane> lane = nullptr;
};

/// The thread calls its lane so from now on.
void name_lane(std::string name);

/// A message that is handled, or a batch. While it is recorded, the memory that the thread allocates is counted too.
class TracedWork {
 public:
  /// `actor`: of an actor without a thread, whose lane this is written to; null: the thread's. `name` is copied.
  TracedWork(LaneOwner* actor, SpanKind kind, std::string_view name, int64_t number = -1) {
    if (Profiling::is_recording()) [[unlikely]]
      begin(actor, kind, name, number);
  }
  ~TracedWork();
  TracedWork(const TracedWork&) = delete;
  TracedWork& operator=(const TracedWork&) = delete;

 private:
  struct Begun;
  void begin(LaneOwner* actor, SpanKind kind, std::string_view name, int64_t number);

  std::shared_ptr<Begun> begun_;
};

/// A batch of a worker; a profile may begin and end with one of training (Stage::fit). `number`: of training, over the
/// whole run; of an evaluation, within its loader. `leads`: by the first worker of the process.
class ProfiledBatch {
 public:
  ProfiledBatch(Stage stage, int64_t number, bool leads) : number_(number) {
    if (Profiling::is_there()) [[unlikely]]
      begin(stage, leads);
  }
  ~ProfiledBatch();
  ProfiledBatch(const ProfiledBatch&) = delete;
  ProfiledBatch& operator=(const ProfiledBatch&) = delete;

 private:
  void begin(Stage stage, bool leads);

  std::shared_ptr<Profiling> led_;
  int64_t number_;
  std::optional<TracedWork> work_;
};

/// Profiling::take_warning of the profile that goes on, if there is one.
inline std::string profile_warning() {
  if (!Profiling::is_there()) [[likely]]
    return "";
  const auto profiling = Profiling::current();
  return profiling ? profiling->take_warning() : "";
}

/// The thread is in this hook from now on, or in other work between batches that has a name.
void trace_next(std::string_view name);
inline void trace_hook(Hook hook) {
  if (Profiling::is_traced()) [[unlikely]]
    trace_next(to_string(hook));
}

/// A span of the library's own within others; nothing unless spans are kept. `name` is copied.
class TracedPart {
 public:
  explicit TracedPart(std::string_view name, SpanKind kind = SpanKind::hook) {
    if (Profiling::is_traced()) [[unlikely]]
      begin(name, kind);
  }
  ~TracedPart() {
    if (lane_) [[unlikely]]
      lane_->end(this);
  }
  TracedPart(const TracedPart&) = delete;
  TracedPart& operator=(const TracedPart&) = delete;

 private:
  void begin(std::string_view name, SpanKind kind);

  std::shared_ptr<Lane> lane_;
};

/// An operator that is called past LibTorch's dispatcher, which says so itself otherwise. Only while it is recorded.
class ReplayedOperator {
 public:
  explicit ReplayedOperator(std::string_view name);
  ~ReplayedOperator();
  ReplayedOperator(const ReplayedOperator&) = delete;
  ReplayedOperator& operator=(const ReplayedOperator&) = delete;

 private:
  std::shared_ptr<Lane> lane_;
};

/// This thread's lane in the profile that goes on; null if there is none.
Lane* lane_of_thread();
/// The same for who needs it longer than the profile may last.
std::shared_ptr<Lane> share_lane_of_thread();

}  // namespace troupe
