// Hooks between batches: each with its callbacks' counterparts first, then the module's own if it is overridden.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/runtime/replica/replica_core.hpp"

#include <cstddef>
#include <string>

namespace troupe {

/// Those of the data module, if there is one. Collective where ranks share it.
void run_data_hook(const ReplicaCore& core, Hook hook);
void run_callback_hook(const ReplicaCore& core, Hook hook);
/// Those of the module that get nothing, with what the library itself does at that point. Throws std::logic_error for
/// any other.
void run_module_hook(const ReplicaCore& core, Hook hook);
/// on_exception of the callbacks and the data module. Never throws: what they throw comes back as text, or "".
std::string report_quietly(const ReplicaCore& core, const Failure& failure);

/// The teardown hooks of data module, callbacks and module. Each is called once, also when one throws and the others
/// are left to another run().
class Teardown {
 public:
  explicit Teardown(ReplicaCore& core) : core_(core) {}

  /// From here on there is something to tear down.
  void expect() { is_done_ = false; }
  bool is_done() const { return is_done_; }
  void run();
  /// Runs what is left; what is thrown comes back as text, or "".
  std::string run_quietly();

 private:
  ReplicaCore& core_;
  bool is_done_ = true;
  std::size_t torn_down_ = 0;  // the data module, each callback, the module: how many of them
};

}  // namespace troupe
