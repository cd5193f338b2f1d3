// The worker's end of a data loader: batches that have arrived, and the credit that goes back for them (P2).
#pragma once

#include "troupe/actors/caf.hpp"
#include "troupe/actors/loader_messages.hpp"
#include "troupe/modules/data/data_loader.hpp"
#include "troupe/runtime/device/copy_ahead.hpp"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

namespace troupe::cast {

class Feed {
 public:
  Feed(ActorRef loader, int64_t prefetch) : loader_(std::move(loader)), window_(prefetch) {}

  /// Asks for the batches of an epoch from `position` on, below `limit` (-1: all). What came for an earlier ticket is
  /// dropped.
  template <class Self>
  void open(Self* self, int64_t ticket, int64_t epoch, int64_t position, int64_t limit,
            const EpochOrigin& origin = {}) {
    ticket_ = ticket;
    is_over_ = false;
    taken_ = 0;
    queue_.clear();
    tell(self, loader_, OpenLoader{ticket, epoch, position, limit, window_, origin, group_});
  }

  template <class Self>
  void close(Self* self) {
    ticket_ = 0;
    queue_.clear();
    tell(self, loader_, CloseLoader{});
  }

  /// Ends the loader.
  template <class Self>
  void quit(Self* self) {
    close(self);
    tell(self, loader_, EndLoader{});
  }

  bool expects(int64_t ticket) const { return ticket != 0 && ticket == ticket_; }
  /// A batch has arrived; with `copier` its way to the device begins.
  template <class Self>
  void push(Self* self, BatchReady ready, CopyAhead* copier) {
    if (!is_widened_) widen(self, ready.batch);
    CopiedBatch copied = copier ? copier->begin(std::move(ready.batch)) : CopiedBatch{std::move(ready.batch), nullptr};
    queue_.push_back({ready.index, ready.last, std::move(copied)});
  }
  template <class Self>
  void push(Self* self, BatchesReady ready, CopyAhead* copier) {
    for (auto& one : ready.batches) push(self, std::move(one), copier);
  }
  void finish() { is_over_ = true; }

  bool has_batch() const { return !queue_.empty(); }
  /// Of the next batch, if there is one.
  int64_t next_size() const { return queue_.front().copied.batch.size(); }
  bool next_is_last() const { return queue_.front().last; }
  /// Nothing more will come and nothing is left.
  bool is_exhausted() const { return is_over_ && queue_.empty(); }

  /// The next batch; credit goes back when half of the window is used up.
  template <class Self>
  BatchReady pop(Self* self, CopyAhead* copier) {
    Waiting& next = queue_.front();
    BatchReady ready{ticket_, next.index, next.last,
                     copier ? copier->finish(std::move(next.copied)) : std::move(next.copied.batch)};
    queue_.pop_front();
    if (++taken_ >= std::max<int64_t>(1, window_ / 2)) {
      tell(self, loader_, Credit{ticket_, taken_, group_});
      taken_ = 0;
    }
    return ready;
  }

 private:
  // Waking a thread costs as much as a small batch. Small ones come in a wider window, so that the loader is woken less
  // often, and several in a message, so that the worker is.
  static constexpr int64_t kWideWindow = 64;
  static constexpr int64_t kWideWindowBytes = int64_t{4} << 20;  // about what stays in a processor's cache
  static constexpr int64_t kGroupsOfWindow = 4;

  // On the first batch, whose size stands for all of them.
  template <class Self>
  void widen(Self* self, const Batch& batch) {
    is_widened_ = true;
    if (window_ < DataLoaderOptions{}.prefetch || batch.extra.has_value()) return;  // wanted small, or of unknown size
    const int64_t bytes = std::max<int64_t>(1, batch.bytes());
    const int64_t wide = std::min(kWideWindow, kWideWindowBytes / bytes);
    if (wide <= window_) return;
    group_ = std::max<int64_t>(1, wide / kGroupsOfWindow);
    tell(self, loader_, Credit{ticket_, wide - window_, group_});
    window_ = wide;
  }

  struct Waiting {
    int64_t index = 0;
    bool last = false;
    CopiedBatch copied;
  };

  ActorRef loader_;
  int64_t window_;
  int64_t group_ = 1;
  int64_t ticket_ = 0;  // 0: closed
  int64_t taken_ = 0;   // since credit was last returned
  bool is_over_ = false;
  bool is_widened_ = false;
  std::deque<Waiting> queue_;
};

/// The feeds of several loaders.
class Feeds {
 public:
  Feeds() = default;
  explicit Feeds(std::vector<Feed> feeds) : feeds_(std::move(feeds)) {}

  template <class Self>
  void close(Self* self) {
    for (auto& feed : feeds_) feed.close(self);
  }
  template <class Self>
  void quit(Self* self) {
    for (auto& feed : feeds_) feed.quit(self);
  }
  /// The feed that an answer with this ticket is for, or null.
  Feed* expecting(int64_t ticket) {
    const auto found = std::ranges::find_if(feeds_, [&](const Feed& feed) { return feed.expects(ticket); });
    return found == feeds_.end() ? nullptr : &*found;
  }

 protected:
  std::vector<Feed> feeds_;
};

}  // namespace troupe::cast
