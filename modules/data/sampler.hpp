// Which samples an epoch visits, in which order.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace troupe {

/// The order of one epoch: sample indices as a function of the position, so that an epoch of 10^10 samples needs no
/// memory for its order and a resumed one begins anywhere at once. It never changes, and any thread may ask at any
/// time. It may outlive the sampler that gave it: what it reads, it owns or shares.
class IndexOrder {
 public:
  virtual ~IndexOrder() = default;
  /// Number of positions.
  virtual int64_t size() const = 0;
  /// The sample's index at `position`, 0 <= position < size().
  virtual int64_t at(int64_t position) const = 0;
  /// All indices that it gives, in any order, if they lie in memory; they are then checked before the epoch begins. The
  /// default has none: each is checked when its batch is made.
  virtual std::span<const int64_t> listed() const { return {}; }
};

/// An order that lies in memory, 8 bytes a position.
class StoredOrder : public IndexOrder {
 public:
  explicit StoredOrder(std::vector<int64_t> indices) : indices_(std::move(indices)) {}
  int64_t size() const override { return static_cast<int64_t>(indices_.size()); }
  int64_t at(int64_t position) const override { return indices_[static_cast<std::size_t>(position)]; }
  std::span<const int64_t> listed() const override { return indices_; }

 private:
  std::vector<int64_t> indices_;
};

/// A pure function from (dataset size, seed, epoch) to sample indices. Having no state, a sampler needs none saved: a
/// resumed epoch asks again and starts at a position (protocol rule P9). Called on loader threads, from several at once
/// if several loaders share it.
class Sampler {
 public:
  virtual ~Sampler() = default;
  /// Indices of the epoch, each in [0, size); repeats and omissions are the sampler's choice.
  virtual std::vector<int64_t> indices(int64_t size, uint64_t seed, int64_t epoch) const = 0;
  /// The same as an order, which is what the loaders ask for. The default stores `indices`; derive from ComputedSampler
  /// if the index at a position can be computed.
  virtual std::unique_ptr<const IndexOrder> order(int64_t size, uint64_t seed, int64_t epoch) const;
  /// How many indices an epoch has. The default asks for the order of epoch 0.
  virtual int64_t count(int64_t size) const { return checked_order(size, 0, 0)->size(); }
  /// `order`; throws UsageError if it is null.
  std::unique_ptr<const IndexOrder> checked_order(int64_t size, uint64_t seed, int64_t epoch) const;
};

/// A sampler that computes its order, position by position.
class ComputedSampler : public Sampler {
 public:
  std::unique_ptr<const IndexOrder> order(int64_t size, uint64_t seed, int64_t epoch) const override = 0;
  /// All positions of the order one after the other.
  std::vector<int64_t> indices(int64_t size, uint64_t seed, int64_t epoch) const override;
};

}  // namespace troupe
