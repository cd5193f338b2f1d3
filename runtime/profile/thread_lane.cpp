#include "troupe/runtime/profile/thread_lane.hpp"

#include "troupe/runtime/profile/operator_profiler.hpp"

#include <c10/util/ThreadLocalDebugInfo.h>
#include <pthread.h>

#include <array>
#include <optional>
#include <utility>

namespace troupe {

namespace {

thread_local LaneOwner own_lane;

std::string name_of_thread() {
  std::array<char, 16> text{};
  pthread_getname_np(pthread_self(), text.data(), text.size());
  return text.front() ? text.data() : "a thread";
}

std::string lane_title(const std::string& given) {
  constexpr std::string_view article = "the ";
  const std::string name = given.empty() ? name_of_thread() : given;
  return name.starts_with(article) ? name.substr(article.size()) : name;
}

}  // namespace

Lane* lane_of_thread() {
  const uint64_t number = Profiling::number();
  if (own_lane.profile == number) return own_lane.lane.get();
  const auto profiling = Profiling::current();
  own_lane.lane = profiling ? profiling->add_lane(lane_title(own_lane.name)) : nullptr;
  own_lane.profile = number;
  return own_lane.lane.get();
}

std::shared_ptr<Lane> share_lane_of_thread() {
  return lane_of_thread() ? own_lane.lane : nullptr;
}

void name_lane(std::string name) {
  own_lane = {std::move(name)};
}

// --- Messages and batches ---

namespace {

std::string_view batch_title(Stage stage) {
  switch (stage) {
    case Stage::validate: return "validation batch";
    case Stage::test: return "test batch";
    case Stage::predict: return "prediction batch";
    default: return "training batch";
  }
}

}  // namespace

struct TracedWork::Begun {
  LaneOwner* actor = nullptr;
  std::shared_ptr<Lane> lane;
  std::optional<c10::DebugInfoGuard> memory;
};

void TracedWork::begin(LaneOwner* actor, SpanKind kind, std::string_view name, int64_t number) {
  begun_ = std::make_shared<Begun>();
  begun_->actor = actor;
  if (actor) std::swap(own_lane, *actor);
  begun_->lane = share_lane_of_thread();
  if (begun_->lane && Profiling::is_traced()) begun_->lane->begin(kind, name, this, number);
  // A profiler of the user's own is left alone.
  const auto kind_of_info = c10::DebugInfoKind::PROFILER_STATE;
  if (const auto profiling = Profiling::current(); profiling && !c10::ThreadLocalDebugInfo::get(kind_of_info)) {
    begun_->memory.emplace(kind_of_info, profiling->memory());
  }
}

TracedWork::~TracedWork() {
  if (!begun_) return;
  if (begun_->lane) begun_->lane->end(this);
  if (begun_->actor) std::swap(own_lane, *begun_->actor);
}

void ProfiledBatch::begin(Stage stage, bool leads) {
  if (stage == Stage::fit && leads) {
    led_ = Profiling::current();
    if (led_) led_->before_training_batch(number_);
  }
  work_.emplace(nullptr, SpanKind::batch, batch_title(stage), number_);
}

ProfiledBatch::~ProfiledBatch() {
  work_.reset();
  if (led_) led_->after_training_batch(number_);
}

// --- Hooks and parts ---

void trace_next(std::string_view name) {
  if (Lane* lane = lane_of_thread()) lane->follow(SpanKind::hook, name);
}

void TracedPart::begin(std::string_view name, SpanKind kind) {
  lane_ = share_lane_of_thread();
  if (lane_) lane_->begin(kind, name, this);
}

ReplayedOperator::ReplayedOperator(std::string_view name) : lane_(share_lane_of_thread()) {
  if (lane_) lane_->begin(SpanKind::op, name, this);
}

ReplayedOperator::~ReplayedOperator() {
  if (lane_) lane_->end(this);
}

}  // namespace troupe
