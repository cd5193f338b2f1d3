#include "troupe/runtime/collectives/launch.hpp"
#include "troupe/runtime/collectives/memory_world.hpp"

#include <torch/csrc/distributed/c10d/HashStore.hpp>

namespace troupe {

namespace {

// Nothing of MPI is touched, and nothing is sent.
class LoneLaunch : public Launch {
 public:
  explicit LoneLaunch(const LaunchEnvironment& launched) : launched_(launched) {}

  int64_t rank() const override { return 0; }
  int64_t size() const override { return 1; }
  int64_t local_rank() const override { return launched_.local_rank; }
  int64_t local_size() const override { return launched_.local_size; }
  const std::string& host() const override { return host_; }

  c10::intrusive_ptr<CollectiveBackend> make_between(const CollectiveOptions& options,
                                                     std::chrono::microseconds /*keeps_core*/) override {
    return MemoryWorld::create(1, options)->backend(0);
  }
  c10::intrusive_ptr<c10d::Store> make_store(std::chrono::milliseconds /*timeout*/) override {
    return c10::make_intrusive<c10d::HashStore>();
  }

  void listen(Listener /*listener*/) override {}
  void stop_listening() override {}
  void announce(const std::string& /*message*/, std::chrono::milliseconds /*limit*/) override {}

 private:
  const LaunchEnvironment launched_;
  const std::string host_;
};

}  // namespace

std::unique_ptr<Launch> make_lone_launch(const LaunchEnvironment& launched) {
  return std::make_unique<LoneLaunch>(launched);
}

}  // namespace troupe
