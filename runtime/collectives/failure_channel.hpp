// Tells the other processes that this one failed, whatever they are doing.
#pragma once

#include "troupe/runtime/collectives/mpi_world.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace troupe {

/// A process that fails cannot take part in a collective operation, and those who wait in one do not know why: this is
/// the way around. Messages go from process to process on a communicator of their own; a thread looks for them every
/// `poll` and sleeps in between. One a process; all processes make it in the same order as their backends.
class FailureChannel {
 public:
  /// Called on the channel's thread for each message, in no order between ranks. Must not throw.
  using Listener = std::function<void(int rank, const std::string& message)>;
  /// Called on the channel's thread with all ranks that are lost so far, each time there is a new one, if MPI tells of
  /// them (mpi_survives_losses); with those known so far, which may be none, if another process has noticed first and
  /// revoked the channel. Must not throw.
  using LossListener = std::function<void(const std::vector<int>& ranks)>;

  FailureChannel(MpiWorld& world, Listener listener, std::chrono::milliseconds poll = std::chrono::milliseconds(50),
                 LossListener on_loss = nullptr);
  /// Ends the thread; messages that come later are not heard.
  ~FailureChannel();
  FailureChannel(const FailureChannel&) = delete;
  FailureChannel& operator=(const FailureChannel&) = delete;

  /// Sends `message` to all other processes; returns whether all of it was handed over within `limit`. Any thread may
  /// call, several times too. Throws CollectiveError if MPI reports an error.
  bool announce(const std::string& message, std::chrono::milliseconds limit = std::chrono::seconds(2));

 private:
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

}  // namespace troupe
