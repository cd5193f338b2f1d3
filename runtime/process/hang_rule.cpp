#include "troupe/runtime/process/hang_rule.hpp"

#include <algorithm>

namespace troupe {

namespace {

using Duration = HangLimits::Duration;

constexpr std::chrono::milliseconds shortest_tick{5}, longest_tick{5000};
constexpr int ticks_in_timeout = 10;
constexpr int counted_ticks = 4;  // of a gap between two looks
constexpr uint64_t warm_up = 3, enough = 10;
constexpr int times_silent = 2, longest_pause = 8;  // in shortest limits

std::chrono::milliseconds in_milliseconds(Duration time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time);
}

bool is_beside_the_step(const Pulse& pulse) {
  const std::string place = pulse.place();
  return place.ends_with("_batch_start") || place.ends_with("_batch_end") || place == "write_prediction";
}

}  // namespace

std::chrono::milliseconds HangLimits::tick() const {
  Duration tick = longest / ticks_in_timeout;
  if (factor > 0) {
    const auto learned = std::chrono::duration<double>(std::min(shortest, longest)) / factor;
    tick = std::min(tick, std::chrono::duration_cast<Duration>(learned));
  }
  return std::clamp(in_milliseconds(tick), shortest_tick, longest_tick);
}

Glance glance_at(const Pulse& pulse) {
  Glance seen{.stage = pulse.stage, .beats = pulse.beats, .steps = pulse.steps};
  const bool prepares_data = pulse.part.empty() && pulse.hook == Hook::prepare_data && pulse.place() == "prepare_data";
  if (!pulse.works || pulse.waits || pulse.collectives > 0 || prepares_data) return seen;
  const bool is_step = pulse.is_in_batch && !is_beside_the_step(pulse);
  seen.kind = is_step ? Glance::Kind::step : Glance::Kind::elsewhere;
  return seen;
}

std::optional<Duration> HangRule::look(const Glance& seen, Clock::time_point now) {
  const Duration gap = looked_ ? std::min<Duration>(now - *looked_, counted_ticks * tick_) : Duration(0);
  looked_ = now;
  if (seen == last_ && seen.kind != Glance::Kind::rest) {
    silence_ += gap;
    const Duration most = limit(seen);
    return silence_ >= most ? std::optional(most) : std::nullopt;
  }
  Learned& before = of(last_.stage);
  if (last_.kind == Glance::Kind::step && before.steps > warm_up) {
    before.longest = std::max(before.longest, silence_ + gap);
  }
  of(seen.stage).steps += seen.steps - last_.steps;
  silence_ = Duration(0);
  last_ = seen;
  return std::nullopt;
}

Duration HangRule::limit(const Glance& seen) const {
  const auto& learned = learned_[static_cast<std::size_t>(seen.stage)];
  if (limits_.factor <= 0 || seen.kind != Glance::Kind::step || learned.steps < enough) return limits_.longest;
  const std::chrono::duration<double> wanted = limits_.factor * std::chrono::duration<double>(learned.longest);
  if (wanted >= limits_.longest) return limits_.longest;
  return std::min(limits_.longest, std::max(limits_.shortest, std::chrono::duration_cast<Duration>(wanted)));
}

bool SilenceRule::look(std::optional<int64_t> operation, Clock::time_point now) {
  if (operation != operation_) {
    operation_ = operation;
    since_ = now;
    next_ = shortest_;
    silent_ = 0;
  }
  if (!operation || asks_) return false;
  return asks_ = now - since_ >= next_;
}

bool SilenceRule::answered(bool all_are_there, Clock::time_point now) {
  asks_ = false;
  since_ = now;
  if (!all_are_there && operation_) {
    next_ = Duration(0);  // once more, at once
    return ++silent_ >= times_silent;
  }
  silent_ = 0;
  next_ = std::min(longest_pause * shortest_, 2 * std::max(next_, shortest_));
  return false;
}

}  // namespace troupe
