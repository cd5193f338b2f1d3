#include "troupe/base/host_name.hpp"
#include "troupe/runtime/collectives/collective_error.hpp"
#include "troupe/runtime/collectives/launch.hpp"
#include "troupe/runtime/collectives/store_backend.hpp"
#include "troupe/runtime/collectives/store_failure_channel.hpp"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <utility>

namespace troupe {

namespace {

// How long torchrun's store may take to answer at the start.
constexpr std::chrono::seconds store_patience{60};

c10::intrusive_ptr<c10d::TCPStore> connect_to_store(const LaunchEnvironment& launched) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(launched.store_port);
  options.waitWorkers = false;
  options.timeout = store_patience;
  try {
    return c10::make_intrusive<c10d::TCPStore>(launched.store_host, options);
  } catch (const std::exception& error) {
    throw CollectiveError("torchrun's store at " + launched.store_host + ":" + std::to_string(launched.store_port) +
                          " (MASTER_ADDR, MASTER_PORT) does not answer: is this process one of torchrun's? " +
                          std::string(error.what()).substr(0, 200));
  }
}

// All goes through the store, which torchrun keeps; it names no hosts.
class TorchrunLaunch : public Launch {
 public:
  explicit TorchrunLaunch(const LaunchEnvironment& launched)
      : launched_(launched), host_(host_name()), store_(connect_to_store(launched)) {}

  int64_t rank() const override { return launched_.rank; }
  int64_t size() const override { return launched_.size; }
  int64_t local_rank() const override { return launched_.local_rank; }
  int64_t local_size() const override { return launched_.local_size; }
  const std::string& host() const override { return host_; }

  // Groups are told apart by their order.
  c10::intrusive_ptr<CollectiveBackend> make_between(const CollectiveOptions& options,
                                                     std::chrono::microseconds /*keeps_core*/) override {
    return c10::make_intrusive<StoreBackend>(connection("group_" + std::to_string(groups_++)), launched_.rank,
                                             launched_.size, options);
  }
  c10::intrusive_ptr<c10d::Store> make_store(std::chrono::milliseconds /*timeout*/) override {
    return connection("nccl");
  }

  void listen(Listener listener) override {
    failures_ =
        std::make_unique<StoreFailureChannel>(connection("failures"), connection("failures"), std::move(listener.told));
  }
  void stop_listening() override { failures_.reset(); }
  void announce(const std::string& message, std::chrono::milliseconds /*limit*/) override {
    if (failures_) failures_->announce(message);
  }

 private:
  // A connection of its own, with keys of its own: after a restart those of the last attempt are still there.
  c10::intrusive_ptr<c10d::Store> connection(const std::string& name) {
    const auto attempt = environment_variable("TORCHELASTIC_RESTART_COUNT").value_or("0");
    return c10::make_intrusive<c10d::PrefixStore>("troupe/attempt_" + attempt + "/" + name, store_->clone());
  }

  const LaunchEnvironment launched_;
  const std::string host_;
  const c10::intrusive_ptr<c10d::TCPStore> store_;
  int64_t groups_ = 0;
  std::unique_ptr<StoreFailureChannel> failures_;
};

}  // namespace

std::unique_ptr<Launch> make_torchrun_launch(const LaunchEnvironment& launched) {
  return std::make_unique<TorchrunLaunch>(launched);
}

}  // namespace troupe
