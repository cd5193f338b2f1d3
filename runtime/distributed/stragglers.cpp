#include "troupe/runtime/distributed/stragglers.hpp"

#include "troupe/base/host_name.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <sstream>
#include <vector>

namespace troupe {

namespace {

constexpr double least_difference = 1e-3;  // seconds a step: below that nobody cares
constexpr std::chrono::minutes pause_between_names{1};

std::string milliseconds(double seconds) {
  std::ostringstream text;
  text.precision(3);
  text << seconds * 1e3 << " ms";
  return text.str();
}

}  // namespace

std::chrono::nanoseconds Stragglers::own_time() const {
  if (!runs_) return own_;
  return own_ + (Clock::now() - since_) - std::chrono::nanoseconds(pulse_.waited - waited_before_);
}

void Stragglers::resume() {
  if (runs_) return;
  runs_ = true;
  since_ = Clock::now();
  waited_before_ = pulse_.waited;
}

void Stragglers::pause() {
  if (!runs_) return;
  own_ = own_time();
  elapsed_ += Clock::now() - since_;
  runs_ = false;
}

bool Stragglers::count_step() {
  ++steps_;
  if (ratio_ == 0 || asked_ || peers_.place().global_rank != 0) return false;
  return asked_ = elapsed_ + (Clock::now() - since_) >= interval_;
}

std::string Stragglers::compare() {
  const double own =
      std::chrono::duration<double>(own_time()).count() / static_cast<double>(std::max<int64_t>(1, steps_));
  const bool went_on = runs_;
  pause();
  own_ = elapsed_ = {};
  steps_ = 0;
  asked_ = false;
  const nlohmann::json mine = {{"own", own}, {"host", host_name()}};
  const auto all = peers_.all_gather_bytes(mine.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  if (went_on) resume();
  if (peers_.place().global_rank != 0) return "";
  std::vector<double> times;
  std::vector<std::string> hosts;
  for (const auto& said : all) {
    const auto json = nlohmann::json::parse(said);
    times.push_back(json.at("own").get<double>());
    hosts.push_back(json.at("host").get<std::string>());
  }
  const auto slowest = static_cast<std::size_t>(std::ranges::max_element(times) - times.begin());
  const double time = times[slowest];
  std::ranges::sort(times);
  const double median = times[(times.size() - 1) / 2];
  if (time < ratio_ * median || time - median < least_difference) return "";
  const auto now = Clock::now();
  const bool is_known = named_at_ != Clock::time_point{} && slowest == named_ && now - named_at_ < pause_between_names;
  if (is_known) return "";
  named_at_ = now;
  named_ = slowest;
  return "rank " + std::to_string(slowest) + " on " + hosts[slowest] + " is slow: a step takes it " +
         milliseconds(time) + " without waiting, and the median rank " + milliseconds(median) +
         " (trainer.straggler_ratio)";
}

}  // namespace troupe
