// What the processes of a run are doing, asked when an operation between them is late.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

/// Questions and answers go over a channel that works while the training threads hang, the one for failures; a process
/// that is stopped, gone or cut off does not answer. One a process. Any thread may call.
class RollCall {
 public:
  /// Sends a message to all other processes. Must not throw.
  using Announce = std::function<void(const std::string& message)>;

  RollCall(int64_t rank, int64_t size, Announce announce);

  /// What this process answers; nothing: an empty answer.
  void set_presence(std::function<std::string()> says);

  /// A message that came over the channel: is answered, or kept for who asked. False if it is of another kind.
  bool hear(const std::string& message);

  /// The processes' answers by rank, this one's among them; unset for those that do not answer within `patience`.
  std::vector<std::optional<std::string>> ask(std::chrono::milliseconds patience = std::chrono::seconds(1));

 private:
  std::string own_answer();

  const int64_t rank_, size_;
  const Announce announce_;
  std::mutex mutex_;
  std::condition_variable answered_;
  std::function<std::string()> says_;
  int64_t next_id_ = 0;
  std::map<int64_t, std::map<int64_t, std::string>> open_;  // answers by question and rank
};

}  // namespace troupe
