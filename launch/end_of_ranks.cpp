#include "troupe/launch/end_of_ranks.hpp"

#include "troupe/base/exception_text.hpp"
#include "troupe/launch/processes.hpp"

#include <algorithm>
#include <chrono>

namespace troupe {

double patience_with_ranks(double collective_timeout) {
  constexpr double shortest = 1800;
  return std::max(collective_timeout, shortest);
}

std::optional<Failure> failure_of_others(const std::vector<std::shared_ptr<Peers>>& peers, double timeout, Told& told) {
  const std::chrono::milliseconds limit(static_cast<int64_t>(timeout * 1000));
  auto& processes = Processes::get();
  processes.on_failure([&](const Failure& failure) {
    told.tell(failure);
    for (const auto& each : peers) each->abort(failure.describe());
  });
  Failure failure;
  failure.rank = peers.front()->place().global_rank;
  failure.host = processes.host();
  failure.hook = "waiting for the end of all ranks";
  failure.message = text_thrown_by([&] {
    if (told.first()) return;
    std::vector<c10::intrusive_ptr<c10d::Work>> works;
    for (const auto& each : peers) works.push_back(each->begin_wait_for_all(limit));
    for (const auto& work : works) work->wait();
  });
  processes.on_failure(nullptr);
  if (told.first() || failure.message.empty()) return told.first();
  processes.tell_failure(failure);
  return failure;
}

}  // namespace troupe
