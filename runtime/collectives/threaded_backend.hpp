// A transport whose calls block: one thread makes them, in the order of the operations.
#pragma once

#include "troupe/runtime/collectives/collective_backend.hpp"

#include <functional>
#include <memory>
#include <thread>

namespace troupe {

/// The thread that calls an operation never waits. Where a rank aborts or an operation times out, the transport's
/// thread may stay inside of its call: works end all the same, and the destructor leaves the thread behind.
class ThreadedBackend : public CollectiveBackend {
 public:
  /// Works that are not finished fail; communicates with nobody and does not wait for other ranks.
  ~ThreadedBackend() override;

  using CollectiveBackend::abort;
  void abort(const std::string& reason) override;
  c10::intrusive_ptr<CollectiveWork> start(CollectiveCall call, std::chrono::milliseconds timeout) override;

 protected:
  /// Carries out one operation, and returns when it is done; throws if it fails. Called on the transport's thread.
  /// It owns all that it uses until it is destroyed, which may be after the backend.
  using Transport = std::function<void(const CollectiveCall&)>;

  ThreadedBackend(int rank, int size, std::string name, CollectiveOptions options, Transport transport);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;  // the thread holds it, too
  std::thread thread_;
};

}  // namespace troupe
