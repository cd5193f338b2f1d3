// Batch norm over the batches of all ranks.
#pragma once

#include "troupe/runtime/distributed/peers.hpp"

namespace troupe {

/// While it lives, every batch norm in training mode on this thread takes its mean and variance over the batches of all
/// `peers`, and so does its gradient: as one rank with the whole batch would. Collective: all workers must call the
/// same layers in the same order. Null: nothing changes.
///
/// PyTorch has a module for this, SyncBatchNorm, which takes the place of others. Modules of LibTorch cannot be
/// replaced, since their owner knows them by type; so this stands in for the operator aten::batch_norm, from the first
/// use on and for those threads only that ask for it. Statistics are combined as in Chan et al. 1983
/// (https://doi.org/10.1080/00031305.1983.10483115), in float64.
class SyncBatchNorm {
 public:
  explicit SyncBatchNorm(Peers* peers);
  ~SyncBatchNorm();
  SyncBatchNorm(const SyncBatchNorm&) = delete;
  SyncBatchNorm& operator=(const SyncBatchNorm&) = delete;

 private:
  Peers* before_;
};

}  // namespace troupe
