// Who takes the batches of a data loader through its actor, as a worker does, but does nothing with them.
#pragma once

#include <troupe/actors/feed.hpp>
#include <troupe/actors/loader.hpp>
#include <troupe/modules/data/data_loader.hpp>

#include <cstdint>
#include <stdexcept>
#include <utility>

namespace troupe::bench {

/// Belongs to the thread that made it.
class LoadingConsumer {
 public:
  explicit LoadingConsumer(DataLoader description, uint64_t seed = 1)
      : loader_(cast::spawn_loader(system_, {.loader = description, .seed = seed})),
        feed_(loader_, description.options().prefetch) {}
  ~LoadingConsumer() { feed_.quit(&*self_); }
  LoadingConsumer(const LoadingConsumer&) = delete;
  LoadingConsumer& operator=(const LoadingConsumer&) = delete;

  /// Calls `use(batch)` for the next `batches`, over the ends of epochs. Throws std::runtime_error if the loader fails.
  template <class Use>
  void take(int64_t batches, Use use) {
    while (batches > 0) {
      if (!is_open_) open(0);
      if (feed_.is_exhausted()) {
        is_open_ = false;
        continue;
      }
      if (!feed_.has_batch()) {
        hear();
        continue;
      }
      use(feed_.pop(&*self_, nullptr).batch);
      --batches;
    }
  }
  /// The next epoch begins at batch `position`.
  void open(int64_t position) {
    feed_.open(&*self_, ++ticket_, epoch_++, position, -1);
    is_open_ = true;
  }

 private:
  template <class Ready>
  void push(Ready& ready) {
    if (feed_.expects(ready.ticket)) feed_.push(&*self_, std::move(ready), nullptr);
  }
  void hear() {
    self_->receive([this](cast::BatchReady& ready) { push(ready); }, [this](cast::BatchesReady& ready) { push(ready); },
                   [this](const cast::EndOfData& end) {
                     if (feed_.expects(end.ticket)) feed_.finish();
                   },
                   [](const cast::LoaderFailed& failed) { throw std::runtime_error(failed.failure.message); });
  }

  caf::actor_system_config config_;
  caf::actor_system system_{config_};
  caf::scoped_actor self_{system_};
  cast::ActorRef loader_;
  cast::Feed feed_;
  int64_t ticket_ = 0;
  int64_t epoch_ = 0;
  bool is_open_ = false;
};

}  // namespace troupe::bench
