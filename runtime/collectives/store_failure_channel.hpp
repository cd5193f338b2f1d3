// What FailureChannel does, over a key-value store: for processes that torchrun started.
#pragma once

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <thread>

namespace troupe {

/// Messages are numbered in the store; a thread looks for new ones every `poll`. Where the store is gone nobody is told
/// any more: whoever keeps it ends the processes then.
class StoreFailureChannel {
 public:
  /// Called on the channel's thread for each message of another process. Must not throw.
  using Listener = std::function<void(const std::string& message)>;

  /// Two connections of its own: pass clones of a store that is used elsewhere.
  StoreFailureChannel(c10::intrusive_ptr<c10d::Store> listening, c10::intrusive_ptr<c10d::Store> speaking,
                      Listener listener, std::chrono::milliseconds poll = std::chrono::milliseconds(100));
  ~StoreFailureChannel();
  StoreFailureChannel(const StoreFailureChannel&) = delete;
  StoreFailureChannel& operator=(const StoreFailureChannel&) = delete;

  /// Any thread may call. Returns whether the store has taken it.
  bool announce(const std::string& message);

 private:
  void listen();

  c10::intrusive_ptr<c10d::Store> listening_, speaking_;
  Listener listener_;
  std::chrono::milliseconds poll_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::set<int64_t> own_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace troupe
