// Data that costs nothing to load.
#pragma once

#include <troupe/troupe.hpp>

#include <torch/cuda.h>
#include <torch/torch.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace troupe::bench {

/// Batches that are there already, used in turn: serving one costs a copy of handles. `count` of them are made by
/// `make`, with the same random numbers each time; an epoch has `steps`.
class MadeBatches : public Dataset {
 public:
  MadeBatches(const std::function<Batch()>& make, int64_t steps, int count = 64) : steps_(steps) {
    torch::manual_seed(1);
    for (int i = 0; i < count; ++i) batches_.push_back(make());
    batch_size_ = batches_.front().size();
  }
  int64_t batch_size() const { return batch_size_; }
  int64_t size() const override { return batch_size_ * steps_; }
  Batch get(int64_t index) override { return batch(index / batch_size_); }
  std::optional<Batch> get_batch(at::IntArrayRef indices) override { return batch(indices[0] / batch_size_); }
  const Batch& batch(int64_t step) const { return batches_[static_cast<std::size_t>(step) % batches_.size()]; }

 private:
  std::vector<Batch> batches_;
  int64_t steps_;
  int64_t batch_size_ = 0;
};

/// The time, once all kernels of a GPU have ended.
inline std::chrono::steady_clock::time_point now_on(torch::Device device) {
  if (device.is_cuda()) torch::cuda::synchronize(device.index());
  return std::chrono::steady_clock::now();
}

/// Bytes and those that follow each of them, int64 [batch_size, length].
inline Batch texts(int64_t batch_size, int64_t length) {
  const auto text = torch::randint(256, {batch_size, length + 1});
  return {{"input", text.slice(1, 0, length).contiguous()}, {"target", text.slice(1, 1).contiguous()}};
}

}  // namespace troupe::bench
